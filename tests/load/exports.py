"""`python -m tests.load.exports`: what an api process takes to stream a large audience, and to callers who do not read.

It sets up its own installation on this machine, streams the whole audience once in each format, then opens streams and
reads none of them, and prints the time, the bytes, and the most anonymous memory beyond what the api had before.
"""

import json
import socket
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import psutil
import typer

from service.exports.formats import Format
from tests.fixtures.environment import forget_settings
from tests.load.installation import Installation, running
from tests.load.memory import Watched

CAMPAIGN = "exports"
STALLED_SECONDS = 10


def main(
    members: Annotated[int, typer.Option(min=1, max=5_000_000)] = 5_000_000,
    stalled: Annotated[int, typer.Option(min=0, max=200, help="Callers at once who do not read.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a row for each format, and one for the callers who do not read."""
    forget_settings()
    with running(CAMPAIGN, members, uuids=False) as target:
        _stream(target, Format.CSV, to_rank=1)  # what a first export loads stays
        rows = [_row(target, form) for form in Format]
        if stalled:
            rows.append(_stall(target, stalled))
    for row in rows:
        typer.echo(json.dumps(row) if as_json else "  ".join(f"{name} {value}" for name, value in row.items()))


def _row(target: Installation, form: Format) -> dict[str, Any]:
    with Watched(target.api_pid) as memory:
        before = memory.most
        started = time.perf_counter()
        received = _stream(target, form)
    return {
        "what": str(form),
        "seconds": round(time.perf_counter() - started, 2),
        "mb": round(received / 1e6, 1),
        "mib_before": before >> 20,
        "mib_more_at_most": (memory.most - before) >> 20,
        "load": round(psutil.getloadavg()[0], 1),
    }


def _stream(target: Installation, form: Format, **cut: int) -> int:
    url = f"{target.url}/campaigns/{CAMPAIGN}/audience/export"
    headers = {"Authorization": f"Bearer {target.key}"}
    with httpx.stream("GET", url, params={"format": form, **cut}, headers=headers, timeout=60) as answer:
        answer.raise_for_status()
        return sum(map(len, answer.iter_raw()))


def _stall(target: Installation, callers: int) -> dict[str, Any]:
    place = urlsplit(target.url)
    request = (
        f"GET /campaigns/{CAMPAIGN}/audience/export HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Authorization: Bearer {target.key}\r\n\r\n"
    )
    with Watched(target.api_pid) as memory:
        before = memory.most
        connections = [socket.create_connection((place.hostname, place.port)) for _ in range(callers)]
        for connection in connections:
            connection.sendall(request.encode())
        time.sleep(STALLED_SECONDS)
        for connection in connections:
            connection.close()
    return {
        "what": f"{callers} callers who do not read",
        "mib_before": before >> 20,
        "mib_more_at_most": (memory.most - before) >> 20,
    }


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
