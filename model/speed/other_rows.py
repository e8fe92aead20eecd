"""Rows of other libraries at the same work: the best 1 % of the pool by a model of the campaign, trained beforehand.

Their reference is our own scan, so that a ratio below 1 says how much slower they are. They get features in their own
form, which takes none of the measured time, and as many threads; scikit-learn's product has only ever one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from model.labelled import Labelled
from model.pool import Ordinals
from model.represent import from_bits
from model.speed.bench import Bench
from model.speed.row import NotEqual, Row
from model.speed.score_rows import NEGATIVES, SEEDS, OwnWay
from model.speed.timing import interleaved
from model.speed.world import DENSE, SPARSE

# Trees of a boosted model, and the fewest labelled users with a value that a tree may ask for.
_TREES, _LEAF_ROWS = 100, 10
# How much of the audience faiss must find: sums of float32 may swap users at the cut.
_SHARED = 0.999

Chances = npt.NDArray[np.floating[Any]]


def sklearn_score(bench: Bench) -> Row:
    """Logistic regression on ready CSR."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - each library is only for its own row

    features = _Features.of(bench, fewest=0)
    regression = LogisticRegression(C=1 / SPARSE.plain_ridge, max_iter=1000)
    regression.fit(features.rows, features.labelled.labels)
    return _row("sklearn_score", bench, lambda: regression.decision_function(features.pool))


def lightgbm_score(bench: Bench) -> Row:
    """Boosted trees on ready CSR."""
    import lightgbm  # noqa: PLC0415
    from scipy.sparse import csr_matrix  # noqa: PLC0415

    features = _Features.of(bench, fewest=_LEAF_ROWS)
    params = {"min_data_in_leaf": _LEAF_ROWS, "objective": "binary", "num_threads": bench.threads, "verbose": -1}
    rows = lightgbm.Dataset(csr_matrix(features.rows), features.labelled.labels, params={"verbose": -1})
    trees = lightgbm.train(params, rows, num_boost_round=_TREES)
    pool = csr_matrix(features.pool)
    return _row("lightgbm_score", bench, lambda: np.asarray(trees.predict(pool, num_threads=bench.threads)))


def xgboost_score(bench: Bench) -> Row:
    """Boosted trees on ready CSR; of a DMatrix it would keep the predictions."""
    import xgboost  # noqa: PLC0415
    from scipy.sparse import csr_matrix  # noqa: PLC0415

    features = _Features.of(bench, fewest=_LEAF_ROWS)
    rows = xgboost.DMatrix(features.rows, features.labelled.labels)
    trees = xgboost.train({"objective": "binary:logistic", "nthread": bench.threads}, rows, num_boost_round=_TREES)
    pool = csr_matrix(features.pool.astype(np.float32))
    return _row("xgboost_score", bench, lambda: trees.inplace_predict(pool))


def faiss_score(bench: Bench) -> Row:
    """The inner product of φ in float32 with a head without sparse block: a search in a flat index."""
    import faiss  # noqa: PLC0415

    faiss.omp_set_num_threads(bench.threads)
    world = bench.world
    own = OwnWay.of(bench, DENSE)
    index = faiss.IndexFlatIP(world.representation.dimension)
    for span in world.pool.spans(1 << 16):
        index.add(from_bits(world.representation.block(*span)).astype(np.float32))
    query = own.head.weights[None].astype(np.float32)

    def found() -> Ordinals:
        best: Ordinals = index.search(query, bench.audience)[1][0]
        return best

    shared = len(np.intersect1d(found(), own.scan().ranking.ordinals)) / bench.audience
    if shared < _SHARED:
        raise NotEqual(f"faiss_score: it finds {shared:.1%} of the audience")
    return _timed("faiss_score", bench, found, own.scan, "score_default")


@dataclass(frozen=True, eq=False)
class _Features:
    """Labelled users and everybody, as CSR [R, V] and [N, V] with a column for each value that enough of the labelled
    users have."""

    labelled: Labelled
    rows: Any
    pool: Any

    @classmethod
    def of(cls, bench: Bench, *, fewest: int) -> Self:
        from model.speed.csr import feature_bags  # noqa: PLC0415

        labelled = bench.world.labelled(SEEDS, NEGATIVES)
        bags = feature_bags(bench.world)
        rows = bags.rows(labelled.ordinals)
        usable = np.flatnonzero(np.bincount(rows.indices, minlength=bags.width) >= fewest)
        everybody = bags.rows(np.arange(bench.world.pool.size))
        return cls(labelled, rows[:, usable], everybody[:, usable])


def _row(name: str, bench: Bench, scores: Callable[[], Chances]) -> Row:
    """Scores of everybody and the best of them, beside the scan of a head with a sparse block."""

    def found() -> Ordinals:
        chances = scores()
        best = np.argpartition(chances, -bench.audience)[-bench.audience :]
        return best[np.argsort(-chances[best])]

    scanned = OwnWay.of(bench, SPARSE).scan
    found(), scanned()
    return _timed(name, bench, found, scanned, "score_default_sparse")


def _timed(name: str, bench: Bench, found: Callable[[], object], scanned: Callable[[], object], against: str) -> Row:
    theirs, ours = (bench.world.pool.size / seconds for seconds in interleaved([found, scanned], bench.seconds))
    return Row(name, "users/s", theirs, ours, against)
