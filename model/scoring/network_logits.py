"""What the plans of adapted networks have in common: exact logits come in batches of one shape, and how far rough ones
are from them is measured."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from model.scoring.scores import Ordinals, Scores, spans

# Users of a rough pass: enough to make little of what each pass costs, few enough to keep its numbers near.
ROUGH_ROWS = 2048
# Of an exact pass there are always so many users, since how a sum is taken may depend on the shape of a matrix.
EXACT_ROWS = 512
# Logits beyond are 0 or 1 to six decimals, whatever they are.
_FARTHEST = 20.0
# A sample of users shows how far rough logits are from exact ones; anybody's may be so many times further off.
_SAMPLE = 1024
_CAUTION = 8.0
_LEAST_ERROR = 1e-5


def exact_logits(ordinals: Ordinals, of_batch: Callable[[Ordinals], Scores]) -> Scores:
    """The logits f64 [B] of these users by a function that is given EXACT_ROWS of them."""
    parts = (ordinals[slice(*span)] for span in spans(0, len(ordinals), EXACT_ROWS))
    found = (of_batch(np.resize(part, EXACT_ROWS))[: len(part)] for part in parts)
    return np.concatenate([np.empty(0), *found])


def measured_error(users: int, exact: Callable[[Ordinals], Scores], rough: Callable[[Ordinals], Tensor]) -> float:
    """How far a rough logit may be from the exact one. Measured, for what can be derived is far too wide to be of use:
    the greatest difference in a sample of so many users, spread over them, times a generous factor."""
    sample = np.unique(np.linspace(0, users - 1, _SAMPLE, dtype=np.int64))
    differences = rough(sample).cpu().numpy().clip(-_FARTHEST, _FARTHEST) - exact(sample).clip(-_FARTHEST, _FARTHEST)
    return max(_LEAST_ERROR, _CAUTION * float(np.abs(differences).max()))
