"""What a network makes of every user of a pool whatever the campaign, as bfloat16 bits: computed once per model and
pool, read by everything that follows. Of `default` it is φ; of `metaheac` with frozen embeddings, the hidden layer that
adaptation does not reach.

The stored bits are the representation. Files: manifest.json and shards/<nnnnn>.npy, uint16 [rows, d], one for each
shard of the pool.
"""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.bulk_encoder import BulkEncoder
from model.compiled import compiled, read_only
from model.errors import PoolError
from model.lent_threads import lent_threads
from model.model import Model
from model.network import Network
from model.pool import Pool, UserBlock
from model.pool.manifest import file_in
from model.threads import map_by_threads
from model.vocabulary import Translation

BLOCK_ROWS = 8192
_FORMAT = "lookalike-representation-1"

Bits = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Representation:
    """uint16 [N, d] in shards that follow each other; row = ordinal of the user in the pool."""

    shards: tuple[Bits, ...]

    @property
    def size(self) -> int:
        """Number of users N."""
        return sum(map(len, self.shards))

    @property
    def dimension(self) -> int:
        """Numbers per user d."""
        return int(self.shards[0].shape[1])

    @cached_property
    def largest(self) -> npt.NDArray[np.float64]:
        """The greatest magnitude of each of the d numbers over all users [d]. Raises PoolError if one is not finite."""
        bits = np.zeros(self.dimension, np.uint16)
        for shard in self.shards:
            _raise_to(read_only(shard, np.uint16), bits)
        numbers = from_bits(bits)
        if not np.isfinite(numbers).all():
            raise PoolError("the representation holds a number that is not finite")
        return numbers

    def block(self, start: int, stop: int) -> Bits:
        """Bits [stop - start, d]; a view when the block lies inside one shard."""
        parts = []
        for shard, first in zip(self.shards, self._firsts(), strict=False):
            if first < stop and start < first + len(shard):
                parts.append(shard[max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, self.dimension), np.uint16), *parts])

    def take(self, ordinals: npt.NDArray[np.int64]) -> Bits:
        """Bits [B, d] of users in the order of their ordinals."""
        firsts = self._firsts()
        taken = np.empty((len(ordinals), self.dimension), np.uint16)
        shard_of = np.searchsorted(firsts, ordinals, side="right") - 1
        for number in np.unique(shard_of):
            here = shard_of == number
            # A plain index would be three times as slow.
            taken[here] = np.take(self.shards[number], ordinals[here] - firsts[number], axis=0)
        return taken

    def _firsts(self) -> list[int]:
        return list(accumulate(map(len, self.shards), initial=0))[:-1]


@compiled
def _raise_to(bits: Bits, largest: Bits) -> None:
    """Raise largest [d] to the magnitudes of bits [B, d]: without their sign, bits are ordered as their numbers."""
    for user in range(len(bits)):
        for number in range(len(largest)):
            largest[number] = max(largest[number], np.uint16(bits[user, number] & np.uint16(0x7FFF)))


def to_bits(values: Tensor) -> Bits:
    """Round to bfloat16, nearest even, and keep its 16 bits."""
    return values.to(torch.bfloat16).cpu().view(torch.uint16).numpy()


def from_bits(bits: Bits) -> npt.NDArray[np.float64]:
    """The exact numbers that the bits stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def represent(
    model: Model,
    pool: Pool,
    *,
    deny: frozenset[str] = frozenset(),
    progress: Callable[[float], object] | None = None,
) -> Representation | None:
    """Of all users, denied features read as missing; None for a network whose adaptation leaves nothing as it is."""
    if not model.network.represents:
        return None
    bits = np.empty((pool.size, model.network.dimension), np.uint16)
    with closing(_blocks(model, pool, pool.spans(BLOCK_ROWS), deny)) as blocks:
        for start, stop, block in blocks:
            bits[start:stop] = block
            if progress is not None:
                progress(stop / pool.size)
    return Representation((bits,))


@dataclass(frozen=True)
class Earlier:
    """Where the representation of an earlier pool lies, and which shards of it are known by it: number to number there,
    as `model.pool.unchanged_shards` finds them."""

    directory: Path
    pool_sha256: str
    shards: Mapping[int, int]


def write_representation(
    model: Model,
    pool: Pool,
    directory: Path,
    progress: Callable[[float], object] | None = None,
    earlier: Earlier | None = None,
) -> bool:
    """Stream it to a new directory, manifest last; False, and nothing written, where there is none.

    Shards of `earlier` are not computed again but become hard links, so it must lie on the same file system. Raises
    PoolError if it is not readable, or of another model.
    """
    if not model.network.represents:
        return False
    (directory / "shards").mkdir(parents=True)
    known = {} if earlier is None else _known_files(earlier, model)
    shards = list(pool.spans(pool.size))
    wanted = (
        (start, min(start + BLOCK_ROWS, end))
        for number, (first, end) in enumerate(shards)
        if number not in known
        for start in range(first, end, BLOCK_ROWS)
    )
    files = []
    with closing(_blocks(model, pool, wanted)) as blocks:
        for number, (first, end) in enumerate(shards):
            path = directory / "shards" / f"{number:05d}.npy"
            if number in known:
                stored, sha256 = known[number]
                os.link(stored, path)
            else:
                with path.open("wb") as file:
                    writer = _HashingWriter(file)
                    _write_header(writer, (end - first, model.network.dimension))
                    for _, stop, block in blocks:
                        writer.write(block.data)
                        if progress is not None:
                            progress(stop / pool.size)
                        if stop == end:
                            break
                sha256 = writer.digest.hexdigest()
            files.append({"name": f"shards/{path.name}", "rows": end - first, "sha256": sha256})
    manifest = {
        "format": _FORMAT,
        "model_sha256": model.sha256,
        "pool_sha256": pool.sha256,
        "dimension": model.network.dimension,
        "files": files,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return True


def _known_files(earlier: Earlier, model: Model) -> dict[int, tuple[Path, str]]:
    """Where that of each shard that is known lies, and its hash."""
    files = _read_manifest(earlier.directory, model.sha256, earlier.pool_sha256)["files"]
    return {
        number: (file_in(earlier.directory, files[there]["name"]), files[there]["sha256"])
        for number, there in earlier.shards.items()
    }


def _read_manifest(directory: Path, model_sha256: str, pool_sha256: str) -> dict[str, Any]:
    path = directory / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        named = (manifest["format"], manifest["model_sha256"], manifest["pool_sha256"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PoolError(f"{path}: not a readable representation: {error}") from error
    if named != (_FORMAT, model_sha256, pool_sha256):
        raise PoolError(f"{path}: the representation of another model or pool, or of another format")
    return manifest


def open_representation(
    directory: Path, *, model_sha256: str, pool_sha256: str, verify: bool = False
) -> Representation:
    """Map the shards of this model's representation of this pool; verify also reads and hashes every byte, a shard a
    thread.

    Raises PoolError naming the first file that is missing, of another model or pool, or damaged.
    """
    manifest = _read_manifest(directory, model_sha256, pool_sha256)
    try:
        open_shard = partial(_open_shard, directory, int(manifest["dimension"]), verify)
        with lent_threads(torch.get_num_threads()) as threads:
            shards = tuple(threads.map(open_shard, manifest["files"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PoolError(f"{directory}: not a readable representation: {error}") from error
    return Representation(shards)


def _open_shard(directory: Path, dimension: int, verify: bool, file: dict[str, Any]) -> Bits:  # noqa: FBT001
    path = file_in(directory, file["name"])
    shard: Bits = np.load(path, mmap_mode="r", allow_pickle=False)
    if shard.shape != (file["rows"], dimension) or shard.dtype != np.uint16:
        raise PoolError(f"{path}: shape {shard.shape} and type {shard.dtype} are not those of the manifest")
    if verify:
        with path.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file["sha256"]:
                raise PoolError(f"{path}: its bytes are not those of the manifest (sha256)")
    return shard


def _blocks(
    model: Model, pool: Pool, spans: Iterable[tuple[int, int]], deny: frozenset[str] = frozenset()
) -> Generator[tuple[int, int, Bits], None, None]:
    """Start, stop and bits of these blocks of the pool, one after the other."""
    translation = model.vocabulary.translate(pool, deny)
    on_cpu = model.device.type == "cpu"
    if on_cpu:
        stored = BulkEncoder.of(model.network, translation).represent
    else:
        stored = partial(represent_plainly, model.network, translation, model.device)

    def bits(span: tuple[int, int]) -> tuple[int, int, Bits]:
        return (*span, to_bits(stored(pool.block(*span))))

    return map_by_threads(bits, spans, torch.get_num_threads() if on_cpu else 1)


@torch.no_grad()
def represent_plainly(network: Network, translation: Translation, device: torch.device, block: UserBlock) -> Tensor:
    """[B, d] of a block, by the network itself on its device."""
    return network.represent(translation.batch(block, device))


class _HashingWriter:
    """Writes to a file, and hashes what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        return self._file.write(data)


def _write_header(file: _HashingWriter, shape: tuple[int, int]) -> None:
    """Of a .npy file of bits."""
    what = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint16)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, what)
