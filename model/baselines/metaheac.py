"""MetaHeac and its ablations, by the code that trains and serves the preset; the online stage is tuned for each.

Zhu et al., "Learning to Expand Audience via Meta Hybrid Experts and Critics for Recommendation and Advertising" (KDD
2021), section 5.3 for the ablations. Each is the same network and the same Algorithm 1, configured: one critic is
"w/o HC", one expert "w/o HE", and no inner step in training, which leaves plain multi-task learning, "w/o Meta".
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from model.adapt import adapt
from model.baselines.base import Adapter, Scores, Task, TrainingData
from model.baselines.pretraining import SHARE
from model.baselines.tuning import Choice, choose
from model.metatrain import train
from model.model import Model
from model.pool import Pool
from model.presets import MetaHeacConfig
from model.scoring.plan import score_plan


@dataclass(frozen=True)
class Online:
    """How many inner steps a campaign takes, and how long."""

    steps: int
    rate: float


# As meta-trained first, then further.
GRID = (Online(1, 0.1), Online(5, 0.1), Online(20, 0.1), Online(5, 0.5), Online(20, 0.5), Online(50, 0.5))

_FULL = MetaHeacConfig()


@dataclass(frozen=True)
class MetaHeac:
    """trained: the recipe of the offline stage. The online stage is that of the preset until it is tuned: steps and
    rate from `grid`, by number of seeds, on validation campaigns."""

    name: str
    trained: MetaHeacConfig
    grid: tuple[Online, ...] = GRID

    def pretrain(self, data: TrainingData) -> Adapter:
        """Meta-train as `lookalike train` does, then choose the online stage."""
        deadline = time.monotonic() + data.max_seconds
        trained = train(
            data.dataset,
            self.trained,
            seed=data.seed,
            max_seconds=SHARE * data.max_seconds,
            max_steps=self.trained.max_steps,
            device=data.device,
            progress=lambda report: data.progress(SHARE * report.fraction),
            split=data.split,
            served=replace(self.trained, inner_steps=max(1, self.trained.inner_steps)),
        )

        def trial(task: Task) -> Iterator[tuple[Online, Scores]]:
            for online in self.grid:
                yield online, online_scores(trained.model, data.pool, task, online)

        chosen = choose(data, trial, self.grid[0], since=SHARE, deadline=deadline)
        return MetaHeacScores(trained.model, data.pool, chosen)


@dataclass(frozen=True, eq=False)
class MetaHeacScores:
    """The general model, and the online stage by number of seeds."""

    model: Model
    pool: Pool
    online: Choice[Online]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return online_scores(self.model, self.pool, task, self.online.of(task.labelled))


def online_scores(model: Model, pool: Pool, task: Task, online: Online) -> Scores:
    """Adapt and score as the service does."""
    if not isinstance(model.preset, MetaHeacConfig):
        raise ValueError("this is not a model of the preset metaheac")
    model = replace(model, preset=replace(model.preset, inner_steps=online.steps, inner_rate=online.rate))
    head = adapt(model, pool, None, task.labelled, task.attributes)
    return score_plan(model, head, pool, None).score_users(task.candidates)


METAHEAC = MetaHeac("metaheac", _FULL)
NO_HC = MetaHeac("metaheac_no_hc", replace(_FULL, critics=1))
NO_HE = MetaHeac("metaheac_no_he", replace(_FULL, experts=1))
NO_META = MetaHeac(
    "metaheac_no_meta",
    replace(_FULL, inner_steps=0, support_rows=0, query_rows=_FULL.support_rows + _FULL.query_rows),
)
