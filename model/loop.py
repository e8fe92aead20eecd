"""The training loop: AdamW on a cosine schedule within a budget of steps or seconds; the best by validation is kept."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from model.errors import ModelError
from model.meta_loss import MetaStep
from model.training_state import RecipeStates, TrainingState, generator_tensors, generator_values, set_generators

_VALIDATIONS = 12
_PATIENCE = 6


@dataclass(frozen=True)
class TrainingProgress:
    """Steps done, seconds since the start, query loss of the last step, the newest validation AUC, and the fraction of
    the budget that is used up."""

    step: int
    seconds: float
    loss: float | None
    validation_auc: float | None
    fraction: float


@dataclass(frozen=True)
class Budget:
    """What a training may use up, from `start` (monotonic seconds) on."""

    start: float
    max_seconds: float | None
    max_steps: int | None

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start

    def after(self, seconds: float) -> "Budget":
        """What is left of it where so many seconds were spent already."""
        return replace(self, start=self.start - seconds)

    def fraction(self, step: int) -> float:
        """How much of it is gone: 1 is all."""
        used = [0.0]
        if self.max_seconds is not None:
            used.append(self.seconds() / self.max_seconds if self.max_seconds > 0 else 1.0)
        if self.max_steps is not None:
            used.append(step / self.max_steps)
        return min(1.0, max(used))

    def schedule(self, step: int) -> float:
        """The fraction with seconds counted in hundredths: where the steps lead, time has no say in a learning rate,
        and the same training gives the same network."""
        used = self.fraction(step)
        by_steps = 0.0 if self.max_steps is None else step / self.max_steps
        return max(min(1.0, by_steps), math.floor(100 * used) / 100)


class Loop:
    """Trains a network by steps of one kind.

    judge gives the AUC on validation campaigns, or None where there is none; it takes a function to call meanwhile.
    states: where the training is saved at each validation, and when `progress` raises because the process is leaving.
    """

    def __init__(
        self,
        network: nn.Module,
        step: MetaStep,
        judge: Callable[[Callable[[float], object]], float | None],
        budget: Budget,
        progress: Callable[[TrainingProgress], None],
        learning_rate: float,
        weight_decay: float,
        states: RecipeStates | None = None,
    ) -> None:
        self._network = network
        self._step = step
        self._judge = judge
        self._budget = budget
        self._progress = progress
        self._states = states
        self._learning_rate = learning_rate
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self._steps = 0
        self._loss: float | None = None
        self._auc: float | None = None
        self._history: list[TrainingProgress] = []
        self._best: tuple[float, dict[str, Tensor]] | None = None
        self._since_best = 0
        self._next_validation = 1 / _VALIDATIONS

    def state(self) -> TrainingState:
        """All that the rest of the training depends on."""
        best_auc, best = self._best or (None, {})
        moments = self._optimiser.state_dict()["state"]
        values = {
            "loss": self._loss,
            "auc": self._auc,
            "history": [asdict(report) for report in self._history],
            "best_auc": best_auc,
            "since_best": self._since_best,
            "generators": generator_values(self._step.generators),
        }
        tensors = {
            "network": self._network.state_dict(),
            "best": best,
            "generators": generator_tensors(self._step.generators),
            **{f"optimiser.{number}": found for number, found in moments.items()},
        }
        named = {f"{part}.{name}": value for part, found in tensors.items() for name, value in found.items()}
        return TrainingState(self._steps, self._budget.seconds(), values, named)

    def restore(self, state: TrainingState) -> None:
        """Go on from a state of a loop like this one; its seconds are the budget's business."""
        values = state.values
        self._steps, self._loss, self._auc = state.step, values["loss"], values["auc"]
        self._history = [TrainingProgress(**report) for report in values["history"]]
        self._best = None if values["best_auc"] is None else (values["best_auc"], state.part("best"))
        self._since_best = values["since_best"]
        if self._history:
            self._next_validation = self._history[-1].fraction + 1 / _VALIDATIONS
        set_generators(self._step.generators, values["generators"], state.part("generators"))
        self._network.load_state_dict(state.part("network"))
        fresh = self._optimiser.state_dict()
        found = ((number, state.part(f"optimiser.{number}")) for number in fresh["param_groups"][0]["params"])
        self._optimiser.load_state_dict({**fresh, "state": {number: moments for number, moments in found if moments}})

    def run(self) -> tuple[TrainingProgress, ...]:
        """Train until the budget is used up or validation stops improving; the network keeps the best parameters.

        Returns the progress at each validation. Raises ModelError where the loss is not finite.
        """
        while True:
            used = self._budget.fraction(self._steps)
            validated = bool(self._history) and self._history[-1].step == self._steps
            if used >= min(self._next_validation, 1) and not validated:
                self._look()
            if used >= 1 or self._since_best >= _PATIENCE:
                break
            self._train_step()
        if self._best is not None:
            self._network.load_state_dict(self._best[1])
        self._progress(replace(self._history[-1], fraction=1.0))
        return tuple(self._history)

    def _train_step(self) -> None:
        rate = self._learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * self._budget.schedule(self._steps))))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        self._loss = self._step.backward()
        self._steps += 1
        if not math.isfinite(self._loss):
            raise ModelError(f"meta-training diverged: the loss of step {self._steps} is not finite")
        self._optimiser.step()
        self._report()

    def _look(self) -> None:
        """Validate, save, and say when to do so again."""
        before = self._budget.seconds()
        self._validate()
        self._save()
        spacing = 1 / _VALIDATIONS
        if self._budget.max_seconds:
            # No more than a quarter of the time goes to looking.
            spacing = max(spacing, 4 * (self._budget.seconds() - before) / self._budget.max_seconds)
        self._next_validation = self._budget.fraction(self._steps) + spacing

    def _validate(self) -> None:
        self._auc = self._judge(lambda _: self._report())
        self._history.append(self._report())
        if self._auc is None:
            return
        self._since_best += 1
        if self._best is None or self._auc > self._best[0]:
            self._best = self._auc, {name: value.clone() for name, value in self._network.state_dict().items()}
            self._since_best = 0

    def _report(self) -> TrainingProgress:
        fraction = self._budget.fraction(self._steps)
        report = TrainingProgress(self._steps, self._budget.seconds(), self._loss, self._auc, fraction)
        try:
            self._progress(report)
        except Exception:
            if self._states is not None and self._states.leaving():
                self._save()
            raise
        return report

    def _save(self) -> None:
        if self._states is not None:
            self._states.save(self.state())
