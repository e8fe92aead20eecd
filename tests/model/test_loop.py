import time
from types import MappingProxyType

import pytest
from torch import Tensor, nn

from model.errors import ModelError
from model.loop import Budget, Loop, TrainingProgress
from model.training_state import Generators


class Descent:
    """Pulls one number towards 3; remembers where it has been."""

    generators: Generators = MappingProxyType({})

    def __init__(self, number: nn.Linear, loss: float | None = None) -> None:
        self.number = number
        self.loss = loss
        self.path: list[float] = []

    def backward(self) -> float:
        value: Tensor = self.number.bias
        self.path.append(float(value.detach()))
        loss = (value - 3).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()) if self.loss is None else self.loss


def run(budget: Budget, loss: float | None = None) -> tuple[Descent, tuple[TrainingProgress, ...]]:
    number = nn.Linear(1, 1)
    nn.init.zeros_(number.bias)
    step = Descent(number, loss)
    loop = Loop(number, step, lambda _: -abs(float(number.bias.detach()) - 3), budget, lambda _: None, 0.1, 0.0)
    return step, loop.run()


def budget(max_seconds: float | None, max_steps: int | None, *, ago: float = 0.0) -> Budget:
    return Budget(time.monotonic() - ago, max_seconds, max_steps)


def test_a_budget_is_used_up_by_whichever_ends_first() -> None:
    assert budget(None, 10).fraction(4) == pytest.approx(0.4)
    assert budget(100.0, 10, ago=90).fraction(4) == pytest.approx(0.9, abs=0.01)
    assert budget(100.0, 10, ago=10).fraction(4) == pytest.approx(0.4)
    assert budget(100.0, None, ago=1000).fraction(0) == 1


def test_no_time_at_all_is_no_training() -> None:
    step, history = run(budget(0.0, 10))
    assert step.path == []
    assert len(history) == 1


def test_where_steps_lead_time_has_no_say_in_the_rate() -> None:
    assert budget(100.0, 10, ago=0.9).schedule(0) == 0
    assert budget(100.0, 10, ago=30).schedule(4) == pytest.approx(0.4)
    assert budget(100.0, 10, ago=50.5).schedule(4) == pytest.approx(0.5)
    paths = [run(budget(max_seconds, 20))[0].path for max_seconds in (None, 60.0, 90.0)]
    assert paths[0] == paths[1] == paths[2]


def test_training_goes_towards_what_the_step_wants() -> None:
    step, history = run(budget(None, 60))
    assert abs(step.path[-1] - 3) < abs(step.path[0] - 3) / 2
    assert [report.step for report in history] == sorted(report.step for report in history)


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    with pytest.raises(ModelError, match="the loss of step 1 is not finite"):
        run(budget(None, 5), float("nan"))
