"""What a person sees while the demo runs: a bar for each step, or plain lines where there is no terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

LINE_SECONDS = 5.0
NAME_WIDTH = 34


class Screen:
    """One step at a time; `seconds` keeps how long each took, in order. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console
        self._step: str | None = None
        self._started = 0.0
        self._said = 0.0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(complete=error is None)

    def begin(self, step: str) -> None:
        """End the step before, if any, and begin this one."""
        self.end()
        self._step, self._started = step, time.monotonic()
        self._said = self._started
        if self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(finished_text="✓"),
                TextColumn(f"{{task.description:<{NAME_WIDTH}}}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self._console,
            )
            self._bar.add_task(step, total=None, detail="")
            self._bar.start()
        else:
            self.say(f"{step} ...")

    def report(self, fraction: float | None, detail: str = "") -> None:
        """How much of the step is done, where that is known, and a few words."""
        if self._bar is not None:
            total = None if fraction is None else 1.0
            self._bar.update(self._bar.task_ids[0], total=total, completed=fraction or 0.0, detail=detail)
        elif self._step is not None and time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            done = "" if fraction is None else f"{fraction:.0%}"
            self.say(f"{self._step}: {', '.join(part for part in (done, detail) if part) or 'going on'}")

    def end(self) -> None:
        """End the step that is going on, if any."""
        self._end(complete=True)

    def say(self, text: str) -> None:
        """A line between the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _end(self, *, complete: bool) -> None:
        if self._step is None:
            return
        seconds = time.monotonic() - self._started
        if self._bar is not None:
            if complete:
                self._bar.update(self._bar.task_ids[0], total=1.0, completed=1.0)
            self._bar.stop()
            self._bar = None
        elif complete:
            self.say(f"{self._step}: done in {seconds:.1f} s")
        if complete:
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + seconds
        self._step = None
