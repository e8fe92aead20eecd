"""Immutable objects in a folder or under s3://: written once under a name of their own, never changed.

In a folder an object appears whole or not at all, and is on disk before `put` returns. Of a directory of objects the
manifest comes last: who finds the manifest finds the rest.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from model.errors import ObjectExists, ObjectMissing, StoreError

MANIFEST = "manifest.json"
_STAGING = ".staging"
_TEMPORARY = ".put-"


class _Backend(Protocol):
    def put(self, name: str, data: bytes | Path) -> None: ...
    def get_range(self, name: str, start: int, stop: int | None) -> bytes: ...
    def size(self, name: str) -> int: ...
    def names(self, prefix: str) -> list[str]: ...
    def remove(self, name: str) -> None: ...


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
            self._backend: _Backend = _S3Backend(url)
        elif "://" in url and not url.startswith("file://"):
            raise StoreError(f"{url}: a store is a folder or an s3:// address")
        else:
            self._folder = Path(url.removeprefix("file://")).absolute()
            self._backend = _FolderBackend(self._folder)

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
        for name in sorted(names, key=lambda name: not name.endswith(f"/{MANIFEST}")):
            self._backend.remove(name)
        return len(names)

    def put_directory(self, source: Path, prefix: str) -> None:
        """Write every file under `source`, manifest.json last; after a failure nothing of it is there."""
        files = [path.relative_to(source).as_posix() for path in sorted(source.rglob("*")) if path.is_file()]
        written = []
        try:
            for name in sorted(files, key=lambda name: name == MANIFEST):
                self.put(f"{prefix}/{name}", source / name)
                written.append(f"{prefix}/{name}")
        except StoreError:
            for name in reversed(written):
                self._backend.remove(name)
            raise

    def local(self, prefix: str) -> Path:
        """A folder with the objects under `prefix`: the store's own, or a copy. Raises ObjectMissing."""
        if not self.exists(f"{prefix}/{MANIFEST}"):
            raise ObjectMissing(f"{self.url}: there is no {prefix}")
        if self._folder is not None:
            return self._folder / prefix
        if self._cache is None:
            raise StoreError(f"{self.url}: objects of a remote store need a folder for copies")
        copy = self._cache / prefix
        if not (copy / MANIFEST).exists():
            backend = _FolderBackend(self._cache)
            for name in sorted(self.names(prefix), key=lambda name: name.endswith(f"/{MANIFEST}")):
                if not (self._cache / name).exists():
                    backend.put(name, self.get(name))
        return copy

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A scratch folder to build objects in, removed at the end; beside the objects where they lie in a folder."""
        parent = None if self._folder is None else self._folder / _STAGING
        try:
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=parent))
        except OSError as error:
            raise _failure(self.url, error) from error
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class _FolderBackend:
    """Files. obstore's local store does not flush to disk, so this is written out: temporary, fsync, link, fsync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, data: bytes | Path) -> None:
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_TEMPORARY) as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                else:
                    file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
                os.link(file.name, path)  # fails where a rename would replace
            self._flush_folder(path.parent)
        except FileExistsError:
            raise ObjectExists(f"{name}: there is such an object already") from None
        except OSError as error:
            raise _failure(name, error) from error

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(start)
                return file.read() if stop is None else file.read(stop - start)
        except (FileNotFoundError, IsADirectoryError):
            raise ObjectMissing(f"{name}: there is no such object") from None
        except OSError as error:
            raise _failure(name, error) from error

    def size(self, name: str) -> int:
        path = self._folder / name
        if not path.is_file():
            raise ObjectMissing(f"{name}: there is no such object")
        return path.stat().st_size

    def names(self, prefix: str) -> list[str]:
        files = (path for path in (self._folder / prefix).rglob("*") if path.is_file())
        return [path.relative_to(self._folder).as_posix() for path in files if not path.name.startswith(_TEMPORARY)]

    def remove(self, name: str) -> None:
        path = self._folder / name
        try:
            path.unlink(missing_ok=True)
            # The folder of a kind of object stays: somebody may be about to put another one there.
            while path.parent.parent != self._folder and not any(path.parent.iterdir()):
                path = path.parent
                path.rmdir()
        except FileNotFoundError:
            return  # somebody else cleared up
        except OSError as error:
            raise _failure(name, error) from error

    def _flush_folder(self, folder: Path) -> None:
        """Make the new name durable, and those of the folders made for it."""
        while True:
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
            if folder == self._folder:
                return
            folder = folder.parent


class _S3Backend:
    def __init__(self, url: str) -> None:
        self._store = S3Store.from_url(url)

    def put(self, name: str, data: bytes | Path) -> None:
        try:
            obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            raise ObjectExists(f"{name}: there is such an object already") from None
        except (BaseError, OSError) as error:
            raise StoreError(f"{name}: cannot be written: {error}") from error

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        try:
            if stop is None:
                return bytes(obstore.get(self._store, name).bytes())
            return bytes(obstore.get_range(self._store, name, start=start, end=stop))
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise StoreError(f"{name}: cannot be read: {error}") from error

    def size(self, name: str) -> int:
        try:
            return obstore.head(self._store, name)["size"]
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise StoreError(f"{name}: cannot be read: {error}") from error

    def names(self, prefix: str) -> list[str]:
        try:
            return [entry["path"] for batch in obstore.list(self._store, prefix=prefix) for entry in batch]
        except (BaseError, OSError) as error:
            raise StoreError(f"{prefix}: cannot be listed: {error}") from error

    def remove(self, name: str) -> None:
        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreError(f"{name}: cannot be deleted: {error}") from error


def _checked(name: str) -> str:
    parts = name.split("/")
    plain = name == str(PurePosixPath(name)) and not name.startswith("/") and "\0" not in name
    if not plain or ".." in parts or parts[0] == _STAGING:
        raise StoreError(f"{name!r} is not a name of an object")
    return name


def _failure(place: str, error: OSError) -> StoreError:
    return StoreError(f"{place}: {error.strerror or error}")
