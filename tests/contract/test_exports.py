"""Exports: every format holds the same members as the pages, cut by rank and score; ids that a spreadsheet would
calculate do not; the job writes the same bytes under the tenant's export location."""

import csv
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update

from service.audiences.tables import Audience
from service.audit import repository as audit
from service.exports.exporting import ExportHandler
from service.jobs.runner import Runner
from service.jobs.states import Kind
from service.jobs.tables import Job
from service.kit.metrics import Metrics
from service.tenants.repository import set_export_location
from tests.contract.conftest import Api
from tests.contract.worlds import assert_problem, expand, ids_and_scores, pointers, publish
from tests.fixtures.redis import RedisServer
from tests.fixtures.tiny import run_next

SIZE = 34_567
FORMATS = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
URL = "/campaigns/spring/audience/export"
EXPORTS = "/campaigns/spring/audience/exports"

Member = tuple[int, str, float]


def read(form: str, content: bytes) -> list[Member]:
    """The members that a file of this format holds."""
    if form == "csv":
        header, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        assert header == ["rank", "user_id", "score"]
        return [(int(rank), user_id, float(score)) for rank, user_id, score in rows]
    if form == "ndjson":
        *lines, end = content.decode().split("\n")
        assert end == ""
        objects = [json.loads(line) for line in lines]
        return [(member["rank"], member["user_id"], member["score"]) for member in objects]
    table = pq.read_table(io.BytesIO(content)) if form == "parquet" else pa.ipc.open_stream(content).read_all()
    assert table.schema.names == ["rank", "user_id", "score"]
    return list(zip(*table.to_pydict().values(), strict=True))


def expected(first: int = 1, last: int = SIZE) -> list[Member]:
    user_ids, scores = ids_and_scores(SIZE)
    return list(zip(range(1, SIZE + 1), user_ids, scores.tolist(), strict=True))[first - 1 : last]


@pytest.fixture
def job_id(sqlite_api: Api) -> str:
    job_id: str = expand(sqlite_api)["id"]
    publish(sqlite_api, job_id, SIZE)
    return job_id


@pytest.fixture
def place(sqlite_api: Api, tmp_path: Path) -> Path:
    """Where the tenant's exports go."""
    folder = tmp_path / "exports"
    with sqlite_api.database.write() as session:
        set_export_location(session, "acme", str(folder))
    return folder


def run_export(api: Api) -> Any:
    """Do the next export as a worker would; its document."""
    handler = ExportHandler(api.database, api.app.state.artifacts.audiences)
    job = run_next(api.database, Runner(api.database, Metrics(version="test"), {Kind.EXPORT: handler}, 30, 90))
    return api.get(f"/jobs/{job.id}").json()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_the_whole_audience_in_order(sqlite_api: Api, job_id: str, form: str) -> None:
    for url in (URL, f"/jobs/{job_id}/audience/export"):
        answer = sqlite_api.get(url, params={"format": form})
        assert (answer.status_code, answer.headers["content-type"]) == (200, FORMATS[form])
        assert answer.headers["content-disposition"] == f'attachment; filename="audience-{job_id}.{form}"'
        assert answer.headers["cache-control"] == "no-store"
        assert read(form, answer.content) == expected()


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_is_part_of_the_same_ranking(sqlite_api: Api, job_id: str, form: str) -> None:
    floor = expected()[20_000][2]
    at_least = [member for member in expected() if member[2] >= floor]
    for cut, members in (
        ({"to_rank": 1}, expected(1, 1)),
        ({"from_rank": 999, "to_rank": 2_001}, expected(999, 2_001)),
        ({"from_rank": 15_500, "to_rank": 16_500}, expected(15_500, 16_500)),
        ({"from_rank": SIZE}, expected(SIZE)),
        ({"to_rank": SIZE + 1}, expected()),
        ({"from_rank": SIZE + 1}, []),
        ({"min_score": floor}, at_least),
        ({"min_score": floor, "from_rank": 20, "to_rank": 30}, expected(20, 30)),
        ({"min_score": 1}, []),
        ({"min_score": 0}, expected()),
    ):
        answer = sqlite_api.get(URL, params={"format": form, **cut})
        assert read(form, answer.content) == members, cut


def test_csv_is_the_format_unless_told(sqlite_api: Api, job_id: str) -> None:
    assert sqlite_api.get(URL, params={"to_rank": 2}).content == (
        b"rank,user_id,score\r\n1,user-000000,0.99\r\n2,user-000001,0.99\r\n"
    )


@pytest.mark.parametrize(
    "query",
    [
        *("from_rank=0", "to_rank=0", "from_rank=9&to_rank=8", "from_rank=x", "from_rank=", f"to_rank={1 << 60}"),
        *("min_score=1.1", "min_score=-0.1", "min_score=nan", "min_score=inf", "format=xlsx", "format="),
    ],
)
def test_a_bad_cut_is_400(sqlite_api: Api, job_id: str, query: str) -> None:
    assert_problem(sqlite_api.get(f"{URL}?{query}"), 400, "invalid-parameter")


def test_formulas_are_defused_and_odd_ids_quoted_in_csv_alone(sqlite_api: Api) -> None:
    odd = ["=1+1", "+1", "-1", "@x", "a,b", 'say "hi"', "'quoted'", "é", "a=b", "plain", '=HYPERLINK("x","y")']
    job_id = expand(sqlite_api)["id"]
    publish(sqlite_api, job_id, len(odd), user_ids=odd)
    content = sqlite_api.get(URL).content
    assert b'1,"\'=1+1",' in content
    assert b",plain," in content
    assert [user_id for _, user_id, _ in read("csv", content)] == [
        f"'{user_id}" if user_id[0] in "=+-@" else user_id for user_id in odd
    ]
    for form in ("ndjson", "parquet", "arrow"):
        answer = sqlite_api.get(URL, params={"format": form})
        assert [user_id for _, user_id, _ in read(form, answer.content)] == odd


def test_the_same_bytes_have_the_same_tag_and_are_not_sent_twice(sqlite_api: Api, job_id: str) -> None:
    first = sqlite_api.get(URL)
    tag = first.headers["etag"]
    again = sqlite_api.get(URL, headers={"If-None-Match": f'W/"old", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    others = [sqlite_api.get(URL, params=cut) for cut in ({"format": "ndjson"}, {"to_rank": 5}, {"min_score": 0.5})]
    assert len({tag, *(other.headers["etag"] for other in others)}) == 4
    assert sqlite_api.get(URL, params={"to_rank": 5}, headers={"If-None-Match": tag}).status_code == 200


def test_the_caller_must_take_what_it_asks_for(sqlite_api: Api, job_id: str) -> None:
    assert sqlite_api.get(URL, headers={"Accept": "text/csv"}).status_code == 200
    assert_problem(sqlite_api.get(URL, headers={"Accept": "application/json"}), 406, "not-acceptable")


def test_it_comes_from_the_durable_copy(sqlite_api: Api, job_id: str, redis_server: RedisServer) -> None:
    redis_server.kill()
    assert read("csv", sqlite_api.get(URL).content) == expected()


def test_a_damaged_copy_is_503(sqlite_api: Api, job_id: str, tmp_path: Path) -> None:
    for path in (tmp_path / "audiences").rglob("*.arrow"):
        path.write_bytes(b"junk")
    assert_problem(sqlite_api.get(URL), 503, "dependency-unavailable")


def test_what_has_no_audience_has_no_export(sqlite_api: Api, place: Path) -> None:
    job_id = expand(sqlite_api)["id"]
    assert_problem(sqlite_api.get(f"/jobs/{job_id}/audience/export"), 409, "job-not-finished")
    assert_problem(sqlite_api.get(URL), 404, "not-found")
    assert_problem(sqlite_api.post(EXPORTS, {}), 404, "not-found")
    publish(sqlite_api, job_id, 30)
    for url in (URL, f"/jobs/{job_id}/audience/export"):
        assert_problem(sqlite_api.get(url, key="globex"), 404, "not-found")
    with sqlite_api.database.write() as session:
        session.execute(update(Audience).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    for url in (URL, f"/jobs/{job_id}/audience/export"):
        assert_problem(sqlite_api.get(url), 410, "audience-expired")
    assert_problem(sqlite_api.post(EXPORTS, {}), 410, "audience-expired")


def test_an_empty_audience_is_a_file_without_members(sqlite_api: Api) -> None:
    publish(sqlite_api, expand(sqlite_api)["id"], 0)
    for form in FORMATS:
        assert read(form, sqlite_api.get(URL, params={"format": form}).content) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_job_writes_the_same_bytes_to_the_tenant_s_place(
    sqlite_api: Api, job_id: str, place: Path, form: str
) -> None:
    cut = {"from_rank": 10, "to_rank": 20_000, "min_score": 0.1}
    answer = sqlite_api.post(EXPORTS, {"format": form, **cut})
    assert answer.status_code == 202, answer.text
    queued = answer.json()
    assert answer.headers["location"] == f"/jobs/{queued['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert (queued["state"], queued["campaign_id"], queued["export"]) == ("queued", "spring", None)
    done = run_export(sqlite_api)
    assert (done["id"], done["state"], done["progress"]["scored_users"]) == (queued["id"], "succeeded", 19_991)
    assert done["links"]["audience"] == f"/jobs/{job_id}/audience"
    export = done["export"]
    assert export["location"].startswith(f"{place}/spring/{done['id']}/")
    content = Path(export["location"]).read_bytes()
    assert (export["bytes"], export["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert content == sqlite_api.get(URL, params={"format": form, **cut}).content


def test_of_other_jobs_the_export_is_null(sqlite_api: Api, job_id: str) -> None:
    assert sqlite_api.get(f"/jobs/{job_id}").json()["export"] is None


def test_a_tenant_without_a_place_is_told_what_to_do(sqlite_api: Api, job_id: str) -> None:
    answer = sqlite_api.post(EXPORTS, {})
    assert pointers(answer) == [""]
    assert "lookalike tenants set" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"format": "xlsx"}, "/format"),
        ({"format": None}, "/format"),
        ({"from_rank": 0}, "/from_rank"),
        ({"from_rank": 2, "to_rank": 1}, "/to_rank"),
        ({"min_score": 2}, "/min_score"),
        ({"from_rank": 1.5}, "/from_rank"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_a_faulty_body_is_422(sqlite_api: Api, job_id: str, place: Path, body: dict[str, Any], pointer: str) -> None:
    assert pointers(sqlite_api.post(EXPORTS, body)) == [pointer]


def test_an_attempt_clears_up_after_those_that_were_killed(sqlite_api: Api, job_id: str, place: Path) -> None:
    queued = sqlite_api.post(EXPORTS, {}).json()
    with sqlite_api.database.write() as session:
        session.execute(update(Job).where(Job.id == queued["id"]).values(lease_token=1))  # of the attempt before
    left = place / "spring" / queued["id"] / "1" / "audience.csv"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    done = run_export(sqlite_api)
    assert [path for path in place.rglob("*") if path.is_file()] == [Path(done["export"]["location"])]


def test_an_export_that_is_cancelled_leaves_nothing(
    sqlite_api: Api, job_id: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = sqlite_api.post(EXPORTS, {}).json()
    work = ExportHandler.__call__

    def cancelled_at_the_end(*arguments: Any) -> Any:
        outcome = work(*arguments)
        assert any(path.is_file() for path in place.rglob("*"))
        assert sqlite_api.post(f"/jobs/{queued['id']}/cancel").status_code == 202
        return outcome

    monkeypatch.setattr(ExportHandler, "__call__", cancelled_at_the_end)
    assert run_export(sqlite_api)["state"] == "cancelled"
    assert not any(path.is_file() for path in place.rglob("*"))


def test_an_export_stays_on_the_audience_that_was_current_when_it_was_asked_for(
    sqlite_api: Api, job_id: str, place: Path
) -> None:
    sqlite_api.post(EXPORTS, {})
    newer = expand(sqlite_api)["id"]
    with sqlite_api.database.write() as session:  # the expansion goes first
        session.execute(update(Job).where(Job.id == newer).values(priority=0))
    publish(sqlite_api, newer, 20)
    export = run_export(sqlite_api)["export"]
    assert read("csv", Path(export["location"]).read_bytes()) == expected()


def test_a_campaign_goes_with_its_exports_once_they_have_ended(sqlite_api: Api, job_id: str, place: Path) -> None:
    export = sqlite_api.post(EXPORTS, {}).json()["id"]
    assert_problem(sqlite_api.call("DELETE", "/campaigns/spring"), 409, "job-active")
    assert sqlite_api.post(f"/jobs/{export}/cancel").json()["state"] == "cancelled"
    assert sqlite_api.call("DELETE", "/campaigns/spring").status_code == 204
    for gone in (export, job_id):
        assert_problem(sqlite_api.get(f"/jobs/{gone}"), 404, "not-found")


def test_exports_are_in_the_audit_log(sqlite_api: Api, job_id: str, place: Path) -> None:
    tag = sqlite_api.get(URL).headers["etag"]
    sqlite_api.get(URL, headers={"If-None-Match": tag})
    queued = sqlite_api.post(EXPORTS, {}).json()
    with sqlite_api.database.read() as session:
        entries = [entry for entry in audit.entries(session, tenant="acme", since=None) if "export" in entry.action]
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("audience.export", job_id),
        ("audience.export", queued["id"]),
    ]


def test_unfinished_exports_count_as_the_tenant_s_jobs(start_api: Any, sqlite_url: str, tmp_path: Path) -> None:
    api = start_api(sqlite_url, active_jobs_max=1)
    with api.database.write() as session:
        set_export_location(session, "acme", str(tmp_path / "exports"))
    publish(api, expand(api)["id"], 30)
    assert api.post(EXPORTS, {}).status_code == 202
    assert "ACTIVE_JOBS_MAX" in assert_problem(api.post(EXPORTS, {}), 429, "quota-exceeded")["detail"]
