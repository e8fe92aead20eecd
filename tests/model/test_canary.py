"""The canary tells whether a model still scores as it did when it was saved."""

import copy
from dataclasses import replace

import torch

from model.canary import canary_scores, deviation
from model.checkpoint import CANARY_TOLERANCE
from model.model import Model
from tests.model.conftest import World


def scaled(model: Model, factor: torch.Tensor) -> Model:
    """The same model, every parameter times a factor of its own that is drawn from these."""
    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor[torch.randint(len(factor), parameter.shape, generator=generator)])
    return replace(model, network=network)


def test_the_canary_sings_the_same_song_every_time_and_not_on_one_note(world: World) -> None:
    scores = canary_scores(world.model)
    assert scores == canary_scores(world.model)
    assert len(set(scores)) > len(scores) / 2
    assert max(scores) - min(scores) > 10 * CANARY_TOLERANCE


def test_what_rounds_otherwise_is_let_pass_and_what_computes_otherwise_is_not(world: World) -> None:
    scores = canary_scores(world.model)
    rounded = canary_scores(scaled(world.model, torch.tensor([1 - 1e-5, 1 + 1e-5])))
    changed = canary_scores(scaled(world.model, torch.tensor([0.5, 2.0])))
    assert deviation(rounded, scores) < CANARY_TOLERANCE / 2
    assert deviation(changed, scores) > 2 * CANARY_TOLERANCE
