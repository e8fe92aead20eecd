"""`python -m tests.load`: loads an api at a fixed rate and prints how long it took to answer.

Without `--url` it sets up its own installation on this machine: PostgreSQL, Redis, one api process and an audience.
"""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import psutil
import typer
import uvloop

from tests.fixtures.environment import forget_settings
from tests.load.client import Client, Measured, run_open_loop
from tests.load.installation import Installation, running
from tests.load.scenarios import Once, Scenario, look_up, read_cold_pages, read_pages, submit, walk

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_PAGES = 1_000
WARM_UP_SECONDS = 1.0


def main(
    scenario: Scenario,
    seconds: Annotated[float, typer.Option(min=1, max=600)] = 20,
    rate: Annotated[float, typer.Option(min=0.1, max=5_000, help="Requests per second.")] = 100,
    connections: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many at a time.")] = 128,
    url: Annotated[str, typer.Option(help="An api on this machine; absent: an installation of its own.")] = "",
    key: Annotated[str, typer.Option(help="An API key for --url.")] = "",
    pid: Annotated[int | None, typer.Option(help="The api process behind --url: its CPU time is told.")] = None,
    redis_url: Annotated[str, typer.Option(help="The Redis behind --url, emptied again and again by `cold`.")] = "",
    campaign: Annotated[str, typer.Option(help="Whose current audience is read.")] = "load",
    members: Annotated[int, typer.Option(min=1, max=5_000_000, help="Members of its own audience.")] = 100_000,
    uuids: Annotated[bool, typer.Option(help="Its own members have UUIDs.")] = False,
    ids: Annotated[int, typer.Option(min=1, max=10_000, help="Ids in a look-up.")] = 100,
    member_share: Annotated[float, typer.Option(min=0, max=1, help="How many of them are members.")] = 0.5,
    seeds: Annotated[int, typer.Option(min=1, max=500_000, help="Seeds of a submission.")] = 2_000,
    seeds_from: Annotated[Path | None, typer.Option(help="A file with a user id per line to draw seeds from.")] = None,
    readable: Annotated[bool, typer.Option(help="A submission lasts until its audience can be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Load an api on this machine, by the clock, for a while."""
    forget_settings()
    if url and urlsplit(url).hostname not in LOOPBACK:
        raise typer.BadParameter("only an api on this machine is loaded", param_hint="--url")
    given = nullcontext(Installation(url, key, redis_url, pid)) if url else running(campaign, members, uuids=uuids)
    with given as target:

        async def measure() -> tuple[Measured, float | None]:
            async with Client(target.url, target.key, connections) as client:
                once = await _prepare(client, target.redis_url)
                await run_open_loop(once, rate=rate, seconds=WARM_UP_SECONDS)
                before = _cpu_seconds(target.api_pid)
                measured = await run_open_loop(once, rate=rate, seconds=seconds)
                after = _cpu_seconds(target.api_pid)
                return measured, None if before is None or after is None else after - before

        async def _prepare(client: Client, redis_url: str) -> Once:
            if scenario is Scenario.SUBMIT and seeds_from is not None:
                return submit(client, seeds_from.read_text().split("\n"), seeds, readable=readable)
            audience = await walk(client, campaign, MOST_PAGES)
            match scenario:
                case Scenario.PAGES:
                    return read_pages(client, audience)
                case Scenario.COLD:
                    return read_cold_pages(client, audience, redis_url)
                case Scenario.LOOKUPS:
                    return look_up(client, campaign, audience, ids, member_share)
                case Scenario.SUBMIT:
                    return submit(client, audience.user_ids, seeds, readable=readable)

        measured, cpu_seconds = uvloop.run(measure())
    _print(_summary(scenario, rate, measured, cpu_seconds), as_json=as_json)
    if measured.errors:
        raise typer.Exit(1)


def _summary(scenario: Scenario, rate: float, measured: Measured, cpu_seconds: float | None) -> dict[str, Any]:
    count = len(measured.latencies) + len(measured.errors)
    reasons = {reason: measured.errors.count(reason) for reason in sorted(set(measured.errors))}
    return {
        "scenario": str(scenario),
        "requests": count,
        "rate_asked": rate,
        "rate_achieved": round(count / measured.seconds, 1),
        **{f"p{percent:g}_ms": round(measured.percentile(percent), 2) for percent in (50, 95, 99, 99.9)},
        "errors": reasons,
        "api_cpu_ms_per_request": None if cpu_seconds is None else round(1e3 * cpu_seconds / count, 3),
        "api_cpu_share": None if cpu_seconds is None else round(cpu_seconds / measured.seconds, 3),
    }


def _print(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for name, value in summary.items():
        typer.echo(f"{name:24} {value}")


def _cpu_seconds(pid: int | None) -> float | None:
    if pid is None:
        return None
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
