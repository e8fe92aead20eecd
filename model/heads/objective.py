"""What a head over [φ ; bag of feature values] minimises, as model/heads/sparse.py has it, and its derivatives.

Legend: R rows, D numbers of the dense part (φ and the bias), V feature values that several rows have.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from model.heads import kernels
from model.heads.bag import SplitBag
from model.heads.dense import Problem
from model.heads.row_loss import row_losses

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """A point [D + V], the logits of the rows there, the objective, and how far their own values move the rows' logits,
    their slopes and curvatures; all [R]."""

    point: Doubles
    logits: Doubles
    value: float
    moves: Doubles
    slope: Doubles
    curvature: Doubles


@dataclass(frozen=True)
class Objective:
    """The function of a point [D + V], dense part first, then the shared values; features [R, D], single_features the
    same in single precision, slack [R] as in `row_losses`, centre and penalty [D + V]."""

    features: Doubles
    single_features: npt.NDArray[np.float32]
    bag: SplitBag
    slack: Doubles
    ridge: float
    labels: Doubles
    weights: Doubles
    centre: Doubles
    penalty: Doubles

    @classmethod
    def of(cls, problem: Problem, bag: SplitBag, ridge: float) -> Self:
        """ridge > 0: of all values; the problem holds the dense part of a single campaign."""
        features = np.ascontiguousarray(problem.features[0].numpy())
        width = bag.shared.width
        return cls(
            features=features,
            single_features=features.astype(np.float32),
            bag=bag,
            slack=bag.own / ridge,
            ridge=ridge,
            labels=problem.labels[0].numpy(),
            weights=problem.weights[0].numpy(),
            centre=np.append(problem.mean.numpy(), np.zeros(width)),
            penalty=np.append(problem.ridge.numpy(), np.full(width, ridge)),
        )

    def head(self, place: Place) -> tuple[Doubles, Doubles]:
        """The dense part [D] of the head at this place, and the weights of all values [width]."""
        dense, shared = np.split(place.point, [self.features.shape[1]])
        return dense, self.bag.joined(shared, -place.slope / self.ridge)

    def logits(self, point: Doubles) -> Doubles:
        """[D + V] -> [R], without what the rows' own values add; linear."""
        out = np.empty(len(self.labels))
        shared = self.bag.shared
        kernels.logits(self.features, shared.starts, shared.columns, shared.numbers, point, out)
        return out

    def at(self, point: Doubles, logits: Doubles, moves: Doubles) -> Place:
        """A point whose logits are these; moves: about how far the rows' own values move them."""
        moves = moves.copy()
        losses, slope, curvature = np.empty((3, len(logits)))
        row_losses(logits, self.labels, self.weights, self.slack, moves, losses, slope, curvature)
        penalty = 0.5 * float((self.penalty * np.square(point - self.centre)).sum())
        return Place(point, logits, float(losses.sum()) + penalty, moves, slope, curvature)

    def gradient(self, place: Place) -> Doubles:
        """[D + V]."""
        out = self.penalty * (place.point - self.centre)
        shared = self.bag.shared
        kernels.add_rows(self.features, shared.starts, shared.columns, shared.numbers, place.slope, out)
        return out

    def curvature(self, of_loss: float) -> Doubles:
        """Of the rows [R] where that of their logistic loss is of_loss, weights not included."""
        curvature = of_loss * self.weights
        return curvature / (1 + self.slack * curvature)
