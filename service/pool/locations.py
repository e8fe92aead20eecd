"""IMPORT_ROOT: the folder or s3:// prefix under which lies whatever may be imported."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from model.errors import ObjectMissing, PoolError
from model.store import ObjectStore

_CHUNK_BYTES = 32 << 20
_OUTSIDE = "the location leads out of IMPORT_ROOT, or through a link"
_ABSENT = "there is no such file under IMPORT_ROOT"


class ImportRoot:
    """Finds files by their location, which is relative to the root or begins with it. No location leads out of it, by
    `..` or through a link."""

    def __init__(self, url: str) -> None:
        self._folder = None if url.startswith("s3://") else Path(url).resolve()
        self._url = url

    def check(self, location: str) -> None:
        """Raises PoolError for a location that leads out of the root, and in a folder if there is no such file. A
        bucket is not asked."""
        if self._folder is not None:
            _resolve(self._folder, location)
        elif not _is_plain(self._name(location)):
            raise PoolError(_OUTSIDE)

    @contextmanager
    def file(self, location: str) -> Iterator[Path]:
        """The file; one from a bucket is copied for as long as it is used. Raises PoolError and StoreError."""
        self.check(location)
        if self._folder is not None:
            yield self._folder / location
            return
        objects, name = ObjectStore(self._url), self._name(location)
        with TemporaryDirectory() as scratch:
            copy = Path(scratch) / PurePosixPath(name).name
            try:
                with copy.open("wb") as file:
                    for start in range(0, size := objects.size(name), _CHUNK_BYTES):
                        file.write(objects.get_range(name, start, min(start + _CHUNK_BYTES, size)))
            except ObjectMissing:
                raise PoolError(_ABSENT) from None
            yield copy

    def _name(self, location: str) -> str:
        """Of an object in the bucket."""
        return location.removeprefix(self._url.rstrip("/") + "/")


def _resolve(folder: Path, location: str) -> Path:
    path = folder / location
    try:
        if ".." in Path(location).parts or not path.is_relative_to(folder) or path.resolve() != path:
            raise PoolError(_OUTSIDE)
        found = path.is_file()
    except (OSError, ValueError):  # a name too long to exist, or one with a zero byte
        found = False
    if not found:
        raise PoolError(_ABSENT)
    return path


def _is_plain(location: str) -> bool:
    parts = location.split("/")
    return not {"", ".", ".."} & set(parts) and location.isprintable()
