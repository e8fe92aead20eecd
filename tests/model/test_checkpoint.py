import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointError, LoadFault
from model.manifest import MANIFEST, WEIGHTS, read_manifest
from model.represent import represent
from model.scoring.plan import score_plan
from tests.model.conftest import World
from tests.model.test_adapt import adapt_in, make_labelled

CPU = torch.device("cpu")


def save(world: World, directory: Path) -> Path:
    trained_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    save_checkpoint(world.model, directory, version="v7", trained_at=trained_at, metrics={"auc": 0.75})
    return directory


def test_a_loaded_model_scores_bit_for_bit_like_the_saved_one(world: World, tmp_path: Path) -> None:
    model = load_checkpoint(save(world, tmp_path), CPU)
    assert model.sha256 == world.model.sha256
    again = World(world.dataset, model, world.pool, represent(model, world.pool))
    scores = [
        score_plan(w.model, adapt_in(w, make_labelled(w)), w.pool, w.representation).score_users(np.arange(300))
        for w in (world, again)
    ]
    assert np.array_equal(*scores)


def test_the_manifest_tells_what_the_model_is(world: World, tmp_path: Path) -> None:
    manifest = read_manifest(save(world, tmp_path) / MANIFEST)
    assert (manifest.name, manifest.version) == (world.model.preset.name, "v7")
    assert manifest.trained_at == "2026-01-02T03:04:05Z"
    assert manifest.metrics == {"auc": 0.75}
    assert manifest.sha256 == world.model.sha256
    assert manifest.schema == world.model.schema
    assert manifest.weights_sha256 == hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()


def test_the_manifest_is_read_without_torch(default_world: World, tmp_path: Path) -> None:
    save(default_world, tmp_path)
    code = (
        "import sys, pathlib; from model.manifest import read_manifest;"
        "print(read_manifest(pathlib.Path(sys.argv[1])).version, 'torch' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path / MANIFEST], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["v7", "False"]


def test_the_hash_is_of_the_contents_alone(default_world: World, tmp_path: Path) -> None:
    first, second = (
        save_checkpoint(
            default_world.model, tmp_path / name, version=name, trained_at=datetime.now(UTC), metrics={"auc": 1.0}
        )
        for name in ("a", "b")
    )
    assert first.sha256 == second.sha256


def test_nothing_is_left_over_beside_the_two_files(default_world: World, tmp_path: Path) -> None:
    assert sorted(path.name for path in save(default_world, tmp_path).iterdir()) == [MANIFEST, WEIGHTS]


def edit_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((directory / MANIFEST).read_text())
    change(document)
    (directory / MANIFEST).write_text(json.dumps(document))


def replace_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Other tensors, and a manifest that agrees with them."""
    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file(tensors, directory / WEIGHTS)
    adopt_weights(directory)
    specs = {name: {"dtype": str(t.dtype), "shape": list(t.shape)} for name, t in tensors.items()}
    edit_manifest(directory, lambda document: document.update(tensors=specs))


def adopt_weights(directory: Path) -> None:
    data = (directory / WEIGHTS).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    edit_manifest(directory, lambda document: document.update(weights_sha256=sha256, weights_bytes=len(data)))


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def write_pickle(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    adopt_weights(directory)


def truncate(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-1])


def flip(directory: Path) -> None:
    data = bytearray((directory / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (directory / WEIGHTS).write_bytes(data)


def manifest_with(**values: object) -> Callable[[Path], None]:
    return lambda directory: edit_manifest(directory, lambda document: document.update(values))


def weights_with(name: str, tensor: torch.Tensor) -> Callable[[Path], None]:
    return lambda directory: replace_weights(directory, lambda tensors: tensors.update({name: tensor}))


def remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str, LoadFault]] = {
    "no manifest": (remove(MANIFEST), "manifest.json: not readable", "missing"),
    "no weights": (remove(WEIGHTS), "model.safetensors: not readable", "missing"),
    "no json": (
        lambda directory: (directory / MANIFEST).write_text("{"),
        "manifest.json: not readable as JSON",
        "format",
    ),
    "no object": (lambda directory: (directory / MANIFEST).write_text("[]"), "not a manifest of format", "format"),
    "other format": (manifest_with(format="lookalike-checkpoint-9"), "not a manifest of format", "format"),
    "member missing": (
        lambda d: edit_manifest(d, lambda document: document.pop("preset")),
        "has no 'preset'",
        "format",
    ),
    "other preset": (manifest_with(preset={"name": "other"}), "unknown preset 'other'", "format"),
    "preset renamed": (manifest_with(preset={"name": "metaheac"}), "missing settings", "format"),
    "broken schema": (manifest_with(schema={}), "manifest.json", "schema"),
    "version no text": (manifest_with(version=7), "'version' must be a string", "format"),
    "truncated": (truncate, "bytes where the manifest says", "sha"),
    "changed": (flip, "its bytes are not those of the manifest", "sha"),
    "pickle": (write_pickle, "not a safetensors file", "format"),
    "not a number": (
        weights_with("network.prior_mean", torch.full((8,), torch.nan)),
        "'network.prior_mean' has numbers that are not finite",
        "non_finite",
    ),
    "wrong shape": (weights_with("network.prior_mean", torch.zeros(9)), r"'network.prior_mean' is .*\[9\]", "schema"),
    "wrong type": (
        weights_with("network.prior_mean", torch.zeros(8, dtype=torch.float64)),
        "'network.prior_mean' is",
        "schema",
    ),
    "tensor missing": (
        lambda directory: replace_weights(directory, lambda tensors: tensors.pop("network.prior_mean")),
        "'network.prior_mean' is missing",
        "schema",
    ),
    "tensor too many": (weights_with("network.extra", torch.zeros(1)), "'network.extra' is unknown", "schema"),
    "vocabulary gone": (
        lambda directory: replace_weights(directory, lambda tensors: tensors.pop("users.0.bytes")),
        "users.0.bytes",
        "schema",
    ),
    "other weights": (
        weights_with("network.prior_mean", torch.zeros(8)),
        "contents are not those of its manifest",
        "sha",
    ),
    "other settings": (
        lambda d: edit_manifest(d, lambda document: document["preset"].update(dropout=0.5)),
        "contents are not those of its manifest",
        "sha",
    ),
    "other scores": (
        lambda d: edit_manifest(d, lambda document: document["canary"].__setitem__(0, document["canary"][0] + 0.1)),
        "canary scores are .* away",
        "canary",
    ),
    "fewer scores": (manifest_with(canary=[0.5]), "canary scores are inf away", "canary"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_is_loaded(default_world: World, tmp_path: Path, fault: str) -> None:
    damage, message, kind = FAULTS[fault]
    damage(save(default_world, tmp_path))
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_checkpoint(tmp_path, CPU)
    assert refusal.value.fault == kind
