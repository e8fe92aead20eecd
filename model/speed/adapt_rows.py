"""Rows adapt_default_*: from labelled users to a head, against scikit-learn's solution of the same problem."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from model.heads.campaign import ConvexHead
from model.labelled import Labelled
from model.loss import balance
from model.represent import from_bits
from model.speed.bench import Bench
from model.speed.row import NotEqual, Row
from model.speed.timing import interleaved
from model.speed.world import SPARSE, World

# How far adapted weights may be from the reference, relative to their length.
TOLERANCE = 1e-6
_SKLEARN_TOLERANCE = 1e-10
_SKLEARN_ITERATIONS = 1000

Doubles = npt.NDArray[np.float64]


def adapt_row(name: str, rows: int, bench: Bench) -> Row:
    """A fifth of the rows are seeds, the others sampled users; the head is mixed of two, see `SPARSE`."""
    world = bench.world
    labelled = world.labelled(rows // 5, rows - rows // 5)
    adapt = partial(world.head, labelled)
    reference = _Reference.of(world, labelled)
    check_weights(name, _flat(adapt(), world), reference.solve())
    fast, slow = interleaved([adapt, reference.solve], bench.seconds)
    return Row(name, "ms", 1e3 * fast, 1e3 * slow, "scikit-learn newton-cg, ready CSR")


def check_weights(name: str, found: Doubles, expected: Doubles) -> None:
    """Raises NotEqual where they are farther apart than TOLERANCE."""
    apart = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not apart <= TOLERANCE:
        raise NotEqual(f"{name}: the adapted weights are {apart:.1e} from the reference, relative to their length")


def _flat(head: ConvexHead, world: World) -> Doubles:
    """Weights of φ, of every row of the users' table, and the bias, side by side."""
    if head.sparse is None:
        raise TypeError("the head has no sparse block")
    by_row = head.sparse.by_row(world.model.vocabulary.shape.table_rows)
    return np.concatenate([head.weights, by_row, [head.bias]])


@dataclass(frozen=True, eq=False)
class _Reference:
    """The rows as scikit-learn takes them: values CSR [R, V'] of the values that they have, which stand in these `used`
    [V'] of the columns of `bags`; both CSR [R, d + V']: φ and values, each column divided by the square root of its
    ridge, so that all have ridge 1; scales [d + V']: what they were multiplied by."""

    both: Any
    values: Any
    scales: Doubles
    labels: Doubles
    weights: Doubles
    used: npt.NDArray[np.int32]
    rarity: Doubles

    @classmethod
    def of(cls, world: World, labelled: Labelled) -> Self:
        """Of a model that was not trained: the prior of its heads has mean 0."""
        from scipy import sparse  # noqa: PLC0415 - of the extra `benchmark`; other rows do without it

        from model.baselines.features import Scaling  # noqa: PLC0415
        from model.speed.csr import feature_bags  # noqa: PLC0415

        bags = feature_bags(world)
        values = bags.rows(labelled.ordinals, Scaling(SPARSE.length_power, SPARSE.rarity_power))
        used = np.unique(values.indices)
        values = values[:, used]
        _, ridge = world.encoder.prior()
        scales = np.append(ridge.detach().numpy(), np.full(values.shape[1], SPARSE.sparse_ridge)) ** -0.5
        phi = sparse.csr_array(from_bits(world.representation.take(labelled.ordinals)))
        both = sparse.hstack([phi, values]) @ sparse.diags_array(scales)
        labels, weights = (torch.from_numpy(part).double() for part in (labelled.labels, labelled.weights))
        balanced = balance(labels, weights).numpy()
        return cls(
            sparse.csr_array(both), values, scales, labels.numpy(), balanced, used, bags.rarity**SPARSE.rarity_power
        )

    def solve(self) -> Doubles:
        """Both heads, mixed; as `_flat`."""
        both, both_bias = self._fit(self.both, 1.0)
        alone, alone_bias = self._fit(self.values, SPARSE.plain_ridge)
        share = SPARSE.plain_share
        phi, values = np.split((1 - share) * both * self.scales, [-len(alone)])
        bias = (1 - share) * both_bias + share * alone_bias
        by_row = np.zeros(len(self.rarity))
        by_row[self.used] = values + share * alone
        return np.concatenate([phi, by_row * self.rarity, [bias]])

    def _fit(self, features: Any, ridge: float) -> tuple[Doubles, float]:
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - of the extra `benchmark`

        regression = LogisticRegression(
            C=1 / ridge, solver="newton-cg", tol=_SKLEARN_TOLERANCE, max_iter=_SKLEARN_ITERATIONS
        )
        regression.fit(features, self.labels, self.weights)
        return regression.coef_[0], float(regression.intercept_[0])


adapt_default_2000 = partial(adapt_row, "adapt_default_2000", 2_000)
adapt_default_10000 = partial(adapt_row, "adapt_default_10000", 10_000)
