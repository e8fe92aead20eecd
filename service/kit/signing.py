"""Signatures of model versions: where there are keys, only a manifest that one of them signed is believed.

The manifest holds the hashes of all that a version is made of, so to sign it is to sign them. A signature is an object
of its own beside the manifest, named after its key: a version can be signed again when the key is changed.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from model.errors import CheckpointError, ObjectMissing
from model.manifest import MANIFEST, Verify
from model.store import ObjectStore


@dataclass(frozen=True)
class SigningKeys:
    """The first key signs, each is accepted; with none nothing is signed, and nothing asked for."""

    keys: tuple[str, ...] = field(default=(), repr=False)

    def write(self, directory: Path, prefix: str) -> None:
        """Write the signature of the manifest in a directory that is to be stored under `prefix`."""
        for key in self.keys[:1]:
            (directory / _name(key)).write_bytes(_signature(key, prefix, (directory / MANIFEST).read_bytes()))

    def add(self, models: ObjectStore, prefix: str, manifest: bytes) -> None:
        """Sign the manifest that is stored under `prefix`. Raises ObjectExists if the key has signed it, StoreError."""
        for key in self.keys[:1]:
            models.put(f"{prefix}/{_name(key)}", _signature(key, prefix, manifest))

    def verifier(self, models: ObjectStore, prefix: str) -> Verify | None:
        """What holds the manifest under `prefix` against its signatures, which may be newer than a local copy of it:
        raises CheckpointError for one that no key, or not this manifest, was signed with, and StoreError."""
        return (lambda manifest: self._verify(manifest, models, prefix)) if self.keys else None

    def _verify(self, manifest: bytes, models: ObjectStore, prefix: str) -> None:
        for key in self.keys:
            try:
                found = models.get(f"{prefix}/{_name(key)}")
            except ObjectMissing:
                continue
            if not hmac.compare_digest(found, _signature(key, prefix, manifest)):
                raise CheckpointError(f"{prefix}: its signature is not that of its manifest", "sha")
            return
        raise CheckpointError(f"{prefix}: none of MODEL_SIGNING_KEYS has signed it", "missing")


NO_KEYS: Final = SigningKeys()


def _name(key: str) -> str:
    """Of the signature's object; it tells this key from others, and nothing else of it."""
    return f"manifest.{hmac.digest(key.encode(), b'name', hashlib.sha256).hex()[:16]}.hmac"


def _signature(key: str, prefix: str, manifest: bytes) -> bytes:
    """In hex. It holds at this place only: an older version is not to be passed off as a newer one."""
    return hmac.digest(key.encode(), b"manifest\0" + prefix.encode() + b"\0" + manifest, hashlib.sha256).hex().encode()
