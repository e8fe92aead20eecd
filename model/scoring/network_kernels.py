"""The compiled loops of the network's rough scores, which pick products of matrices up where torch leaves them: in
single precision, or as bits of bfloat16. Legend: B users, N experts, M critics, H hidden units."""

import numpy as np

from model.compiled import compiled_loosely
from model.scoring.kernels import Bits, Singles

_HALF = 2
_HIGH_HALF = np.uint32(16)
# Below it a chance is as good as none, and its logarithm stays finite.
_LEAST = np.float32(1e-30)


@compiled_loosely
def mix_experts(products: Singles | Bits, biases: Singles, gates: Singles, out: Singles) -> None:
    """out [B, H]: the experts' outputs, products [N, B, H] plus biases [N, H], cut at 0 (ReLU), weighted by the softmax
    of gates [B, N]."""
    count, users, width = products.shape
    half = products.itemsize == _HALF
    weights = np.empty(count, np.float32)
    for user in range(users):
        _softmax(gates[user], weights)
        for k in range(width):
            out[user, k] = 0
        for expert in range(count):
            weight = weights[expert]
            for k in range(width):
                unit = _single(products[expert, user, k], half) + biases[expert, k]
                out[user, k] += weight * max(unit, np.float32(0))


@compiled_loosely
def part_critics(products: Singles | Bits, biases: Singles, out: Singles) -> None:
    """out [M, B, H]: the units of each critic, products [B, M·H] plus biases [M·H], cut at 0 (ReLU)."""
    count, users, width = out.shape
    half = products.itemsize == _HALF
    for user in range(users):
        for critic in range(count):
            first = critic * width
            for k in range(width):
                unit = _single(products[user, first + k], half) + biases[first + k]
                out[critic, user, k] = max(unit, np.float32(0))


@compiled_loosely
def mixed_odds(
    products: Singles | Bits,
    biases: Singles,
    weights: Singles,
    last_biases: Singles,
    gates: Singles,
    out: Singles,
) -> None:
    """out [B]: the logarithm of the odds of the critics' mixed chances.

    The last layer of each critic is its units, products [M, B, H] plus biases [M, H], cut at 0 (ReLU), times weights
    [M, H] plus last_biases [M]; they are mixed by the softmax of gates [B, M].
    """
    count, users, width = products.shape
    half = products.itemsize == _HALF
    shares = np.empty(count, np.float32)
    for user in range(users):
        _softmax(gates[user], shares)
        yes, no = _LEAST, _LEAST
        for critic in range(count):
            logit = last_biases[critic]
            for k in range(width):
                unit = _single(products[critic, user, k], half) + biases[critic, k]
                logit += weights[critic, k] * max(unit, np.float32(0))
            small = np.exp(-abs(logit))
            likely, unlikely = np.float32(1) / (1 + small), small / (1 + small)
            yes += shares[critic] * (likely if logit > 0 else unlikely)
            no += shares[critic] * (unlikely if logit > 0 else likely)
        out[user] = np.log(yes / no)


@compiled_loosely
def _single(number: np.float32 | np.uint16, half: bool) -> np.float32:  # noqa: FBT001
    """What a product is; half: whether it is given as bits of bfloat16."""
    if half:
        wide: np.float32 = np.uint32(np.uint32(number) << _HIGH_HALF).view(np.float32)
        return wide
    return np.float32(number)


@compiled_loosely
def _softmax(logits: Singles, out: Singles) -> None:
    highest = logits[0]
    for number in range(1, len(out)):
        highest = max(highest, logits[number])
    total = np.float32(0)
    for number in range(len(out)):
        out[number] = np.exp(logits[number] - highest)
        total += out[number]
    for number in range(len(out)):
        out[number] /= total
