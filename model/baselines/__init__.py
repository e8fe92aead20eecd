"""The rows of the benchmark's table, a file each."""

from collections.abc import Mapping

from model.baselines.base import Adapter, Method, Task, TrainingData

_ALL: tuple[Method, ...] = ()

METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}

__all__ = ["METHODS", "Adapter", "Method", "Task", "TrainingData"]
