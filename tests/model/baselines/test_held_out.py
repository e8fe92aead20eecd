import numpy as np

from model.baselines.base import TrainingData
from model.baselines.held_out import held_out, validation_tasks
from tests.model.worlds import make_dataset, with_labels


def test_a_task_holds_every_row_of_a_campaign_once(data: TrainingData) -> None:
    (held,) = held_out(data.dataset, data.ordinals, [3], 0)
    rows = data.dataset.rows_of(3)
    everyone = np.concatenate([held.task.labelled.ordinals, held.task.candidates])
    np.testing.assert_array_equal(np.sort(everyone), np.sort(data.ordinals[data.dataset.interactions.user[rows]]))
    assert held.seeds + held.labels.sum() == data.dataset.interactions.label[rows].sum()


def test_fewer_seeds_leave_the_ranked_rows_as_they_are(data: TrainingData) -> None:
    (whole,) = held_out(data.dataset, data.ordinals, [3], 0)
    (few,) = held_out(data.dataset, data.ordinals, [3], 0, max_seeds=4)
    assert few.seeds == 4
    np.testing.assert_array_equal(few.task.candidates, whole.task.candidates)


def test_a_campaign_of_one_label_is_no_task(data: TrainingData) -> None:
    labels = make_dataset().interactions.label.copy()
    labels[data.dataset.rows_of(3)] = 1
    assert list(held_out(with_labels(data.dataset, labels), data.ordinals, [3], 0)) == []


def test_settings_are_chosen_on_validation_campaigns(data: TrainingData) -> None:
    assert {held.task.campaign for held in validation_tasks(data)} == set(data.split.validation.tolist())
