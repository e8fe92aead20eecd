"""What each kind of place for objects can do, and what all kinds need of names and files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from model.errors import StoreError

MANIFEST = "manifest.json"
STAGING = ".staging"
TEMPORARY = ".put-"

# The names of objects by device and inode of their local copies.
Stored = Mapping[tuple[int, int], str]


class Backend(Protocol):
    """Raises StoreError for whatever the place refuses; names are checked before they come here."""

    def put(self, name: str, data: bytes | Path) -> None:
        """Raises ObjectExists."""

    def put_directory(self, source: Path, prefix: str, stored: Stored, /) -> None:
        """stored: objects that some of the source's files are local copies of. Raises ObjectExists."""

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        """Bytes start .. stop - 1, or to the end. Raises ObjectMissing."""

    def size(self, name: str) -> int:
        """Bytes. Raises ObjectMissing."""

    def names(self, prefix: str) -> list[str]:
        """All under the prefix and a slash, in any order."""

    def remove(self, names: list[str], prefix: str) -> None:
        """In this order: all there are under the prefix, or the one that has it for its name."""


def files_in(folder: Path) -> list[Path]:
    """Those anywhere in the folder, as seen from it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def inode(path: Path) -> tuple[int, int]:
    """Device and inode: the same for all hard links of a file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def failure(place: str, error: Exception) -> StoreError:
    """In one line: after it obstore adds pages."""
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return StoreError(f"{place}: {reason}")
