import threading
from collections.abc import Iterator

import pytest
import torch

from model.threads import map_by_threads


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
