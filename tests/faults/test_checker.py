"""The checker finds each broken promise in a history, and none in one that kept them all."""

from typing import Any

import pytest

from tests.faults.checker import check
from tests.faults.history import Entry
from tests.faults.installation import POISON

GOOD = "a" * 64


def entry(event: str, **facts: Any) -> Entry:
    return {"at": 0.0, "event": event, **facts}


def ended(job: str, **changes: Any) -> Entry:
    facts = {"state": "succeeded", "error": None, "model": "tiny-1", "sha256": GOOD, "attempt": 1}
    return entry("ended", job=job, **{**facts, **changes})


EXHAUSTED = {"state": "failed", "error": "attempts-exhausted", "model": None, "sha256": None}
KEPT = [
    entry("undisturbed", request="c0", model="tiny-1", sha256=GOOD),
    entry("undisturbed", request="c0", model="tiny-2", sha256="b" * 64),
    entry("accepted", request="c0", key="k1", job="j1"),
    entry("accepted", request="c0", key="k1", job="j1"),
    entry("fault", kind="kill worker", pids=[7]),
    ended("j1"),
    entry("accepted", request="c0", key="k2", job="j2"),
    ended("j2", model="tiny-2", sha256="b" * 64, attempt=2),
    entry("accepted", request=POISON, key="k3", job="j3"),
    ended("j3", **EXHAUSTED),
    entry("read", path="/", jobs=["j1"], sources=["store"], members=3, sha256=GOOD),
    entry("process-ended", name="worker-0", pid=7, code=-9, seconds=0.1),
    entry("process-ended", name="api-0", pid=8, code=0, seconds=1.2, ready=503, answer=202),
    entry("listed", jobs=["j1", "j2"]),
    entry("listed", jobs=["j3"]),
    ended("j1"),
]


def test_a_history_of_kept_promises_is_clean() -> None:
    assert check(KEPT) == []


BROKEN: dict[str, tuple[list[Entry], str]] = {
    "lost": (
        [entry("accepted", request="c0", key="k4", job="j4"), entry("listed", jobs=["j4"])],
        "j4 was accepted and never ended",
    ),
    "another audience": (
        [
            entry("accepted", request="c0", key="k4", job="j4"),
            entry("listed", jobs=["j4"]),
            ended("j4", sha256="b" * 64),
        ],
        "j4 (c0, tiny-1) has another audience than the undisturbed run",
    ),
    "failed": (
        [entry("accepted", request="c0", key="k4", job="j4"), entry("listed", jobs=["j4"]), ended("j4", **EXHAUSTED)],
        "j4 ended failed (attempts-exhausted)",
    ),
    "poison survived": (
        [entry("accepted", request=POISON, key="k4", job="j4"), entry("listed", jobs=["j4"]), ended("j4")],
        "j4, which kills its worker, ended succeeded (None)",
    ),
    "changed its end": ([ended("j1", state="cancelled")], "j1 ended in different ways"),
    "two jobs of a key": (
        [entry("accepted", request="c0", key="k1", job="j4"), entry("listed", jobs=["j4"]), ended("j4")],
        "the idempotency key k1 made 2 jobs",
    ),
    "made unasked": ([entry("listed", jobs=["j9"]), ended("j9")], "jobs that nobody was told of: ['j9']"),
    "gone": ([entry("accepted", request="c0", key="k4", job="j4"), ended("j4")], "jobs that are not listed: ['j4']"),
    "mixed pages": (
        [entry("read", path="/", jobs=["j1", "j2"], sources=["cache"], members=3, sha256=GOOD)],
        "the pages of one audience came from the jobs ['j1', 'j2']",
    ),
    "wrong page": (
        [entry("read", path="/", jobs=["j1"], sources=["cache"], members=3, sha256="c" * 64)],
        "the pages of j1 are not its audience",
    ),
    "wrong answer": (
        [entry("wrong", method="GET", path="/jobs/j1", status=500, why="internal")],
        "GET /jobs/j1 was answered 500: internal",
    ),
    "bad exit": ([entry("process-ended", name="worker-1", pid=9, code=1, seconds=1.0)], "worker-1 ended with 1"),
    "slow exit": ([entry("process-ended", name="worker-1", pid=9, code=0, seconds=99.0)], "after 99.0 s"),
    "request dropped": (
        [entry("process-ended", name="api-1", pid=9, code=0, seconds=1.0, ready=503, answer=0)],
        "api-1, asked to end, was ready with 503 and answered 0",
    ),
}


@pytest.mark.parametrize(("more", "found"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_promise_is_named(more: list[Entry], found: str) -> None:
    (violation,) = check([*KEPT, *more])
    assert found in violation
