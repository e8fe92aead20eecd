"""The online stage on stores in a bucket: a version is published, loaded, represented and expanded with; and a worker
there meets new models, good ones and bad ones."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from sqlalchemy import update

from model.errors import CheckpointError, ObjectExists
from model.manifest import MANIFEST, WEIGHTS
from model.pool import encode_users
from service.config import Settings
from service.expansion.expand import ExpandHandler
from service.jobs.states import Kind, Queue, State
from service.kit.artifacts import Artifacts, open_artifacts, version_prefix
from service.serving.loader import Loader, Triple
from service.serving.repository import find_representation, get_serving
from service.serving.tables import Representation, Serving
from service.worker import Worker, build_worker
from tests.fixtures.s3 import S3Server
from tests.fixtures.stage import Stage
from tests.fixtures.tiny import USERS, VERSION, TinyWorld, store_world
from tests.model.worlds import make_dataset, make_untrained

CPU = torch.device("cpu")
PART = 5 << 20  # bytes, and larger files are sent in such parts


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of the bucket, for a look past our own code."""
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield boto3.client("s3")


def settings_on(home: Path) -> Settings:
    stores = {f"{name}_store": f"s3://bucket/{name}" for name in ("model", "pool", "audience")}
    return Settings(lookalike_home=home, model_poll_seconds=0.001, **stores)


def another_machine(home: Path) -> Artifacts:
    """The same bucket, with no copies of anything yet."""
    return open_artifacts(settings_on(home))


@pytest.fixture(scope="module")
def world(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    folder, dataset = tmp_path_factory.mktemp("s3"), make_dataset(users=USERS)
    model = make_untrained(encode_users(dataset.users, dataset.schema.user_features))
    return store_world(folder, dataset, model, another_machine(folder))


def publish(world: TinyWorld, version: str, **changes: object) -> None:
    """The same model under another name, its manifest changed."""
    models = world.artifacts.models
    document = json.loads(models.get(f"{version_prefix(VERSION)}/{MANIFEST}"))
    models.put(f"{version_prefix(version)}/{WEIGHTS}", models.get(f"{version_prefix(VERSION)}/{WEIGHTS}"))
    changed = json.dumps({**document, "version": version, **changes})
    models.put(f"{version_prefix(version)}/{MANIFEST}", changed.encode())


def serve(stage: Stage, version: str) -> Triple:
    """What a promotion and its `represent` job, done by another worker, leave in the database."""
    snapshot = stage.world.imported.snapshot_id
    with stage.database.write() as session:
        first = find_representation(session, VERSION, snapshot)
        assert first is not None
        row = Representation(
            id=f"rep_{version}", model_version=version, snapshot_id=snapshot, object_name=first.object_name
        )
        session.add(row)
        session.execute(update(Serving).values(model_version=version, representation_id=row.id))
    return Triple(version, snapshot, f"rep_{version}")


def served(stage: Stage) -> Triple:
    with stage.database.read() as session:
        row = get_serving(session)
    assert row.model_version is not None
    assert row.snapshot_id is not None
    return Triple(row.model_version, row.snapshot_id, row.representation_id)


@pytest.fixture
def worker(stage: Stage, sqlite_url: str, redis_url: str, tmp_path: Path) -> Worker:
    """A worker on a machine of its own."""
    settings = settings_on(tmp_path).model_copy(update={"database_url": sqlite_url})
    return build_worker(settings, [Queue.EXPAND], threading.Event(), lambda: None, redis_url)


def failures(worker: Worker, reason: str) -> float | None:
    return worker.metrics.registry.get_sample_value("lookalike_model_load_failures_total", {"reason": reason})


def test_two_machines_make_the_same_audience_of_what_lies_in_the_bucket(stage: Stage, tmp_path: Path) -> None:
    ids, scores = stage.members(stage.expand(audience_size=50))
    assert len(ids) == 50
    assert scores == sorted(scores, reverse=True)
    loader = Loader(another_machine(tmp_path), CPU)
    handler = stage.handlers[Kind.EXPAND]
    assert isinstance(handler, ExpandHandler)
    other = replace(stage, loader=loader, handlers={Kind.EXPAND: replace(handler, loader=loader)})
    assert other.members(other.expand(audience_size=50)) == (ids, scores)


def test_nothing_that_is_published_is_overwritten(world: TinyWorld, bucket: Any, tmp_path: Path) -> None:
    models, folder = world.artifacts.models, version_prefix(VERSION)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(ObjectExists):
        models.put(f"{folder}/{WEIGHTS}", b"others")
    with pytest.raises(ObjectExists):
        models.put_directory(tmp_path, folder)
    stored = bucket.get_object(Bucket="bucket", Key=f"model/{folder}/{WEIGHTS}")["Body"].read()
    assert hashlib.sha256(stored).hexdigest() == world.manifest.weights_sha256


def test_large_files_go_in_parts_with_checksums(world: TinyWorld, bucket: Any, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "large").write_bytes(bytes(2 * PART + 1))
    (made / MANIFEST).write_text("{}")
    world.artifacts.pools.put_directory(made, "large")
    found = bucket.head_object(Bucket="bucket", Key="pool/large/large", ChecksumMode="ENABLED")
    assert found["ContentLength"] == 2 * PART + 1
    assert found["ETag"].endswith('-3"')
    assert found["ChecksumSHA256"]
    assert bucket.list_multipart_uploads(Bucket="bucket").get("Uploads", []) == []


def test_weights_that_were_changed_in_the_bucket_are_not_loaded(stage: Stage, bucket: Any, tmp_path: Path) -> None:
    publish(stage.world, "changed")
    name = f"model/{version_prefix('changed')}/{WEIGHTS}"
    data = bytearray(bucket.get_object(Bucket="bucket", Key=name)["Body"].read())
    data[-1] ^= 1
    bucket.put_object(Bucket="bucket", Key=name, Body=bytes(data))
    heard: list[str] = []
    with pytest.raises(CheckpointError, match="sha256"):
        Loader(another_machine(tmp_path), CPU, failed=heard.append).model("changed")
    assert heard == ["sha"]


def test_a_worker_takes_a_new_model_up_and_keeps_the_last_good_one_when_it_does_not_load(
    stage: Stage, worker: Worker
) -> None:
    worker._warm_up()
    assert worker.loader.last_good == served(stage)
    publish(stage.world, "better")
    better = serve(stage, "better")
    worker._polled_at = 0.0
    worker._warm_up()
    assert worker.loader.last_good == better
    publish(stage.world, "odd", canary=[0.5] * len(stage.world.manifest.canary))
    for version, reason in (("odd", "canary"), ("gone", "missing")):
        serve(stage, version)
        worker._polled_at = 0.0
        worker._warm_up()
        assert worker.loader.last_good == better
        assert failures(worker, reason) == 1


def test_an_expansion_goes_on_with_the_last_good_model_unless_it_asked_for_the_one_that_fails(stage: Stage) -> None:
    stage.loader.last_good = served(stage)
    publish(stage.world, "broken", canary=[0.5])
    serve(stage, "broken")
    job = stage.expand(audience_size=50)
    assert (job.state, job.model_version) == (State.SUCCEEDED, VERSION)
    pinned = stage.expand(audience_size=50, model_version="broken")
    assert (pinned.state, pinned.model_version) == (State.FAILED, "broken")
    assert pinned.error is not None
    assert pinned.error["type"].endswith("model-unavailable")
