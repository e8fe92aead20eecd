"""The head of a campaign in recipe `default`: logistic regressions on φ and on feature values, mixed by their logits.

Since all of them are linear in [φ ; bag of feature values], so is their mix: scoring does not see how many there were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.embedding import FeatureBatch
from model.heads.bag import Bag
from model.heads.block import SparseWeights, ValueBag, value_bag, vector_numbers
from model.heads.dense import GRADIENT_TOLERANCE, Problem
from model.heads.sparse import solve_sparse
from model.labelled import Labelled
from model.loss import balance
from model.network import Encoder
from model.presets import HeadPart, HeadSetting
from model.represent import Representation, from_bits
from model.threads import map_by_threads


@dataclass(frozen=True)
class ConvexHead:
    """Weights of φ f64 [d] and bias, and of feature values where there is a sparse block; the objective at the start
    and end, and steps taken, both summed over the heads that were mixed."""

    weights: npt.NDArray[np.float64]
    bias: float
    sparse: SparseWeights | None
    loss_first: float
    loss_last: float
    steps: int


@dataclass(frozen=True)
class HeadRows:
    """What a campaign's heads are solved on: φ f64 [R, d], labels and balanced weights f64 [1, R], the users' features
    (None where no head reads them); the learned prior of φ, mean and ridge f64 [d], and how rare each value is."""

    phi: Tensor
    labels: Tensor
    weights: Tensor
    features: FeatureBatch | None
    mean: Tensor
    ridge: Tensor
    rarity: Tensor

    @classmethod
    def of(
        cls, encoder: Encoder, representation: Representation, labelled: Labelled, features: FeatureBatch | None
    ) -> "HeadRows":
        """Of R labelled users. features: theirs, or None where no part reads feature values."""
        labels, weights = (torch.from_numpy(part).double().unsqueeze(0) for part in (labelled.labels, labelled.weights))
        phi = torch.from_numpy(from_bits(representation.take(labelled.ordinals)))
        mean, ridge = (prior.detach().cpu() for prior in encoder.prior())
        return cls(phi, labels, balance(labels, weights), features, mean, ridge, encoder.rarity.cpu())

    def values(self, part: HeadPart) -> ValueBag:
        """The rows' feature values as the part scales them; made once for all parts that scale them alike. Raises
        ValueError for rows that were made without features, and so does `vectors`."""
        if self.features is None:
            raise ValueError("this head reads feature values")
        scaling = part.length_power, part.rarity_power
        if scaling not in self._bags:
            self._bags[scaling] = value_bag(self.features, self.rarity, *scaling)
        return self._bags[scaling]

    @property
    def vectors(self) -> Tensor:
        """The standardised numbers of the rows' vector fields f64 [R, d']."""
        if self.features is None:
            raise ValueError("this head reads feature values")
        return vector_numbers(self.features)

    @cached_property
    def _bags(self) -> dict[tuple[float, float], ValueBag]:
        return {}

    def problem(self, dense: Tensor, mean: Tensor, ridge: Tensor) -> Problem:
        """These labels over other numbers f64 [R, D]."""
        return Problem.of(dense.unsqueeze(0), self.labels, self.weights, mean, ridge)


def solve_head(rows: HeadRows, setting: HeadSetting, tolerance: float = GRADIENT_TOLERANCE) -> ConvexHead:
    """Solve each part of the setting, and mix them; tolerance as in `solve_sparse`. Raises AdaptationError where one of
    them cannot be solved."""
    shares, parts = zip(*setting.parts(), strict=True)
    if setting.reads_values:
        rows.values(parts[-1])  # all parts scale them alike: once, before they part
    heads = list(map_by_threads(partial(solve_part, rows, tolerance=tolerance), parts, len(parts)))
    return _mixed(heads, [setting.slope * share for share in shares])


def solve_part(rows: HeadRows, part: HeadPart, tolerance: float = GRADIENT_TOLERANCE) -> ConvexHead:
    """A single penalised logistic regression, to convergence. Raises AdaptationError where that is not reached."""
    if not part.sparse_ridge:
        problem = rows.problem(rows.phi, rows.mean, rows.ridge)
        found = solve_sparse(problem, Bag.empty(len(rows.phi)), 1.0, tolerance)  # of no values: any ridge
        head = found.head.numpy()
        return ConvexHead(head[:-1], float(head[-1]), None, found.loss_first, found.loss_last, found.steps)
    values, vectors = rows.values(part), rows.vectors
    none = torch.zeros(vectors.shape[1], dtype=torch.float64)
    width = len(rows.mean) if part.phi else 0
    problem = rows.problem(
        torch.cat([rows.phi[:, :width], vectors], dim=1),
        torch.cat([rows.mean[:width], none]),
        torch.cat([rows.ridge[:width], none + part.sparse_ridge]),
    )
    found = solve_sparse(problem, values.bag, part.sparse_ridge, tolerance)
    head = found.head.numpy()
    weights = found.sparse.numpy() * values.scale
    sparse = SparseWeights(values.rows, weights, head[width:-1], part.length_power)
    on_phi = head[:width] if part.phi else np.zeros(len(rows.mean))
    return ConvexHead(on_phi, float(head[-1]), sparse, found.loss_first, found.loss_last, found.steps)


def _mixed(heads: Sequence[ConvexHead], factors: Sequence[float]) -> ConvexHead:
    """The sum of the logits of heads of the same rows, each times its factor."""
    return ConvexHead(
        np.sum([factor * head.weights for head, factor in zip(heads, factors, strict=True)], axis=0),
        sum(factor * head.bias for head, factor in zip(heads, factors, strict=True)),
        _mixed_sparse([(head.sparse, factor) for head, factor in zip(heads, factors, strict=True) if head.sparse]),
        sum(head.loss_first for head in heads),
        sum(head.loss_last for head in heads),
        sum(head.steps for head in heads),
    )


def _mixed_sparse(blocks: Sequence[tuple[SparseWeights, float]]) -> SparseWeights | None:
    """Blocks of the same rows name the same values, and the parts of a setting share its length_power."""
    if not blocks:
        return None
    first = blocks[0][0]
    values = np.sum([factor * block.values for block, factor in blocks], axis=0)
    vectors = np.sum([factor * block.vectors for block, factor in blocks], axis=0)
    return SparseWeights(first.rows, values, vectors, first.length_power)
