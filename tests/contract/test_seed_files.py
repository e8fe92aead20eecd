"""Seeds as CSV and NDJSON: what people's files look like, what is refused, and that faults name line and column."""

import json
import time
from typing import Any
from urllib.parse import urlencode

import httpx

from service.campaigns.inputs import ExpansionInputs
from service.jobs.repository import get_payload
from service.jobs.tables import Job
from tests.contract.conftest import Api
from tests.contract.worlds import SEEDS, assert_problem, count_jobs, pointers

URL = "/campaigns/spring/expand"
CSV, NDJSON = "text/csv", "application/x-ndjson"


def send(api: Api, media: str, content: "bytes | str", *, headers: Any = (), key: str = "acme", **query: Any) -> Any:
    """POST a file; the answer."""
    url = f"{URL}?{urlencode(query, doseq=True)}" if query else URL
    raw = content.encode() if isinstance(content, str) else content
    return api.call("POST", url, content=raw, key=key, headers={"Content-Type": media, **dict(headers)})


def inputs_of(api: Api, answer: httpx.Response) -> ExpansionInputs:
    assert answer.status_code == 202, answer.text
    with api.database.read() as session:
        payload = get_payload(session, answer.json()["id"])
    assert payload is not None
    return ExpansionInputs.decode(payload)


def ndjson(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


SAME: list[tuple[str, str]] = [
    (CSV, "user_id,weight\nb,2\na,1\nb,3\n"),
    (CSV, "\ufeffUser_ID , WEIGHT\r\nb,2\r\n\r\na,\r\nb, 3.0 \r\n\r\n"),
    (CSV, "weight,user_id\r2,b\r1e0,a\r3,b"),
    (CSV, '"user_id","weight"\n"b","2"\n"a","1"\n"b","3"'),
    ("text/csv; charset=utf-8; header=present", "user_id,weight\nb,2\na,1\nb,3\n"),
    (NDJSON, '{"user_id":"b","weight":2}\n{"user_id":"a"}\n{"weight":3,"user_id":"b"}'),
    (
        NDJSON,
        '\ufeff {"user_id": "b", "weight": 2.0}\r\n\r\n{"user_id":"a","weight":1}\r\n{"user_id":"b","weight":3}\n',
    ),
]


def test_files_mean_the_same_however_they_are_written(sqlite_api: Api) -> None:
    for media, content in SAME:
        answer = send(sqlite_api, media, content)
        inputs = inputs_of(sqlite_api, answer)
        assert (inputs.seeds, inputs.weights) == (("a", "b"), (1.0, 3.0))
        assert answer.json()["seed"]["submitted"] == 3
        assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"


def test_ids_may_be_quoted_and_hold_what_separates_them(sqlite_api: Api) -> None:
    inputs = inputs_of(sqlite_api, send(sqlite_api, CSV, 'user_id\n"a,b"\n"say ""hi"""\né\n007\n'))
    assert set(inputs.seeds) == {"a,b", 'say "hi"', "é", "007"}
    assert inputs.weights is None


def test_every_option_may_stand_in_the_query_string(sqlite_api: Api) -> None:
    body = "user_id\n" + "\n".join(SEEDS)
    rules = [{"feature": "city", "in": ["a", "b"]}, {"feature": "age", "min": 18}]
    options = {
        "audience_size": "100",
        "min_score": "0.25",
        "include_seed_users": "true",
        "deadline_seconds": "60",
        "on_active": "supersede",
        "labels": json.dumps({"team": "red"}),
        "eligibility": json.dumps({"all": rules}),
        "campaign": json.dumps({"topic": "shoes"}),
        "deny_features": ["age", "likes"],
        "exclude_user_ids": ["x,1", "x 2"],
        "negative_user_ids": "n1",
    }
    answer = send(sqlite_api, CSV, body, **options)
    inputs = inputs_of(sqlite_api, answer)
    assert (inputs.excluded, inputs.negatives) == (("x 2", "x,1"), ("n1",))
    with sqlite_api.database.read() as session:
        request = session.get_one(Job, answer.json()["id"]).request
    assert (request["audience_size"], request["min_score"], request["include_seed_users"]) == (100, 0.25, True)
    assert (request["eligibility"], request["attributes"]) == (rules, {"topic": "shoes"})
    assert (request["deny_features"], request["labels"]) == (["age", "likes"], {"team": "red"})
    assert send(sqlite_api, NDJSON, ndjson({"user_id": "a"}), audience_fraction="0.5").status_code == 202
    assert_problem(send(sqlite_api, CSV, body, model_version="v1"), 403, "insufficient-scope")
    assert send(sqlite_api, CSV, body, model_version="v1", key="operator").status_code == 202


def test_options_of_a_json_body_may_stand_in_the_query_string_but_not_in_both(sqlite_api: Api) -> None:
    body = {"seed_user_ids": SEEDS, "labels": {}}
    job = sqlite_api.post(f"{URL}?audience_size=7", body).json()
    with sqlite_api.database.read() as session:
        assert session.get_one(Job, job["id"]).request["audience_size"] == 7
    assert pointers(sqlite_api.post(f"{URL}?labels=%7B%7D", body)) == ["/labels"]


WRONG_OPTIONS: list[tuple[str, list[str]]] = [
    ("audience_size=abc", ["/audience_size"]),
    ("audience_size=", ["/audience_size"]),
    ("audience_size=1.0", ["/audience_size"]),
    ("audience_size=%2210%22", ["/audience_size"]),
    ("audience_size=0", ["/audience_size"]),
    ("audience_size=null", ["/audience_size"]),
    ("audience_size=1&audience_size=2", ["/audience_size"]),
    ("audience_size=1&audience_fraction=0.1", ["/audience_size", "/audience_fraction"]),
    ("audience_fraction=1e999", ["/audience_fraction"]),
    ("include_seed_users=True", ["/include_seed_users"]),
    ("include_seed_users=1", ["/include_seed_users"]),
    ("min_score=NaN", ["/min_score"]),
    ("on_active=wait", ["/on_active"]),
    ("labels=team", ["/labels"]),
    ("labels=%7B%22a%22:1%7D", ["/labels/a"]),
    ("labels=%7B%22a%22:%22b%22,%22a%22:%22c%22%7D", ["/labels/a"]),
    ("eligibility=%7B%22all%22:%5B%7B%7D%5D%7D", ["/eligibility/all/0/feature"]),
    ("deny_features=age&deny_features=planet", ["/deny_features/1"]),
    ("deny_features=a%00", ["/deny_features"]),
    ("negative_user_ids=n&negative_user_ids=a", ["/negative_user_ids/1"]),
    ("seed_user_ids=a", ["/seed_user_ids"]),
    ("surprise=1&a%2Fb=2", ["/surprise", "/a~1b"]),
]


def test_faults_of_options_are_named_as_in_json(sqlite_api: Api) -> None:
    for query, expected in WRONG_OPTIONS:
        for media, content in ((CSV, "user_id\na\n"), (NDJSON, '{"user_id":"a"}')):
            answer = sqlite_api.call("POST", f"{URL}?{query}", content=content, headers={"Content-Type": media})
            assert pointers(answer) == expected
        assert count_jobs(sqlite_api.database) == 0


def test_a_query_string_that_is_not_utf_8_is_malformed(sqlite_api: Api) -> None:
    answer = sqlite_api.call("POST", f"{URL}?on_active=%ff", content="user_id\na", headers={"Content-Type": CSV})
    assert_problem(answer, 400, "malformed-request")


WRONG_LINES: list[tuple[str, str, list[str]]] = [
    (CSV, "user_id\n", ["/lines"]),
    (CSV, "email\na@b.c\n", ["/lines/1/user_id"]),
    (CSV, "user_id;weight\na;1\n", ["/lines/1/user_id"]),
    (CSV, "user_id,score,weight,\na,1,1,\n", ["/lines/1/score", "/lines/1/"]),
    (CSV, "user_id,User_id\na,b\n", ["/lines/1/user_id"]),
    (CSV, "user_id,weight\na\nb,1,2\n", ["/lines/2", "/lines/3"]),
    (CSV, "user_id,weight\n\na,0\n,1\nb,nan\nc,1_0\nd,-1\ne,1e999\nf,x\n", [
        "/lines/3/weight", "/lines/4/user_id", "/lines/5/weight", "/lines/6/weight", "/lines/7/weight",
        "/lines/8/weight", "/lines/9/weight",
    ]),
    (CSV, f"user_id\na\n{'x' * 129}\na\tb\nc\0d\n\"e\nf\"\ng\u0085\n\"\"", [
        "/lines/3/user_id", "/lines/4/user_id", "/lines/5/user_id", "/lines/6/user_id", "/lines/8/user_id",
        "/lines/9/user_id",
    ]),
    (NDJSON, "\n\n", ["/lines"]),
    (NDJSON, '"a"\n[{"user_id":"a"}]\n7\nnull', ["/lines/1", "/lines/2", "/lines/3", "/lines/4"]),
    (NDJSON, '{}\n{"weight":1}', ["/lines/1/user_id", "/lines/2/user_id"]),
    (NDJSON, '{"user_id":"a","User_Id":"b"}\n{"user_id":"a","user_id":"b"}', [
        "/lines/1/User_Id", "/lines/2/user_id",
    ]),
    (NDJSON, ('{"user_id":7}\n{"user_id":["a"]}\n{"user_id":{"a":1}}\n{"user_id":null}\n{"user_id":"\\ud800"}\n'
             '{"user_id":"\\u0000"}'), [f"/lines/{line}/user_id" for line in range(1, 7)]),
    (NDJSON, ('{"user_id":"a","weight":"1"}\n{"user_id":"a","weight":true}\n{"user_id":"a","weight":null}\n'
             '{"user_id":"a","weight":0}\n{"user_id":"a","weight":1e999}'), [
                 f"/lines/{line}/weight" for line in range(1, 6)]),
]  # fmt: skip


def test_faults_of_lines_are_named_by_line_and_column(sqlite_api: Api) -> None:
    for media, content, expected in WRONG_LINES:
        assert pointers(send(sqlite_api, media, content)) == expected
        assert count_jobs(sqlite_api.database) == 0


UNREADABLE: list[tuple[str, bytes, int | None]] = [
    (CSV, b"", None),
    (CSV, b"\n\n", None),
    (CSV, b"user_id\na\n\xff\n", 3),
    (CSV, b"user_id\r\na\r\nb\r\n\xe9", 4),
    (CSV, "user_id\na\n".encode("utf-16"), 1),
    (CSV, b'user_id\na\n"b\nc\nd', 3),
    (CSV, b'user_id\n"a"b\n', 2),
    (CSV, b'user_id\n"' + b"a" * 200_000, 2),
    (NDJSON, b'{"user_id":"a"}\n{"user_id":\n', 2),
    (NDJSON, b'{"user_id":"a"}{"user_id":"b"}\n', 1),
    (NDJSON, b'{"user_id":"a","weight":NaN}\n', 1),
    (NDJSON, b'{"user_id":"a\x00"}\n', 1),
    (NDJSON, b'{"user_id":"a"}\n' + b"[" * 100_000, 2),
    (NDJSON, b'{"user_id":"a"}\n\xff', 2),
]


def test_text_that_cannot_be_read_is_malformed_and_its_line_is_named(sqlite_api: Api) -> None:
    for media, content, line in UNREADABLE:
        detail = assert_problem(send(sqlite_api, media, content), 400, "malformed-request")["detail"]
        assert line is None or f"Line {line} " in detail


def test_no_fault_report_repeats_what_a_line_holds(sqlite_api: Api) -> None:
    secret = "hunter2"
    for media, content in (
        (CSV, f"{secret}\na\n"),
        (CSV, f"user_id,weight\n{secret}\t,{secret}\n{secret},1,{secret}\n"),
        (CSV, f'user_id\n"{secret}\n'),
        (NDJSON, f'{{"user_id":"{secret}'),
        (NDJSON, f'{{"user_id":{{"x":"{secret}"}},"weight":"{secret}"}}'),
    ):
        answer = send(sqlite_api, media, content)
        assert answer.status_code in (400, 422)
        assert secret not in answer.text


def test_of_half_a_million_wrong_lines_twenty_are_listed_and_soon(sqlite_api: Api) -> None:
    started = time.monotonic()
    for media, content in (
        (CSV, "user_id,weight\n" + "a,x\n" * 500_000),
        (CSV, "user_id,weight\n" + "a\n" * 500_000),
        (NDJSON, '{"user_id":1}\n' * 500_000),
        (NDJSON, "1\n" * 500_000),
    ):
        assert len(pointers(send(sqlite_api, media, content))) == 20
    assert time.monotonic() - started < 20


def test_half_a_million_seeds_are_taken_and_one_more_is_too_many(sqlite_api: Api) -> None:
    lines = [f"user-{number:07d}" for number in range(500_000)]
    job = send(sqlite_api, CSV, "user_id\n" + "\n".join(lines))
    assert job.json()["seed"]["unique"] == 500_000
    assert pointers(send(sqlite_api, CSV, "user_id\n" + "a\n" * 500_001)) == ["/lines/500002"]
    assert pointers(send(sqlite_api, NDJSON, '{"user_id":"a"}\n' * 500_001)) == ["/lines/500001"]


def test_a_repeated_key_replays_the_same_file_however_it_is_written(sqlite_api: Api) -> None:
    key = {"Idempotency-Key": "file-1"}
    first = send(sqlite_api, CSV, "user_id,weight\na,1\n", headers=key, audience_size=5)
    again = send(sqlite_api, CSV, '"USER_ID",weight\r\n"a",1.0\r\n', headers=key, audience_size=5, min_score=[])
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    for media, content, size in (
        (CSV, "user_id,weight\na,1\n", 6),
        (CSV, "user_id,weight\na,2\n", 5),
        (NDJSON, '{"user_id":"a","weight":1}', 5),
    ):
        other = send(sqlite_api, media, content, headers=key, audience_size=size)
        assert_problem(other, 422, "idempotency-key-reused")


def test_files_and_their_options_are_described(sqlite_api: Api) -> None:
    operation = sqlite_api.get("/openapi.json", key=None).json()["paths"]["/campaigns/{campaign_id}/expand"]["post"]
    assert operation["requestBody"]["content"].keys() == {"application/json", CSV, NDJSON}
    query = {parameter["name"]: parameter for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert query["audience_size"]["schema"]["minimum"] == 1
    assert query["deny_features"]["schema"]["type"] == "array"
    assert query["labels"]["content"]["application/json"]["schema"]["type"] == "object"
    assert not query.keys() & {"seed_user_ids", "seed_weights"}
