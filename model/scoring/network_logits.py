"""What the plans of adapted networks have in common: exact logits come in batches of one shape, and how far rough ones
are from them is measured."""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from torch import Tensor

from model.logistic import sigmoid
from model.scoring.scores import Ordinals, Scores, rounded, spans

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


class NetworkLogits(ABC):
    """A ScorePlan but for its `device` and `rough`."""

    @property
    @abstractmethod
    def users(self) -> int:
        """Number of users in the pool."""

    @abstractmethod
    def exact_batch(self, ordinals: Ordinals) -> Scores:
        """The logits f64 [EXACT_ROWS] of as many users."""

    @abstractmethod
    def rough_of(self, ordinals: Ordinals) -> Tensor:
        """The rough logits f32 [B] of any users, on the device."""

    def exact_logits(self, ordinals: Ordinals) -> Scores:
        """In float64: f64 [B]."""
        parts = (ordinals[slice(*span)] for span in spans(0, len(ordinals), EXACT_ROWS))
        found = (self.exact_batch(np.resize(part, EXACT_ROWS))[: len(part)] for part in parts)
        return np.concatenate([np.empty(0), *found])

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return rounded(sigmoid(self.exact_logits(ordinals)))

    @cached_property
    def error(self) -> float:
        """See ScorePlan. Measured, for what can be derived is far too wide to be of use: the greatest difference in a
        sample of so many users, spread over them, times a generous factor."""
        sample = np.unique(np.linspace(0, self.users - 1, _SAMPLE, dtype=np.int64))
        rough, exact = self.rough_of(sample).cpu().numpy(), self.exact_logits(sample)
        differences = rough.clip(-_FARTHEST, _FARTHEST) - exact.clip(-_FARTHEST, _FARTHEST)
        return max(_LEAST_ERROR, _CAUTION * float(np.abs(differences).max()))
