"""Keyed hashes of user ids, which say who was erased without saying who that is."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from service.config import Settings

DIGEST_BYTES = 16
KEY_FILE = "erasure.key"


@dataclass(frozen=True)
class ErasureKey:
    """What tombstones are made with. Keyed BLAKE2b is a MAC, at a quarter of what an HMAC takes."""

    secret: bytes

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """ERASURE_KEY, or one made at random for this installation and kept under LOOKALIKE_HOME."""
        text = settings.erasure_key or _kept(settings.lookalike_home / KEY_FILE)
        return cls(hashlib.sha256(text.encode()).digest())

    @property
    def check(self) -> str:
        """Tells this key from another one, and nothing else of it."""
        return hashlib.blake2b(key=self.secret, digest_size=32, person=b"check").hexdigest()

    def digests(self, ids: Sequence[bytes]) -> list[bytes]:
        """The tombstones of ids in UTF-8, about half a microsecond each."""
        keyed = hashlib.blake2b(key=self.secret, digest_size=DIGEST_BYTES)
        found = []
        for user_id in ids:
            digest = keyed.copy()
            digest.update(user_id)
            found.append(digest.digest())
        return found


@dataclass(frozen=True)
class Tombstones:
    """Who was erased, as of a generation."""

    key: ErasureKey
    generation: int
    digests: frozenset[bytes]

    def erased(self, ids: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Which of some ids in UTF-8 [n] are those of erased users; costs nothing where there are no tombstones."""
        if not self.digests:
            return np.zeros(len(ids), np.bool_)
        return np.array([digest in self.digests for digest in self.key.digests(ids)], np.bool_)


def _kept(path: Path) -> str:
    """The key in this file, which the first process to ask makes; only its owner may read it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=path.parent)  # readable by its owner alone
        with os.fdopen(number, "w") as file:
            file.write(os.urandom(32).hex())
            file.flush()
            os.fsync(number)
        with suppress(FileExistsError):  # another process was first
            os.link(temporary, path)
        Path(temporary).unlink()
    return path.read_text()
