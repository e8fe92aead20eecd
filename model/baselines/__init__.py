"""The rows of the benchmark's table, a file each."""

from collections.abc import Mapping

from model.baselines.activity import Activity
from model.baselines.base import Adapter, Method, Task, TrainingData
from model.baselines.centroid import Centroid
from model.baselines.gbdt import BoostedTrees
from model.baselines.lr import SparseLogisticRegression
from model.baselines.order_random import RandomOrder
from model.baselines.presets import DEFAULT, METAHEAC
from model.baselines.svd_lr import SvdLogisticRegression

_ALL: tuple[Method, ...] = (
    RandomOrder(),
    Activity(),
    SparseLogisticRegression(),
    BoostedTrees(),
    Centroid(),
    SvdLogisticRegression(),
    METAHEAC,
    DEFAULT,
)

METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}

__all__ = ["METHODS", "Adapter", "Method", "Task", "TrainingData"]
