"""How a worker's settings reach the plans it scores with."""

import numpy as np
import pytest
import torch

from model.adapt_network import AdaptedHead
from model.embedding import Fields
from model.labelled import Labelled
from model.model import Model
from model.network import build_network, initialise
from model.pool import Pool, encode_users
from model.schema import Schema
from model.scoring.network_plan import NetworkPlan
from model.vocabulary import Vocabulary
from service.config import Settings
from service.expansion.campaign import CampaignModel
from service.expansion.pinning import Pinned
from service.serving.loader import choose_precision
from tests.model.worlds import ALL, SMALL_METAHEAC, make_dataset

POOL = encode_users(make_dataset().users, ALL)
ROWS = Labelled(np.arange(60), (np.arange(60) % 3 == 0).astype(np.float32), np.ones(60, np.float32))


def make_network(pool: Pool) -> Model:
    """An untrained model of recipe `metaheac`."""
    vocabulary = Vocabulary.fit(pool, min_count=5, numeric_bins=8)
    seen = torch.ones(vocabulary.shape.table_rows, dtype=torch.bool)
    network = build_network(SMALL_METAHEAC, vocabulary.shape, Fields(0, 0, ()))
    network = initialise(network, seen, seen[:0], torch.Generator().manual_seed(0))
    schema = Schema(pool.features, ())
    return Model(SMALL_METAHEAC, schema, vocabulary, Vocabulary(()), network, torch.device("cpu"))


@pytest.mark.parametrize(
    ("setting", "precision"), [("auto", None), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_network_scores_in_the_precision_that_is_set(
    monkeypatch: pytest.MonkeyPatch, setting: str, precision: torch.dtype | None
) -> None:
    monkeypatch.setenv("SCORING_PRECISION", setting)
    chosen = choose_precision(Settings().scoring_precision)
    campaign = CampaignModel(Pinned("tiny-1", make_network(POOL), POOL, None, chosen), None, {}, frozenset())
    head = campaign.head(ROWS)
    assert isinstance(head, AdaptedHead)
    plan = campaign.plan(head)
    assert isinstance(plan, NetworkPlan)
    assert plan.precision == precision
