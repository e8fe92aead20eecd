"""Immutable objects in a folder or under s3://: written once under a name of their own, never changed.

In a folder an object appears whole or not at all, and is on disk before `put` returns. Of a directory of objects the
manifest comes last: who finds the manifest finds the rest.
"""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol
from urllib.parse import unquote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from model.errors import ObjectExists, ObjectMissing, StoreError

MANIFEST = "manifest.json"
_STAGING = ".staging"
_TEMPORARY = ".put-"
# Nothing is built for as long as this without a file being made or written.
LEFTOVER_SECONDS = 86_400.0


# The names of objects by device and inode of their local copies.
Stored = Mapping[tuple[int, int], str]


class _Backend(Protocol):
    def put(self, name: str, data: bytes | Path) -> None: ...
    def put_directory(self, source: Path, prefix: str, stored: Stored, /) -> None: ...
    def get_range(self, name: str, start: int, stop: int | None) -> bytes: ...
    def size(self, name: str) -> int: ...
    def names(self, prefix: str) -> list[str]: ...
    def remove(self, names: list[str], prefix: str) -> None: ...


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
            self._folder = Path(unquote(url.removeprefix("file://")) if url.startswith("file://") else url).absolute()
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
            stored = {_inode(copy / name): f"{like}/{name.as_posix()}" for name in _files(copy)}
        self._backend.put_directory(source, _checked(prefix), stored)

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
                # Another thread may be making the same copy; objects do not change, so either one will do.
                with suppress(ObjectExists):
                    if not (self._cache / name).exists():
                        backend.put(name, self.get(name))
        return copy

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A scratch folder to build objects in, removed at the end; beside the objects or their local copies."""
        place = self._folder or self._cache
        parent = None if place is None else place / _STAGING
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

    def sweep(self) -> int:
        """Remove what killed processes left behind, once it is LEFTOVER_SECONDS old, and the local copies of what was
        deleted; how many files and folders. Who has them open can go on reading."""
        place = self._folder or self._cache
        if place is None:
            return 0
        try:
            gone = [path for path in _unfinished(place) if time.time() - _newest(path) > LEFTOVER_SECONDS]
            if self._folder is None:
                copies = [path.parent.relative_to(place).as_posix() for path in place.rglob(MANIFEST)]
                stored = [name for name in copies if not name.startswith(f"{_STAGING}/")]
                gone += [place / name for name in stored if not self.exists(f"{name}/{MANIFEST}")]
            for path in gone:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            if error.errno == errno.EROFS:  # it is there to be read: those who write to it clear up
                return 0
            raise _failure(self.url, error) from error
        return len(gone)


class _FolderBackend:
    """Files. obstore's local store does not flush to disk, so this is written out: temporary, fsync, link, fsync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, data: bytes | Path) -> None:
        path = self._folder / name
        temporary: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
            with os.fdopen(number, "wb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            os.link(temporary, path)  # fails where a rename would replace
            self._flush_above(path)
        except FileExistsError:
            raise ObjectExists(f"{name}: there is such an object already") from None
        except OSError as error:
            raise _failure(name, error) from error
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def put_directory(self, source: Path, prefix: str, _stored: Stored, /) -> None:
        """Built beside the objects, then renamed: whole or not at all."""
        staging = self._folder / _STAGING
        try:
            staging.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=staging, ignore_cleanup_errors=True) as scratch:
                made = Path(scratch) / "made"
                # What lies in our staging is ours and will be removed there: another name for it saves a copy.
                mine = source.resolve().is_relative_to(staging.resolve())
                copy = os.link if mine else shutil.copyfile
                made.mkdir()
                for path in _files(source):
                    (made / path).parent.mkdir(parents=True, exist_ok=True)
                    copy(source / path, made / path)
                for path in (*made.rglob("*"), made):
                    _flush(path)
                target = self._folder / prefix
                target.parent.mkdir(parents=True, exist_ok=True)
                made.rename(target)
                self._flush_above(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise ObjectExists(f"{prefix}: there are such objects already") from None
            raise _failure(prefix, error) from error

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(start)
                return file.read() if stop is None else file.read(stop - start)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
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

    def remove(self, names: list[str], prefix: str) -> None:
        """Also the folders under the prefix, but none above it, where others may be writing."""
        try:
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _failure(prefix, error) from error
        top = self._folder / prefix
        if top.is_dir():
            shutil.rmtree(top, ignore_errors=True)

    def _flush_above(self, path: Path) -> None:
        """Make a new name durable, and those of the folders made for it."""
        while path != self._folder:
            path = path.parent
            _flush(path)


def _files(folder: Path) -> list[Path]:
    """Those anywhere in the folder, as seen from it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _unfinished(place: Path) -> list[Path]:
    """What is being built in a folder, or was when its process was killed."""
    return [*(place / _STAGING).glob("*"), *place.rglob(f"{_TEMPORARY}*")]


def _newest(path: Path) -> float:
    """When something in a folder, or the file, was last made or written; now, if it vanishes."""
    try:
        return max(found.stat().st_mtime for found in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class _S3Backend:
    """A bucket. Whatever is sent carries its SHA-256, which the server checks and keeps. The files of a directory go in
    parts where they are large; a single object goes in one request, as only that can refuse to overwrite."""

    def __init__(self, url: str) -> None:
        try:
            self._store = S3Store.from_url(url, checksum_algorithm="SHA256")
        except BaseError as error:
            raise _failure(url, error) from error

    def put(self, name: str, data: bytes | Path) -> None:
        self._write(name, data, "create")

    def _write(self, name: str, data: bytes | Path, mode: Literal["create", "overwrite"]) -> None:
        try:
            obstore.put(self._store, name, data, mode=mode)
        except AlreadyExistsError:
            raise ObjectExists(f"{name}: there is such an object already") from None
        except (BaseError, OSError) as error:
            raise _failure(name, error) from error

    def _copy(self, name: str, to: str) -> None:
        try:
            obstore.copy(self._store, name, to)
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise _failure(name, error) from error

    def put_directory(self, source: Path, prefix: str, stored: Stored, /) -> None:
        """Files first, then the manifest, which is what makes them objects; without it they may be written again."""
        try:
            self.size(f"{prefix}/{MANIFEST}")
        except ObjectMissing:
            pass
        else:
            raise ObjectExists(f"{prefix}: there are such objects already")
        files = [path.as_posix() for path in _files(source)]
        for name in files:
            original = stored.get(_inode(source / name))
            if original is not None:
                self._copy(original, f"{prefix}/{name}")
            elif name != MANIFEST:
                self._write(f"{prefix}/{name}", source / name, "overwrite")
        if MANIFEST in files:
            self.put(f"{prefix}/{MANIFEST}", source / MANIFEST)

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        try:
            if stop is None:
                return bytes(obstore.get(self._store, name).bytes())
            return bytes(obstore.get_range(self._store, name, start=start, end=stop))
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise _failure(name, error) from error

    def size(self, name: str) -> int:
        try:
            return obstore.head(self._store, name)["size"]
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise _failure(name, error) from error

    def names(self, prefix: str) -> list[str]:
        try:
            return [entry["path"] for batch in obstore.list(self._store, prefix=prefix) for entry in batch]
        except (BaseError, OSError) as error:
            raise _failure(prefix, error) from error

    def remove(self, names: list[str], prefix: str) -> None:
        try:
            for name in names:
                obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _failure(prefix, error) from error


def _checked(name: str) -> str:
    parts = name.split("/")
    plain = name == str(PurePosixPath(name)) and not name.startswith("/") and "\0" not in name
    if not plain or ".." in parts or parts[0] == _STAGING or parts[-1].startswith(_TEMPORARY):
        raise StoreError(f"{name!r} is not a name of an object")
    return name


def _failure(place: str, error: Exception) -> StoreError:
    """In one line: after it obstore adds pages."""
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return StoreError(f"{place}: {reason}")
