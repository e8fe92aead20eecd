"""Users whose labels are known, or stand for labels: what a head is adapted on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.errors import AdaptationError

# Of a seed, beside a mean of 1.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Labelled:
    """Users to adapt on: ordinals i64 [R] ascending and unique, labels {0, 1} and weights > 0, both f32 [R]; sampled
    bool [R]: whom nobody labelled, drawn from the pool to stand for negatives (None: nobody is)."""

    ordinals: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    sampled: npt.NDArray[np.bool_] | None = None

    @property
    def has_sampled(self) -> bool:
        """Whether users that nobody labelled are among them."""
        return self.sampled is not None and bool(self.sampled.any())

    def at(self, rows: npt.NDArray[np.bool_]) -> "Labelled":
        """These of the rows, bool [R]."""
        sampled = None if self.sampled is None else self.sampled[rows]
        return Labelled(self.ordinals[rows], self.labels[rows], self.weights[rows], sampled)

    def with_sampled(self, drawn: npt.NDArray[np.int64]) -> "Labelled":
        """Its seeds, and these users of the pool (ordinals i64 [S], none of them a seed) in place of its negatives."""
        positive = self.labels == 1
        ordinals = np.concatenate([self.ordinals[positive], drawn])
        order = np.argsort(ordinals)
        labels = np.repeat(np.array([1, 0], np.float32), [int(positive.sum()), len(drawn)])[order]
        weights = np.concatenate([self.weights[positive], np.ones(len(drawn), np.float32)])[order]
        return Labelled(ordinals[order], labels, weights, labels == 0)

    def check(self) -> None:
        """Raises AdaptationError naming what makes these rows unfit to adapt on."""
        parts = self.labels, self.weights, self.labels if self.sampled is None else self.sampled
        if any(len(part) != len(self.ordinals) for part in parts):
            raise AdaptationError("ordinals, labels and weights differ in length")
        if (np.diff(self.ordinals) <= 0).any():
            raise AdaptationError("ordinals must be ascending and unique")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise AdaptationError("weights must be finite and greater than 0")
        if not np.isin(self.labels, (0, 1)).all():
            raise AdaptationError("labels must be 0 or 1")
        for label, name in ((1, "positives"), (0, "negatives")):
            if not (self.labels == label).any():
                raise AdaptationError(f"no {name} to adapt on")


def relative_weights(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Weights [S] > 0, of which only the ratios matter, with the mean 1: in a range where float32 can add them up,
    whatever finite numbers they are."""
    if not len(weights):
        return np.zeros(0, np.float32)
    shares = weights / weights.max()  # first, since a sum of them may not be finite
    relative: npt.NDArray[np.float32] = np.maximum(shares / shares.mean(), LEAST_WEIGHT).astype(np.float32)
    return relative
