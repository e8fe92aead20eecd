"""What callers did and were answered, and what was done to the service: one JSON object per line."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class History:
    """Appends to a file, from any thread; every entry has its time in seconds since the beginning."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def note(self, event: str, **facts: Any) -> None:
        """One entry."""
        with self._lock:
            entry = {"at": round(time.monotonic() - self._began, 3), "event": event, **facts}
            self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """No more entries."""
        self._file.close()


def read_history(path: Path) -> Iterator[Entry]:
    """The entries in the order they were written."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
