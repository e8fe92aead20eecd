"""The compiled loops of the network's rough scores. Legend: B users, N experts, M critics, H hidden units."""

import numpy as np

from model.compiled import compiled_loosely
from model.scoring.kernels import Singles

# Below it a chance is as good as none, and its logarithm stays finite.
_LEAST = np.float32(1e-30)


@compiled_loosely
def mix_experts(experts: Singles, gates: Singles, out: Singles) -> None:
    """out [B, H]: the experts' outputs [N, B, H], cut at 0 (ReLU), weighted by the softmax of gates [B, N]."""
    count, users, width = experts.shape
    weights = np.empty(count, np.float32)
    for user in range(users):
        _softmax(gates[user], weights)
        for k in range(width):
            out[user, k] = 0
        for expert in range(count):
            weight = weights[expert]
            for k in range(width):
                out[user, k] += weight * max(experts[expert, user, k], np.float32(0))


@compiled_loosely
def mixed_odds(hidden: Singles, weights: Singles, biases: Singles, gates: Singles, out: Singles) -> None:
    """out [B]: the logarithm of the odds of the critics' mixed chances.

    The last layer of each critic is hidden [M, B, H], cut at 0, times weights [M, H] plus biases [M]; they are mixed by
    the softmax of gates [B, M].
    """
    count, users, width = hidden.shape
    shares = np.empty(count, np.float32)
    for user in range(users):
        _softmax(gates[user], shares)
        yes, no = _LEAST, _LEAST
        for critic in range(count):
            logit = biases[critic]
            for k in range(width):
                logit += weights[critic, k] * max(hidden[critic, user, k], np.float32(0))
            small = np.exp(-abs(logit))
            likely, unlikely = np.float32(1) / (1 + small), small / (1 + small)
            yes += shares[critic] * (likely if logit > 0 else unlikely)
            no += shares[critic] * (unlikely if logit > 0 else likely)
        out[user] = np.log(yes / no)


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
