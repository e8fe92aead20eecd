from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.baselines.base import Task, TrainingData
from model.baselines.campaign_network import build
from model.baselines.finetune import Start, log_odds
from model.baselines.held_out import HeldOut
from model.baselines.inputs import Inputs, NeuralConfig
from model.baselines.mlp_one_stage import MLP
from model.baselines.mmoe import MMoE
from model.errors import AdaptationError
from model.labelled import Labelled

CONFIG = NeuralConfig(embedding=4, hidden=(5, 6), tower=(3,), experts=3)


@pytest.fixture(scope="module")
def start(data: TrainingData) -> Start:
    inputs = Inputs.of(data, CONFIG)
    return Start.of(build(MMoE, inputs, 3, CONFIG, 0), inputs, CONFIG, 0)


def few(task: Task) -> Task:
    """The task with as few labelled users as leave feature values untouched."""
    kept = np.array([0, 5, 20, 30])
    labels = np.array([1, 0, 1, 0], np.float32)
    return replace(task, labelled=Labelled(task.labelled.ordinals[kept], labels, np.ones(4, np.float32)))


def test_training_only_the_touched_rows_is_training_all(data: TrainingData, tasks: list[HeldOut]) -> None:
    task = few(tasks[0].task)
    inputs = Inputs.of(data, CONFIG)
    network = build(MLP, inputs, 0, CONFIG, 0)
    copy = deepcopy(network)
    users, campaign = inputs.batch(task.labelled.ordinals), inputs.campaign(task.attributes)
    optimiser = torch.optim.Adam(copy.parameters(), lr=0.01)
    for _ in range(5):
        optimiser.zero_grad()
        labels = torch.from_numpy(task.labelled.labels)
        torch.nn.functional.binary_cross_entropy_with_logits(copy(users, campaign), labels).backward()
        optimiser.step()
    expected = torch.sigmoid(copy(inputs.batch(task.candidates), campaign)).detach().numpy()
    _, scores = next(Start.of(network, inputs, CONFIG, 0).fine_tuned(task, 0.01, (5,)))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_stopping_on_the_way_is_stopping_there(start: Start, tasks: list[HeldOut]) -> None:
    on_the_way = dict(start.fine_tuned(tasks[0].task, 0.01, (1, 3, 4)))
    for epochs, scores in on_the_way.items():
        np.testing.assert_array_equal(scores, next(start.fine_tuned(tasks[0].task, 0.01, (epochs,)))[1])
    assert not np.array_equal(on_the_way[1], on_the_way[3])


def test_fine_tuning_leaves_the_start_as_it_was(start: Start, tasks: list[HeldOut]) -> None:
    before = {name: value.clone() for name, value in start.parameters.items()}
    first, _ = (list(start.fine_tuned(held.task, 0.1, (2,))) for held in tasks[:2])
    assert all(torch.equal(value, start.parameters[name]) for name, value in before.items())
    np.testing.assert_array_equal(first[0][1], next(start.fine_tuned(tasks[0].task, 0.1, (2,)))[1])


def test_what_is_frozen_stays(start: Start, tasks: list[HeldOut]) -> None:
    task = few(tasks[0].task)
    frozen = replace(start, trained=("nothing",), parameters=start.parameters)
    with pytest.raises(ValueError, match="empty parameter list"):
        next(frozen.fine_tuned(task, 0.1, (1,)))
    by_tower, by_all = (
        next(replace(start, trained=trained).fine_tuned(task, 0.1, (1,)))[1] for trained in (("per_task.",), ("",))
    )
    assert not np.array_equal(by_tower, by_all)


def test_an_untrained_network_says_how_many_of_the_labelled_users_converted(start: Start, tasks: list[HeldOut]) -> None:
    task = tasks[0].task
    weights = np.where(task.labelled.labels == 1, 1, 3).astype(np.float32)
    labelled = replace(task.labelled, weights=weights)
    _, scores = next(start.fine_tuned(replace(task, labelled=labelled), 0.0, (1,)))
    share = (weights * labelled.labels).sum() / weights.sum()
    assert scores.mean() == pytest.approx(share, abs=0.05)
    assert log_odds(labelled) == pytest.approx(np.log(share / (1 - share)))


def test_an_attribute_that_campaigns_do_not_have_is_refused(start: Start, tasks: list[HeldOut]) -> None:
    task = replace(tasks[0].task, attributes={"colour": "red"})
    with pytest.raises(AdaptationError, match="colour"):
        next(start.fine_tuned(task, 0.01, (1,)))
