import threading
import time
from collections.abc import Iterator

import pytest
import torch

from model.lent_threads import lent_threads
from model.threads import map_by_threads, work_off


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """What torch may use in the test, and what it could before is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items_from_threads_that_work_side_by_side() -> None:
    both_there = threading.Barrier(2)

    def work(item: int) -> tuple[int, int]:
        both_there.wait(timeout=30)
        return item, torch.get_num_threads()

    assert list(map_by_threads(work, range(10), 2)) == [(item, 1) for item in range(10)]


def test_work_is_at_most_two_items_a_thread_ahead_of_the_caller() -> None:
    begun: list[int] = []
    results = map_by_threads(begun.append, range(100), 3)
    next(results)
    assert len(begun) <= 1 + 2 * 3
    results.close()


def test_torch_has_its_threads_back_after_the_last_result_after_an_error_and_when_closed(threads: int) -> None:
    list(map_by_threads(str, range(3), 1))
    assert torch.get_num_threads() == threads
    unfinished = map_by_threads(str, range(3), 1)
    next(unfinished)
    unfinished.close()
    assert torch.get_num_threads() == threads
    with pytest.raises(ZeroDivisionError):
        list(map_by_threads(lambda item: 1 // item, [1, 0, 1], 1))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("count", [1, 2, 3])
def test_work_is_done_once_by_the_caller_and_others_side_by_side(count: int) -> None:
    all_there = threading.Barrier(count)
    done: list[int] = []
    between: list[threading.Thread] = []

    def work(item: int) -> None:
        assert torch.get_num_threads() == 1
        if item < count:
            all_there.wait(timeout=30)
        done.append(item)

    work_off(work, range(20), count, between=lambda: between.append(threading.current_thread()))
    assert sorted(done) == list(range(20))
    assert set(between) == {threading.current_thread()}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("in_work", [True, False])
def test_an_error_ends_the_work_of_all(threads: int, count: int, in_work: bool) -> None:
    begun: list[int] = []

    def fail(_: object = None) -> None:
        raise ZeroDivisionError

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)
        if in_work and item == 5:
            fail()

    with pytest.raises(ZeroDivisionError):
        work_off(work, range(10_000), count, between=(lambda: None) if in_work else fail)
    assert len(begun) < 1_000
    assert torch.get_num_threads() == threads


def names(count: int) -> set[str]:
    """Of so many lent threads."""
    all_there = threading.Barrier(count)

    def name(_: int) -> str:
        all_there.wait(timeout=30)
        return threading.current_thread().name

    with lent_threads(count) as threads:
        return set(threads.map(name, range(count)))


def test_threads_are_started_once_and_serve_whoever_comes_next() -> None:
    first = names(3)
    assert len(first) == 3
    assert names(3) == first
    with lent_threads(3):
        assert names(3).isdisjoint(first)  # those are out


def test_what_lent_threads_were_given_is_done_when_they_come_back() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.02)
        done.append(number)

    with lent_threads(2) as threads:
        for number in range(4):
            threads.submit(work, number)
    assert sorted(done) == [0, 1, 2, 3]
