"""How many of the machine's cores a worker may use: they are divided among the workers that have work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path


class Cores:
    """Each process at work holds the lock of a file of its own in a folder that they share. A lock ends with its
    process, however that ends; files that nobody holds are removed by whoever counts next."""

    def __init__(self, folder: Path, cores: int) -> None:
        self._folder = folder
        self._cores = cores
        self._mine = folder / f"{os.getpid()}"

    @contextmanager
    def share(self) -> Iterator[int]:
        """Be at work; gives the number of threads to use, at least 1. Those at work already keep what they took."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._mine.open("wb") as file:
            flock(file, LOCK_EX)
            try:
                yield max(1, self._cores // (1 + self._others()))
            finally:
                self._mine.unlink(missing_ok=True)

    def _others(self) -> int:
        return sum(_held(path) for path in self._folder.iterdir() if path != self._mine)


def _held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            flock(file, LOCK_EX | LOCK_NB)
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its owner has just finished
        return False
    return False
