"""Campaigns over HTTP: what they are given is used by later expansions, and deleting one leaves nothing of it."""

from typing import Any

import redis
from sqlalchemy import select, text

from service.jobs.tables import Job, JobInput
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import REQUEST, assert_problem, claim, count_jobs, expand, pointers, publish
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually

URL = "/campaigns/spring"
JSON = "application/json"
BODY = {"attributes": {"topic": "shoes"}, "labels": {"team": "red"}}


def put(api: Api, body: Any = BODY, url: str = URL, **options: Any) -> Any:
    return api.call("PUT", url, json=body, **options)


def attributes_of(api: Api, job: dict[str, Any]) -> Any:
    with api.database.read() as session:
        return session.get_one(Job, job["id"]).request["attributes"]


def test_a_campaign_is_made_changed_and_read(api: Api) -> None:
    made = put(api)
    assert made.status_code == 200
    document = made.json()
    assert {name: document[name] for name in ("campaign_id", *BODY)} == {"campaign_id": "spring", **BODY}
    assert document["created_at"].endswith("Z")
    assert api.get(URL).json() == document
    changed = put(api, {"labels": {"team": "blue"}}).json()
    assert (changed["attributes"], changed["labels"]) == ({}, {"team": "blue"})
    assert changed["created_at"] == document["created_at"]
    assert changed["updated_at"] > document["updated_at"]


def test_the_first_expansion_makes_the_campaign(api: Api) -> None:
    assert_problem(api.get(URL), 404, "not-found")
    expand(api)
    document = api.get(URL).json()
    assert (document["attributes"], document["labels"]) == ({}, {})


def test_later_expansions_use_its_attributes_and_what_one_brings_itself_wins(sqlite_api: Api) -> None:
    before = expand(sqlite_api)
    put(sqlite_api)
    assert attributes_of(sqlite_api, before) == {}
    assert attributes_of(sqlite_api, expand(sqlite_api)) == {"topic": "shoes"}
    assert attributes_of(sqlite_api, expand(sqlite_api, campaign={"topic": "hats"})) == {"topic": "hats"}
    assert attributes_of(sqlite_api, expand(sqlite_api, "autumn")) == {}


def test_an_attribute_that_a_later_model_does_not_know_is_left_out_of_an_expansion(sqlite_api: Api) -> None:
    put(sqlite_api)
    with sqlite_api.database.write() as session:
        session.execute(text("""UPDATE model_versions SET campaign_features = '[{"name":"brand","kind":"multi"}]'"""))
    assert attributes_of(sqlite_api, expand(sqlite_api, campaign={"brand": ["x"]})) == {"brand": ["x"]}


WRONG: list[tuple[Any, str]] = [
    ([], ""),
    ({"attributes": []}, "/attributes"),
    ({"attributes": None}, "/attributes"),
    ({"attributes": {"planet": "mars"}}, "/attributes/planet"),
    ({"attributes": {"topic": 7}}, "/attributes/topic"),
    ({"attributes": {"topic": None}}, "/attributes/topic"),
    ({"attributes": {"topic": {"a": 1}}}, "/attributes/topic"),
    ({"attributes": {"topic": "x" * 1_001}}, "/attributes/topic"),
    ({"labels": {"a": 1}}, "/labels/a"),
    ({"labels": {"a": "x" * 257}}, "/labels/a"),
    ({"labels": {"a": "b\0"}}, "/labels/a"),
    ({"labels": {str(number): "x" for number in range(17)}}, "/labels"),
    ({"campaign_id": "spring"}, "/campaign_id"),
]


def test_every_fault_of_the_body_is_named_where_it_is_and_changes_nothing(sqlite_api: Api) -> None:
    before = put(sqlite_api).json()
    for body, pointer in WRONG:
        assert pointers(put(sqlite_api, body)) == [pointer]
    assert_problem(sqlite_api.call("PUT", URL, content=b"{}"), 415, "unsupported-media-type")
    twice = sqlite_api.call("PUT", URL, content=b'{"labels":{},"labels":{}}', headers={"Content-Type": JSON})
    assert pointers(twice) == ["/labels"]
    assert sqlite_api.get(URL).json() == before


def test_before_there_is_a_model_any_attribute_is_taken(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, served=False)
    assert put(api, {"attributes": {"anything": [1, 2]}}).json()["attributes"] == {"anything": [1, 2]}


def test_the_list_has_every_campaign_of_the_tenant_once_page_by_page(api: Api) -> None:
    names = [f"c{number}" for number in range(5)]
    for name in reversed(names):
        put(api, url=f"/campaigns/{name}")
    put(api, url="/campaigns/foreign", key="globex")
    assert [campaign["campaign_id"] for campaign in api.get("/campaigns").json()["campaigns"]] == names
    found, token = [], ""
    while True:
        page = api.get("/campaigns", params={"page_size": 2, "page_token": token}).json()
        found += [campaign["campaign_id"] for campaign in page["campaigns"]]
        token = page["next_page_token"]
        if not token:
            break
        assert_problem(api.get("/campaigns", params={"page_token": token}, key="globex"), 400, "invalid-page-token")
    assert found == names
    assert_problem(api.get("/campaigns?page_size=-1"), 400, "invalid-parameter")
    assert_problem(api.get("/campaigns?page_token=x"), 400, "invalid-page-token")


def test_another_tenants_campaign_is_as_unknown_as_one_that_never_was(sqlite_api: Api) -> None:
    put(sqlite_api)
    for method in ("GET", "DELETE"):
        foreign, unknown = (
            assert_problem(sqlite_api.call(method, url, key="globex"), 404, "not-found")
            for url in (URL, "/campaigns/never")
        )
        assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}
    put(sqlite_api, {"labels": {"team": "theirs"}}, key="globex")
    assert sqlite_api.get(URL).json()["labels"] == {"team": "red"}


def test_deleting_a_campaign_leaves_nothing_of_it(api: Api, redis_server: RedisServer, redis_url: str) -> None:
    job_id = expand(api)["id"]
    publish(api, job_id, 2_500)
    other = expand(api, "autumn")["id"]
    publish(api, other, 10)
    assert api.get(f"{URL}/audience").status_code == 200
    client = redis.Redis.from_url(redis_url)
    assert len(list(client.scan_iter(f"*{job_id}*"))) == 13
    assert api.call("DELETE", URL).status_code == 204
    for path in (URL, f"{URL}/audience", f"/jobs/{job_id}", f"/jobs/{job_id}/audience"):
        assert_problem(api.get(path), 404, "not-found")
    assert_problem(api.call("DELETE", URL), 404, "not-found")
    assert api.app.state.artifacts.audiences.names(f"audiences/{job_id}") == []
    assert list(client.scan_iter(f"*{job_id}*")) == []
    client.close()
    with api.database.read() as session:
        assert session.scalars(select(JobInput.job_id)).all() == [other]
    assert api.get(f"/jobs/{other}/audience").status_code == 200


def test_another_process_stops_serving_a_deleted_audience_a_second_later(
    start_api: StartApi, database_url: str
) -> None:
    one, other = start_api(database_url), start_api(database_url, served=False)
    job_id = expand(one)["id"]
    publish(one, job_id, 10)
    key = one.keys["acme"]
    assert other.get(f"/jobs/{job_id}/audience", key=key).status_code == 200
    assert one.call("DELETE", URL).status_code == 204
    assert eventually(lambda: other.get(f"/jobs/{job_id}/audience", key=key).status_code == 404, 5)


def test_a_campaign_with_an_unfinished_job_is_not_deleted(api: Api) -> None:
    job_id = expand(api)["id"]
    assert_problem(api.call("DELETE", URL), 409, "job-active")
    claim(api.database)
    assert api.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert_problem(api.call("DELETE", URL), 409, "job-active")
    assert count_jobs(api.database) == 1


def test_a_cancelled_job_is_deleted_with_its_campaign_and_a_new_one_begins_anew(sqlite_api: Api) -> None:
    put(sqlite_api)
    job_id = expand(sqlite_api)["id"]
    sqlite_api.post(f"/jobs/{job_id}/cancel")
    assert sqlite_api.call("DELETE", URL).status_code == 204
    assert count_jobs(sqlite_api.database) == 0
    assert attributes_of(sqlite_api, expand(sqlite_api)) == {}


def test_deleting_and_expanding_at_once_end_one_after_the_other(api: Api) -> None:
    put(api)
    posts = [("POST", f"{URL}/expand", "acme", {"json": REQUEST}) for _ in range(4)]
    answers = api.call_at_once(*posts[:2], ("DELETE", URL, "acme", {}), *posts[2:])
    statuses = [answer.status_code for answer in answers]
    assert statuses[:2] + statuses[3:] == [202] * 4
    assert statuses[2] in (204, 409)
    assert count_jobs(api.database) == 4
    assert api.get(URL).json()["campaign_id"] == "spring"


def test_deleting_a_job_takes_its_entries_out_of_redis(sqlite_api: Api, redis_url: str) -> None:
    job_id = expand(sqlite_api)["id"]
    publish(sqlite_api, job_id, 1_500)
    assert sqlite_api.call("DELETE", f"/jobs/{job_id}").status_code == 204
    client = redis.Redis.from_url(redis_url)
    assert list(client.scan_iter("lookalike:audience:*")) == list(client.scan_iter("lookalike:lookup:*")) == []
    client.close()
