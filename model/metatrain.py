"""Offline stage: meta-train a general model on past campaigns, and keep the best by held-out validation campaigns."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from model.choose_heads import choose_heads
from model.choose_online import choose_online
from model.dataset import Dataset
from model.evaluate import evaluate
from model.fitting import Known, known_campaigns, known_users
from model.loop import Budget, Loop, TrainingProgress
from model.meta_loss import ConvexStep, MetaHeacStep, MetaStep
from model.model import Model
from model.network import Encoder, build_network, initialise
from model.pool import Pool, encode_users
from model.pool.columns import array_sha256
from model.presets import ConvexConfig, MetaHeacConfig, PresetConfig, preset_document
from model.tasks import CampaignRows, CampaignSplit, Rows, excerpt, learnable_campaigns, split_campaigns
from model.training_state import SavedStates
from model.vocabulary import Vocabulary

__all__ = ["Compared", "Trained", "TrainingProgress", "train", "train_best"]

# Share of the time that goes to choosing how campaigns are adapted to.
_CHOICE_SHARE = 0.15
# How much of a training from the beginning it takes to go on with a model that was trained before.
_CONTINUED_SHARE = 0.25
_VALIDATION_CAMPAIGNS = 40
_VALIDATION_POSITIVES = 500
_VALIDATION_NEGATIVES = 1500


@dataclass(frozen=True)
class Trained:
    """The best model, the progress at each validation, which campaigns were whose, and the names of the training
    campaigns that taught nothing, for want of two positives and two negatives."""

    model: Model
    history: tuple[TrainingProgress, ...]
    split: CampaignSplit
    unlearnable: tuple[str, ...]


def train(
    dataset: Dataset,
    preset: PresetConfig,
    *,
    seed: int,
    max_seconds: float | None = None,
    max_steps: int | None = None,
    device: torch.device,
    progress: Callable[[TrainingProgress], None],
    split: CampaignSplit | None = None,
    start: Model | None = None,
    states: SavedStates | None = None,
) -> Trained:
    """Meta-train until a budget is used up (the preset's max_steps if none is given) or validation stops improving.

    split: `split_campaigns` of the seed unless given. start: a model of this preset and schema whose vocabulary is kept
    and whose weights are trained on, in place of random ones. states: where the training saves its state, and goes on
    from the one that an earlier call with the same arguments left when it was killed, the seconds spent before
    included. The caller clears them when the result is safe.

    Deterministic for a seed and max_steps without max_seconds, killed or not. Raises DataError where there are fewer
    than three campaigns or none to learn from, ModelError where the loss is not finite, StoreError where the saved
    states cannot be read.
    """
    loop_seconds = None if max_seconds is None else (1 - _CHOICE_SHARE) * max_seconds
    budget = Budget(time.monotonic(), loop_seconds, max_steps or (preset.max_steps if max_seconds is None else None))
    progress(TrainingProgress(0, budget.seconds(), None, None, 0.0))
    split = split_campaigns(dataset, seed) if split is None else split
    pool = encode_users(dataset.users, dataset.schema.user_features)
    if start is None:
        model = _untrained(dataset, preset, pool, split.train, seed, device)
    else:
        model = replace(start, network=copy.deepcopy(start.network).requires_grad_())
    ordinals = pool.ordinals(dataset.users.column("user_id").to_pylist())
    campaigns = dict(learnable_campaigns(dataset, ordinals, split.train))
    step = _meta_step(model, preset, dataset, pool, campaigns, seed)
    validation = _Validation.of(dataset, split.validation, seed)
    judge = partial(validation.auc, model)
    kept = saved = None
    if states is not None:
        recipe = preset.name if start is None else continued(preset)
        kept = states.of(recipe, _identity(model, dataset, pool, ordinals, split, seed, budget))
        saved = kept.newest()
    if saved is not None:
        budget = budget.after(saved.seconds)
    rates = preset.learning_rate, preset.weight_decay
    loop = Loop(model.network, step, judge, budget, progress, *rates, kept)
    if saved is not None:
        loop.restore(saved)
    history = loop.run()
    deadline = np.inf if max_seconds is None else budget.start + max_seconds
    choose = choose_online if isinstance(preset, MetaHeacConfig) else choose_heads
    model = choose(
        model,
        validation.dataset,
        validation.pool,
        seed=seed,
        deadline=deadline,
        progress=lambda _: progress(replace(history[-1], fraction=1.0)),
    )
    unlearnable = tuple(dataset.campaign_ids[number] for number in split.train.tolist() if number not in campaigns)
    return Trained(model, history, split, unlearnable)


@dataclass(frozen=True)
class Compared:
    """The better of several recipes, its name, and what each of them (by name) got on validation campaigns: its mean
    AUC, None where there was nothing to judge by."""

    trained: Trained
    kept: str
    aucs: Mapping[str, float | None]


def continued(preset: PresetConfig) -> str:
    """The name of the recipe that goes on with a model of this preset."""
    return f"{preset.name}-continued"


def train_best(
    dataset: Dataset,
    presets: Sequence[PresetConfig],
    *,
    seed: int,
    max_seconds: float | None = None,
    device: torch.device,
    progress: Callable[[TrainingProgress], None],
    split: CampaignSplit | None = None,
    start: Model | None = None,
    states: SavedStates | None = None,
) -> Compared:
    """`train` each recipe on the same split in equal shares of the time; keep the one with the highest mean AUC on the
    same rows of the validation campaigns, the first where they tie or cannot be judged. Split and states as in `train`:
    recipes that were done are not trained again. Raises as `train` does.

    start: a model of this schema. To go on with it for a quarter of such a share is another recipe, the last.
    """
    split = split_campaigns(dataset, seed) if split is None else split
    validation = _Validation.of(dataset, split.validation, seed)
    recipes: list[tuple[str, PresetConfig, Model | None, float]] = [(one.name, one, None, 1.0) for one in presets]
    if start is not None:
        recipes.append((continued(start.preset), start.preset, start, _CONTINUED_SHARE))
    total = sum(share for *_, share in recipes)
    found: dict[str, tuple[Trained, float | None]] = {}
    done = 0.0
    for name, preset, origin, share in recipes:

        def report(now: TrainingProgress, done: float = done, share: float = share) -> None:
            progress(replace(now, fraction=(done + share * now.fraction) / total))

        trained = train(
            dataset,
            preset,
            seed=seed,
            max_seconds=None if max_seconds is None else max_seconds * share / total,
            max_steps=None if max_seconds is not None else max(1, round(share * preset.max_steps)),
            device=device,
            progress=report,
            split=split,
            start=origin,
            states=states,
        )
        found[name] = trained, validation.auc(trained.model, lambda _: None)
        done += share
    aucs = {name: auc for name, (_, auc) in found.items()}
    kept = max(found, key=lambda name: -math.inf if (auc := aucs[name]) is None else auc)
    return Compared(found[kept][0], kept, aucs)


def _untrained(
    dataset: Dataset, preset: PresetConfig, pool: Pool, train_campaigns: Rows, seed: int, device: torch.device
) -> Model:
    users = known_users(pool, min_count=preset.min_count, numeric_bins=preset.numeric_bins)
    campaigns = Known(Vocabulary(()), torch.zeros(0, dtype=torch.int64), 0)
    if preset.uses_campaign_features:
        campaigns = known_campaigns(dataset, train_campaigns, numeric_bins=preset.numeric_bins)
    network = build_network(preset, users.vocabulary.shape, campaigns.vocabulary.shape)
    network = initialise(network, users.seen(), campaigns.seen(), torch.Generator().manual_seed(seed))
    if isinstance(network, Encoder):
        network.rarity.copy_(users.rarity())
    return Model(preset, dataset.schema, users.vocabulary, campaigns.vocabulary, network.to(device), device)


def _identity(
    model: Model, dataset: Dataset, pool: Pool, ordinals: Rows, split: CampaignSplit, seed: int, budget: Budget
) -> dict[str, Any]:
    """What must be the same for a training to go on, by name; the model is untrained."""
    found = dataset.interactions
    required = (ordinals, found.campaign, found.user, found.label, split.train, split.validation)
    optional = (part for part in (found.split, found.weight) if part is not None)
    arrays = [array_sha256(array) for array in (*required, *optional)]
    data = [pool.sha256, dataset.campaigns.to_pylist(), *arrays]
    return {
        "preset": preset_document(model.preset),
        "seed": seed,
        "data set": hashlib.sha256(json.dumps(data).encode()).hexdigest(),
        "budget": [budget.max_seconds, budget.max_steps],
        "kind of device": model.device.type,
        # Of a copy: a model keeps its hash, and this one is about to change.
        "initial network": replace(model).sha256,
    }


def _meta_step(
    model: Model,
    preset: PresetConfig,
    dataset: Dataset,
    pool: Pool,
    campaigns: Mapping[int, CampaignRows],
    seed: int,
) -> MetaStep:
    translation = model.vocabulary.translate(pool)
    match preset, model.network:
        case ConvexConfig() as config, Encoder() as encoder:
            return ConvexStep(encoder, config, pool, translation, list(campaigns.values()), model.device, seed)
        case MetaHeacConfig() as config, network if not isinstance(network, Encoder):
            tasks = [
                (rows, model.campaigns.attributes(dataset.campaign_attributes(campaign), model.device))
                for campaign, rows in campaigns.items()
            ]
            return MetaHeacStep(network, config, pool, translation, tasks, model.device, seed)
    raise ValueError("the network and the preset do not belong together")


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
