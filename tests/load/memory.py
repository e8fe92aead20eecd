"""How much memory a process takes while something goes on."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

WATCH_SECONDS = 0.01


@dataclass
class Watched:
    """The most anonymous memory that a process had while it was watched, in bytes."""

    pid: int
    most: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watched":
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            self._look()

    def _look(self) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        self.most = max(self.most, 1024 * int(line.split()[1]))
