"""The same held-out campaigns by other methods: what the recipe that is served is worth."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from model.baselines import METHODS, Adapter, Task, TrainingData
from model.benchmark.protocol import Protocol
from model.dataset import Dataset
from service.demo.campaigns import HeldOut
from service.expansion.matching import Matched, labelled_rows

# Methods, and the share of the time that each may take to learn from past campaigns.
RIVALS = MappingProxyType({"metaheac": 0.75, "lr": 0.25})
# Candidates that tell where an audience of a given size ends.
SAMPLE = 20_000


@dataclass(frozen=True)
class Rivals:
    """Methods that learned from the same past campaigns as the served model, by name."""

    protocol: Protocol
    adapters: dict[str, Adapter]

    @classmethod
    def trained(
        cls,
        dataset: Dataset,
        *,
        seed: int,
        max_seconds: float,
        device: torch.device,
        progress: Callable[[float, str], None],
    ) -> "Rivals":
        """Train RIVALS; progress hears the fraction done and the method."""
        protocol = Protocol.of(dataset)
        split, known = protocol.split(seed)
        adapters: dict[str, Adapter] = {}
        for name, share in RIVALS.items():

            def report(fraction: float, name: str = name) -> None:
                progress((len(adapters) + fraction) / len(RIVALS), name)

            data = TrainingData(
                known, protocol.pool, protocol.ordinals, split, seed, share * max_seconds, device, report
            )
            adapters[name] = METHODS[name].pretrain(data)
        return cls(protocol, adapters)

    def lifts(self, campaign: HeldOut, share: float, generator: np.random.Generator) -> dict[str, float]:
        """By method, the lift of an audience of this share of the candidates, adapted as the service adapts: on the
        seeds and on sampled users. Where the audience ends is told by SAMPLE candidates."""
        pool = self.protocol.pool
        seeds, hidden = (np.sort(pool.ordinals(list(ids))) for ids in (campaign.seeds, campaign.hidden))
        nobody = np.zeros(0, np.int64)
        matched = Matched(seeds, np.ones(len(seeds), np.float32), nobody, nobody)
        labelled = labelled_rows(matched, pool.size, np.ones(pool.size, np.bool_), generator)
        others = np.setdiff1d(np.arange(pool.size), seeds)
        sample = np.sort(generator.choice(others, min(SAMPLE, len(others)), replace=False))
        number = self.protocol.dataset.campaign_ids.index(campaign.campaign_id)
        found = {}
        for name, adapter in self.adapters.items():
            task = Task(number, campaign.attributes, labelled, np.concatenate([sample, hidden]))
            scores = adapter.scores(task)
            found[name] = top_share(scores[: len(sample)], scores[len(sample) :], share) / share
        return found


def top_share(sample: NDArray[np.float64], scores: NDArray[np.float64], share: float) -> float:
    """How many of these scores belong to the top, which is this share of the sample; of scores at its very end, as many
    as there is room for."""
    size = max(1, round(share * len(sample)))
    end = np.partition(sample, -size)[-size]
    room = (size - (sample > end).sum()) / (sample == end).sum()
    return float((scores > end).mean() + room * (scores == end).mean())
