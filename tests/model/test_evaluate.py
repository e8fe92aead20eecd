import numpy as np
import pytest

from model.evaluate import evaluate
from tests.model.conftest import World
from tests.model.worlds import with_labels


def test_each_campaign_is_ranked_on_the_rows_it_did_not_adapt_on(world: World) -> None:
    evaluation = evaluate(world.model, world.dataset, [0, 5], seed=0)
    assert [result.campaign_id for result in evaluation.campaigns] == ["c0", "c5"]
    for campaign, result in zip((0, 5), evaluation.campaigns, strict=True):
        labels = world.dataset.interactions.label[world.dataset.rows_of(campaign)]
        assert result.seeds + result.positives == labels.sum()
        assert abs(result.rows - len(labels) / 2) <= 1


def test_a_learned_taste_is_found_and_random_is_not(default_world: World) -> None:
    summary = evaluate(default_world.model, default_world.dataset, range(12), seed=0).summary()
    assert summary["campaigns"] == 12
    assert summary["auc"] > 0.7
    assert abs(summary["random_auc"] - 0.5) < 0.1
    assert summary["r_at_5"] > summary["random_r_at_5"]


def test_labels_without_meaning_are_ranked_no_better_than_chance(default_world: World) -> None:
    labels = np.random.default_rng(0).integers(0, 2, len(default_world.dataset.interactions.label))
    dataset = with_labels(default_world.dataset, labels)
    assert abs(evaluate(default_world.model, dataset, range(12), seed=0).summary()["auc"] - 0.5) < 0.1


def test_the_result_is_the_same_with_what_was_computed_before(world: World) -> None:
    fresh = evaluate(world.model, world.dataset, [1, 2], seed=3)
    reused = evaluate(world.model, world.dataset, [1, 2], seed=3, pool=world.pool, representation=world.representation)
    assert fresh == reused


def test_a_cap_on_seeds_is_kept(world: World) -> None:
    evaluation = evaluate(world.model, world.dataset, [1, 2], seed=0, max_seeds=5)
    assert [result.seeds for result in evaluation.campaigns] == [5, 5]


def test_a_campaign_that_cannot_be_judged_is_skipped_by_name(default_world: World) -> None:
    labels = default_world.dataset.interactions.label.copy()
    labels[default_world.dataset.rows_of(4)] = 0
    evaluation = evaluate(default_world.model, with_labels(default_world.dataset, labels), [3, 4], seed=0)
    assert [result.campaign_id for result in evaluation.campaigns] == ["c3"]
    assert evaluation.skipped == ("c4",)
    assert evaluate(default_world.model, with_labels(default_world.dataset, labels), [4], seed=0).summary() == {
        "campaigns": 0
    }


def test_cold_campaigns_have_at_most_the_median_of_seeds(default_world: World) -> None:
    evaluation = evaluate(default_world.model, default_world.dataset, range(12), seed=0)
    cold, hot = evaluation.cold_and_hot()
    assert {result.campaign_id for result in (*cold.campaigns, *hot.campaigns)} == {f"c{n}" for n in range(12)}
    assert max(result.seeds for result in cold.campaigns) < min(result.seeds for result in hot.campaigns)
    assert len(cold.campaigns) >= 6


def test_progress_rises_to_one(world: World) -> None:
    seen: list[float] = []
    evaluate(world.model, world.dataset, [0, 1, 2, 3], seed=0, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
