"""Signed model versions: where there are keys, what none of them signed is neither loaded nor promoted."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from model.checkpoint import save_checkpoint
from model.errors import CheckpointError, LoadFault, ObjectExists
from model.manifest import MANIFEST, read_manifest
from model.pool import encode_users
from model.store import ObjectStore
from service.kit.artifacts import Artifacts, version_prefix
from service.kit.errors import Problem
from service.kit.signing import SigningKeys
from service.models.service import require_whole, sign
from service.models.tables import ModelVersion
from service.serving.loader import Loader
from tests.model.worlds import ALL, make_dataset, make_untrained

OLD, NEW, FOREIGN = ("key-of-last-year-" * 2, "key-of-this-year-" * 2, "key-of-somebody-else-" * 2)
MODEL = make_untrained(encode_users(make_dataset().users, ALL))


@pytest.fixture
def unsigned(tmp_path: Path) -> Artifacts:
    """An installation without keys."""
    return Artifacts(*(ObjectStore(str(tmp_path / name)) for name in ("models", "pool", "audiences")))


def with_keys(artifacts: Artifacts, *keys: str) -> Artifacts:
    """The same stores, as processes with these keys see them."""
    return replace(artifacts, signing=SigningKeys(keys))


def publish(artifacts: Artifacts, version: str = "v1") -> Path:
    """As training does; the folder."""
    with artifacts.models.staging() as scratch:
        save_checkpoint(MODEL, scratch / "v", version=version, trained_at=datetime.now(UTC), metrics={})
        artifacts.signing.write(scratch / "v", version_prefix(version))
        artifacts.models.put_directory(scratch / "v", version_prefix(version))
    return artifacts.models.local(version_prefix(version))


def row_of(folder: Path) -> ModelVersion:
    manifest = read_manifest(folder / MANIFEST)
    return ModelVersion(version=manifest.version, sha256=manifest.sha256)


def fault(artifacts: Artifacts, version: str = "v1") -> LoadFault | None:
    """What a worker hears when it loads the version; None if it loads."""
    heard: list[LoadFault] = []
    with suppress(CheckpointError):
        Loader(artifacts, torch.device("cpu"), failed=heard.append).model(version)
    return heard[0] if heard else None


def test_a_signed_version_loads_and_may_be_promoted(unsigned: Artifacts) -> None:
    signed = with_keys(unsigned, NEW)
    row = row_of(publish(signed))
    assert fault(signed) is None
    require_whole(signed, row)
    assert fault(unsigned) is None


@pytest.mark.parametrize("keys", [(), (FOREIGN,)])
def test_a_version_that_no_accepted_key_signed_is_refused(unsigned: Artifacts, keys: tuple[str, ...]) -> None:
    row = row_of(publish(with_keys(unsigned, *keys)))
    signed = with_keys(unsigned, NEW, OLD)
    assert fault(signed) == "missing"
    with pytest.raises(Problem, match="not signed") as refusal:
        require_whole(signed, row)
    assert refusal.value.slug == "model-changed"


def test_a_manifest_that_was_changed_after_it_was_signed_is_refused(unsigned: Artifacts) -> None:
    signed = with_keys(unsigned, NEW)
    path = publish(signed) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"auc": 0.99}}))
    assert fault(signed) == "sha"
    assert fault(unsigned) is None  # only the signature tells


def test_a_signed_version_is_not_passed_off_as_another(unsigned: Artifacts) -> None:
    signed = with_keys(unsigned, NEW)
    folder = publish(signed)
    shutil.copytree(folder, folder.parent / "v2")
    assert fault(signed, "v2") == "sha"


def test_a_key_is_changed_without_training_anew(unsigned: Artifacts) -> None:
    folder = publish(with_keys(unsigned, OLD))
    both = with_keys(unsigned, NEW, OLD)
    assert fault(both) is None
    assert fault(with_keys(unsigned, NEW)) == "missing"
    sign(both, row_of(folder))
    assert fault(with_keys(unsigned, NEW)) is None
    assert fault(with_keys(unsigned, OLD)) is None
    with pytest.raises(ObjectExists):
        sign(both, row_of(folder))


def test_only_what_was_published_is_signed_later(unsigned: Artifacts) -> None:
    folder = publish(unsigned)
    row = row_of(folder)
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    with pytest.raises(Problem):
        sign(with_keys(unsigned, NEW), row)
    assert not list(folder.glob("*.hmac"))


def test_a_signature_tells_nothing_of_its_key(unsigned: Artifacts) -> None:
    folder = publish(with_keys(unsigned, NEW))
    (signature,) = folder.glob("*.hmac")
    assert len(signature.read_bytes()) == 64
    assert NEW[:8] not in signature.name + signature.read_text()
