"""The logistic function of numpy arrays, for code that must not wait for torch."""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def sigmoid(logits: Doubles) -> Doubles:
    """1 / (1 + e^-z) without overflow."""
    small = np.exp(-np.abs(logits))
    chances: Doubles = np.where(logits >= 0, 1.0, small) / (1 + small)
    return chances
