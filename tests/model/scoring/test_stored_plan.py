"""Scores from the stored layer of the users are those of the whole network, and rough ones as near as promised."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.adapt_network import AdaptedHead
from model.network import HybridExpertsCritics
from model.pool import Pool
from model.represent import represent
from model.scoring import network_logits, stored_plan
from model.scoring.plan import score_plan
from model.scoring.scan import scan
from model.scoring.stored_plan import StoredPlan
from tests.model.conftest import World
from tests.model.references import metaheac_chances, rank
from tests.model.scoring.test_network_plan import odd_users
from tests.model.test_adapt import adapt_in, make_labelled

EVERYBODY = np.arange(300)


def make_plan(
    world: World, pool: Pool | None = None, deny: Sequence[str] = (), precision: torch.dtype | None = None
) -> StoredPlan:
    denied = frozenset(deny)
    there = replace(world, representation=represent(world.model, world.pool, deny=denied))
    head = adapt_in(there, make_labelled(world), deny=denied)
    assert isinstance(head, AdaptedHead)
    pool = pool or world.pool
    representation = represent(world.model, pool, deny=denied)
    plan = score_plan(world.model, head, pool, representation, deny=denied, precision=precision)
    assert isinstance(plan, StoredPlan)
    return plan


def whole_network(world: World, plan: StoredPlan) -> HybridExpertsCritics:
    """The adapted network, embeddings and all, in float64."""
    network = deepcopy(world.model.network).double()
    assert isinstance(network, HybridExpertsCritics)
    with torch.no_grad():
        for name in network.moving:
            network.get_parameter(name).copy_(plan.network.get_parameter(name))
    return network


def test_the_ranking_is_that_of_the_full_forward_pass_with_its_first_layer_rounded(frozen_world: World) -> None:
    world, plan = frozen_world, make_plan(frozen_world)
    network = whole_network(world, plan)
    users = world.model.vocabulary.translate(world.pool).batch(world.pool.block(0, 300), world.model.device)
    with torch.no_grad():
        log_yes, _ = network(network.represent(users).bfloat16().double(), plan.campaign)
    expected = log_yes.exp().numpy().round(6)
    for threads in (1, 2):
        found = scan(plan, world.pool, np.ones(300, np.bool_), 40, threads=threads).ranking
        pairs = list(zip(found.ordinals.tolist(), found.scores.tolist(), strict=True))
        assert pairs == rank(expected, 40)


def test_rounding_the_first_layer_hardly_moves_a_score(frozen_world: World) -> None:
    world, plan = frozen_world, make_plan(frozen_world)
    users = world.model.vocabulary.translate(world.pool).batch(world.pool.block(0, 300), world.model.device)
    with torch.no_grad():
        chances = metaheac_chances(whole_network(world, plan), users, plan.campaign).numpy()
    scores = plan.score_users(EVERYBODY)
    assert 0 < np.abs(scores - chances).max() < 0.1 * scores.std()


@pytest.mark.parametrize("deny", [(), ("hobbies", "face"), ("city", "hobbies", "age", "face")])
@pytest.mark.parametrize(("precision", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_a_rough_score_is_no_further_from_the_exact_one_than_promised(
    frozen_world: World, monkeypatch: pytest.MonkeyPatch, deny: Sequence[str], precision: torch.dtype, error: float
) -> None:
    monkeypatch.setattr(network_logits, "_SAMPLE", 20)
    monkeypatch.setattr(stored_plan, "ROUGH_ROWS", 64)
    plan = make_plan(frozen_world, odd_users(frozen_world), deny, precision)
    everybody = np.arange(plan.representation.size)
    rough = plan.rough(0, len(everybody)).numpy()
    assert plan.error < error
    assert np.abs(rough - plan.exact_logits(everybody)).max() < plan.error
    assert len(plan.rough(7, 7)) == 0


def test_no_batch_and_no_thread_changes_a_bit_of_a_score(frozen_world: World) -> None:
    plan = make_plan(frozen_world)
    logits = plan.exact_logits(EVERYBODY)
    shuffled = np.random.default_rng(0).permutation(300)
    assert np.array_equal(plan.exact_logits(shuffled), logits[shuffled])
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(plan.exact_logits, [EVERYBODY] * 8):
            assert np.array_equal(found, logits)


def test_a_device_without_compiled_loops_gives_the_same_rough_scores(frozen_world: World) -> None:
    plan = make_plan(frozen_world)
    stored = torch.from_numpy(np.array(plan.representation.block(0, 300))).view(torch.bfloat16)
    assert float((plan.rough_on_device(stored) - plan.rough(0, 300)).abs().max()) < plan.error


def test_there_is_no_scoring_without_a_representation(frozen_world: World) -> None:
    head = adapt_in(frozen_world, make_labelled(frozen_world))
    with pytest.raises(ValueError, match="representation"):
        score_plan(frozen_world.model, head, frozen_world.pool, None)
