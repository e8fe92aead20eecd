"""The online stage on a tiny world of both presets: who is in an audience, who never is, and what it says of itself."""

import errno
import os

import numpy as np
import pytest
from sqlalchemy import text

from service.campaigns.inputs import ExpansionInputs
from service.expansion.eligibility import eligible_users
from service.expansion.matching import match
from service.jobs.states import Kind, State
from tests.fixtures.stage import Stage
from tests.fixtures.tiny import USERS


def test_an_audience_is_ranked_by_falling_score_then_id_and_holds_no_seed(stage: Stage) -> None:
    job = stage.expand(audience_size=100)
    ids, scores = stage.members(job)
    assert len(set(ids)) == 100
    assert not set(ids) & set(stage.world.seeds())
    assert sorted(zip([-score for score in scores], ids, strict=True)) == list(
        zip([-score for score in scores], ids, strict=True)
    )
    assert all(round(score, 6) == score and 0 <= score <= 1 for score in scores)


def test_the_people_of_an_audience_are_more_like_the_seeds_than_the_rest(stage: Stage) -> None:
    seeds = stage.world.seeds()
    ids, _ = stage.members(stage.expand(seeds[: len(seeds) // 2], audience_size=80))
    hidden = set(seeds[len(seeds) // 2 :])
    found = len(hidden & set(ids)) / len(hidden)
    assert found > 1.3 * 80 / USERS


def test_the_same_request_gives_the_same_audience_in_whatever_order_the_seeds_come(stage: Stage) -> None:
    seeds = stage.world.seeds()
    first = stage.expand(seeds, audience_size=50)
    second = stage.expand([*reversed(seeds), seeds[0]], audience_size=50)
    assert first.result is not None
    assert second.result is not None
    assert first.result["manifest"] == second.result["manifest"]
    assert second.result["seed"]["duplicates"] == 1
    assert first.id != second.id


def test_negatives_exclusions_and_ineligible_users_are_never_members(stage: Stage) -> None:
    plain, _ = stage.members(stage.expand(audience_size=200))
    rules = ({"feature": "age", "min": 30},)
    job = stage.expand(audience_size=200, negatives=plain[:20], excluded=plain[20:40], eligibility=rules)
    ids, _ = stage.members(job)
    assert not set(ids) & set(plain[:40])
    eligible = eligible_users(stage.pool, rules)
    assert eligible[stage.pool.ordinals(ids)].all()
    assert job.result is not None
    assert job.result["pool_eligible"] == int(eligible.sum()) < USERS


def test_known_negatives_change_the_ranking_and_so_do_weights(stage: Stage) -> None:
    plain, _ = stage.members(stage.expand(audience_size=100))
    unlike = list(plain[:30])
    taught, _ = stage.members(stage.expand(audience_size=100, negatives=unlike))
    assert [user for user in taught if user in plain] != [user for user in plain if user in taught]
    seeds = stage.world.seeds()
    weights = [10.0 if index % 2 else 0.1 for index in range(len(seeds))]
    weighted, _ = stage.members(stage.expand(seeds, weights=weights, audience_size=100))
    assert weighted != plain


def test_only_the_ratios_of_weights_matter_however_great_or_small_they_are(stage: Stage) -> None:
    seeds = sorted(stage.world.seeds())[:30]
    weights = np.arange(1.0, 31.0)
    matched = [
        match(stage.pool, ExpansionInputs.of(seeds, list(weights * scale))) for scale in (1, 2.0**990, 2.0**-990)
    ]
    for one in matched:
        assert one.weights.tolist() == (weights / weights.mean()).astype(np.float32).tolist()
    extreme = stage.expand(seeds, weights=[1e300, *[1.0] * 28, 1e-300], audience_size=10)
    assert len(stage.members(extreme)[0]) == 10


def test_seeds_are_members_when_asked_for(stage: Stage) -> None:
    ids, _ = stage.members(stage.expand(audience_size=200, include_seed_users=True))
    assert set(ids) & set(stage.world.seeds())


def test_sizes_by_count_fraction_and_score(stage: Stage) -> None:
    assert len(stage.members(stage.expand(audience_fraction=0.29))[0]) == 116
    _, scores = stage.members(stage.expand(audience_size=200))
    floor = scores[100]
    _, cut = stage.members(stage.expand(audience_size=200, min_score=floor))
    assert min(cut) >= floor
    assert len(cut) == sum(score >= floor for score in scores)


def test_an_audience_is_at_most_half_of_the_pool_and_says_that_it_was_cut(stage: Stage) -> None:
    job = stage.expand(audience_size=USERS)
    assert len(stage.members(job)[0]) == USERS // 2
    assert job.result is not None
    assert [warning["code"] for warning in job.result["warnings"]] == ["audience_truncated"]


def test_rules_that_let_nobody_in_make_an_empty_audience(stage: Stage) -> None:
    job = stage.expand(audience_size=10, eligibility=({"feature": "city", "in": ["Atlantis"]},))
    assert stage.members(job) == ([], [])
    assert job.result is not None
    assert job.result["audience"] == {
        "href": f"/jobs/{job.id}/audience",
        "size": 0,
        "etag": job.result["manifest"]["audience_sha256"],
        "min_score": None,
        "max_score": None,
    }


def test_denied_features_do_not_matter_to_the_ranking(stage: Stage) -> None:
    names = [feature.name for feature in stage.pool.features]
    ids, scores = stage.members(stage.expand(audience_size=50, deny_features=names))
    assert len(set(scores)) == 1  # with nothing left to look at, everybody is alike and ids decide
    assert ids == sorted(ids)
    plain, _ = stage.members(stage.expand(audience_size=50))
    without_age, _ = stage.members(stage.expand(audience_size=50, deny_features=["age"]))
    assert without_age != plain


def test_unknown_users_are_counted_and_a_low_match_rate_is_a_warning(stage: Stage) -> None:
    seeds = stage.world.seeds()[:30]
    job = stage.expand([*seeds, *(f"nobody{index}" for index in range(40))], audience_size=10)
    assert job.result is not None
    assert job.result["seed"] == {
        "submitted": 70,
        "unique": 70,
        "duplicates": 0,
        "matched": 30,
        "unknown": 40,
        "match_rate": round(30 / 70, 6),
    }
    assert "low_match_rate" in [warning["code"] for warning in job.result["warnings"]]


def test_too_few_matched_seeds_fail_without_telling_how_many_matched(stage: Stage) -> None:
    job = stage.expand([*stage.world.seeds()[:24], "nobody"])
    assert job.state == State.FAILED
    assert job.error is not None
    assert job.error["type"] == "/problems/too-few-matched-seeds"
    assert "25" in job.error["detail"]
    assert "24" not in job.error["detail"]
    assert stage.expand(stage.world.seeds()[:25], audience_size=10).state == State.SUCCEEDED


def test_a_second_attempt_computes_with_what_the_first_one_pinned(stage: Stage) -> None:
    first = stage.expand(audience_size=30)
    assert (first.model_version, first.snapshot_id) == ("tiny-1", stage.world.imported.snapshot_id)
    with stage.database.write() as session:
        session.execute(text("UPDATE serving SET model_version = 'gone', snapshot_id = 'gone'"))
        session.execute(text("UPDATE jobs SET state = 'queued', result = NULL"))
        session.execute(text("DELETE FROM audiences"))
    second = stage.run(Kind.EXPAND)
    assert second.id == first.id
    assert first.result is not None
    assert second.result is not None
    assert second.result["manifest"] == first.result["manifest"]


@pytest.mark.parametrize(
    ("missing", "slug"), [("model_version", "model-unavailable"), ("snapshot_id", "pool-unavailable")]
)
def test_what_does_not_load_ends_the_job_and_its_owner_is_not_told_where_it_should_lie(
    stage: Stage, missing: str, slug: str
) -> None:
    with stage.database.write() as session:
        session.execute(text(f"UPDATE serving SET {missing} = 'gone'"))
    job = stage.expand()
    assert job.error is not None
    assert job.error["type"] == f"/problems/{slug}"
    assert "missing or cannot be loaded" in job.error["detail"]
    assert "/" not in job.error["detail"]


def test_a_full_disk_at_publish_leaves_nothing_and_the_next_job_unharmed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stage.world.artifacts.audiences.names("audiences")

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        job = stage.expand(audience_size=50)
    assert job.state == State.QUEUED  # to be tried again
    assert stage.world.artifacts.audiences.names("audiences") == before
    assert stage.expand(audience_size=50).state == State.SUCCEEDED


def test_quality_comes_from_seeds_that_were_hidden(stage: Stage) -> None:
    job = stage.expand(audience_size=80)
    assert job.result is not None
    quality = job.result["quality"]
    low, high = quality["heldout_auc_interval"]
    assert 0.5 < low < quality["heldout_auc"] < high
    assert [point["size"] for point in quality["lift_curve"]] == [4, 8, 20, 40, 80]
    assert quality["lift_curve"][-1]["lift"] > 1
    assert 0 < quality["seeds_held_out"] <= len(stage.world.seeds())
    assert "chance" in quality["verdict"]
    assert job.result["warnings"] == []


def test_insights_tell_what_sets_the_members_apart_but_nothing_of_denied_features(stage: Stage) -> None:
    job = stage.expand(audience_size=80)
    ids, _ = stage.members(job)
    features = stage.pool.take(stage.pool.ordinals(ids)).columns
    insights = stage.insights(job)
    city = next(insight for insight in insights if insight["feature"] == "city")
    cities = stage.pool.dictionaries[[feature.name for feature in stage.pool.features].index("city")]
    assert {insight["feature"] for insight in insights} >= {"city", "hobbies"}
    code = cities.index(city["value"]).as_py()
    assert city["audience_share"] == np.mean(features[0].codes == code)
    assert max(insight["lift"] for insight in insights) > 1.2
    denied = stage.insights(stage.expand(audience_size=80, deny_features=["city"]))
    assert denied
    assert all(insight["feature"] != "city" for insight in denied)


def test_an_old_model_is_a_warning(stage: Stage) -> None:
    with stage.database.write() as session:
        session.execute(text("UPDATE model_versions SET trained_at = '2026-01-02 03:04:05.000000'"))
    result = stage.expand(audience_size=10).result
    assert result is not None
    assert "stale_model" in [warning["code"] for warning in result["warnings"]]


def test_random_seeds_get_a_warning_that_they_have_nothing_in_common(stage: Stage) -> None:
    everybody = stage.pool.user_ids(np.arange(USERS))
    job = stage.expand([str(user) for user in np.random.default_rng(2).choice(everybody, 60, replace=False)])
    assert job.result is not None
    assert [warning["code"] for warning in job.result["warnings"]] == ["low_signal"]
    told = stage.metrics.registry.get_sample_value("lookalike_audience_warnings_total", {"code": "low_signal"})
    assert told == 1
    assert job.result["quality"]["verdict"].startswith("no signal")
