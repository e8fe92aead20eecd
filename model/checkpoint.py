"""Checkpoints: a directory with model.safetensors and manifest.json. Nothing in it is ever unpickled."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.canary import canary_scores, deviation
from model.errors import CheckpointError, LoadFault, ModelError
from model.manifest import MANIFEST, WEIGHTS, CheckpointManifest, TensorSpec, Verify, read_manifest, unreadable
from model.model import Model
from model.network import build_network
from model.presets import parse_preset, preset_document
from model.vocabulary import Vocabulary

# Machines round differently, by far less than this; other weights, or code that reads them otherwise, by more.
CANARY_TOLERANCE = 0.005


def save_checkpoint(
    model: Model, directory: Path, *, version: str, trained_at: datetime, metrics: Mapping[str, float]
) -> CheckpointManifest:
    """Write the checkpoint: the weights first, the manifest last, each whole or not at all."""
    tensors = model.tensors()
    data = save(tensors)
    manifest = CheckpointManifest(
        name=model.preset.name,
        version=version,
        sha256=model.sha256,
        trained_at=trained_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        weights_sha256=hashlib.sha256(data).hexdigest(),
        weights_bytes=len(data),
        preset=preset_document(model.preset),
        schema=model.schema,
        metrics=dict(metrics),
        tensors={name: TensorSpec(str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()},
        canary=canary_scores(model),
    )
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / WEIGHTS, data)
    _write(directory / MANIFEST, json.dumps(manifest.document(), indent=1).encode())
    return manifest


def load_checkpoint(directory: Path, device: torch.device, verify: Verify | None = None) -> Model:
    """Read and verify a checkpoint, first of all its manifest, in which `verify` has a say. Raises CheckpointError
    naming the first fault: a missing, truncated or changed file, an unknown format or preset, tensors of other names,
    types or shapes, numbers that are not finite, scores other than when it was saved."""
    manifest = read_manifest(directory / MANIFEST, verify)
    path = directory / WEIGHTS
    tensors = _verified_tensors(path, manifest)
    fault: LoadFault = "format"
    try:
        preset = parse_preset(manifest.preset)
        fault = "schema"
        arrays = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("network.")}
        vocabulary = Vocabulary.from_arrays(manifest.schema.user_features, "users", arrays)
        campaign_features = manifest.schema.campaign_features if preset.uses_campaign_features else ()
        campaigns = Vocabulary.from_arrays(campaign_features, "campaigns", arrays)
    except ModelError as error:
        raise CheckpointError(f"{path}: {error}", fault) from error
    network = build_network(preset, vocabulary.shape, campaigns.shape)
    _check_network(path, network.state_dict(), tensors)
    weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    network.load_state_dict(weights, assign=True)
    model = Model(preset, manifest.schema, vocabulary, campaigns, network.to(device), device)
    if model.sha256 != manifest.sha256:
        raise CheckpointError(f"{directory}: its contents are not those of its manifest (sha256)", "sha")
    away = deviation(canary_scores(model), manifest.canary)
    if away > CANARY_TOLERANCE:
        raise CheckpointError(
            f"{directory}: its canary scores are {away:.4f} away from those it was saved with", "canary"
        )
    return model


def non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a number that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def _verified_tensors(path: Path, manifest: CheckpointManifest) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) != manifest.weights_bytes:
        raise CheckpointError(f"{path}: {len(data)} bytes where the manifest says {manifest.weights_bytes}", "sha")
    if hashlib.sha256(data).hexdigest() != manifest.weights_sha256:
        raise CheckpointError(f"{path}: its bytes are not those of the manifest (sha256)", "sha")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    found = {name: TensorSpec(str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name in sorted(found.keys() | manifest.tensors.keys()):
        if found.get(name) != manifest.tensors.get(name):
            raise CheckpointError(f"{path}: tensor {name!r} is not as the manifest says", "schema")
    broken = non_finite(tensors)
    if broken is not None:
        raise CheckpointError(f"{path}: tensor {broken!r} has numbers that are not finite", "non_finite")
    return tensors


def _check_network(path: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    names = {f"network.{name}" for name in expected}
    for odd in sorted(names ^ {name for name in tensors if name.startswith("network.")}):
        state = "missing" if odd in names else "unknown to the preset"
        raise CheckpointError(f"{path}: tensor {odd!r} is {state}", "schema")
    for name, tensor in expected.items():
        found = tensors[f"network.{name}"]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise CheckpointError(
                f"{path}: tensor 'network.{name}' is {found.dtype} {list(found.shape)},"
                f" the preset and vocabulary need {tensor.dtype} {list(tensor.shape)}",
                "schema",
            )


def _write(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
