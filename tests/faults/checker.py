"""Reads a history and says where the service did not keep its word."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Entry
from tests.faults.installation import GRACE_SECONDS, POISON

FINAL = ("succeeded", "failed", "cancelled")


@dataclass
class _Told:
    """What a history tells, by what it is about."""

    undisturbed: dict[tuple[str, str], str] = field(default_factory=dict)
    request_of: dict[str, str] = field(default_factory=dict)
    jobs_of_key: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ends: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    reads: list[Entry] = field(default_factory=list)
    wrong: list[Entry] = field(default_factory=list)
    ended_processes: list[Entry] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        match entry["event"]:
            case "undisturbed":
                self.undisturbed[entry["request"], entry["model"]] = entry["sha256"]
            case "accepted":
                self.request_of[entry["job"]] = entry["request"]
                self.jobs_of_key[entry["key"]].add(entry["job"])
            case "ended":
                self.ends[entry["job"]].append(entry)
            case "read":
                self.reads.append(entry)
            case "wrong":
                self.wrong.append(entry)
            case "process-ended":
                self.ended_processes.append(entry)
            case "fault":
                self.killed |= set(entry.get("pids", ()))
            case "listed":
                self.listed |= set(entry["jobs"])


def check(history: Iterable[Entry]) -> list[str]:
    """One sentence for each broken promise, none where all were kept."""
    told = _Told()
    for entry in history:
        told.add(entry)
    return [*_of_jobs(told), *_of_keys(told), *_of_reads(told), *_of_answers(told), *_of_processes(told)]


def _of_jobs(told: _Told) -> Iterator[str]:
    for job in told.request_of:
        if job not in told.ends:
            yield f"{job} was accepted and never ended"
    for job, ends in told.ends.items():
        facts = {_facts(end) for end in ends}
        if len(facts) > 1:
            yield f"{job} ended in different ways: {sorted(map(str, facts))}"
        elif job in told.request_of:
            yield from _of_end(told, told.request_of[job], ends[0])


def _facts(end: Entry) -> tuple[Any, ...]:
    return tuple(end.get(name) for name in ("state", "error", "model", "sha256"))


def _of_end(told: _Told, request: str, end: Entry) -> Iterator[str]:
    job, state = end["job"], end["state"]
    if state not in FINAL:
        yield f"{job} was said to be done in the state {state}"
    elif request == POISON:
        if (state, end["error"]) != ("failed", "attempts-exhausted"):
            yield f"{job}, which kills its worker, ended {state} ({end['error']})"
    elif state != "succeeded":
        yield f"{job} ended {state} ({end['error']})"
    else:
        expected = told.undisturbed.get((request, end["model"]))
        if end["sha256"] != expected:
            yield f"{job} ({request}, {end['model']}) has another audience than the undisturbed run"


def _of_keys(told: _Told) -> Iterator[str]:
    for key, jobs in told.jobs_of_key.items():
        if len(jobs) > 1:
            yield f"the idempotency key {key} made {len(jobs)} jobs"
    if told.listed != set(told.request_of):
        yield (
            f"jobs that nobody was told of: {sorted(told.listed - set(told.request_of))};"
            f" jobs that are not listed: {sorted(set(told.request_of) - told.listed)}"
        )


def _of_reads(told: _Told) -> Iterator[str]:
    for read in told.reads:
        jobs = set(read["jobs"])
        if len(jobs) != 1:
            yield f"the pages of one audience came from the jobs {sorted(jobs)}"
        elif read["sha256"] not in {end["sha256"] for end in told.ends.get(read["jobs"][0], ())}:
            yield f"the pages of {read['jobs'][0]} are not its audience"


def _of_answers(told: _Told) -> Iterator[str]:
    for wrong in told.wrong:
        yield f"{wrong['method']} {wrong['path']} was answered {wrong['status']}: {wrong['why']}"


def _of_processes(told: _Told) -> Iterator[str]:
    for end in told.ended_processes:
        if end["pid"] in told.killed:  # by a poisoned job, in the middle of it
            continue
        if end["code"] != 0 or end["seconds"] > GRACE_SECONDS:
            yield f"{end['name']} ended with {end['code']} after {end['seconds']} s when asked to"
        if end.get("ready", 503) != 503 or end.get("answer", 202) != 202:
            yield f"{end['name']}, asked to end, was ready with {end['ready']} and answered {end['answer']}"
