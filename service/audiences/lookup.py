"""Rank and score by user id: buckets of fingerprints, so that a look-up reads some kilobytes of whatever audience.

A fingerprint of 64 bits stands for the id, and a further hash chooses its bucket, under a key that only the service
knows. So an id that is no member is taken for one once in 10¹⁶ look-ups, whoever chose the id.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.audiences.gaps import Gaps
from service.audiences.hashing import hash_ids
from service.audiences.members import Members

BUCKET_MEMBERS = 256  # on average
_STEP_BYTES = 8  # rank and score, each as its difference to the one before
_MEMBER_BYTES = _STEP_BYTES + 8  # and the fingerprint
_GAP_BYTES = 64 << 10  # between two buckets of an object: read along when it is no longer

Integers = npt.NDArray[np.int64]
ReadRange = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Places:
    """Rank of each id asked for i64 [n], 0 for one that is no member, and score in millionths i64 [n]."""

    ranks: Integers
    micro: Integers

    def without(self, gaps: Gaps) -> "Places":
        """The same in what is left of the audience: nobody is at a gap, and ranks are dense."""
        positions = self.ranks - 1
        stays = (positions >= 0) & ~gaps.among(positions)
        before = np.searchsorted(gaps.positions, positions)
        return Places(np.where(stays, self.ranks - before, 0), np.where(stays, self.micro, 0))


@dataclass(frozen=True)
class Keys:
    """Where some ids are looked up: the bucket i64 [n] and the fingerprint u64 [n] of each."""

    bucket: Integers
    fingerprint: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, ids: "Sequence[str] | pa.StringArray", size: int, secret: bytes) -> "Keys":
        """In an audience of `size` members under its secret; ids as `hash_ids` takes them."""
        column = ids if isinstance(ids, pa.StringArray) else pa.array(ids, pa.string())
        hashes = hash_ids(b"lookup:" + secret, column, 3)
        bucket = (hashes[:, 0] * np.uint64(bucket_count(size))) >> np.uint64(32)
        return cls(bucket.astype(np.int64), (hashes[:, 1] << np.uint64(32)) | hashes[:, 2])

    @property
    def buckets(self) -> list[int]:
        """Those to be read, ascending."""
        indexes: list[int] = np.unique(self.bucket).tolist()
        return indexes

    def find(self, buckets: Mapping[int, bytes]) -> Places:
        """Look all of them up; each of their buckets must be there."""
        places = np.zeros((2, len(self.bucket)), np.int64)
        steps: dict[int, Integers] = {}
        patterns = self.fingerprint.astype("<u8").tobytes()
        for row, index in enumerate(self.bucket.tolist()):
            member = _find(buckets[index], patterns[8 * row : 8 * row + 8])
            if member is not None:
                if index not in steps:
                    steps[index] = _read_steps(buckets[index])
                places[:, row] = steps[index][:, member]
                places[0, row] += 1
        return Places(*places)


def bucket_count(size: int) -> int:
    """Of an audience of `size` members."""
    return max(1, -(-size // BUCKET_MEMBERS))


def build_buckets(members: Members, secret: bytes) -> list[bytes]:
    """The buckets of a whole audience: in each the ranks, less one, of its members, their scores and fingerprints."""
    keys = Keys.of(members.ids, len(members), secret)
    order = np.argsort(keys.bucket, kind="stable")  # by rank within a bucket: neighbours differ by little
    bounds = np.searchsorted(keys.bucket[order], np.arange(1, bucket_count(len(members))))
    return [
        _write_steps(ranks, members.micro[ranks]) + keys.fingerprint[ranks].astype("<u8").tobytes()
        for ranks in np.split(order, bounds)
    ]


def pack(buckets: Sequence[bytes]) -> bytes:
    """As one object: where each begins, and the last one ends, as u32; then they themselves."""
    bounds = np.cumsum([4 * (len(buckets) + 1), *map(len, buckets)]).astype("<u4")
    return bounds.tobytes() + b"".join(buckets)


def unpack(read_range: ReadRange, indexes: Sequence[int]) -> Iterator[bytes]:
    """Some buckets, in ascending order, of what `pack` made; those that lie near each other are read together."""
    first, last = indexes[0], indexes[-1]
    bounds = np.frombuffer(read_range(4 * first, 4 * (last + 2)), "<u4").astype(np.int64)
    starts, ends = (bounds[np.array(indexes) - first + side] for side in (0, 1))
    for run in np.split(np.arange(len(indexes)), 1 + np.flatnonzero(starts[1:] - ends[:-1] > _GAP_BYTES)):
        start, end = int(starts[run[0]]), int(ends[run[-1]])
        data = read_range(start, end)
        for row in run.tolist():
            yield data[starts[row] - start : ends[row] - start]


def _find(bucket: bytes, fingerprint: bytes) -> int | None:
    """Which of a bucket's members has the fingerprint."""
    first = _STEP_BYTES * (len(bucket) // _MEMBER_BYTES)
    at = bucket.find(fingerprint, first)
    while at >= 0 and (at - first) % len(fingerprint):  # across the end of one and the beginning of the next
        at = bucket.find(fingerprint, at + 1)
    return None if at < 0 else (at - first) // len(fingerprint)


def _write_steps(ranks: Integers, micro: npt.NDArray[np.int32]) -> bytes:
    """Differences as planes of bytes, of which the upper ones are zeros that compress to nothing."""
    steps = np.diff(np.stack([ranks, micro]), prepend=0).astype("<i4")
    return steps.view(np.uint8).reshape(2, -1, 4).transpose(0, 2, 1).tobytes()


def _read_steps(bucket: bytes) -> Integers:
    """Ranks, less one, and scores in millionths of a bucket's members i64 [2, n]."""
    count = len(bucket) // _MEMBER_BYTES
    planes = np.frombuffer(bucket, np.uint8, _STEP_BYTES * count).reshape(2, 4, count)
    steps = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<i4")[:, :, 0]
    return np.cumsum(steps, axis=1, dtype=np.int64)
