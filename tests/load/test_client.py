"""The load generator's clock: requests leave on time, and a stall is charged to every request that it kept waiting."""

import asyncio
import time

import pytest

from tests.load.client import Client, Measured, Unexpected, run_open_loop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Thing: Yes\r\n\r\nok"


def load(stall: float, *, rate: float, seconds: float, connections: int) -> tuple[Measured, int]:
    """Load a server that answers at once but for its first request, which stalls."""
    served = 0
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        writers.append(writer)
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            served += 1
            if served == 1:
                await asyncio.sleep(stall)
            writer.write(ANSWER)

    async def run() -> Measured:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Client(f"http://127.0.0.1:{port}", "key", connections) as client:
                request = client.request("GET", "/")

                async def once(_number: int) -> None:
                    answer = await client.send(request)
                    if (answer.status, answer.headers[b"x-thing"], answer.body) != (200, b"Yes", b"ok"):
                        raise Unexpected("another answer")

                measured = await run_open_loop(once, rate=rate, seconds=seconds)
            for writer in writers:
                writer.close()
                await writer.wait_closed()
            return measured

    return asyncio.run(run()), served


@pytest.mark.alone
def test_every_request_is_sent_and_measured() -> None:
    measured, served = load(0.0, rate=200, seconds=0.5, connections=10)
    assert (len(measured.latencies), served, measured.errors) == (100, 100, [])
    assert 0.45 < measured.seconds < 5
    assert 0 < measured.percentile(50) < 100


def test_a_stall_delays_all_that_were_due_meanwhile() -> None:
    measured, _ = load(0.3, rate=100, seconds=0.5, connections=1)
    assert len(measured.latencies) == 50
    late = sorted(measured.latencies, reverse=True)
    assert late[0] >= 0.3
    assert late[14] >= 0.12  # due 150 ms into the stall, and so 150 ms late at least


def test_a_server_that_is_not_there_is_an_error_each_time() -> None:
    async def run() -> Measured:
        async with Client("http://127.0.0.1:9", "key", 2) as client:

            async def once(_number: int) -> None:
                await client.send(client.request("GET", "/"))

            return await run_open_loop(once, rate=100, seconds=0.05)

    started = time.monotonic()
    assert len(asyncio.run(run()).errors) == 5
    assert time.monotonic() - started < 5
