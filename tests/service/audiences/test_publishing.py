"""Storing an audience: from a list or a column of ids, both objects or none."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.errors import ObjectExists
from model.store import ObjectStore
from service.audiences.cache import AudienceCache
from service.audiences.file import LOOKUP, MEMBERS, AudienceFile
from service.audiences.publishing import AudiencePublisher
from service.kit.metrics import Metrics
from service.kit.redis import Cache

JOB: Any = SimpleNamespace(id="job_1", lease_token=3, campaign_id="spring")
IDS = [f"u{number:05d}" for number in range(2_345)]
SCORES = np.linspace(1, 0, len(IDS)).round(6)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path))


@pytest.fixture
def publisher(objects: ObjectStore, redis_url: str) -> AudiencePublisher:
    return AudiencePublisher(objects, AudienceCache(Cache(redis_url, Metrics(version="test")), 30), 30)


def test_the_members_and_their_look_up_lie_under_a_name_of_the_attempt(
    publisher: AudiencePublisher, objects: ObjectStore
) -> None:
    stored = publisher.store(JOB, "v1", IDS, SCORES)
    assert objects.names("audiences") == [f"audiences/job_1/3/{name}" for name in sorted((LOOKUP, MEMBERS))]
    with AudienceFile.open_object(objects, stored.object_name) as file:
        assert hashlib.sha256(b"".join(chunk.canonical() for chunk in file)).hexdigest() == stored.sha256
        assert file.chunk(2).user_ids == IDS[2_000:]
    assert stored.view()["size"] == 2_345
    publisher.discard(stored)
    assert objects.names("audiences") == []


def test_a_column_of_ids_makes_the_same_audience_as_a_list(publisher: AudiencePublisher, objects: ObjectStore) -> None:
    from_list = publisher.store(JOB, "v1", IDS, SCORES)
    publisher.discard(from_list)
    column = pa.array(["not", "these", *IDS]).slice(2)
    assert publisher.store(JOB, "v1", column, SCORES).sha256 == from_list.sha256


@pytest.mark.parametrize("taken", [LOOKUP, MEMBERS])
def test_when_one_object_cannot_be_written_the_other_does_not_stay(
    publisher: AudiencePublisher, objects: ObjectStore, taken: str
) -> None:
    objects.put(f"audiences/job_1/3/{taken}", b"in the way")
    with pytest.raises(ObjectExists):
        publisher.store(JOB, "v1", IDS, SCORES)
    assert objects.names("audiences") == []
