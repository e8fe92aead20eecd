"""The manifest of a checkpoint: what a model is, readable without torch."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.errors import CheckpointError, ModelError
from model.schema import Schema

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
FORMAT = "lookalike-checkpoint-2"

Verify = Callable[[bytes], object]
"""Is shown a manifest before anything in it is believed. Raises CheckpointError."""


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of one tensor of the weights file."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class CheckpointManifest:
    """sha256: of all that determines a score; weights_*: of the file model.safetensors; trained_at: RFC 3339;
    preset: its configuration as JSON; metrics: figures on held-out campaigns; canary: the scores that `canary_scores`
    gave when it was saved."""

    name: str
    version: str
    sha256: str
    trained_at: str
    weights_sha256: str
    weights_bytes: int
    preset: dict[str, Any]
    schema: Schema
    metrics: dict[str, float]
    tensors: dict[str, TensorSpec]
    canary: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"format": FORMAT, **asdict(self), "schema": self.schema.document()}


def read_manifest(path: Path, verify: Verify | None = None) -> CheckpointManifest:
    """Read manifest.json. Raises CheckpointError naming the file and what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if verify is not None:
        verify(data)
    try:
        document = json.loads(data)
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a manifest of format {FORMAT}")
    try:
        manifest = CheckpointManifest(
            name=_text(document, "name"),
            version=_text(document, "version"),
            sha256=_text(document, "sha256"),
            trained_at=_text(document, "trained_at"),
            weights_sha256=_text(document, "weights_sha256"),
            weights_bytes=int(document["weights_bytes"]),
            preset=dict(document["preset"]),
            schema=Schema.parse(document["schema"], str(path)),
            metrics={str(name): float(value) for name, value in document["metrics"].items()},
            tensors={
                str(name): TensorSpec(_text(spec, "dtype"), tuple(int(length) for length in spec["shape"]))
                for name, spec in document["tensors"].items()
            },
            canary=tuple(float(score) for score in document["canary"]),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: has no {error}") from error
    except ModelError as error:
        raise CheckpointError(f"{path}: {error}", "schema") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return manifest


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """A file of a checkpoint that is not there, or that this machine cannot read."""
    return CheckpointError(
        f"{path}: not readable: {error}", "missing" if isinstance(error, FileNotFoundError) else "io"
    )


def _text(document: dict[str, Any], key: str) -> str:
    value = document[key]
    if not isinstance(value, str):
        raise TypeError(f"{key!r} must be a string")
    return value
