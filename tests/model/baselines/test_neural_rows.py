"""The neural methods, side by side."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from model.baselines.base import Adapter, Method, Task, TrainingData
from model.baselines.held_out import HeldOut, held_out
from model.baselines.inputs import NeuralConfig
from model.baselines.metaheac import FROZEN, METAHEAC, NO_HC, NO_HE, NO_META, PUBLISHED
from model.baselines.neural import NEURAL_METHODS
from model.baselines.presets import Preset
from model.errors import AdaptationError, DataError
from model.labelled import Labelled
from model.presets import MetaHeacConfig, OnlineStage
from model.schema import Feature
from tests.model.baselines.conftest import mean_auc, training_data
from tests.model.worlds import CITY, HOBBIES, make_dataset, with_labels

SMALL = NeuralConfig(
    embedding=8,
    hidden=(16, 16),
    tower=(8,),
    experts=3,
    campaigns_per_step=3,
    rows_per_campaign=64,
    learning_rate=1e-2,
    max_steps=60,
    rates=(1e-2,),
    epochs=(2, 6),
    validation_tasks=2,
)


def small(method: Method) -> Method:
    """The same method with a small network and few steps."""
    if isinstance(method, Preset) and isinstance(method.config, MetaHeacConfig):
        config = method.config
        sizes = {"embedding": 8, "hidden": (8, 8), "learning_rate": 1e-2, "max_steps": 40, "tasks_per_step": 4}
        # A world this small has too few validation campaigns to choose by.
        online = {"tune_online": False, "online": (OnlineStage(rate=0.5, passes=20),)}
        experts, critics = min(3, config.experts), min(2, config.critics)
        rows = {"support_rows": config.support_rows // 8, "query_rows": config.query_rows // 8}
        return replace(method, config=replace(config, experts=experts, critics=critics, **sizes, **rows, **online))
    return replace(method, config=replace(SMALL, campaign_features=method.config.campaign_features))  # type: ignore


def quick(method: Method) -> Method:
    """The same method with hardly any training."""
    if isinstance(method, Preset):
        return replace(method, config=replace(method.config, max_steps=2))
    return replace(method, config=replace(method.config, max_steps=2, epochs=(1,)))


def first_task(data: TrainingData) -> Task:
    """Of the test campaigns."""
    tasks: Iterator[HeldOut] = held_out(data.dataset, data.ordinals, data.split.test.tolist(), data.seed)
    return next(tasks).task


METHODS = {
    method.name: small(method) for method in (*NEURAL_METHODS, METAHEAC, PUBLISHED, NO_HC, NO_HE, NO_META, FROZEN)
}
# The network of `metaheac` is tried on such users by the tests of its training.
BASELINES = [name for name in METHODS if not name.startswith("metaheac")]


@pytest.fixture(scope="module")
def tiny() -> TrainingData:
    """A world that methods go through in no time."""
    return training_data(make_dataset(users=60, campaigns=6, rows=40))


@pytest.fixture(scope="module")
def adapters(data: TrainingData) -> dict[str, Adapter]:
    return {name: method.pretrain(data) for name, method in METHODS.items()}


def test_every_row_of_the_papers_table_is_there() -> None:
    assert list(METHODS) == [
        *("mlp_one_stage", "mlp_emb", "pinterest", "hubble", "mlp_pretraining", "shared_bottom", "mmoe"),
        *("metaheac", "metaheac_published", "metaheac_no_hc", "metaheac_no_he", "metaheac_no_meta", "metaheac_frozen"),
    ]


@pytest.mark.parametrize("name", METHODS)
def test_a_taste_is_found(name: str, adapters: dict[str, Adapter], tasks: list[HeldOut]) -> None:
    assert mean_auc(adapters[name], tasks) > 0.7


@pytest.mark.parametrize("name", METHODS)
def test_scores_are_chances(name: str, adapters: dict[str, Adapter], data: TrainingData) -> None:
    task = first_task(data)
    scores = adapters[name].scores(task)
    assert scores.dtype == np.float64
    assert scores.shape == task.candidates.shape
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("features", [(CITY,), (HOBBIES,)], ids=["categorical", "multi"])
def test_any_kinds_of_features_will_do_without_campaign_features(name: str, features: tuple[Feature, ...]) -> None:
    data = training_data(make_dataset(users=60, campaigns=6, rows=40, features=features, campaign_features=()))
    scores = quick(METHODS[name]).pretrain(data).scores(first_task(data))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", METHODS)
def test_one_seed_among_few_rows_will_do(name: str, adapters: dict[str, Adapter], data: TrainingData) -> None:
    labelled = Labelled(np.array([1, 4, 9]), np.array([0, 1, 0], np.float32), np.ones(3, np.float32))
    assert np.isfinite(adapters[name].scores(replace(first_task(data), labelled=labelled))).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_campaign_without_negatives_is_refused(name: str, adapters: dict[str, Adapter], data: TrainingData) -> None:
    labelled = Labelled(np.array([1, 4]), np.ones(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(AdaptationError, match="no negatives"):
        adapters[name].scores(replace(first_task(data), labelled=labelled))


@pytest.mark.parametrize("name", METHODS)
def test_without_time_a_method_still_scores(name: str, data: TrainingData) -> None:
    scores = METHODS[name].pretrain(replace(data, max_seconds=0.0)).scores(first_task(data))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", [*BASELINES, "metaheac"])
def test_training_again_is_the_same_whatever_happened_in_test_campaigns(name: str, tiny: TrainingData) -> None:
    labels = tiny.dataset.interactions.label.copy()
    for campaign in tiny.split.test:
        labels[tiny.dataset.rows_of(int(campaign))] ^= 1
    other = replace(tiny, dataset=with_labels(tiny.dataset, labels))
    task = first_task(tiny)
    first, again = (quick(METHODS[name]).pretrain(data).scores(task) for data in (tiny, other))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ["mlp_pretraining", "hubble"])
def test_progress_rises_to_the_end(name: str, tiny: TrainingData) -> None:
    seen: list[float] = []
    quick(METHODS[name]).pretrain(replace(tiny, progress=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("name", ["shared_bottom", "metaheac"])
def test_campaigns_of_one_label_teach_nothing(name: str, tiny: TrainingData) -> None:
    labels = np.ones_like(tiny.dataset.interactions.label)
    with pytest.raises(DataError, match="two positives and two negatives"):
        METHODS[name].pretrain(replace(tiny, dataset=with_labels(tiny.dataset, labels)))
