"""What was found lately: given again for a moment, asked anew after it, never a miss remembered."""

import pytest

from service.kit import recent
from service.kit.recent import Recent


class Clock:
    """Time as the test wants it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts how often it is asked."""

    def __init__(self, value: str | None) -> None:
        self.value = value
        self.asked = 0

    def __call__(self) -> str | None:
        self.asked += 1
        return self.value


def test_a_value_is_asked_for_once_in_its_time() -> None:
    clock, source = Clock(), Source("value")
    known: Recent[str, str] = Recent(1.0, clock)
    assert known.recall("key") is None
    assert [known.find("key", source) for _ in range(3)] == ["value"] * 3
    assert (source.asked, known.recall("key"), known.recall("other")) == (1, "value", None)
    clock.now += 1.0
    assert known.recall("key") is None
    assert (known.find("key", source), source.asked) == ("value", 2)


def test_its_time_runs_from_the_question_and_not_from_the_answer() -> None:
    clock = Clock()

    def slow() -> str:
        clock.now += 0.9
        return "value"

    known: Recent[str, str] = Recent(1.0, clock)
    assert known.find("key", slow) == "value"
    clock.now += 0.2
    assert known.recall("key") is None


def test_what_was_not_found_is_asked_for_each_time() -> None:
    source = Source(None)
    known: Recent[str, str] = Recent(1.0)
    assert [known.find("key", source) for _ in range(3)] == [None] * 3
    assert source.asked == 3


def test_what_is_forgotten_is_asked_for_anew() -> None:
    source = Source("value")
    known: Recent[str, str] = Recent(60.0)
    known.find("key", source)
    known.forget()
    known.find("key", source)
    assert source.asked == 2


def test_it_never_grows_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_REMEMBERED", 3)
    known: Recent[int, str] = Recent(60.0)
    for key in range(100):
        known.find(key, Source("value"))
    assert 0 < sum(known.recall(key) is not None for key in range(100)) <= 3
