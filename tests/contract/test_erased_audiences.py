"""Erased users and audiences: nobody is shown them from the 202 on, and no object holds them once it is done."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from sqlalchemy import event, select, update

from model.errors import StoreError
from model.store import ObjectStore
from service.audiences.file import LOOKUP, MEMBERS
from service.erasures.service import take_up_again
from service.erasures.tables import Erasure, Tombstone
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from tests.contract.conftest import Api
from tests.contract.erasing import ASKED, ERASED, done, erase, look, work
from tests.contract.worlds import SIZE, expand, ids_and_scores, publish
from tests.fixtures.redis import RedisServer

LEFT = [user_id for user_id in ids_and_scores(SIZE)[0] if user_id not in ERASED]


def walk(api: Api, url: str, page_size: int, after: Callable[[int], None] = lambda _page: None) -> list[Any]:
    """All members, with something to happen after each page."""
    members: list[Any] = []
    token, number = "", 0
    while True:
        page = api.get(url, params={"page_size": page_size, "page_token": token}).json()
        members += page["users"]
        number += 1
        after(number)
        token = page["next_page_token"]
        if not token:
            return members


def left(users: Sequence[str] = LEFT) -> list[Any]:
    user_ids, scores = ids_and_scores(SIZE)
    known = dict(zip(user_ids, scores.tolist(), strict=True))
    return [{"rank": rank, "user_id": user, "score": known[user]} for rank, user in enumerate(users, 1)]


def test_pages_and_look_ups_pass_erased_users_over_from_the_202_on_and_when_it_is_done(
    api: Api, job_id: str, redis_server: RedisServer
) -> None:
    def check() -> None:
        for page_size in (777, 1_000, 2_001):
            assert walk(api, f"/jobs/{job_id}/audience", page_size) == left()
        page = api.get("/campaigns/spring/audience").json()
        assert (page["audience_size"], page["users"][0]["user_id"]) == (len(LEFT), "user-000001")
        results = api.post("/campaigns/spring/audience/lookup", {"user_ids": [*ASKED, *LEFT[:100], LEFT[-1]]}).json()
        assert [row["member"] for row in results["results"]] == [False] * 7 + [True] * 101
        assert [row["rank"] for row in results["results"][7:]] == [*range(1, 101), len(LEFT)]
        assert api.get("/users/user-001500/audiences").json() == {"audiences": []}
        for cut, ranks in (("", slice(0, None)), ("&from_rank=998&to_rank=1002", slice(997, 1_002))):
            lines = api.get(f"/jobs/{job_id}/audience/export?format=ndjson{cut}").text.splitlines()
            assert [json.loads(line) for line in lines] == left()[ranks]
        assert api.get(f"/users/{LEFT[-1]}/audiences").json()["audiences"][0]["rank"] == len(LEFT)

    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == SIZE
    erase(api)
    check()
    done(api)
    check()
    redis_server.flush()
    check()


def test_erasing_an_id_that_normalisation_makes_longer_than_any_members_takes_nobody_away(
    api: Api, job_id: str
) -> None:
    erase(api, ["\u0958" * 128])
    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == SIZE
    done(api)
    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == SIZE


@pytest.mark.parametrize("before_page", [1, 2, 3])
def test_a_walk_goes_on_where_it_was_whatever_is_erased_meanwhile(api: Api, job_id: str, before_page: int) -> None:
    def happen(page: int) -> None:
        if page == before_page:
            erase(api)
        if page == before_page + 1:
            done(api)

    members = walk(api, "/campaigns/spring/audience", 500, happen)
    seen = [member["user_id"] for member in members]
    shown = ids_and_scores(SIZE)[0][: 500 * before_page]
    assert seen == shown + [user_id for user_id in LEFT if user_id not in shown]


def test_one_erasure_after_the_other_leaves_tokens_good(api: Api, job_id: str) -> None:
    rest = iter(LEFT[::5])

    def happen(_page: int) -> None:
        erase(api, [user_id for user_id, _ in zip(rest, range(80), strict=False)])
        done(api)

    seen = [member["user_id"] for member in walk(api, f"/jobs/{job_id}/audience", 400, happen)]
    assert len(set(seen)) == len(seen)
    assert set(seen) >= set(LEFT) - set(LEFT[::5])


def test_when_it_is_done_no_object_row_or_cache_holds_the_users(api: Api, job_id: str, redis_url: str) -> None:
    before = api.get(f"/jobs/{job_id}").json()
    with redis.Redis.from_url(redis_url) as client:
        cached: Any = set(client.mget(client.keys("lookalike:audience:*")))  # type: ignore[arg-type]
    location = erase(api)
    done(api)
    store = api.app.state.artifacts.audiences
    names = store.names("audiences")
    assert len(names) == 2
    table = pa.ipc.open_file(pa.BufferReader(store.get(next(name for name in names if name.endswith("arrow")))))
    assert table.read_all().column("user_id").to_pylist() == LEFT
    with redis.Redis.from_url(redis_url) as client:
        keys: Any = client.keys("lookalike:audience:*")
        assert not cached & set(client.mget(keys) if keys else [])
    with api.database.read() as session:
        erasure = session.scalars(select(Erasure)).one()
        assert (erasure.user_ids, erasure.users_submitted) == (None, 7)
        assert len(session.scalars(select(Tombstone)).all()) == 7
    after = api.get(f"/jobs/{job_id}").json()
    assert after["audience"]["size"] == len(LEFT)
    assert after["audience"]["etag"] != before["audience"]["etag"]
    assert after["manifest"] == before["manifest"]
    assert {**after, "audience": None} == {**before, "audience": None}
    assert look(api, location)["done"]


def test_audiences_of_all_tenants_are_cleaned_and_others_stay_as_they_are(api: Api) -> None:
    theirs, untouched = expand(api, key="globex")["id"], None
    publish(api, theirs, 300)
    untouched = expand(api)["id"]
    publish(api, untouched, 20)
    objects = {name for name in api.app.state.artifacts.audiences.names("audiences") if untouched in name}
    erase(api, ["user-000200", "user-000250"])
    assert api.get(f"/jobs/{theirs}/audience", key="globex").json()["audience_size"] == 298
    done(api)
    assert api.get(f"/jobs/{theirs}/audience", key="globex").json()["audience_size"] == 298
    assert api.get(f"/jobs/{untouched}/audience").json()["audience_size"] == 20
    assert objects <= set(api.app.state.artifacts.audiences.names("audiences"))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


@pytest.mark.parametrize("harm", [Path.unlink, cut_off])
@pytest.mark.parametrize("object_name", [MEMBERS, LOOKUP])
def test_an_audience_that_the_store_has_lost_holds_up_the_end_of_an_erasure_and_nothing_else(
    sqlite_api: Api, harm: Callable[[Path], None], object_name: str
) -> None:
    api = sqlite_api
    lost, other = (expand(api, campaign)["id"] for campaign in ("spring", "summer"))
    for job_id in (lost, other):
        publish(api, job_id, 300)
    store = api.app.state.artifacts.audiences
    harm(Path(store.url) / next(name for name in store.names(f"audiences/{lost}") if name.endswith(object_name)))
    location = erase(api, ["user-000200"])
    job = work(api)
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error["detail"].endswith(": 1.")
    (members,) = (name for name in store.names(f"audiences/{other}") if name.endswith(MEMBERS))
    assert pa.ipc.open_file(pa.BufferReader(store.get(members))).read_all().num_rows == 299
    assert look(api, location)["state"] == "queued"
    assert api.call("DELETE", f"/jobs/{lost}").status_code == 204
    with api.database.write() as session:
        assert take_up_again(session, max_attempts=1) == 1
    done(api)
    assert look(api, location)["done"]


def test_a_store_that_is_away_is_asked_again(api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    location = erase(api)

    def away(*_: Any) -> None:
        raise StoreError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "get_range", away)
        assert work(api).state == State.QUEUED
    with api.database.write() as session:
        session.execute(update(Job).where(Job.kind == Kind.ERASE).values(available_at=Job.created_at))
    done(api)
    assert look(api, location)["done"]


def test_an_audience_that_is_deleted_while_it_is_looked_through_is_none_that_was_lost(
    api: Api, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = erase(api)
    get_range = ObjectStore.get_range

    def deleted_first(self: ObjectStore, name: str, start: int, stop: int) -> bytes:
        api.call("DELETE", f"/jobs/{job_id}")
        return get_range(self, name, start, stop)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "get_range", deleted_first)
        done(api)
    assert look(api, location)["done"]


def test_a_page_during_and_after_an_erasure_costs_no_further_statements(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    publish(sqlite_api, job_id, SIZE)
    seen: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    def statements(url: str) -> int:
        seen.clear()
        assert sqlite_api.get(url).status_code == 200
        return len([statement for statement in seen if not statement.startswith("BEGIN")])

    event.listen(sqlite_api.app.state.database.engine, "before_cursor_execute", listen)
    try:
        url = "/campaigns/spring/audience"
        sqlite_api.get(url)
        assert statements(url) == 1
        erase(sqlite_api)
        sqlite_api.get(url)  # whose erasure is pending is read once
        assert statements(url) == 1
        done(sqlite_api)
        sqlite_api.get(url)
        assert statements(url) == 1
    finally:
        event.remove(sqlite_api.app.state.database.engine, "before_cursor_execute", listen)
