import itertools
import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.adapt import Head
from model.adapt_network import AdaptedHead
from model.heads.campaign import ConvexHead
from model.logistic import sigmoid
from model.network import HybridExpertsCritics
from model.represent import from_bits, represent
from model.scoring import scores as module
from model.scoring.plan import score_plan
from tests.model.conftest import World
from tests.model.references import metaheac_chances
from tests.model.test_adapt import adapt_in, make_labelled

EVERYBODY = np.arange(300)


def adapted(world: World) -> Head:
    return adapt_in(world, make_labelled(world))


def test_default_scores_are_the_reference_written_out(default_world: World) -> None:
    head = adapted(default_world)
    assert isinstance(head, ConvexHead)
    assert default_world.representation is not None
    scores = score_plan(default_world.model, head, default_world.pool, default_world.representation).score_users(
        EVERYBODY
    )
    for ordinal, phi in enumerate(from_bits(default_world.representation.block(0, 300)).tolist()):
        total = 0.0
        for number, weight in zip(phi, head.weights.tolist(), strict=True):
            total += number * weight
        assert scores[ordinal] == round(1 / (1 + math.exp(-(total + head.bias))), 6)


def test_the_sparse_block_is_the_reference_written_out(sparse_world: World) -> None:
    world = sparse_world
    head = adapted(world)
    assert isinstance(head, ConvexHead)
    assert head.sparse is not None
    assert world.representation is not None
    weight_of = dict(zip(head.sparse.rows.tolist(), head.sparse.values.tolist(), strict=True))
    scores = score_plan(world.model, head, world.pool, world.representation).score_users(EVERYBODY)
    translation = world.model.vocabulary.translate(world.pool)
    for ordinal, phi in enumerate(from_bits(world.representation.block(0, 300))):
        user = translation.batch(world.pool.block(ordinal, ordinal + 1), world.model.device)
        total = float(phi @ head.weights) + head.bias
        for start, stop in itertools.pairwise(user.offsets.tolist()):
            values = [weight_of.get(row, 0.0) for row in user.rows[start:stop].tolist()]
            total += sum(values) / max(1, len(values)) ** 0.25
        total += float(
            torch.cat([vector[0] for vector in user.vectors]).double() @ torch.from_numpy(head.sparse.vectors)
        )
        assert scores[ordinal] == pytest.approx(1 / (1 + math.exp(-total)), abs=1.01e-6)


def test_metaheac_scores_are_those_of_the_adapted_network(metaheac_world: World) -> None:
    head = adapted(metaheac_world)
    assert isinstance(head, AdaptedHead)
    world = metaheac_world
    scores = score_plan(world.model, head, world.pool, None).score_users(EVERYBODY)
    copy = deepcopy(world.model.network).double()
    assert isinstance(copy, HybridExpertsCritics)
    with torch.no_grad():
        for name, value in head.dense.items():
            copy.get_parameter(name).copy_(value)
        copy.user_embedding.table[head.rows] = head.table.double()
        users = world.model.vocabulary.translate(world.pool).batch(world.pool.block(0, 300), world.model.device)
        chances = metaheac_chances(copy, users, head.campaign)
    assert np.abs(scores - chances.numpy()).max() < 1e-6


def test_blocks_and_single_users_score_alike(world: World) -> None:
    plan = score_plan(world.model, adapted(world), world.pool, world.representation)
    scores = plan.score_users(EVERYBODY)
    parts = np.split(EVERYBODY, [7, 150])
    assert np.array_equal(np.concatenate([plan.score_users(part) for part in parts]), scores)
    ordinals = np.random.default_rng(0).permutation(300)
    assert np.array_equal(plan.score_users(ordinals), scores[ordinals])
    assert len(plan.score_users(EVERYBODY[:0])) == 0


def test_long_ranges_are_scored_in_blocks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = score_plan(world.model, adapted(world), world.pool, world.representation)
    scores = plan.score_users(EVERYBODY)
    monkeypatch.setattr(module, "BLOCK_ROWS", 64)
    assert np.array_equal(plan.score_users(EVERYBODY), scores)


def test_scores_are_chances_of_six_decimals(world: World) -> None:
    scores = score_plan(world.model, adapted(world), world.pool, world.representation).score_users(EVERYBODY)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.array_equal(scores, np.rint(scores * 1e6) / 1e6)
    assert len(np.unique(scores)) > 100


def test_a_denied_feature_cannot_move_a_score(world: World) -> None:
    deny = frozenset({"city", "hobbies", "age", "face"})
    representation = represent(world.model, world.pool, deny=deny)
    head = adapt_in(replace(world, representation=representation), make_labelled(world), deny=deny)
    scores = score_plan(world.model, head, world.pool, representation, deny=deny).score_users(EVERYBODY)
    assert len(np.unique(scores)) == 1


def test_extreme_logits_neither_overflow_nor_leave_the_unit_interval() -> None:
    assert sigmoid(np.array([-1e4, -1.0, 0.0, 1.0, 1e4])).tolist() == pytest.approx(
        [0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1]
    )
