"""The one way to objects, whatever kind of store they lie in."""

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from model.errors import ObjectExists, ObjectMissing, StoreError
from model.store.backend import MANIFEST, STAGING, TEMPORARY, Backend, failure, files_in, inode
from model.store.bucket import BucketBackend
from model.store.folder import FolderBackend, newest, unfinished

# Nothing is built for as long as this without a file being made or written.
LEFTOVER_SECONDS = 86_400.0


class ObjectStore:
    """Objects by name ("a/b/c"). Raises StoreError for whatever the folder or the bucket refuses.

    `url`: a folder, file:///folder, or s3://bucket/prefix (credentials from the environment, as obstore reads them).
    `cache`: where `local` keeps copies of remote objects.
    """

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        self.url = url
        self._cache = cache
        self._folder: Path | None = None
        if url.startswith("s3://"):
            self._backend: Backend = BucketBackend(url)
        elif "://" in url and not url.startswith("file://"):
            raise StoreError(f"{url}: a store is a folder or an s3:// address")
        else:
            self._folder = Path(unquote(url.removeprefix("file://")) if url.startswith("file://") else url).absolute()
            self._backend = FolderBackend(self._folder)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object from bytes or a file. Raises ObjectExists; after any failure nothing of it is there."""
        self._backend.put(_checked(name), data)

    def get(self, name: str) -> bytes:
        """A whole object. Raises ObjectMissing."""
        return self._backend.get_range(_checked(name), 0, None)

    def get_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes start .. stop - 1 of an object. Raises ObjectMissing."""
        return self._backend.get_range(_checked(name), start, stop)

    def size(self, name: str) -> int:
        """Bytes of an object. Raises ObjectMissing."""
        return self._backend.size(_checked(name))

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            self.size(name)
        except ObjectMissing:
            return False
        return True

    def names(self, prefix: str) -> list[str]:
        """The names of all objects under `prefix` + "/", sorted."""
        return sorted(self._backend.names(_checked(prefix)))

    def delete(self, prefix: str) -> int:
        """Delete the object of this name, or all under it, a manifest first; how many there were."""
        names = self.names(prefix) or ([prefix] if self.exists(prefix) else [])
        self._backend.remove(sorted(names, key=lambda name: not name.endswith(f"/{MANIFEST}")), prefix)
        return len(names)

    def put_directory(self, source: Path, prefix: str, *, like: str | None = None) -> None:
        """Write every file under `source`; a reader who finds manifest.json finds them all. Raises ObjectExists.

        like: the prefix of a directory some of whose `local` files `source`, made in `staging`, has as hard links. A
        folder keeps them as such; a bucket copies those objects by itself, and nothing is sent. What an earlier attempt
        left that was killed half-way is no hindrance.
        """
        stored = {}
        if like is not None and self._folder is None:
            copy = self.local(like)
            stored = {inode(copy / name): f"{like}/{name.as_posix()}" for name in files_in(copy)}
        self._backend.put_directory(source, _checked(prefix), stored)

    def local(self, prefix: str) -> Path:
        """A folder with the objects under `prefix`: the store's own, or a copy. Raises ObjectMissing; StoreError for a
        remote store that was given no folder for copies."""
        if not self.exists(f"{prefix}/{MANIFEST}"):
            raise ObjectMissing(f"{self.url}: there is no {prefix}")
        if self._folder is not None:
            return self._folder / prefix
        if self._cache is None:
            raise StoreError(f"{self.url}: objects of a remote store need a folder for copies")
        copy = self._cache / prefix
        if not (copy / MANIFEST).exists():
            backend = FolderBackend(self._cache)
            for name in sorted(self.names(prefix), key=lambda name: name.endswith(f"/{MANIFEST}")):
                # Another thread may be making the same copy; objects do not change, so either one will do.
                with suppress(ObjectExists):
                    if not (self._cache / name).exists():
                        backend.put(name, self.get(name))
        return copy

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A scratch folder to build objects in, removed at the end; beside the objects or their local copies."""
        place = self._folder or self._cache
        parent = None if place is None else place / STAGING
        try:
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=parent))
        except OSError as error:
            raise failure(self.url, error) from error
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def sweep(self) -> int:
        """Remove what killed processes left behind, once it is LEFTOVER_SECONDS old, and the local copies of what was
        deleted; how many files and folders. Who has them open can go on reading."""
        place = self._folder or self._cache
        if place is None:
            return 0
        try:
            gone = [path for path in unfinished(place) if time.time() - newest(path) > LEFTOVER_SECONDS]
            if self._folder is None:
                copies = [path.parent.relative_to(place).as_posix() for path in place.rglob(MANIFEST)]
                stored = [name for name in copies if not name.startswith(f"{STAGING}/")]
                gone += [place / name for name in stored if not self.exists(f"{name}/{MANIFEST}")]
            for path in gone:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            if error.errno == errno.EROFS:  # it is there to be read: those who write to it clear up
                return 0
            raise failure(self.url, error) from error
        return len(gone)


def _checked(name: str) -> str:
    parts = name.split("/")
    plain = name == str(PurePosixPath(name)) and not name.startswith("/") and "\0" not in name
    if not plain or ".." in parts or parts[0] == STAGING or parts[-1].startswith(TEMPORARY):
        raise StoreError(f"{name!r} is not a name of an object")
    return name
