"""Immutable objects in a folder or under s3://: written once under a name of their own, never changed.

In a folder an object appears whole or not at all, and is on disk before `put` returns. Of a directory of objects the
manifest comes last: who finds the manifest finds the rest.
"""

from model.store.backend import MANIFEST
from model.store.store import LEFTOVER_SECONDS, ObjectStore

__all__ = ["LEFTOVER_SECONDS", "MANIFEST", "ObjectStore"]
