"""Offline stage: meta-train a general model on past campaigns, and keep the best by held-out validation campaigns."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model.dataset import Dataset
from model.errors import DataError, ModelError
from model.evaluate import evaluate
from model.meta_loss import ConvexStep, MetaHeacStep, MetaStep
from model.model import Model
from model.network import Encoder, build_network, initialise
from model.pool import Pool, encode_users
from model.presets import ConvexConfig, MetaHeacConfig, PresetConfig
from model.tasks import CampaignRows, CampaignSplit, Rows, campaign_rows, excerpt, split_campaigns
from model.vocabulary import Vocabulary

_VALIDATIONS = 12
_PATIENCE = 6
_VALIDATION_CAMPAIGNS = 40
_VALIDATION_POSITIVES = 500
_VALIDATION_NEGATIVES = 1500
_BLOCK_ROWS = 1 << 16


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
class Trained:
    """The best model, the progress at each validation, and which campaigns were whose."""

    model: Model
    history: tuple[TrainingProgress, ...]
    split: CampaignSplit


def train(
    dataset: Dataset,
    preset: PresetConfig,
    *,
    seed: int,
    max_seconds: float | None = None,
    max_steps: int | None = None,
    device: torch.device,
    progress: Callable[[TrainingProgress], None],
) -> Trained:
    """Meta-train until a budget is used up (the preset's max_steps if none is given) or validation stops improving.

    Deterministic for a seed and max_steps without max_seconds. Raises DataError where there are fewer than three
    campaigns or none to learn from, ModelError where the loss is not finite.
    """
    split = split_campaigns(dataset, seed)
    budget = _Budget(time.monotonic(), max_seconds, max_steps or (preset.max_steps if max_seconds is None else None))
    progress(TrainingProgress(0, budget.seconds(), None, None, 0.0))
    pool = encode_users(dataset.users, dataset.schema.user_features)
    model = _untrained(dataset, preset, pool, split.train, seed, device)
    step = _meta_step(model, dataset, pool, split.train, seed)
    return _Loop(model, step, _Validation.of(dataset, split.validation, seed), budget, progress).run(split)


def _untrained(
    dataset: Dataset, preset: PresetConfig, pool: Pool, train_campaigns: Rows, seed: int, device: torch.device
) -> Model:
    vocabulary = Vocabulary.fit(pool, min_count=preset.min_count, numeric_bins=preset.numeric_bins)
    translation = vocabulary.translate(pool)
    cpu = torch.device("cpu")
    seen = torch.zeros(vocabulary.shape.table_rows, dtype=torch.bool)
    for start, stop in pool.spans(_BLOCK_ROWS):
        seen[translation.batch(pool.block(start, stop), cpu).rows] = True
    campaigns = Vocabulary(())
    if preset.uses_campaign_features:
        campaigns = _campaign_vocabulary(dataset, train_campaigns, preset)
    campaigns_seen = torch.zeros(campaigns.shape.table_rows, dtype=torch.bool)
    for campaign in train_campaigns:
        if campaigns.fields:
            campaigns_seen[campaigns.attributes(dataset.campaign_attributes(int(campaign)), cpu).rows] = True
    network = build_network(preset, vocabulary.shape, campaigns.shape)
    initialise(network, seen, campaigns_seen, torch.Generator().manual_seed(seed))
    return Model(preset, dataset.schema, vocabulary, campaigns, network.to(device), device)


def _campaign_vocabulary(dataset: Dataset, campaigns: Rows, preset: PresetConfig) -> Vocabulary:
    """Campaigns are encoded as users are: the values of the training campaigns, each kept."""
    table = dataset.campaigns.take(campaigns)
    names = ["user_id" if name == "campaign_id" else name for name in table.column_names]
    pool = encode_users(table.rename_columns(names), dataset.schema.campaign_features)
    return Vocabulary.fit(pool, min_count=1, numeric_bins=preset.numeric_bins)


def _meta_step(model: Model, dataset: Dataset, pool: Pool, train_campaigns: Rows, seed: int) -> MetaStep:
    ordinals = pool.ordinals(dataset.users.column("user_id").to_pylist())
    campaigns: list[tuple[int, CampaignRows]] = []
    for campaign in map(int, train_campaigns):
        rows = campaign_rows(dataset, ordinals, dataset.rows_of(campaign))
        positives = int(rows.labels.sum())
        if min(positives, len(rows.labels) - positives) >= 2:
            campaigns.append((campaign, rows))
    if not campaigns:
        raise DataError("no training campaign has two positives and two negatives to learn from")
    translation = model.vocabulary.translate(pool)
    match model.preset, model.network:
        case ConvexConfig() as config, Encoder() as encoder:
            return ConvexStep(encoder, config, pool, translation, [rows for _, rows in campaigns], model.device, seed)
        case MetaHeacConfig() as config, network if not isinstance(network, Encoder):
            tasks = [
                (rows, model.campaigns.attributes(dataset.campaign_attributes(campaign), model.device))
                for campaign, rows in campaigns
            ]
            return MetaHeacStep(network, config, pool, translation, tasks, model.device, seed)
    raise ValueError("the network and the preset do not belong together")


@dataclass(frozen=True)
class _Budget:
    start: float
    max_seconds: float | None
    max_steps: int | None

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def fraction(self, step: int) -> float:
        used = [0.0]
        if self.max_seconds is not None:
            used.append(self.seconds() / self.max_seconds)
        if self.max_steps is not None:
            used.append(step / self.max_steps)
        return min(1.0, max(used))


@dataclass(frozen=True)
class _Validation:
    """A capped excerpt of the validation campaigns, so that looking at them stays cheap on any dataset."""

    dataset: Dataset
    pool: Pool
    seed: int

    @classmethod
    def of(cls, dataset: Dataset, campaigns: Rows, seed: int) -> "_Validation":
        generator = np.random.default_rng([seed, 4])
        chosen = np.sort(generator.permutation(campaigns)[:_VALIDATION_CAMPAIGNS])
        small = excerpt(
            dataset,
            chosen,
            max_positives=_VALIDATION_POSITIVES,
            max_negatives=_VALIDATION_NEGATIVES,
            generator=generator,
        )
        return cls(small, encode_users(small.users, small.schema.user_features), seed)

    def auc(self, model: Model, progress: Callable[[float], object]) -> float | None:
        """Mean AUC, or None where no validation campaign can be judged."""
        campaigns = range(len(self.dataset.campaign_ids))
        evaluation = evaluate(model, self.dataset, campaigns, seed=self.seed, pool=self.pool, progress=progress)
        return evaluation.summary().get("auc")


class _Loop:
    """Adam with a cosine schedule over the budget; validations at equal steps of it, the best parameters kept."""

    def __init__(
        self,
        model: Model,
        step: MetaStep,
        validation: _Validation,
        budget: _Budget,
        progress: Callable[[TrainingProgress], None],
    ) -> None:
        self._model = model
        self._step = step
        self._validation = validation
        self._budget = budget
        self._progress = progress
        self._optimiser = torch.optim.Adam(model.network.parameters(), lr=model.preset.learning_rate)
        self._steps = 0
        self._loss: float | None = None
        self._auc: float | None = None
        self._history: list[TrainingProgress] = []
        self._best: tuple[float, dict[str, Tensor]] | None = None
        self._since_best = 0

    def run(self, split: CampaignSplit) -> Trained:
        next_validation = 1 / _VALIDATIONS
        while (fraction := self._budget.fraction(self._steps)) < 1 and self._since_best < _PATIENCE:
            self._train_step(fraction)
            if self._budget.fraction(self._steps) >= min(next_validation, 1):
                before = self._budget.seconds()
                self._validate()
                spacing = 1 / _VALIDATIONS
                if self._budget.max_seconds is not None:
                    # No more than a quarter of the time goes to looking.
                    spacing = max(spacing, 4 * (self._budget.seconds() - before) / self._budget.max_seconds)
                next_validation = self._budget.fraction(self._steps) + spacing
        if not self._history or self._history[-1].step != self._steps:
            self._validate()
        if self._best is not None:
            self._model.network.load_state_dict(self._best[1])
        self._progress(replace(self._history[-1], fraction=1.0))
        return Trained(self._model, tuple(self._history), split)

    def _train_step(self, fraction: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._model.preset.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
        self._optimiser.zero_grad()
        self._loss = self._step.backward()
        self._steps += 1
        if not math.isfinite(self._loss):
            raise ModelError(f"meta-training diverged: the loss of step {self._steps} is not finite")
        self._optimiser.step()
        self._report()

    def _validate(self) -> None:
        self._auc = self._validation.auc(self._model, lambda _: self._report())
        self._history.append(self._report())
        if self._auc is None:
            return
        self._since_best += 1
        if self._best is None or self._auc > self._best[0]:
            self._best = self._auc, {name: value.clone() for name, value in self._model.network.state_dict().items()}
            self._since_best = 0

    def _report(self) -> TrainingProgress:
        fraction = self._budget.fraction(self._steps)
        report = TrainingProgress(self._steps, self._budget.seconds(), self._loss, self._auc, fraction)
        self._progress(report)
        return report
