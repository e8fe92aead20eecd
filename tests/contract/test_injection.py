"""What a caller writes is data everywhere: to the database, to Redis, in headers and in the log."""

import json
import re
from typing import Any
from urllib.parse import quote

import redis

from service.campaigns.inputs import ExpansionInputs
from service.jobs.repository import get_payload
from tests.contract.conftest import Api
from tests.contract.worlds import REQUEST, SEEDS, count_jobs, expand, publish

HOSTILE = [
    "x'; DROP TABLE jobs; --",
    "' OR '1'='1",
    '"; DELETE FROM campaigns; --',
    "%s %(id)s {} ${jndi:ldap://x}",
    "FLUSHALL",
    "*1 $8 FLUSHALL",
    "lookalike:limits:*",
    "../../etc/passwd",
    "\\u0027; SELECT pg_sleep(10)",
]
MEMBERS = [*HOSTILE, *(f"user-{number:06d}" for number in range(40))]


def test_hostile_ids_are_ids_like_any_other(api: Api, redis_url: str) -> None:
    job_id = expand(api, seed_user_ids=[*SEEDS, *HOSTILE], labels={"note": HOSTILE[0]})["id"]
    with api.database.read() as session:
        payload = get_payload(session, job_id)
    assert payload is not None
    assert set(HOSTILE) < set(ExpansionInputs.decode(payload).seeds)
    publish(api, job_id, len(MEMBERS), user_ids=MEMBERS)
    answer = api.post("/campaigns/spring/audience/lookup", {"user_ids": HOSTILE}).json()
    assert [row["rank"] for row in answer["results"]] == list(range(1, len(HOSTILE) + 1))
    for rank, user_id in enumerate(HOSTILE, start=1):
        found = api.get(f"/users/{quote(user_id, safe='')}/audiences").json()["audiences"]
        assert [(row["job_id"], row["rank"]) for row in found] == [(job_id, rank)], user_id
    assert [user["user_id"] for user in api.get(f"/jobs/{job_id}/audience").json()["users"]] == MEMBERS
    with redis.Redis.from_url(redis_url) as client:
        names: Any = client.keys("*")
    assert names
    assert all(re.fullmatch(rb"lookalike:[a-z]+:[A-Za-z0-9_:./-]+", name) for name in names), names
    assert not any(text.encode() in name for text in HOSTILE for name in names)


def test_hostile_words_in_paths_queries_and_headers_find_nothing_and_change_nothing(api: Api) -> None:
    expand(api)
    hostile = [text for text in HOSTILE if not text.isalpha()]  # a word of letters may name a campaign
    for text in hostile:
        word = quote(text, safe="")
        for path in (f"/jobs/{word}", f"/campaigns/{word}", f"/campaigns/{word}/audience", f"/jobs/{word}/audience"):
            answer = api.get(path)
            assert answer.status_code == 404, path
            assert text not in answer.text
        for query in ("campaign_id", "state", "page_token"):
            assert api.get("/jobs", params={query: text}).status_code in (400, 404, 422), (query, text)
        key = {"Idempotency-Key": text.replace(" ", "_")}
        posted = [api.post("/campaigns/spring/expand", REQUEST, headers=key) for _ in range(2)]
        assert posted[0].json()["id"] == posted[1].json()["id"]
        assert api.get("/pool", headers={"X-Request-ID": text}).headers["x-request-id"] != text
    assert count_jobs(api.database) == 1 + len(hostile)
    assert [campaign["campaign_id"] for campaign in api.get("/campaigns").json()["campaigns"]] == ["spring"]


def test_a_line_break_in_an_id_is_refused_so_that_it_ends_no_line_of_anything(sqlite_api: Api) -> None:
    for text in ("a\r\nFLUSHALL", "a\nX-Admin: yes", "a\0b", '{"event": "forged"}\n'):
        body = json.dumps({**REQUEST, "seed_user_ids": [text, *SEEDS]})
        answer = sqlite_api.call(
            "POST", "/campaigns/spring/expand", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422
        assert text.strip() not in answer.text
