"""Erasures: who may ask for one, what is told of it, and that each is done once, in its turn, and is watched."""

import pytest
from sqlalchemy import select, text, update

from service.campaigns.inputs import ExpansionInputs
from service.erasures.tables import Erasure
from service.jobs import claims
from service.jobs.repository import get_payload
from service.jobs.states import Kind, Queue
from tests.contract.conftest import Api, StartApi
from tests.contract.erasing import ASKED, done, erase, look
from tests.contract.worlds import SEEDS, assert_problem, expand, pointers


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


def test_only_one_erase_job_runs_at_a_time(api: Api) -> None:
    erase(api), erase(api)
    taken = []
    for _ in range(2):
        with api.database.write() as session:
            taken.append(claims.claim(session, queues=list(Queue), kinds=[Kind.ERASE], owner="w", lease_seconds=30))
    assert taken[0] is not None
    assert taken[1] is None


def test_the_oldest_pending_erasure_is_watched(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.kit.scraped.KEPT_SECONDS", 0)
    name = "lookalike_erasure_oldest_pending_seconds"
    assert api.metric(name) == 0
    erase(api)
    with api.database.write() as session:
        session.execute(text("UPDATE erasures SET created_at = '2020-01-01 00:00:00.000000'"))
    assert api.metric(name) > 1e8
    done(api)
    assert api.metric(name) == 0
    assert api.metric("lookalike_erasures_total", outcome="done") == 1
