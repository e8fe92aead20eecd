from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.adapt_network import AdaptedHead
from model.pool import Pool, encode_users
from model.scoring import first_layer, network_logits
from model.scoring.network_plan import NetworkPlan
from model.scoring.plan import score_plan
from model.scoring.rough_layers import faster_precision
from model.scoring.scores import least_logit, least_score
from tests.model.conftest import World
from tests.model.test_adapt import adapt_in, make_labelled

EVERYBODY = np.arange(300)


def make_plan(
    world: World, pool: Pool | None = None, deny: Sequence[str] = (), precision: torch.dtype | None = None
) -> NetworkPlan:
    head = adapt_in(world, make_labelled(world), deny=frozenset(deny))
    assert isinstance(head, AdaptedHead)
    plan = score_plan(world.model, head, pool or world.pool, None, deny=frozenset(deny), precision=precision)
    assert isinstance(plan, NetworkPlan)
    return plan


def odd_users(world: World) -> Pool:
    """The users of the world, and some of whom little or nothing is known."""
    rows = {
        "user_id": [f"x{number}" for number in range(6)],
        "city": [None, "nowhere", "city1", None, "city0", "city2"],
        "hobbies": [None, ["idling"], [], ["hobby1", "hobby2", "idling"], None, [f"hobby{n}" for n in range(4)]],
        "age": [None, float("nan"), -1e30, 1e30, 40.0, None],
        "face": [None, [1e30] * 3, [-1e30, 0.0, 1e30], None, [0.0] * 3, None],
    }
    users = world.dataset.users
    odd = pa.table({name: pa.array(values, users.schema.field(name).type) for name, values in rows.items()})
    return encode_users(pa.concat_tables([users, odd]), world.dataset.schema.user_features)


@pytest.mark.parametrize("deny", [(), ("city",), ("hobbies", "face"), ("city", "hobbies", "age", "face")])
@pytest.mark.parametrize("most_rows", [1 << 16, 10, 0])
@pytest.mark.parametrize(("precision", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_a_rough_score_is_no_further_from_the_exact_one_than_promised(
    metaheac_world: World,
    monkeypatch: pytest.MonkeyPatch,
    deny: Sequence[str],
    most_rows: int,
    precision: torch.dtype,
    error: float,
) -> None:
    monkeypatch.setattr(first_layer, "_MOST_ROWS", most_rows)
    monkeypatch.setattr(network_logits, "_SAMPLE", 20)
    plan = make_plan(metaheac_world, odd_users(metaheac_world), deny, precision)
    everybody = np.arange(plan.pool.size)
    rough, scores = plan.rough(0, len(everybody)), plan.score_users(everybody)
    assert plan.error < error
    assert np.abs(rough.numpy() - plan.exact_logits(everybody)).max() < plan.error
    for number, score in zip(rough.tolist(), scores.tolist(), strict=True):
        # Whoever has at least this rough number scores at least so much, and the other way round.
        assert score >= least_score(number, plan.error)
        assert number >= least_logit(score, plan.error)


def test_rough_scores_are_the_same_from_one_thread_or_several_and_in_any_blocks(metaheac_world: World) -> None:
    plan = make_plan(metaheac_world)
    rough = plan.rough(0, 300)
    starts = list(range(0, 300, 50))
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda start: plan.rough(start, start + 50), starts * 3))
    for start, part in zip(starts * 3, parts, strict=True):
        assert float((part - rough[start : start + 50]).abs().max()) < plan.error
    assert len(plan.rough(7, 7)) == 0


def test_no_batch_and_no_thread_changes_a_bit_of_a_score(metaheac_world: World) -> None:
    plan = make_plan(metaheac_world)
    logits = plan.exact_logits(EVERYBODY)
    shuffled = np.random.default_rng(0).permutation(300)
    assert np.array_equal(plan.exact_logits(shuffled), logits[shuffled])
    assert np.array_equal(
        np.concatenate([plan.exact_logits(EVERYBODY[user : user + 1]) for user in range(20)]), logits[:20]
    )
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(plan.exact_logits, [EVERYBODY] * 8):
            assert np.array_equal(found, logits)
    threads_before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert np.array_equal(plan.exact_logits(EVERYBODY), logits)
    finally:
        torch.set_num_threads(threads_before)
    assert len(plan.score_users(np.empty(0, np.int64))) == 0


def test_a_device_without_compiled_loops_gives_the_same_rough_scores(metaheac_world: World) -> None:
    plan = make_plan(metaheac_world)
    users = plan.translation.batch(plan.pool.block(0, 300), plan.device)
    assert float((plan.rough_on_device(users) - plan.rough(0, 300)).abs().max()) < plan.error


def test_the_model_itself_is_left_alone(metaheac_world: World) -> None:
    before = metaheac_world.model.sha256
    plan = make_plan(metaheac_world)
    plan.rough(0, 300)
    plan.score_users(EVERYBODY)
    assert replace(metaheac_world.model).sha256 == before


def test_the_precision_is_chosen_once_by_trying() -> None:
    assert faster_precision() in (torch.float32, torch.bfloat16)
    assert faster_precision() is faster_precision()
