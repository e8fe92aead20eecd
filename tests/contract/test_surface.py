"""What holds for every route: keys, scopes, problems, headers; and the routes about the service itself."""

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from service.keys.service import create_key
from service.kit.errors import CATALOGUE
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import REQUEST, assert_problem, expand
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.waiting import eventually

JOB = "/jobs/job_0"
# method, path, scope, whether an operator's
GUARDED = [
    ("POST", "/campaigns/c/expand", "audience:expand"),
    ("POST", "/campaigns/c/preflight", "audience:expand"),
    ("GET", "/campaigns", "campaigns:read"),
    ("GET", "/campaigns/c", "campaigns:read"),
    ("PUT", "/campaigns/c", "campaigns:write"),
    ("DELETE", "/campaigns/c", "campaigns:delete"),
    ("GET", JOB, "jobs:read"),
    ("GET", f"{JOB}/events", "jobs:read"),
    ("GET", "/jobs", "jobs:read"),
    ("POST", f"{JOB}/cancel", "jobs:cancel"),
    ("DELETE", JOB, "audience:delete"),
    ("GET", f"{JOB}/audience", "audience:read"),
    ("GET", "/campaigns/c/audience", "audience:read"),
    ("GET", "/campaigns/c/insights", "audience:read"),
    ("GET", f"{JOB}/audience/export", "audience:read"),
    ("GET", "/campaigns/c/audience/export", "audience:read"),
    ("POST", "/campaigns/c/audience/exports", "audience:read"),
    ("POST", "/campaigns/c/audience/lookup", "audience:lookup"),
    ("GET", "/users/u/audiences", "audience:lookup"),
    ("GET", "/models", "models:read"),
    ("GET", "/models/current", "models:read"),
    ("POST", "/models/v1/promote", "models:admin"),
    ("POST", "/models/rollback", "models:admin"),
    ("GET", "/pool", "pool:read"),
    ("POST", "/pool/imports", "pool:write"),
    ("POST", "/erasures", "privacy:erase"),
    ("GET", "/erasures/erasure_0", "privacy:erase"),
    ("GET", "/metrics", "ops:read"),
]
OPEN = {"/healthz", "/readyz", "/problems/{slug}"}


def test_every_route_is_in_the_list_of_guarded_ones_or_open(sqlite_api: Api) -> None:
    documented = {
        (method.upper(), path)
        for path, methods in sqlite_api.app.openapi()["paths"].items()
        for method in methods
        if path not in OPEN
    }
    names = {
        "{job_id}": "job_0",
        "{campaign_id}": "c",
        "{version}": "v1",
        "{user_id}": "u",
        "{erasure_id}": "erasure_0",
    }
    filled = set()
    for method, template in documented:
        path = template
        for placeholder, value in names.items():
            path = path.replace(placeholder, value)
        filled.add((method, path))
    assert filled == {(method, path) for method, path, _ in GUARDED}


def test_without_a_valid_key_every_guarded_route_is_401_before_anything_else(sqlite_api: Api) -> None:
    for method, path, _ in GUARDED:
        for key in (None, "nonsense", "lk_aaaaaaaa_" + "b" * 43):
            answer = sqlite_api.call(method, path, key=key, content=b"{broken")
            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_without_its_scope_every_guarded_route_is_403(sqlite_api: Api) -> None:
    scopes = {scope for _, _, scope in GUARDED}
    with sqlite_api.database.write() as session:
        lacking = {scope: create_key(session, "acme", scopes - {scope}, operator=True).text for scope in scopes}
    for method, path, scope in GUARDED:
        answer = sqlite_api.call(method, path, key=lacking[scope], content=b"{broken")
        assert scope in assert_problem(answer, 403, "insufficient-scope")["detail"]


def test_a_revoked_key_is_refused_a_second_later(sqlite_api: Api) -> None:
    assert sqlite_api.get("/pool").status_code == 200
    with sqlite_api.database.write() as session:
        session.execute(text("UPDATE api_keys SET revoked_at = created_at"))
    assert eventually(lambda: sqlite_api.get("/pool").status_code == 401, 5)
    assert_problem(sqlite_api.get("/pool"), 401, "unauthenticated")


def test_wrong_methods_are_405_with_those_allowed_and_unknown_paths_404(sqlite_api: Api) -> None:
    for method, path, _ in GUARDED:
        answer = sqlite_api.call("PATCH", path)
        assert_problem(answer, 405, "method-not-allowed")
        assert method in answer.headers["allow"]
    for path in ("/", "/v1/jobs", "/jobs/", "/campaigns/", "/models/v1", "/jobs/a/b/c", "//jobs"):
        assert_problem(sqlite_api.get(path), 404, "not-found")


def test_a_caller_that_takes_no_json_is_told_so(sqlite_api: Api) -> None:
    for accept, status in (
        ("text/csv", 406),
        ("application/json;q=0", 406),
        ("*/*;q=0.1", 200),
        ("application/*", 200),
    ):
        assert sqlite_api.get("/pool", headers={"Accept": accept}).status_code == status
    assert_problem(sqlite_api.get("/pool", headers={"Accept": "image/png"}), 406, "not-acceptable")


def test_bodies_with_an_encoding_long_targets_and_long_headers_are_refused(sqlite_api: Api) -> None:
    gzip = {"Content-Encoding": "gzip"}
    assert_problem(sqlite_api.post("/campaigns/c/expand", REQUEST, headers=gzip), 415, "unsupported-media-type")
    assert_problem(sqlite_api.get("/jobs?page_token=" + "x" * 9_000), 414, "uri-too-long")
    assert_problem(sqlite_api.get("/jobs", headers={"X-Long": "x" * 40_000}), 431, "headers-too-large")


def test_every_answer_carries_the_fixed_headers(sqlite_api: Api) -> None:
    for path in ("/healthz", "/readyz", "/pool", "/nowhere", "/openapi.json"):
        headers = sqlite_api.get(path, headers={"X-Request-ID": "order-12345678"}).headers
        assert headers["x-request-id"] == "order-12345678"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_ready_is_a_database_a_served_model_and_a_pool(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url)
    assert (api.get("/healthz", key=None).json(), api.get("/readyz", key=None).json()) == (
        {"status": "ok"},
        {"status": "ready"},
    )
    with api.database.write() as session:
        session.execute(text("UPDATE serving SET model_version = NULL, desired_model_version = NULL"))
    answer = api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()) == (503, {"status": "no-model"})
    with api.database.write() as session:
        session.execute(text("UPDATE serving SET model_version = 'v1', snapshot_id = NULL"))
    assert api.get("/readyz", key=None).json() == {"status": "no-pool"}
    with api.database.write() as session:
        session.execute(text("UPDATE serving SET snapshot_id = 'pool_1'"))
    assert [api.call("HEAD", path, key=None).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    api.app.state.draining.set()
    answer = api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    assert [api.call("HEAD", path, key=None).status_code for path in ("/healthz", "/readyz")] == [200, 503]
    assert api.get("/healthz", key=None).status_code == 200


def test_a_database_that_is_away_is_503_and_comes_back_by_itself(
    start_api: StartApi, postgres_server: PostgresServer, postgres_url: str
) -> None:
    api = start_api(postgres_url)
    postgres_server.stop()
    assert api.get("/healthz", key=None).status_code == 200
    answer = api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()) == (503, {"status": "no-database"})
    for method, path, _ in GUARDED:
        answer = api.call(method, path)
        assert_problem(answer, 503, "dependency-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    postgres_server.start()
    assert eventually(lambda: api.get("/readyz", key=None).status_code == 200)
    expand(api)


def test_a_database_that_is_not_migrated_is_503(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url)
    with api.database.write() as session:
        for table in ("api_keys", "serving"):
            session.execute(text(f"DROP TABLE {table}"))
    assert_problem(api.get("/pool"), 503, "dependency-unavailable")
    assert api.get("/readyz", key=None).json() == {"status": "no-database"}


def test_a_database_that_fails_in_the_middle_is_503_and_says_no_more(sqlite_api: Api) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("SELECT secret", {}, Exception("disk image is malformed"))

    event.listen(sqlite_api.app.state.database.engine, "before_cursor_execute", fail)
    answer = sqlite_api.get("/pool")
    event.remove(sqlite_api.app.state.database.engine, "before_cursor_execute", fail)
    assert_problem(answer, 503, "dependency-unavailable")
    assert "secret" not in answer.text
    assert "malformed" not in answer.text


def test_metrics_count_jobs_from_the_database_and_name_no_one(api: Api) -> None:
    expand(api, "a-secret-campaign", key="globex")
    answer = api.get("/metrics", key="operator")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    states = {sample.labels["state"]: sample.value for sample in families["lookalike_jobs"].samples}
    assert states["queued"] == 1
    assert families["lookalike_jobs_submitted"].samples[0].value == 1
    oldest = families["lookalike_jobs_oldest_queued_seconds"]
    waited = {sample.labels["queue"]: sample.value for sample in oldest.samples}
    assert waited["expand"] >= waited["training"] == 0
    for name in ("a-secret-campaign", "globex", "job_"):
        assert name not in answer.text.replace("job_a", "").replace("lookalike_job_", "")
    assert 'http_route="/campaigns/{campaign_id}/expand"' in answer.text


def test_every_problem_has_a_page_as_json_and_html(sqlite_api: Api) -> None:
    for slug, problem in CATALOGUE.items():
        page = sqlite_api.get(f"/problems/{slug}", key=None)
        assert page.json()["type"] == f"/problems/{slug}"
        html = sqlite_api.get(f"/problems/{slug}", key=None, headers={"Accept": "text/html,*/*;q=0.8"})
        assert html.headers["content-type"].startswith("text/html")
        assert problem.title in html.text


def test_an_unknown_problem_has_no_page(sqlite_api: Api) -> None:
    assert_problem(sqlite_api.get("/problems/nothing", key=None), 404, "not-found")
    accept = {"Accept": "image/png"}
    assert_problem(sqlite_api.get("/problems/internal", key=None, headers=accept), 406, "not-acceptable")


def test_the_api_describes_itself(sqlite_api: Api) -> None:
    document = sqlite_api.get("/openapi.json", key=None).json()
    body = document["paths"]["/campaigns/{campaign_id}/expand"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert schema["required"] == ["seed_user_ids"]
    assert schema["properties"]["audience_size"]["minimum"] == 1
    assert '"null"' not in json.dumps(schema)
    assert "$ref" not in json.dumps(schema)
    page = sqlite_api.get("/docs", key=None)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert sqlite_api.get("/docs/docs.js", key=None).status_code == 200
    assert_problem(sqlite_api.get("/docs/other.js", key=None), 404, "not-found")
    assert document["webhooks"]["job"]["post"]["requestBody"]["required"]


def test_in_production_the_description_is_behind_a_key(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, env="production", erasure_key="secret")
    for path in ("/openapi.json", "/docs"):
        assert_problem(api.get(path, key=None), 401, "unauthenticated")
        assert api.get(path).status_code == 200
