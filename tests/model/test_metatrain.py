from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from model import metatrain
from model.errors import DataError, ModelError
from model.evaluate import evaluate
from model.metatrain import TrainingProgress, train, train_best
from model.model import Model
from model.presets import ConvexConfig, HeadSetting, MetaHeacConfig, OnlineStage, PresetConfig
from model.schema import Feature
from model.threads import one_thread
from tests.fixtures.choice import short_choice
from tests.model.conftest import train_small
from tests.model.worlds import (
    AGE,
    ALL,
    CITY,
    FACE,
    HOBBIES,
    SMALL,
    SMALL_DEFAULT,
    SMALL_METAHEAC,
    make_dataset,
    with_labels,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def little_to_choose() -> Iterator[None]:
    with short_choice():
        yield


@pytest.mark.parametrize("preset", ["default", "metaheac"])
def test_training_is_deterministic_for_a_seed_and_a_number_of_steps(preset: str) -> None:
    dataset = make_dataset()
    first, second, other = (train_small(dataset, preset, max_steps=4, seed=seed) for seed in (0, 0, 1))
    assert first.model.sha256 == second.model.sha256
    assert [(p.step, p.loss, p.validation_auc) for p in first.history] == [
        (p.step, p.loss, p.validation_auc) for p in second.history
    ]
    assert first.model.sha256 != other.model.sha256


@pytest.mark.parametrize(("config", "steps"), [(SMALL_DEFAULT, 60), (SMALL_METAHEAC, 150)])
def test_meta_training_helps_on_campaigns_it_has_not_seen(config: PresetConfig, steps: int) -> None:
    dataset = make_dataset(users=600, campaigns=30, rows=200)

    def auc(max_steps: int, rate: float) -> float:
        recipe = replace(config, learning_rate=rate)
        if isinstance(recipe, MetaHeacConfig):
            recipe = replace(recipe, tune_online=False)  # which takes time, and is undone below
        trained = train(dataset, recipe, seed=0, max_steps=max_steps, device=CPU, progress=lambda _: None)
        model = as_meta_trained(trained.model)
        return evaluate(model, dataset, trained.split.test, seed=0, max_seeds=5).summary()["auc"]

    trained = auc(steps, 1e-2)
    assert trained > auc(1, 1e-9) + 0.01
    assert trained > 0.7


def as_meta_trained(model: Model) -> Model:
    """Adapting as in meta-training, not as was chosen after it: a choice can make good what was not learned."""
    if isinstance(model.preset, ConvexConfig):
        return replace(model, preset=replace(model.preset, heads=(HeadSetting(),)))
    return replace(model, preset=replace(model.preset, online=(OnlineStage(),)))


@pytest.mark.parametrize("preset", ["default", "metaheac"])
@pytest.mark.parametrize("features", [(CITY,), (HOBBIES,), (AGE,), (FACE,), ALL])
def test_any_kinds_of_features_will_do(preset: str, features: tuple[Feature, ...]) -> None:
    dataset = make_dataset(features=features, campaign_features=(), campaigns=4)
    trained = train_small(dataset, preset, max_steps=2)
    assert evaluate(trained.model, dataset, trained.split.test, seed=0).campaigns


@pytest.mark.parametrize("preset", ["default", "metaheac"])
def test_campaigns_of_a_few_rows_will_do(preset: str) -> None:
    dataset = make_dataset(campaigns=9, rows=8)
    trained = train_small(dataset, preset, max_steps=3)
    assert trained.history[-1].step == 3


@pytest.mark.parametrize("preset", ["default", "metaheac"])
def test_a_feature_that_says_nothing_will_do(preset: str) -> None:
    dataset = make_dataset(campaigns=4)
    nothing = pa.nulls(300, pa.float32())
    users = dataset.users.set_column(dataset.users.column_names.index("age"), "age", nothing)
    users = users.set_column(users.column_names.index("city"), "city", pa.array(["here"] * 300))
    train_small(replace(dataset, users=users), preset, max_steps=2)


def test_two_campaigns_are_too_few() -> None:
    with pytest.raises(DataError, match="at least 3"):
        train_small(make_dataset(campaigns=2), "default")


def test_campaigns_without_negatives_teach_nothing() -> None:
    dataset = make_dataset()
    with pytest.raises(DataError, match="two positives and two negatives"):
        train_small(with_labels(dataset, np.ones_like(dataset.interactions.label)), "default")


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    recipe = replace(SMALL["metaheac"], learning_rate=1e30)
    with pytest.raises(ModelError, match=r"step .* is not finite"):
        train(make_dataset(), recipe, seed=0, max_steps=20, device=CPU, progress=lambda _: None)


def test_progress_begins_at_once_and_rises_to_the_end() -> None:
    seen: list[TrainingProgress] = []
    trained = train(make_dataset(), SMALL["default"], seed=0, max_steps=6, device=CPU, progress=seen.append)
    assert seen[0].step == 0
    assert [report.fraction for report in seen] == sorted(report.fraction for report in seen)
    assert seen[-1].fraction == 1
    assert {report.step for report in seen} == set(range(7))
    assert trained.history[-1].validation_auc is not None
    assert [report.seconds for report in seen] == sorted(report.seconds for report in seen)


@pytest.mark.alone
def test_a_time_budget_is_kept() -> None:
    seen: list[TrainingProgress] = []
    train(make_dataset(), SMALL["default"], seed=0, max_seconds=1.0, device=CPU, progress=seen.append)
    assert seen[-1].step > 1
    assert seen[-1].seconds < 3.0


def test_the_best_parameters_are_kept_and_training_stops_when_nothing_improves(monkeypatch: pytest.MonkeyPatch) -> None:
    aucs = iter([0.6, 0.9, *[0.5] * 20])
    weights = []

    def judge(_: object, model: metatrain.Model, __: object) -> float:
        weights.append({name: value.clone() for name, value in model.network.state_dict().items()})
        return next(aucs)

    monkeypatch.setattr(metatrain._Validation, "auc", judge)
    trained = train_small(make_dataset(), "default", max_steps=120)
    assert [report.validation_auc for report in trained.history] == [0.6, 0.9, *[0.5] * 6]
    best = trained.model.network.state_dict()
    assert all(torch.equal(best[name], value) for name, value in weights[1].items())
    assert not all(torch.equal(best[name], value) for name, value in weights[2].items())


def test_test_campaigns_play_no_part_in_training() -> None:
    dataset = make_dataset()
    trained = train_small(dataset, "default", max_steps=4)
    labels = dataset.interactions.label.copy()
    for campaign in trained.split.test:
        labels[dataset.rows_of(int(campaign))] ^= 1
    again = train_small(with_labels(dataset, labels), "default", max_steps=4)
    assert trained.model.sha256 == again.model.sha256


def test_the_better_of_two_recipes_is_kept_whichever_comes_first() -> None:
    dataset = make_dataset(users=600, campaigns=30, rows=100)
    quick = {
        name: replace(config, max_steps=steps) for (name, config), steps in zip(SMALL.items(), (40, 1), strict=True)
    }
    for presets in (["default", "metaheac"], ["metaheac", "default"]):
        compared = train_best(dataset, [quick[name] for name in presets], seed=0, device=CPU, progress=lambda _: None)
        assert list(compared.aucs) == presets
        best = max(presets, key=lambda name: compared.aucs[name] or 0.0)
        assert compared.trained.model.preset.name == best == "default"


def test_two_recipes_share_the_progress_and_the_split() -> None:
    seen: list[float] = []
    dataset = make_dataset()
    presets = [replace(config, max_steps=2) for config in SMALL.values()]
    compared = train_best(dataset, presets, seed=0, device=CPU, progress=lambda now: seen.append(now.fraction))
    alone = train(dataset, presets[0], seed=0, device=CPU, progress=lambda _: None)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    np.testing.assert_array_equal(compared.trained.split.test, alone.split.test)


def test_going_on_with_a_good_model_is_a_recipe_of_its_own_and_leaves_that_model_as_it_was() -> None:
    dataset = make_dataset(users=600, campaigns=30, rows=100)
    good = replace(SMALL_DEFAULT, max_steps=40, learning_rate=1e-2)
    poor = replace(SMALL_DEFAULT, max_steps=1, learning_rate=1e-9)
    with one_thread():
        start = train(dataset, good, seed=0, device=CPU, progress=lambda _: None).model
        before = start.sha256
        compared = train_best(dataset, [poor], seed=0, device=CPU, progress=lambda _: None, start=start)
    assert list(compared.aucs) == ["default", "default-continued"]
    assert compared.kept == "default-continued"
    assert compared.trained.history[-1].step == 10  # a quarter of the steps that a training from the beginning takes
    assert compared.trained.model.vocabulary is start.vocabulary
    assert compared.trained.model.sha256 != before
    assert replace(start).sha256 == before
