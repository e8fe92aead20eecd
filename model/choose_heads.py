"""The last step of training `default`: how campaign heads are solved, by number of seeds, on validation campaigns.

With or without a sparse block, and with how much of a plain logistic regression on feature values mixed in, or nothing
but that where φ is no help. And by how much the logits must shrink for their chances to mean what they say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from model.activity import matched
from model.choice import MOST_SEEDS, SEEDS, Judged, best, judged_campaigns, try_tasks
from model.dataset import Dataset
from model.heads.campaign import HeadRows, solve_part
from model.loss import balance, logit_loss
from model.metrics import auc
from model.model import Model
from model.network import Encoder
from model.pool import Pool
from model.presets import ConvexConfig, HeadPart, HeadSetting
from model.represent import Representation, represent
from model.scoring.convex_plan import ConvexPlan
from model.tasks import sample_negatives
from model.vocabulary import Translation

_UNLABELLED = 3000
# Length and rarity powers: what a feature value counts.
_SCALINGS = ((0.0, 0.5), (0.25, 0.5), (0.5, 0.0))
_RIDGES = (300.0, 100.0, 30.0)
_PLAIN_RIDGES = (300.0, 100.0, 30.0, 10.0)
# The first is the one to beat, by more than chance may well give another.
_CANDIDATES = (
    HeadSetting(),
    *(
        HeadSetting(sparse_ridge=ridge, length_power=length, rarity_power=rarity)
        for ridge, (length, rarity) in product(_RIDGES, _SCALINGS)
    ),
    *(
        HeadSetting(plain_ridge=ridge, plain_share=share, length_power=length, rarity_power=rarity)
        for share, ridge, (length, rarity) in product((0.3, 0.5, 0.7, 1.0), _PLAIN_RIDGES, _SCALINGS)
    ),
)
_SLOPES = np.geomspace(0.2, 5.0, 65)

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
    trials = Trials(model.network, pool, model.vocabulary.translate(pool), representation)
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
    penalised = [
        replace(labelled, sparse_ridge=factor * labelled.sparse_ridge, plain_ridge=factor * labelled.plain_ridge)
        for factor in (1, 3, 10)
    ]
    settings = [HeadSetting(), *(penalised if labelled.reads_values else ())]
    return tuple(replace(setting, match_activity=match) for setting in settings for match in (False, True))


@dataclass(frozen=True)
class Trial:
    """One head on one campaign: its logits of the ranked rows, and their labels."""

    logits: Scores
    labels: npt.NDArray[np.float32]

    @property
    def auc(self) -> float:
        """Of the ranked rows."""
        return auc(self.labels, self.logits)


@dataclass(frozen=True)
class Trials:
    """Solves a campaign in several ways."""

    encoder: Encoder
    pool: Pool
    translation: Translation
    representation: Representation

    def of(self, judged: Judged, candidates: Sequence[HeadSetting], *, sampled: bool, seed: int) -> list[Trial]:
        """In the order of the candidates; sampled: users that nothing is known of stand for negatives."""
        adapting = judged.adapting
        if sampled:
            generator = np.random.default_rng([seed, 8, judged.campaign])
            seeds = adapting.ordinals[adapting.labels == 1]
            drawn = sample_negatives(self.pool.size, _UNLABELLED, seeds, None, generator)
            adapting = adapting.with_sampled(drawn)
        users = self.pool.take(adapting.ordinals)
        features = self.translation.batch(users, torch.device("cpu"))
        rows = {
            False: HeadRows.of(self.encoder, self.representation, adapting, features),
            True: HeadRows.of(
                self.encoder, self.representation, matched(self.pool, users, adapting, frozenset()), features
            ),
        }

        @cache
        def logits(part: HeadPart, *, match: bool) -> Scores:
            head = solve_part(rows[match], part)
            plan = ConvexPlan.of(head, self.pool, self.representation, self.translation, torch.device("cpu"))
            return plan.user_logits(judged.ranked.ordinals)

        return [
            Trial(
                np.sum([share * logits(part, match=setting.match_activity) for share, part in setting.parts()], axis=0),
                judged.ranked.labels,
            )
            for setting in candidates
        ]


def _slope(trials: Sequence[Trial]) -> float:
    """By what the logits must be multiplied to give the least loss, with both classes of a campaign weighing the same;
    1 where there is nothing to tell."""
    losses = np.zeros(len(_SLOPES))
    for trial in trials:
        labels = torch.from_numpy(trial.labels).double()
        weights = balance(labels, torch.ones_like(labels))
        scaled = torch.from_numpy(_SLOPES).unsqueeze(1) * torch.from_numpy(trial.logits)
        losses += (logit_loss(scaled, labels, weights) / weights.sum()).numpy()
    return float(_SLOPES[losses.argmin()]) if trials else 1.0
