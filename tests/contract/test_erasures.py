"""Erasures: nobody is shown an erased user from the 202 on, and nothing that is stored holds one once it is done."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import torch
from sqlalchemy import event, select, text, update

from model.pool import open_pool, write_pool
from model.schema import Feature
from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.campaigns.inputs import ExpansionInputs
from service.erasures.audiences import AudienceEraser
from service.erasures.erasing import EraseHandler
from service.erasures.pools import PoolEraser
from service.erasures.repository import TombstoneReader
from service.erasures.tables import Erasure, Tombstone
from service.jobs import claims
from service.jobs.repository import get_payload
from service.jobs.runner import Handler, Runner
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import Job
from service.kit.artifacts import snapshot_prefix
from service.pool.importing import ImportHandler
from service.pool.locations import ImportRoot
from service.pool.tables import Snapshot
from service.serving.loader import Loader
from service.serving.repository import get_serving
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import SEEDS, assert_problem, expand, ids_and_scores, pointers, publish
from tests.fixtures.redis import RedisServer

SIZE = 3_456
# On the first page, at its very end, at the beginning of the second, together, and last of all; and one who is nobody.
ERASED = ["user-000000", "user-000999", "user-001000", "user-001500", "user-001501", "user-003455"]
ASKED = [*ERASED, "nobody"]
LEFT = [user_id for user_id in ids_and_scores(SIZE)[0] if user_id not in ERASED]
SCHEMA = {"user_features": [{"name": "city", "kind": "categorical"}]}


@pytest.fixture
def job_id(api: Api) -> str:
    job_id: str = expand(api)["id"]
    publish(api, job_id, SIZE)
    return job_id


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.erasures.erasing.ROW_SECONDS", 0)


def erase(api: Api, user_ids: Sequence[str] = ASKED, **options: Any) -> str:
    answer = api.post("/erasures", {"user_ids": list(user_ids)}, key="operator", **options)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def look(api: Api, url: str) -> dict[str, Any]:
    answer = api.get(url, key="operator")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def work(api: Api) -> Job:
    """Do the next erasure or import as a worker would."""
    database, artifacts, metrics = api.database, api.app.state.artifacts, api.app.state.metrics
    publisher = AudiencePublisher(artifacts.audiences, AudienceCache(api.app.state.cache, 30), 30)
    tombstones = TombstoneReader(database, api.app.state.erasure_key)
    pools = PoolEraser(database, artifacts, Loader(artifacts, torch.device("cpu")), max_attempts=3)
    imports = ImportRoot(api.app.state.settings.resolved_import_root)
    handlers: dict[Kind, Handler] = {
        Kind.ERASE: EraseHandler(database, pools, AudienceEraser(database, publisher), metrics),
        Kind.IMPORT_POOL: ImportHandler(database, artifacts.pools, imports, 3, tombstones),
    }
    with database.write() as session:
        claimed = claims.claim(session, queues=list(Queue), kinds=list(handlers), owner="w", lease_seconds=30)
    assert claimed is not None
    Runner(database, metrics, handlers, 30, 90).run(claimed)
    with database.read() as session:
        return session.get_one(Job, claimed.job_id)


def done(api: Api) -> None:
    """The erasure is done, and the job has waited as long as rows are remembered."""
    assert work(api).state == State.SUCCEEDED
    api.app.state.recent_audiences.forget()


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


def test_an_erasure_is_accepted_and_told_of_in_counts_alone(api: Api) -> None:
    answer = api.post("/erasures", {"user_ids": ASKED}, key="operator")
    assert answer.status_code == 202
    erasure = answer.json()
    assert answer.headers["location"] == f"/erasures/{erasure['id']}"
    assert erasure == {
        "id": erasure["id"],
        "state": "queued",
        "done": False,
        "counts": {"users_submitted": 7, "users_in_pool": None},
    }
    assert look(api, f"/erasures/{erasure['id']}") == erasure
    done(api)
    answer = api.get(f"/erasures/{erasure['id']}", key="operator")
    counts = {"users_submitted": 7, "users_in_pool": 0}
    assert answer.json() == {"id": erasure["id"], "state": "succeeded", "done": True, "counts": counts}
    assert "user-" not in answer.text


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


def test_stored_seeds_forget_erased_users(api: Api) -> None:
    options = {"seed_weights": [*range(1, 31)], "negative_user_ids": ["n1", "n2"], "exclude_user_ids": ["x1", "x2"]}
    job_id = expand(api, **options)["id"]
    untouched = expand(api, "autumn")["id"]
    erase(api, [SEEDS[0], "n2", "x1"])
    done(api)
    with api.database.read() as session:
        payload, other = get_payload(session, job_id), get_payload(session, untouched)
    assert payload is not None
    assert other is not None
    expected = ExpansionInputs.of(SEEDS[1:], [*map(float, range(2, 31))], ["n1"], ["x2"])
    assert ExpansionInputs.decode(payload) == expected
    assert ExpansionInputs.decode(other).seeds == tuple(sorted(SEEDS[1:]))


def test_a_request_is_strict(sqlite_api: Api) -> None:
    for body, pointer in (
        ({}, "/user_ids"),
        ({"user_ids": []}, "/user_ids"),
        ({"user_ids": ["u"] * 10_001}, "/user_ids"),
        ({"user_ids": ["u", ""]}, "/user_ids/1"),
        ({"user_ids": ["x" * 129]}, "/user_ids/0"),
        ({"user_ids": ["u"], "reason": "asked"}, "/reason"),
    ):
        assert pointer in pointers(sqlite_api.post("/erasures", body, key="operator")), body
    assert erase(sqlite_api, [f"u{number}" for number in range(10_000)])


def test_a_tenants_key_may_not_erase_and_another_operators_erasure_is_not_there(api: Api) -> None:
    assert_problem(api.post("/erasures", {"user_ids": ["u"]}), 403, "insufficient-scope")
    location = erase(api)
    with api.database.write() as session:
        session.execute(update(Erasure).values(tenant="globex"))
    for path in (location, "/erasures/erasure_0", "/erasures/nothing", "/erasures/a%00b"):
        assert_problem(api.get(path, key="operator"), 404, "not-found")


def test_an_idempotency_key_makes_one_erasure(api: Api) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = erase(api, headers=key)
    again = api.post("/erasures", {"user_ids": ASKED}, key="operator", headers=key)
    assert (again.status_code, again.headers["location"]) == (202, first)
    assert again.headers["idempotent-replayed"] == "true"
    other = api.post("/erasures", {"user_ids": ["u"]}, key="operator", headers=key)
    assert_problem(other, 422, "idempotency-key-reused")
    with api.database.read() as session:
        assert len(session.scalars(select(Erasure)).all()) == 1
    assert erase(api) != first


def test_a_key_other_than_the_first_is_refused_before_anything_is_noted(start_api: StartApi, sqlite_url: str) -> None:
    erase(start_api(sqlite_url, erasure_key="one"))
    api = start_api(sqlite_url, erasure_key="another", served=False)
    answer = api.post("/erasures", {"user_ids": ["u"]}, key="operator")
    assert_problem(answer, 503, "dependency-unavailable")
    with api.database.read() as session:
        assert len(session.scalars(select(Erasure)).all()) == 1


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


def test_the_oldest_pending_erasure_is_watched(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.kit.metrics._GAUGE_CACHE_SECONDS", 0)
    name = "lookalike_erasure_oldest_pending_seconds"
    assert api.metric(name) == 0
    erase(api)
    with api.database.write() as session:
        session.execute(text("UPDATE erasures SET created_at = '2020-01-01 00:00:00.000000'"))
    assert api.metric(name) > 1e8
    done(api)
    assert api.metric(name) == 0
    assert api.metric("lookalike_erasures_total", outcome="done") == 1


class Pool:
    """A pool of a hundred users in four shards, served as `pool_1`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.users = [f"user-{number:06d}" for number in range(100)]
        self.store = api.app.state.artifacts.pools
        features = (Feature("city", "categorical"),)
        with self.store.staging() as scratch:
            write_pool(self.table(), features, scratch, shard_rows=25)
            self.store.put_directory(scratch, snapshot_prefix("pool_1"))
        with api.database.write() as session:
            session.execute(update(Snapshot).values(size=100, features=[{"name": "city", "kind": "categorical"}]))

    def table(self) -> pa.Table:
        return pa.table({"user_id": self.users, "city": ["Ulm"] * 100})

    def users_of(self, snapshot_id: str) -> list[str]:
        pool = open_pool(self.store.local(snapshot_prefix(snapshot_id)))
        return [user_id.decode() for shard in pool.shards for user_id in shard.ids.tolist()]

    def importing(self) -> None:
        folder = self.api.app.state.settings.import_root
        folder.mkdir(exist_ok=True)
        pq.write_table(self.table(), folder / "users.parquet")
        body = {"users": "users.parquet", "schema": SCHEMA, "mode": "replace"}
        assert self.api.post("/pool/imports", body, key="operator").status_code == 202


def test_the_pool_gets_a_successor_without_them_and_the_old_one_is_deleted(api: Api) -> None:
    pool = Pool(api)
    shown = api.get("/pool").json()
    gone = {"user-000003", "user-000004", "user-000099"}
    location = erase(api, [*gone, "nobody"])
    done(api)
    assert look(api, location)["counts"] == {"users_submitted": 4, "users_in_pool": 3}
    now = api.get("/pool").json()
    assert (now["size"], now["pending"]) == (97, None)
    assert {**now, "size": 0, "snapshot_id": "", "sha256": ""} == {**shown, "size": 0, "snapshot_id": "", "sha256": ""}
    assert pool.users_of(now["snapshot_id"]) == [user_id for user_id in pool.users if user_id not in gone]
    assert {name.split("/")[1] for name in pool.store.names("snapshots")} == {now["snapshot_id"]}
    with api.database.read() as session:
        assert session.get_one(Snapshot, "pool_1").replaced_by == now["snapshot_id"]
        assert get_serving(session).desired_snapshot_id == now["snapshot_id"]


def test_a_snapshot_that_nobody_needs_is_deleted_without_a_successor(api: Api) -> None:
    pool = Pool(api)
    with api.database.write() as session:
        session.execute(
            text("UPDATE serving SET snapshot_id = NULL, representation_id = NULL, desired_snapshot_id = NULL")
        )
    erase(api, ["user-000003"])
    done(api)
    assert pool.store.names("snapshots") == []
    with api.database.read() as session:
        assert len(session.scalars(select(Snapshot)).all()) == 1


def test_a_later_import_keeps_erased_users_out(api: Api) -> None:
    pool = Pool(api)
    erase(api, ["user-000003", "user-000050"])
    done(api)
    pool.importing()
    assert work(api).state == State.SUCCEEDED
    with api.database.read() as session:
        imported = get_serving(session).desired_snapshot_id
    assert imported is not None
    assert len(pool.users_of(imported)) == 98
    assert not {"user-000003", "user-000050"} & set(pool.users_of(imported))


def test_an_erasure_while_an_import_is_published_keeps_them_out_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(api)
    pool.importing()
    since = TombstoneReader.since
    late = iter([["user-000010"], ["user-000011", "user-000012"]])

    def and_then_somebody_is_erased(self: TombstoneReader, generation: int) -> Any:
        tombstones = since(self, generation)
        if users := next(late, None):
            erase(api, users)
        return tombstones

    monkeypatch.setattr(TombstoneReader, "since", and_then_somebody_is_erased)
    assert work(api).state == State.SUCCEEDED
    with api.database.read() as session:
        imported = get_serving(session).desired_snapshot_id
        snapshot = session.get_one(Snapshot, imported)
    assert snapshot.erasure_generation == 2
    assert not {"user-000010", "user-000011", "user-000012"} & set(pool.users_of(snapshot.id))
    assert {name.split("/")[1] for name in pool.store.names("snapshots")} == {"pool_1", snapshot.id}


def test_of_several_erasures_one_job_does_all_that_are_pending(api: Api) -> None:
    pool = Pool(api)
    locations = [erase(api, [user_id]) for user_id in pool.users[:3]]
    done(api)
    assert all(look(api, location)["done"] for location in locations)
    assert [look(api, location)["counts"]["users_in_pool"] for location in locations] == [1, 1, 1]
    for _ in range(2):
        done(api)
    assert api.metric("lookalike_erasures_total", outcome="done") == 3


def test_only_one_erase_job_runs_at_a_time(api: Api) -> None:
    erase(api), erase(api)
    taken = []
    for _ in range(2):
        with api.database.write() as session:
            taken.append(claims.claim(session, queues=list(Queue), kinds=[Kind.ERASE], owner="w", lease_seconds=30))
    assert taken[0] is not None
    assert taken[1] is None


def test_a_second_attempt_goes_on_and_counts_what_there_was(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    Pool(api)
    job_id = expand(api)["id"]
    publish(api, job_id, 50)
    location = erase(api, ["user-000003"])
    with monkeypatch.context() as patch:
        patch.setattr("service.erasures.erasing.erase_from_seeds", lambda *_: 1 / 0)
        assert work(api).state == State.FAILED
    assert look(api, location)["state"] == "queued"
    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == 49
    assert api.metric("lookalike_erasures_total", outcome="failed") == 1
    erase(api, ["user-000004"])
    done(api)
    assert look(api, location)["counts"] == {"users_submitted": 1, "users_in_pool": 1}
    assert api.get(f"/jobs/{job_id}/audience").json()["audience_size"] == 48
