"""Rows end_to_end_*, page_1000 and lookup_100: what a caller on the same machine waits for.

Each starts an installation of its own. Their figures under load are what `python -m tests.load` tells.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from model.speed.bench import Bench, Measure
from model.speed.plain import plain_ranking, plain_scores
from model.speed.row import Absent, NotEqual, Row
from model.speed.timing import interleaved
from service.speed.installed import installed

SEEDS, NEGATIVES = 2_000, 10_000
PAGE, LOOKED_UP = 1_000, 100
TIMEOUT_SECONDS = 60
CAMPAIGN = "/campaigns/speed"

Json = dict[str, Any]
Call = Callable[..., Json]


def service_rows(scratch: Path) -> Mapping[str, Measure]:
    """By name; each makes its installation in a folder under `scratch`."""
    return {
        "end_to_end_1m": partial(_end_to_end, "end_to_end_1m", 1_000_000, scratch),
        "end_to_end_10m": partial(_end_to_end, "end_to_end_10m", 10_000_000, scratch),
        "page_1000": partial(_page, scratch),
        "lookup_100": partial(_lookup, scratch),
    }


def _end_to_end(name: str, users: int, scratch: Path, bench: Bench) -> Row:
    """From the POST until the first page is read. The reference only scores and sorts."""
    world = bench.world
    if world.pool.size != users:
        raise Absent(f"is measured with --users {users}")
    who = world.model, world.head(world.labelled(SEEDS, NEGATIVES)), world.pool, world.representation

    def plain() -> object:
        return plain_ranking(plain_scores(*who), bench.audience)

    with _caller(bench, scratch) as call:
        expand = partial(_expand, call, bench)
        expand()
        plain()
        fast, slow = interleaved([expand, plain], bench.seconds)
    return Row(name, "ms", 1e3 * fast, 1e3 * slow, "scoring and sorting alone, numpy float64")


def _page(scratch: Path, bench: Bench) -> Row:
    """A page from Redis. The reference looks its members up, so many at a time."""
    with _caller(bench, scratch) as call:
        _expand(call, bench)
        read = partial(call, "GET", f"{CAMPAIGN}/audience?page_size={PAGE}")
        users = [user["user_id"] for user in read()["users"]]
        parts = [users[first : first + LOOKED_UP] for first in range(0, len(users), LOOKED_UP)]
        fast, slow = interleaved([read, lambda: [_look_up(call, part) for part in parts]], bench.seconds)
    return Row("page_1000", "ms", 1e3 * fast, 1e3 * slow, f"{len(parts)} look-ups of {LOOKED_UP}")


def _lookup(scratch: Path, bench: Bench) -> Row:
    """Look users up in an audience. The reference reads all its pages."""
    with _caller(bench, scratch) as call:
        _expand(call, bench)
        users = [user["user_id"] for user in call("GET", f"{CAMPAIGN}/audience?page_size={LOOKED_UP}")["users"]]
        found = _look_up(call, users)
        if [user["rank"] for user in found["results"]] != list(range(1, len(users) + 1)):
            raise NotEqual("lookup_100: the ranks are not those of the page")
        fast, slow = interleaved([partial(_look_up, call, users), partial(_read_all, call)], bench.seconds)
    return Row("lookup_100", "ms", 1e3 * fast, 1e3 * slow, "reading the whole audience")


@contextmanager
def _caller(bench: Bench, scratch: Path) -> Iterator[Call]:
    """An installation, and what calls it."""
    with installed(bench.world, scratch) as api:

        def call(method: str, path: str, body: Json | None = None, **headers: str) -> Json:
            # A connection each time: one that idles while the reference is measured would be closed.
            with closing(HTTPConnection(api.host, api.port, timeout=TIMEOUT_SECONDS)) as connection:
                everywhere = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
                connection.request(method, path, None if body is None else json.dumps(body), everywhere | headers)
                answer = connection.getresponse()
                document: Json = json.loads(answer.read())
            if answer.status >= 400:
                raise NotEqual(f"{method} {path} is answered {answer.status}: {document.get('detail')}")
            return document

        yield call


def _expand(call: Call, bench: Bench) -> Json:
    """Post the world's seeds and wait for the first page of the audience."""
    seeds = bench.world.pool.user_ids(bench.world.labelled(SEEDS, 0).ordinals)
    body = {"seed_user_ids": seeds, "audience_size": bench.audience}
    job = call("POST", f"{CAMPAIGN}/expand", body)
    while not job["done"]:
        job = call("GET", f"/jobs/{job['id']}", Prefer="wait=30")
    if job["state"] != "succeeded":
        raise NotEqual(f"an expansion {job['state']}: {job['error']}")
    return call("GET", f"/jobs/{job['id']}/audience")


def _look_up(call: Call, users: list[str]) -> Json:
    return call("POST", f"{CAMPAIGN}/audience/lookup", {"user_ids": users})


def _read_all(call: Call) -> int:
    """Every page of the audience; how many there are."""
    page = call("GET", f"{CAMPAIGN}/audience")
    pages = 1
    while page["next_page_token"]:
        page = call("GET", f"{CAMPAIGN}/audience?page_token={page['next_page_token']}")
        pages += 1
    return pages
