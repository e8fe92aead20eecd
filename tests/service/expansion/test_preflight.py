"""A preflight tells what an expansion would find, and no more than that may be told."""

from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.audiences.tables import Audience
from service.expansion.eligibility import eligible_users
from service.jobs.states import State
from tests.fixtures.stage import MIN_SEEDS, Stage
from tests.fixtures.tiny import USERS


def found(stage: Stage, seeds: list[str] | None = None, **options: Any) -> dict[str, Any]:
    job = stage.preflight(seeds, **options)
    assert job.state == State.SUCCEEDED, job.error
    assert job.result is not None
    return job.result


def codes(result: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in result["warnings"]]


def test_it_finds_what_the_expansion_finds_and_makes_no_audience(stage: Stage) -> None:
    seeds = [*stage.world.seeds(), stage.world.seeds()[0], "nobody"]
    rules = ({"feature": "age", "min": 30},)
    result = found(stage, seeds, eligibility=rules)
    with stage.database.read() as session:
        assert session.query(Audience).count() == 0
    expanded = stage.expand(seeds, eligibility=rules).result
    assert expanded is not None
    assert result["seed"] == expanded["seed"]
    assert result["pool"] == {"size": USERS, "eligible": expanded["pool_eligible"]}
    assert result["rules"] == [
        {"rule": "MIN_SEEDS", "limit": MIN_SEEDS, "value": expanded["seed"]["matched"], "ok": True},
        {"rule": "audience_size", "limit": USERS // 2, "value": 4, "ok": True},
    ]


def test_below_the_least_number_of_seeds_no_match_count_is_told(stage: Stage) -> None:
    few, none = ([*stage.world.seeds()[:known], *(f"x{n}" for n in range(30 - known))] for known in (24, 0))
    results = [found(stage, seeds) for seeds in (few, none)]
    assert results[0] == results[1]
    seed = results[0]["seed"]
    assert (seed["unique"], seed["matched"], seed["unknown"], seed["match_rate"]) == (30, None, None, None)
    assert results[0]["rules"][0] == {"rule": "MIN_SEEDS", "limit": MIN_SEEDS, "value": None, "ok": False}
    assert codes(results[0]) == []


def test_warnings_are_those_of_the_expansion(stage: Stage) -> None:
    seeds = [*stage.world.seeds()[:30], *(f"nobody{index}" for index in range(40))]
    result = found(stage, seeds, audience_size=USERS)
    assert {"low_match_rate", "audience_truncated"} <= set(codes(result))
    assert result["rules"][1] == {"rule": "audience_size", "limit": USERS // 2, "value": USERS, "ok": False}


@pytest.mark.parametrize("denied", [(), ("age",)])
def test_seeds_with_nothing_in_common_are_told_from_those_that_have(stage: Stage, denied: tuple[str, ...]) -> None:
    everybody = stage.pool.user_ids(np.arange(USERS))
    drawn = [str(user) for user in np.random.default_rng(2).choice(everybody, 60, replace=False)]
    assert "low_signal" in codes(found(stage, drawn, deny_features=denied))
    alike = stage.pool.user_ids(np.flatnonzero(eligible_users(stage.pool, [{"feature": "city", "in": ["city0"]}])))
    assert len(alike) >= MIN_SEEDS
    assert "low_signal" not in codes(found(stage, alike, deny_features=denied))


def test_rules_that_let_nobody_in_leave_nobody_to_compare_with(stage: Stage) -> None:
    result = found(stage, eligibility=({"feature": "city", "in": ["Atlantis"]},))
    assert result["pool"]["eligible"] == 0
    assert codes(result) == []


def test_it_does_not_count_as_a_job(stage: Stage) -> None:
    registry: CollectorRegistry = stage.metrics.registry

    def counted() -> dict[str, float]:
        names = ("lookalike_job", "lookalike_seed", "lookalike_adaptation", "lookalike_audience", "lookalike_users")
        samples = [sample for family in registry.collect() for sample in family.samples]
        return {str(sample): sample.value for sample in samples if sample.name.startswith(names)}

    before = counted()
    found(stage)
    stage.preflight(model_version="gone")
    assert counted() == before
