"""Pinterest: one universal user embedding for all campaigns, and the density of the seeds around a user in it.

deWet & Ou, "Finding Users Who Act Alike: Transfer Learning for Expanding Advertiser Audiences" (KDD 2019), and the
random hyperplanes of Charikar (STOC 2002). Every table of hyperplanes cuts the space into regions; in each, a user is
as likely to convert as the labelled users of the region were. Nothing is trained per campaign.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from model.baselines.base import Adapter, Ordinals, Scores, Task, TrainingData
from model.baselines.inputs import USERS_ONLY, NeuralConfig
from model.baselines.pretraining import SHARE
from model.baselines.tuning import Choice, choose
from model.baselines.universal import UniversalEmbedding, universal_embedding

Sides = npt.NDArray[np.bool_]

TABLES = 64
SAMPLE = 10_000


@dataclass(frozen=True)
class Regions:
    """Hyperplanes in each table, and how many users of the campaign's average every region has beside its own."""

    bits: int
    smoothing: float


GRID = tuple(Regions(bits, smoothing) for bits, smoothing in product((4, 2, 6, 8), (1.0, 10.0)))


@dataclass(frozen=True)
class Pinterest:
    """See the module; the regions from GRID, by number of seeds, on validation campaigns."""

    config: NeuralConfig = USERS_ONLY
    name: str = "pinterest"

    def pretrain(self, data: TrainingData) -> Adapter:
        """Learn the embedding, put hyperplanes through the middle of the pool, then choose how many to use."""
        deadline = time.monotonic() + data.max_seconds
        embedding = universal_embedding(data, self.config)
        generator = np.random.default_rng([data.seed, 7])
        sample = generator.choice(data.pool.size, min(SAMPLE, data.pool.size), replace=False)
        known = embedding.of(sample)
        most = max(regions.bits for regions in GRID)
        planes = generator.normal(size=(known.shape[1], TABLES * most))
        density = SeedDensity(embedding, known.mean(0), planes.reshape(-1, TABLES, most))
        trial = partial(density.trials, grid=GRID)
        most = self.config.validation_tasks
        chosen = choose(data, trial, GRID[0], since=SHARE, deadline=deadline, tasks_per_level=most)
        return DensityScores(density, chosen)


@dataclass(frozen=True, eq=False)
class SeedDensity:
    """middle f64 [h] of the pool and planes f64 [h, tables, bits] through it."""

    embedding: UniversalEmbedding
    middle: Scores
    planes: Scores

    def trials(self, task: Task, grid: tuple[Regions, ...]) -> Iterator[tuple[Regions, Scores]]:
        """Scores of the candidates by each of the settings."""
        labelled = task.labelled
        labelled.check()
        known, asked = self._sides(labelled.ordinals), self._sides(task.candidates)
        weights = labelled.weights.astype(np.float64)
        seeds = weights * labelled.labels
        for regions in grid:
            yield regions, self._density(known, asked, seeds, weights, regions)

    def _sides(self, users: Ordinals) -> Sides:
        """On which side of each plane: bool [B, tables, bits]."""
        sides: Sides = np.tensordot(self.embedding.of(users) - self.middle, self.planes, axes=1) > 0
        return sides

    def _density(self, known: Sides, asked: Sides, seeds: Scores, weights: Scores, regions: Regions) -> Scores:
        """Mean over the tables of the share of seeds among the labelled users of the candidate's region."""
        places = 1 << np.arange(regions.bits)
        average = seeds.sum() / weights.sum()
        scores = np.zeros(len(asked))
        for table in range(TABLES):
            of_known, of_asked = (sides[:, table, : regions.bits] @ places for sides in (known, asked))
            all_in, seeds_in = (np.bincount(of_known, part, 1 << regions.bits) for part in (weights, seeds))
            share = (seeds_in + regions.smoothing * average) / (all_in + regions.smoothing)
            scores += share[of_asked] / TABLES
        return scores.clip(0, 1)


@dataclass(frozen=True, eq=False)
class DensityScores:
    """Counts the seeds of each campaign in the regions."""

    density: SeedDensity
    regions: Choice[Regions]

    def scores(self, task: Task) -> Scores:
        """See Adapter."""
        return next(self.density.trials(task, (self.regions.of(task.labelled),)))[1]
