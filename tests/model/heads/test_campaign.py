from dataclasses import replace

import numpy as np
import pytest
import torch

from model.heads.campaign import ConvexHead, HeadRows, solve_head
from model.network import Encoder
from model.presets import HeadSetting
from model.scoring.convex_plan import ConvexPlan
from tests.model.conftest import World
from tests.model.test_adapt import make_labelled

ON_PHI = HeadSetting(sparse_ridge=30.0)
PLAIN = HeadSetting(plain_ridge=10.0, plain_share=1.0)


def rows_of(world: World) -> HeadRows:
    labelled = make_labelled(world)
    features = world.model.vocabulary.translate(world.pool).batch(
        world.pool.take(labelled.ordinals), torch.device("cpu")
    )
    assert isinstance(world.model.network, Encoder)
    assert world.representation is not None
    return HeadRows.of(world.model.network, world.representation, labelled, features)


def logits(world: World, head: ConvexHead) -> np.ndarray:
    assert world.representation is not None
    translation = world.model.vocabulary.translate(world.pool)
    plan = ConvexPlan.of(head, world.pool, world.representation, translation, world.model.device)
    return plan.user_logits(np.arange(world.pool.size))


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("first", [HeadSetting(), ON_PHI])
def test_the_logits_of_mixed_heads_are_mixed_by_their_shares(
    share: float, first: HeadSetting, default_world: World
) -> None:
    rows = rows_of(default_world)
    mixed = solve_head(rows, replace(first, plain_ridge=10.0, plain_share=share, slope=0.5))
    alone = [logits(default_world, solve_head(rows, setting)) for setting in (first, PLAIN)]
    np.testing.assert_allclose(
        logits(default_world, mixed), 0.5 * ((1 - share) * alone[0] + share * alone[1]), atol=1e-9
    )


def test_a_plain_head_does_not_read_phi(default_world: World) -> None:
    assert not solve_head(rows_of(default_world), PLAIN).weights.any()


def test_a_head_on_phi_alone_does_not_read_feature_values(default_world: World) -> None:
    assert solve_head(replace(rows_of(default_world), features=None), HeadSetting()).sparse is None


def test_a_head_on_feature_values_asks_for_them(default_world: World) -> None:
    with pytest.raises(ValueError, match="feature values"):
        solve_head(replace(rows_of(default_world), features=None), PLAIN)


def test_the_losses_and_steps_of_mixed_heads_add_up(default_world: World) -> None:
    rows = rows_of(default_world)
    mixed = solve_head(rows, replace(ON_PHI, plain_ridge=10.0, plain_share=0.5))
    alone = [solve_head(rows, setting) for setting in (ON_PHI, PLAIN)]
    assert mixed.loss_last == pytest.approx(sum(head.loss_last for head in alone))
    assert mixed.steps == sum(head.steps for head in alone)
    assert mixed.loss_last <= mixed.loss_first
