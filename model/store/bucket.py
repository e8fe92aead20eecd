"""Objects in a bucket of S3."""

from pathlib import Path
from typing import Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from model.errors import ObjectExists, ObjectMissing
from model.store.backend import MANIFEST, Stored, failure, files_in, inode


class BucketBackend:
    """Whatever is sent carries its SHA-256, which the server checks and keeps. The files of a directory go in parts
    where they are large; a single object goes in one request, as only that can refuse to overwrite."""

    def __init__(self, url: str) -> None:
        try:
            self._store = S3Store.from_url(url, checksum_algorithm="SHA256")
        except BaseError as error:
            raise failure(url, error) from error

    def put(self, name: str, data: bytes | Path) -> None:
        """See Backend."""
        self._write(name, data, "create")

    def put_directory(self, source: Path, prefix: str, stored: Stored, /) -> None:
        """Files first, then the manifest, which is what makes them objects; without it they may be written again."""
        try:
            self.size(f"{prefix}/{MANIFEST}")
        except ObjectMissing:
            pass
        else:
            raise ObjectExists(f"{prefix}: there are such objects already")
        files = [path.as_posix() for path in files_in(source)]
        for name in files:
            original = stored.get(inode(source / name))
            if original is not None:
                self._copy(original, f"{prefix}/{name}")
            elif name != MANIFEST:
                self._write(f"{prefix}/{name}", source / name, "overwrite")
        if MANIFEST in files:
            self.put(f"{prefix}/{MANIFEST}", source / MANIFEST)

    def get_range(self, name: str, start: int, stop: int | None) -> bytes:
        """See Backend."""
        try:
            if stop is None:
                return bytes(obstore.get(self._store, name).bytes())
            return bytes(obstore.get_range(self._store, name, start=start, end=stop))
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise failure(name, error) from error

    def size(self, name: str) -> int:
        """See Backend."""
        try:
            return obstore.head(self._store, name)["size"]
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise failure(name, error) from error

    def names(self, prefix: str) -> list[str]:
        """See Backend."""
        try:
            return [entry["path"] for batch in obstore.list(self._store, prefix=prefix) for entry in batch]
        except (BaseError, OSError) as error:
            raise failure(prefix, error) from error

    def remove(self, names: list[str], prefix: str) -> None:
        """See Backend."""
        try:
            for name in names:
                obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise failure(prefix, error) from error

    def _write(self, name: str, data: bytes | Path, mode: Literal["create", "overwrite"]) -> None:
        try:
            obstore.put(self._store, name, data, mode=mode)
        except AlreadyExistsError:
            raise ObjectExists(f"{name}: there is such an object already") from None
        except (BaseError, OSError) as error:
            raise failure(name, error) from error

    def _copy(self, name: str, to: str) -> None:
        try:
            obstore.copy(self._store, name, to)
        except FileNotFoundError:
            raise ObjectMissing(f"{name}: there is no such object") from None
        except (BaseError, OSError) as error:
            raise failure(name, error) from error
