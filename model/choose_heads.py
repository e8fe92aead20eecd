"""The last step of training `default`: how campaign heads are solved, by number of seeds, on validation campaigns.

With or without a sparse block, with φ or, where it is no help, without: then a head is a plain logistic regression on
feature values. And by how much its logits must shrink for its chances to mean what they say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from model.adapt import solve_head
from model.choice import MOST_SEEDS, SEEDS, Judged, best, judged_campaigns, try_tasks
from model.dataset import Dataset
from model.loss import balance, logit_loss
from model.metrics import auc
from model.model import Model
from model.network import Encoder
from model.pool import Pool
from model.presets import ConvexConfig, HeadSetting
from model.represent import Representation, represent
from model.scoring.plan import score_plan
from model.tasks import sample_negatives

_UNLABELLED = 3000
_SCALINGS = ((0.0, 0.5), (0.25, 0.5), (0.5, 0.0))
# The first is the one to beat, by more than chance may well give another.
_CANDIDATES = (
    HeadSetting(),
    *(
        HeadSetting(phi=phi, sparse_ridge=ridge, length_power=length, rarity_power=rarity)
        for phi, ridges in ((True, (300.0, 100.0, 30.0)), (False, (100.0, 30.0, 10.0)))
        for ridge, (length, rarity) in product(ridges, _SCALINGS)
    ),
)
_SLOPES = np.geomspace(0.2, 2.0, 47)

Scores = npt.NDArray[np.float64]


def choose_heads(
    model: Model,
    dataset: Dataset,
    pool: Pool,
    *,
    seed: int,
    deadline: float = np.inf,
    progress: Callable[[float], object] = lambda _: None,
) -> Model:
    """The model with the heads' settings that these campaigns favour; those of a kind that has none are left alone.

    pool: `encode_users` of the dataset's users. No campaign is begun after the deadline (monotonic seconds), but one of
    each level is always tried; progress gets the fraction done.
    """
    preset, representation = model.preset, represent(model, pool)
    if not isinstance(preset, ConvexConfig) or not isinstance(model.network, Encoder) or representation is None:
        return model
    trials = Trials(model, model.network, pool, representation)
    tasks = [judged_campaigns(dataset, pool, seeds, seed) for seeds in SEEDS]
    settings: list[HeadSetting] = []
    parts = list(product((False, True), range(len(SEEDS))))
    for part, (sampled, level) in enumerate(parts):
        candidates = _sampled_candidates(settings[level]) if sampled else _CANDIDATES
        found = try_tasks(
            tasks[level],
            partial(trials.of, candidates=candidates, sampled=sampled, seed=seed),
            deadline=deadline,
            levels_left=len(parts) - part,
            progress=lambda fraction, part=part: progress((part + fraction) / len(parts)),  # type: ignore[misc]
        )
        chosen = best([[trial.auc for trial in task] for task in found])
        slope = _slope([task[chosen] for task in found])
        settings.append(replace(candidates[chosen], slope=slope, most_seeds=MOST_SEEDS[level]))
    heads, sampled_heads = tuple(settings[: len(SEEDS)]), tuple(settings[len(SEEDS) :])
    return replace(model, preset=replace(preset, heads=heads, sampled_heads=sampled_heads))


def _sampled_candidates(labelled: HeadSetting) -> tuple[HeadSetting, ...]:
    """Sampled users may well be ones to find: what is best with known negatives, with more penalty, and matched."""
    sparse = [replace(labelled, sparse_ridge=factor * labelled.sparse_ridge) for factor in (1, 3, 10)]
    settings = [HeadSetting(), *(sparse if labelled.sparse_ridge else ())]
    return tuple(replace(setting, match_activity=match) for setting in settings for match in (False, True))


@dataclass(frozen=True)
class Trial:
    """One head on one campaign: its scores of the ranked rows, and their labels."""

    scores: Scores
    labels: npt.NDArray[np.float32]

    @property
    def auc(self) -> float:
        """Of the ranked rows."""
        return auc(self.labels, self.scores)


@dataclass(frozen=True)
class Trials:
    """Solves a campaign in several ways."""

    model: Model
    encoder: Encoder
    pool: Pool
    representation: Representation

    def of(self, judged: Judged, candidates: Sequence[HeadSetting], *, sampled: bool, seed: int) -> list[Trial]:
        """In the order of the candidates; sampled: users that nothing is known of stand for negatives."""
        adapting = judged.adapting
        if sampled:
            generator = np.random.default_rng([seed, 8, judged.campaign])
            seeds = adapting.ordinals[adapting.labels == 1]
            drawn = sample_negatives(self.pool.size, _UNLABELLED, seeds, None, generator)
            adapting = adapting.with_sampled(drawn)
        block = self.pool.take(adapting.ordinals)
        batch = self.model.vocabulary.translate(self.pool).batch(block, torch.device("cpu"))
        found = []
        for setting in candidates:
            head = solve_head(self.encoder, self.pool, self.representation, adapting, setting, batch)
            plan = score_plan(self.model, head, self.pool, self.representation)
            found.append(Trial(plan.score_users(judged.ranked.ordinals), judged.ranked.labels))
        return found


def _slope(trials: Sequence[Trial]) -> float:
    """By what the logits must be multiplied to give the least loss, with both classes of a campaign weighing the same;
    1 where there is nothing to tell."""
    losses = np.zeros(len(_SLOPES))
    for trial in trials:
        labels = torch.from_numpy(trial.labels).double()
        weights = balance(labels, torch.ones_like(labels))
        logits = torch.from_numpy(trial.scores).clamp(1e-6, 1 - 1e-6).logit()
        scaled = torch.from_numpy(_SLOPES).unsqueeze(1) * logits
        losses += (logit_loss(scaled, labels, weights) / weights.sum()).numpy()
    return float(_SLOPES[losses.argmin()]) if trials else 1.0
