"""Scores of a convex head: sigmoid of φ·h + b over the stored bits, and of what the sparse block adds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from model.compiled import read_only
from model.heads.block import sparse_logits
from model.heads.campaign import ConvexHead
from model.logistic import sigmoid
from model.pool import Pool
from model.represent import Bits, Representation
from model.scoring import kernels
from model.scoring.kernels import Doubles, Singles
from model.scoring.scores import Ordinals, Scores, rounded, spans
from model.scoring.sparse_plan import Magnitude, SparsePlan
from model.vocabulary import Translation

# Half a unit in the last place of a single-precision number, relative.
_HALF_UNIT = 2.0**-24
# What the exact way itself rounds: sums of some hundred terms in float64.
_EXACT_ROUNDING = 1e-12


@dataclass(frozen=True)
class ConvexPlan:
    """Rough numbers are logits in single precision; exact ones are in float64, in index order."""

    head: ConvexHead
    representation: Representation
    pool: Pool
    translation: Translation
    sparse: SparsePlan | None
    device: torch.device

    @classmethod
    def of(
        cls,
        head: ConvexHead,
        pool: Pool,
        representation: Representation,
        translation: Translation,
        device: torch.device,
    ) -> "ConvexPlan":
        """representation and translation are of this pool, with the same denied features."""
        sparse = None if head.sparse is None else SparsePlan.of(head.sparse, pool, translation)
        return cls(head, representation, pool, translation, sparse, device)

    def rough(self, start: int, stop: int) -> Tensor:
        """See ScorePlan."""
        bits = self.representation.block(start, stop)
        if self.device.type != "cpu":
            return self._rough_on_device(bits, start, stop)
        out = np.empty(stop - start, np.float32)
        kernels.dense_logits(read_only(bits, np.uint16), self._singles, np.float32(self.head.bias), out)
        if self.sparse is not None:
            self.sparse.add_rough(start, stop, out)
        return torch.from_numpy(out)

    def score_users(self, ordinals: Ordinals) -> Scores:
        """See ScorePlan."""
        return rounded(sigmoid(self.user_logits(ordinals)))

    def user_logits(self, ordinals: Ordinals) -> Scores:
        """What the scores of these users are the sigmoid of: f64 [B]."""
        logits = np.empty(len(ordinals))
        for first, stop in spans(0, len(ordinals)):
            part, out = ordinals[first:stop], logits[first:stop]
            kernels.exact_dense(read_only(self.representation.take(part), np.uint16), self._doubles, out)
            if self.sparse is not None:
                out += self.sparse.exact(part)
            out += self.head.bias
        return logits

    @cached_property
    def error(self) -> float:
        """How far a rough logit may be from the exact one (Higham, Accuracy and Stability of Numerical Algorithms,
        2002, section 3.1): n additions, products and conversions, in any order, of terms with absolute sum s move it by
        at most n u / (1 - n u) · s, and a term by the rounding of its factors."""
        largest = np.abs(self.head.weights) @ self.representation.largest
        magnitude = Magnitude(float(largest) + abs(self.head.bias), len(self.head.weights) + 1)
        if self.sparse is not None:
            magnitude += self.sparse.magnitude
        roundings = (magnitude.terms + 16) * _HALF_UNIT
        return (roundings / (1 - roundings) + _EXACT_ROUNDING) * magnitude.total + magnitude.lost

    @cached_property
    def _singles(self) -> Singles:
        return read_only(self.head.weights.astype(np.float32), np.float32)

    @cached_property
    def _doubles(self) -> Doubles:
        return read_only(self.head.weights, np.float64)

    @cached_property
    def _on_device(self) -> tuple[Tensor, Tensor | None]:
        """The weights of φ [d], and of the rows of the users' table [V, 1], in single precision."""
        by_row = None
        if self.head.sparse is not None:
            weights = torch.from_numpy(self.head.sparse.by_row(self.translation.rows))
            by_row = weights.float().unsqueeze(1).to(self.device)
        return torch.from_numpy(self.head.weights).float().to(self.device), by_row

    def _rough_on_device(self, bits: Bits, start: int, stop: int) -> Tensor:
        weights, by_row = self._on_device
        phi = torch.from_numpy(np.array(bits).view(np.int16)).to(self.device).view(torch.bfloat16)
        logits = phi.float() @ weights + self.head.bias
        if self.head.sparse is not None and by_row is not None:
            users = self.translation.batch(self.pool.block(start, stop), self.device)
            logits += sparse_logits(users, by_row, self.head.sparse)
        return logits
