"""MetaHeac and its ablations, by the code that trains and serves the preset; the online stage is tuned for each.

Zhu et al., "Learning to Expand Audience via Meta Hybrid Experts and Critics for Recommendation and Advertising" (KDD
2021), section 5.3 for the ablations. Each is the same network and the same Algorithm 1, configured: one critic is
"w/o HC", one expert "w/o HE", and no inner step in training, which leaves plain multi-task learning, "w/o Meta".

The online stage is either the inner step that was meta-trained, taken more often or further, or, as in the published
script, Adam over everything for some passes over the rows.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from model.adapt import USER_TABLE, adapt
from model.baselines.base import Adapter, Scores, Task, TrainingData
from model.baselines.finetune import Schedule, Start
from model.baselines.inputs import NeuralConfig, Reader
from model.baselines.pretraining import SHARE
from model.baselines.tuning import Choice, choose
from model.metatrain import train
from model.model import Model
from model.network import FeatureBatch
from model.pool import Pool
from model.presets import MetaHeacConfig
from model.scoring.plan import score_plan


@dataclass(frozen=True)
class Online:
    """How many inner steps a campaign takes, and how long."""

    steps: int
    rate: float


# As meta-trained first, then further.
STEPS = (Online(1, 0.1), Online(20, 0.5))
# The published script: 2 epochs at 1e-3.
FINE_TUNING = NeuralConfig(rates=(1e-3, 3e-3, 1e-2), epochs=(2, 6))

_FULL = MetaHeacConfig()


@dataclass(frozen=True)
class MetaHeac:
    """trained: the recipe of the offline stage. The online stage is chosen among `steps` and the schedules of
    `fine_tuning`, by number of seeds, on validation campaigns."""

    name: str
    trained: MetaHeacConfig
    steps: tuple[Online, ...] = STEPS
    fine_tuning: NeuralConfig = FINE_TUNING

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

        stage = OnlineStage.of(trained.model, data.pool, self.fine_tuning, data.seed)

        def trial(task: Task) -> Iterator[tuple[Online | Schedule, Scores]]:
            for online in self.steps:
                yield online, stage.stepped(task, online)
            for rate in self.fine_tuning.rates:
                for epochs, scores in stage.start.fine_tuned(task, rate, self.fine_tuning.epochs):
                    yield Schedule(rate, epochs), scores

        most = self.fine_tuning.validation_tasks
        fallback: Online | Schedule = self.steps[0]
        chosen = choose(data, trial, fallback, since=SHARE, deadline=deadline, tasks_per_level=most)
        return MetaHeacScores(stage, chosen)


class Mixture(nn.Module):
    """The network's chance p̂ as one logit, log p̂ - log(1 - p̂)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """Logits [B] of B users for one campaign."""
        log_yes, log_no = self.network(users, campaign)
        found: Tensor = log_yes - log_no
        return found


@dataclass(frozen=True, eq=False)
class OnlineStage:
    """The general model, and its network as a start for fine-tuning."""

    model: Model
    pool: Pool
    start: Start

    @classmethod
    def of(cls, model: Model, pool: Pool, config: NeuralConfig, seed: int) -> "OnlineStage":
        """For users of this pool."""
        inputs = Reader(pool, model.vocabulary.translate(pool), model.campaigns, model.device)
        network = Mixture(model.network)
        return cls(model, pool, Start.of(network, inputs, config, seed, table=f"network.{USER_TABLE}"))

    def stepped(self, task: Task, online: Online) -> Scores:
        """Adapt and score as the service does."""
        if not isinstance(self.model.preset, MetaHeacConfig):
            raise ValueError("this is not a model of the preset metaheac")
        preset = replace(self.model.preset, inner_steps=online.steps, inner_rate=online.rate)
        model = replace(self.model, preset=preset)
        head = adapt(model, self.pool, None, task.labelled, task.attributes)
        return score_plan(model, head, self.pool, None).score_users(task.candidates)


@dataclass(frozen=True, eq=False)
class MetaHeacScores:
    """The online stage, and which one by number of seeds."""

    stage: OnlineStage
    online: Choice[Online | Schedule]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        task.labelled.check()
        online = self.online.of(task.labelled)
        if isinstance(online, Online):
            return self.stage.stepped(task, online)
        return next(self.stage.start.fine_tuned(task, online.learning_rate, (online.epochs,)))[1]


METAHEAC = MetaHeac("metaheac", _FULL)
NO_HC = MetaHeac("metaheac_no_hc", replace(_FULL, critics=1))
NO_HE = MetaHeac("metaheac_no_he", replace(_FULL, experts=1))
NO_META = MetaHeac(
    "metaheac_no_meta",
    replace(_FULL, inner_steps=0, support_rows=0, query_rows=_FULL.support_rows + _FULL.query_rows),
)
