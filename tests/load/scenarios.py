"""What the load generator does at each tick: read a page, look users up, read a cold page, submit an expansion."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from redis.asyncio import Redis

from tests.load.client import Answer, Client, Unexpected

PAGE_SIZE = 1_000
CAMPAIGNS = 1_000  # submissions take turns, for two jobs of one campaign never run at the same time

Once = Callable[[int], Awaitable[None]]


class Scenario(StrEnum):
    """What to measure."""

    PAGES = "pages"
    LOOKUPS = "lookups"
    COLD = "cold"
    SUBMIT = "submit"


@dataclass(frozen=True)
class Audience:
    """A published audience as a walk through its pages found it."""

    job_id: str
    pages: Sequence[str]
    user_ids: Sequence[str]


async def walk(client: Client, campaign: str, most_pages: int) -> Audience:
    """Read the campaign's current audience, at most so many pages of it."""
    first = target = f"/campaigns/{campaign}/audience?page_size={PAGE_SIZE}"
    pages: list[str] = []
    user_ids: list[str] = []
    while len(pages) < most_pages:
        page = _expect(await client.send(client.request("GET", target)), 200).json()
        pages.append(target)
        user_ids += [user["user_id"] for user in page["users"]]
        if not page["next_page_token"]:
            break
        target = f"{first}&page_token={page['next_page_token']}"
    return Audience(page["job_id"], pages, user_ids)


def read_pages(client: Client, audience: Audience) -> Once:
    """Pages of 1,000 at random, from Redis: the walk has read each of them once."""
    requests = _shuffled([client.request("GET", page) for page in audience.pages])

    async def once(number: int) -> None:
        answer = _expect(await client.send(requests[number % len(requests)]), 200)
        _expect_source(answer, b"cache")

    return once


def read_cold_pages(client: Client, audience: Audience, redis_url: str) -> Once:
    """The same with an empty Redis each time."""
    requests = _shuffled([client.request("GET", page) for page in audience.pages])
    redis = Redis.from_url(redis_url)

    async def once(number: int) -> None:
        await redis.flushdb()
        answer = _expect(await client.send(requests[number % len(requests)]), 200)
        _expect_source(answer, b"store")

    return once


def look_up(client: Client, campaign: str, audience: Audience, ids: int, members: float) -> Once:
    """Look up so many ids, of which that share are members."""
    generator = np.random.default_rng(0)
    requests = []
    for _ in range(1_000):
        known = generator.choice(np.array(audience.user_ids, object), round(ids * members)).tolist()
        unknown = [f"nobody-{number}" for number in generator.integers(1 << 40, size=ids - len(known))]
        asked = generator.permutation(np.array(known + unknown, object)).tolist()
        requests.append(client.request("POST", f"/campaigns/{campaign}/audience/lookup", {"user_ids": asked}))

    async def once(number: int) -> None:
        _expect(await client.send(requests[number % len(requests)]), 200)

    return once


def submit(client: Client, user_ids: Sequence[str], seeds: int, *, readable: bool) -> Once:
    """Submit an expansion of `seeds` of the users; with `readable`, until the first page of its audience is read."""
    generator = np.random.default_rng()
    run = generator.integers(1 << 40)
    population = np.array(user_ids, object)
    bodies = [{"seed_user_ids": generator.choice(population, seeds, replace=False).tolist()} for _ in range(50)]
    takes_turns = itertools.cycle(
        client.request("POST", f"/campaigns/load-{run}-{number}/expand", bodies[number % len(bodies)])
        for number in range(CAMPAIGNS)
    )

    async def once(number: int) -> None:
        accepted = _expect(await client.send(next(takes_turns)), 202)
        if not readable:
            return
        job = accepted.headers[b"location"].decode()
        document = {"done": False}
        while not document["done"]:
            document = _expect(await client.send(client.request("GET", job, Prefer="wait=30")), 200).json()
        if document["state"] != "succeeded":
            raise Unexpected(f"a job {document['state']}")
        _expect(await client.send(client.request("GET", f"{job}/audience?page_size={PAGE_SIZE}")), 200)

    return once


def _shuffled(requests: list[bytes]) -> list[bytes]:
    order = np.random.default_rng(0).permutation(len(requests))
    return [requests[index] for index in order]


def _expect(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise Unexpected(f"status {answer.status}")
    return answer


def _expect_source(answer: Answer, source: bytes) -> None:
    if not answer.body.endswith(b'"source":"' + source + b'"}'):
        raise Unexpected(f"a page that is not from the {source.decode()}")
