"""The rows of the benchmark's table, a file each."""

from collections.abc import Mapping

from model.baselines.activity import Activity
from model.baselines.base import Adapter, Method, Task, TrainingData
from model.baselines.centroid import Centroid
from model.baselines.gbdt import BoostedTrees
from model.baselines.lr import SparseLogisticRegression
from model.baselines.metaheac import FROZEN, METAHEAC, NO_HC, NO_HE, NO_META, PUBLISHED
from model.baselines.neural import NEURAL_METHODS
from model.baselines.order_random import RandomOrder
from model.baselines.presets import DEFAULT
from model.baselines.svd_lr import SvdLogisticRegression

_ALL: tuple[Method, ...] = (
    RandomOrder(),
    Activity(),
    SparseLogisticRegression(),
    BoostedTrees(),
    Centroid(),
    SvdLogisticRegression(),
    *NEURAL_METHODS,
    METAHEAC,
    PUBLISHED,
    NO_HC,
    NO_HE,
    NO_META,
    FROZEN,
    DEFAULT,
)

METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}

__all__ = ["METHODS", "Adapter", "Method", "Task", "TrainingData"]
