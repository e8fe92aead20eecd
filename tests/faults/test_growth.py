"""Jobs and polls come and go, and nothing stays of them in the processes. The long form: `-m tests.faults.growth`."""

import pytest

from tests.faults.growth import Kept, faults, grow
from tests.faults.one_of_each import OneOfEach

JOBS, POLLS = 40, 1_000


def test_jobs_and_polls_leave_nothing_behind(service: OneOfEach) -> None:
    growth = grow(service, JOBS, POLLS, warm_up=10)
    assert set(growth) == {"api", "worker"}
    assert faults(growth) == [], growth


@pytest.mark.parametrize("leak", ["descriptors", "threads", "connections"])
def test_one_thing_left_by_each_job_would_be_found(leak: str) -> None:
    kept = {"memory_mib": 0.0, "descriptors": 0, "threads": 0, "connections": 0, leak: JOBS}
    (fault,) = faults({"worker": Kept(**kept)})
    assert leak in fault


def test_twenty_kilobytes_left_by_each_job_would_be_found_by_the_long_form() -> None:
    jobs = 2_000
    (fault,) = faults({"worker": Kept(jobs * 20 / 1024, 0, 0, 0)})
    assert "MiB" in fault
