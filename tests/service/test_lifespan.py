"""What an application started ends with it."""

import asyncio

import pytest

from service import app


def test_a_task_that_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "CANCEL_SECONDS", 0.01)
    swallowed = []

    async def stubborn() -> None:
        while len(swallowed) < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as cancellation:
                swallowed.append(cancellation)
        await asyncio.sleep(60)

    async def run() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await app._cancel({task, asyncio.create_task(asyncio.sleep(60))})
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert len(swallowed) == 2
