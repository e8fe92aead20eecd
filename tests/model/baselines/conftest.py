"""What methods learn from in the tests: made-up campaigns of the first split."""

import numpy as np
import pytest
import torch

from model.baselines.base import Adapter, TrainingData
from model.baselines.held_out import HeldOut, held_out
from model.dataset import Dataset
from model.metrics import auc
from model.pool import encode_users
from model.tasks import split_campaigns
from tests.model.worlds import make_dataset


def training_data(dataset: Dataset, *, max_seconds: float = 60.0) -> TrainingData:
    pool = encode_users(dataset.users, dataset.schema.user_features)
    ordinals = pool.ordinals(dataset.users.column("user_id").to_pylist())
    split = split_campaigns(dataset, 0)
    device = torch.device("cpu")
    return TrainingData(dataset, pool, ordinals, split, 0, max_seconds, device, lambda _: None)


@pytest.fixture(scope="session")
def data() -> TrainingData:
    return training_data(make_dataset())


@pytest.fixture(scope="session")
def tasks(data: TrainingData) -> list[HeldOut]:
    return list(held_out(data.dataset, data.ordinals, data.split.test.tolist(), data.seed))


def mean_auc(adapter: Adapter, tasks: list[HeldOut]) -> float:
    """Over the tasks."""
    return float(np.mean([auc(held.labels, adapter.scores(held.task)) for held in tasks]))
