"""Row represent_pool: φ of everybody, against the encoder's own forward pass."""

import numpy as np
import numpy.typing as npt
from torch import nn

from model.network import Encoder
from model.represent import Bits, from_bits, represent, represent_plainly, to_bits
from model.speed.bench import Bench
from model.speed.row import NotEqual, Row
from model.speed.timing import interleaved

NAME = "represent_pool"
# Of the pool's first users the reference is computed, in blocks of so many.
_REFERENCE_BLOCKS, _BLOCK_ROWS = 16, 1 << 13
# What sums of float32 may lose, relative to the largest number: it shows where terms cancel out.
_LOST = 2e-6


def represent_pool(bench: Bench) -> Row:
    """Folding the encoder's tables is part of the time, as in the service's job."""
    world = bench.world
    device = world.model.device
    translation = world.model.vocabulary.translate(world.pool)
    spans = list(world.pool.spans(_BLOCK_ROWS))[:_REFERENCE_BLOCKS]

    def fast() -> Bits:
        made = represent(world.model, world.pool)
        if made is None:
            raise TypeError("the preset `default` has a representation")
        return made.block(0, world.pool.size)

    def plain() -> Bits:
        blocks = (represent_plainly(world.encoder, translation, device, world.pool.block(*span)) for span in spans)
        return np.concatenate([to_bits(block) for block in blocks])

    expected = plain()
    check_bits(NAME, fast()[: len(expected)], expected)
    seconds, reference = interleaved([fast, plain], bench.seconds)
    limit = bench.limits.products(forward_operations(world.encoder))
    size = world.pool.size
    return Row(NAME, "users/s", size / seconds, len(expected) / reference, "Encoder.forward, fp32", 1 / limit)


def check_bits(name: str, found: Bits, expected: Bits) -> None:
    """Raises NotEqual where a number that is stored of users [B, d] is not the reference's or its neighbour in
    bfloat16."""
    numbers, references = from_bits(found), from_bits(expected)
    close = np.abs(numbers - references) <= _LOST * np.abs(references).max()
    wrong = ~close & (np.abs(_places(found) - _places(expected)) > 1)
    if wrong.any():
        user, number = np.argwhere(wrong)[0].tolist()
        here, there = (float(phi[user, number]) for phi in (numbers, references))
        raise NotEqual(f"{name}: number {number} of user {user} is {here:.6g}, by the reference {there:.6g}")


def _places(bits: Bits) -> npt.NDArray[np.int64]:
    """The numbers of bfloat16 in their order, counted from 0."""
    magnitude = (bits & np.uint16(0x7FFF)).astype(np.int64)
    return np.where(bits >> 15, -magnitude, magnitude)


def forward_operations(encoder: Encoder) -> float:
    """Multiplications and additions of a user's products with the layers' matrices."""
    return sum(2.0 * layer.weight.numel() for layer in encoder.modules() if isinstance(layer, nn.Linear))
