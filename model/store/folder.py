"""Objects as files of a folder."""

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path

from model.errors import ObjectExists, ObjectMissing
from model.store.backend import STAGING, TEMPORARY, Stored, failure, files_in


class FolderBackend:
    """Files. obstore's local store does not flush to disk, so this is written out: temporary, fsync, link, fsync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, data: bytes | Path) -> None:
        """See Backend."""
        path = self._folder / name
        temporary: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
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
            raise failure(name, error) from error
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def put_directory(self, source: Path, prefix: str, _stored: Stored, /) -> None:
        """Built beside the objects, then renamed: whole or not at all."""
        staging = self._folder / STAGING
        try:
            staging.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=staging, ignore_cleanup_errors=True) as scratch:
                made = Path(scratch) / "made"
                # What lies in our staging is ours and will be removed there: another name for it saves a copy.
                mine = source.resolve().is_relative_to(staging.resolve())
                copy = os.link if mine else shutil.copyfile
                made.mkdir()
                for path in files_in(source):
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
            raise failure(prefix, error) from error

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        """See Backend."""
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(start)
                return file.read() if stop is None else file.read(stop - start)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectMissing(f"{name}: there is no such object") from None
        except OSError as error:
            raise failure(name, error) from error

    def size(self, name: str) -> int:
        """See Backend."""
        path = self._folder / name
        if not path.is_file():
            raise ObjectMissing(f"{name}: there is no such object")
        return path.stat().st_size

    def names(self, prefix: str) -> list[str]:
        """See Backend."""
        files = (path for path in (self._folder / prefix).rglob("*") if path.is_file())
        return [path.relative_to(self._folder).as_posix() for path in files if not path.name.startswith(TEMPORARY)]

    def remove(self, names: list[str], prefix: str) -> None:
        """Also the folders under the prefix, but none above it, where others may be writing."""
        try:
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise failure(prefix, error) from error
        top = self._folder / prefix
        if top.is_dir():
            shutil.rmtree(top, ignore_errors=True)

    def _flush_above(self, path: Path) -> None:
        """Make a new name durable, and those of the folders made for it."""
        while path != self._folder:
            path = path.parent
            _flush(path)


def unfinished(place: Path) -> list[Path]:
    """What is being built in a folder, or was when its process was killed."""
    return [*(place / STAGING).glob("*"), *place.rglob(f"{TEMPORARY}*")]


def newest(path: Path) -> float:
    """When something in a folder, or the file, was last made or written; now, if it vanishes."""
    try:
        return max(found.stat().st_mtime for found in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
