"""Steps on a screen, and as lines where there is no terminal."""

from io import StringIO

import pytest
from rich.console import Console

from service.demo import screen as module
from service.demo.screen import Screen


def test_without_a_terminal_steps_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    output = StringIO()
    with Screen(Console(file=output)) as screen:
        screen.begin("first")
        screen.report(0.5, "half [of] it")
        screen.begin("second")
    lines = output.getvalue().splitlines()
    assert lines[:3] == ["first ...", "first: 50%, half [of] it", "first: done in 0.0 s"]
    assert lines[3:] == ["second ...", "second: done in 0.0 s"]
    assert list(screen.seconds) == ["first", "second"]


def test_on_a_terminal_a_step_is_a_bar_that_stays() -> None:
    output = StringIO()
    with Screen(Console(file=output, force_terminal=True, width=120)) as screen:
        screen.begin("first")
        screen.report(0.5, "half [of] it")
    assert "half [of] it" in output.getvalue()
    assert "100%" in output.getvalue()


def test_a_step_that_fails_is_not_told_as_done() -> None:
    def fail_in_a_step(screen: Screen) -> None:
        with screen:
            screen.begin("first")
            raise KeyError

    output = StringIO()
    screen = Screen(Console(file=output))
    with pytest.raises(KeyError):
        fail_in_a_step(screen)
    assert output.getvalue() == "first ...\n"
    assert not screen.seconds
