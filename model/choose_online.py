"""The last step of training `metaheac`: how it adapts to a campaign, by number of seeds, on validation campaigns.

Either the inner step that was meta-trained, or more and longer ones; or, as in the published script, Adam over
everything for some passes over the rows.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from model.adapt import adapt
from model.choice import MOST_SEEDS, SEEDS, Judged, judged_campaigns, try_tasks
from model.dataset import Dataset
from model.metrics import auc
from model.model import Model
from model.pool import Pool
from model.presets import PUBLISHED_STAGE, MetaHeacConfig, OnlineStage
from model.represent import Representation, represent
from model.scoring.plan import score_plan

# As meta-trained, further, as published, and further.
CANDIDATES = (
    OnlineStage(),
    OnlineStage(rate=0.5, passes=20),
    PUBLISHED_STAGE,
    *(
        OnlineStage(adam=True, rate=rate, passes=passes)
        for rate, passes in ((1e-3, 6), (1e-3, 16), (3e-3, 2), (3e-3, 6), (1e-2, 6))
    ),
)


def choose_online(
    model: Model,
    dataset: Dataset,
    pool: Pool,
    *,
    seed: int,
    deadline: float = np.inf,
    progress: Callable[[float], object] = lambda _: None,
) -> Model:
    """The model with the online stages that rank these campaigns best, if its preset wants that.

    pool: `encode_users` of the dataset's users. No campaign is begun after the deadline (monotonic seconds), but one of
    each level is always tried; progress gets the fraction done. The first candidate wins a tie.
    """
    preset = model.preset
    if not isinstance(preset, MetaHeacConfig) or not preset.tune_online:
        return model
    models = [replace(model, preset=replace(preset, online=(stage,))) for stage in CANDIDATES]
    representation = represent(model, pool)

    def aucs(judged: Judged) -> list[float]:
        attributes = dataset.campaign_attributes(judged.campaign)
        return [_auc(candidate, pool, representation, judged, attributes) for candidate in models]

    chosen = []
    for level, seeds in enumerate(SEEDS):
        found = try_tasks(
            judged_campaigns(dataset, pool, seeds, seed),
            aucs,
            deadline=deadline,
            levels_left=len(SEEDS) - level,
            progress=lambda part, level=level: progress((level + part) / len(SEEDS)),  # type: ignore[misc]
        )
        best = int(np.mean(found, axis=0).argmax()) if found else 0
        chosen.append(replace(CANDIDATES[best], most_seeds=MOST_SEEDS[level]))
    return replace(model, preset=replace(preset, online=tuple(chosen)))


def _auc(
    model: Model, pool: Pool, representation: Representation | None, judged: Judged, attributes: dict[str, object]
) -> float:
    head = adapt(model, pool, representation, judged.adapting, attributes)
    scores = score_plan(model, head, pool, representation).score_users(judged.ranked.ordinals)
    return auc(judged.ranked.labels, scores)
