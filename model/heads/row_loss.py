"""The logistic loss of labelled rows, each of which may have feature values that no other row has: its own.

What the weights s of these add to the logit, x·s, concerns one row alone, so that they can be minimised out:

    L(t) = min over s   w loss(y, t + x·s) + ½ r ‖s‖²  =  min over a   w loss(y, t + a) + a² / 2k,    k = ‖x‖² / r

is a smooth convex function of the logit t that all other weights make, and s = -L'(t) x / r. What is left of a head has
a third of the weights, and its Hessian is better conditioned: a row that gives way pulls less.
"""

import numpy as np
import numpy.typing as npt

from model.compiled import compiled_loosely

Doubles = npt.NDArray[np.float64]

# Newton's method squares what is left: a step so short was the last.
_LAST = 1e-7
_MOST_STEPS = 100


@compiled_loosely
def row_losses(
    logits: Doubles,
    labels: Doubles,
    weights: Doubles,
    slack: Doubles,
    moves: Doubles,
    losses: Doubles,
    slopes: Doubles,
    curvatures: Doubles,
) -> None:
    """Write L, L' and L'' of each row. All [R]; slack: k, 0 for a row without values of its own; moves: the best a,
    which is sought from what is there."""
    for row in range(len(logits)):
        label, weight, give = labels[row], weights[row], slack[row]
        moved = _move(logits[row], label, weight, give, moves[row]) if give * weight > 0 else 0.0
        moves[row] = moved
        logit = logits[row] + moved
        small = np.exp(-abs(logit))
        losses[row] = weight * (max(logit, 0.0) + np.log1p(small) - label * logit)
        if give > 0:
            losses[row] += moved * moved / (2 * give)
        slopes[row] = weight * ((1.0 if logit >= 0 else small) / (1 + small) - label)
        curvature = weight * small / (1 + small) ** 2
        curvatures[row] = curvature / (1 + give * curvature)


@compiled_loosely
def _move(logit: float, label: float, weight: float, slack: float, start: float) -> float:
    """The best a: the zero of the rising function a + k w (chance - label); Newton's method, kept between bounds."""
    reach = slack * weight
    low, high = -reach * (1 - label) - 1, reach * label + 1  # wider, so that what they bound may be the answer
    moved = min(max(start, low), high)
    for _ in range(_MOST_STEPS):
        small = np.exp(-abs(logit + moved))
        chance = (1.0 if logit + moved >= 0 else small) / (1 + small)
        excess = moved + reach * (chance - label)
        if excess > 0:
            high = moved
        else:
            low = moved
        step = excess / (1 + reach * small / (1 + small) ** 2)
        if abs(step) <= _LAST * max(1.0, abs(moved)):
            moved -= step
            break
        moved -= step
        if not low < moved < high:
            moved = 0.5 * (low + high)
    return moved
