"""The user ids a caller sent with an expansion, as one compressed blob beside its job."""

import hashlib
import json
import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from itertools import compress
from typing import Self

from model.user_ids import IdKind, normal_ids


@dataclass(frozen=True)
class ExpansionInputs:
    """Seeds with their weights, known negatives and exclusions; each list unique and sorted by byte order.

    Sorting here is what makes order and duplicates of the request meaningless for the audience.
    """

    seeds: tuple[str, ...]
    weights: tuple[float, ...] | None
    negatives: tuple[str, ...]
    excluded: tuple[str, ...]

    @classmethod
    def of(
        cls,
        seeds: list[str],
        weights: list[float] | None = None,
        negatives: list[str] | None = None,
        excluded: list[str] | None = None,
    ) -> Self:
        """Take the lists as the caller sent them; of duplicate seeds the largest weight counts."""
        largest: dict[str, float] = {}
        for user_id, weight in zip(seeds, weights or [1.0] * len(seeds), strict=True):
            largest[user_id] = max(weight, largest.get(user_id, 0.0))
        unique = _sorted(largest)
        return cls(
            seeds=unique,
            weights=None if weights is None else tuple(largest[user_id] for user_id in unique),
            negatives=_sorted(negatives or ()),
            excluded=_sorted(excluded or ()),
        )

    def without(self, erased: Collection[str]) -> Self:
        """The same without these users."""
        stays = [user_id not in erased for user_id in self.seeds]
        return replace(
            self,
            seeds=tuple(compress(self.seeds, stays)),
            weights=None if self.weights is None else tuple(compress(self.weights, stays)),
            negatives=tuple(user_id for user_id in self.negatives if user_id not in erased),
            excluded=tuple(user_id for user_id in self.excluded if user_id not in erased),
        )

    def normal(self, kind: IdKind) -> Self:
        """The same with ids in the normal form of their kind; of seeds that become one the largest weight counts."""
        given = (self.seeds, self.negatives, self.excluded)
        seeds, negatives, excluded = (normal_ids(user_ids, kind) for user_ids in given)
        if (tuple(seeds), tuple(negatives), tuple(excluded)) == given:  # most are, and to sort them takes longest
            return self
        return self.of(seeds, None if self.weights is None else list(self.weights), negatives, excluded)

    def encode(self) -> bytes:
        """The blob that is committed with the job."""
        return zlib.compress(json.dumps(asdict(self), separators=(",", ":")).encode(), level=1)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read `encode`'s blob back."""
        fields = json.loads(zlib.decompress(payload))
        return cls(
            seeds=tuple(fields["seeds"]),
            weights=None if fields["weights"] is None else tuple(fields["weights"]),
            negatives=tuple(fields["negatives"]),
            excluded=tuple(fields["excluded"]),
        )

    def seed_sha256(self) -> str:
        """Hash of the distinct seeds and their weights."""
        digest = hashlib.sha256()
        for index, user_id in enumerate(self.seeds):
            weight = 1.0 if self.weights is None else self.weights[index]
            digest.update(f"{user_id}\0{weight!r}\n".encode())
        return digest.hexdigest()


def _sorted(user_ids: "dict[str, float] | list[str] | tuple[str, ...]") -> tuple[str, ...]:
    return tuple(sorted(set(user_ids), key=str.encode))
