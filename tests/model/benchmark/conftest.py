"""A small protocol, and methods whose results are known beforehand."""

from dataclasses import dataclass

import pytest

from model.baselines.base import Scores, Task, TrainingData
from model.benchmark.protocol import Protocol
from model.errors import AdaptationError
from tests.model.worlds import make_dataset


@dataclass
class Scripted:
    """Scores users by ordinal; counts what it was asked; may refuse to adapt."""

    name: str
    fails: bool = False
    pretrained: int = 0
    given: TrainingData | None = None

    def pretrain(self, data: TrainingData) -> "Scripted":
        self.pretrained += 1
        self.given = data
        return self

    def scores(self, task: Task) -> Scores:
        if self.fails:
            raise AdaptationError("will not")
        return (task.candidates % 97) / 97.0


@pytest.fixture(scope="session")
def protocol() -> Protocol:
    return Protocol.of(make_dataset(users=2500, campaigns=12, rows=300))


@pytest.fixture
def scripted() -> list[Scripted]:
    return [Scripted("one"), Scripted("two"), Scripted("random")]
