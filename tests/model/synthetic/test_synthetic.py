"""Made-up worlds: there is a truth to find, and it is the same truth whenever it is asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.dataset import USERS, Dataset, load_dataset
from model.errors import DataError
from model.metrics import auc
from model.synthetic import SCENARIOS, Scenario, write_synthetic
from model.synthetic import world as worlds
from model.synthetic.scenarios import ORDINARY, REFERENCE, WECHAT
from model.synthetic.world import World

ZIPF = np.arange(1.0, 1_000.0) ** -1.05
SMALL = replace(ORDINARY, rows=(1_000, 1_000))


def written(directory: Path, scenario: Scenario = SMALL, *, users: int = 2_000, seed: int = 0) -> Dataset:
    write_synthetic(directory, scenario, users=users, campaigns=4, seed=seed)
    return load_dataset(directory)


def known_chances(dataset: Dataset, scenario: Scenario, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each campaign, its labels and the chances that the world gave its users."""
    world = World(scenario, seed)
    tastes = np.concatenate([block for _, block, _ in world.blocks(len(dataset.users))])
    _, aims = world.campaigns(len(dataset.campaign_ids))
    found = dataset.interactions
    rows = [dataset.rows_of(campaign) for campaign in range(len(aims))]
    return [
        (found.label[row], world.chances(tastes[found.user[row]], aim)) for row, aim in zip(rows, aims, strict=True)
    ]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_makes_a_dataset_that_loads(name: str, tmp_path: Path) -> None:
    scenario = replace(SCENARIOS[name], rows=(200, 400))
    dataset = written(tmp_path / "world", scenario, users=500)
    assert dataset.schema == scenario.schema
    assert not dataset.warnings
    assert len(dataset.users) == 500


@pytest.mark.parametrize("scenario", [SMALL, replace(WECHAT, rows=(1_000, 1_000))], ids=["ordinary", "wechat"])
def test_who_knows_the_truth_ranks_well_and_is_calibrated(scenario: Scenario, tmp_path: Path) -> None:
    truth = known_chances(written(tmp_path / "world", scenario), scenario)
    assert np.mean([auc(labels.astype(np.float32), chances) for labels, chances in truth]) > 0.85
    labels, chances = (np.concatenate(part) for part in zip(*truth, strict=True))
    for low in np.arange(0, 1, 0.2):
        inside = (chances >= low) & (chances < low + 0.2)
        error = 3 * np.sqrt(chances[inside].mean() * (1 - chances[inside].mean()) / inside.sum())
        assert labels[inside].mean() == pytest.approx(chances[inside].mean(), abs=error)
    assert labels.mean() == pytest.approx(scenario.positives, abs=0.05)


def test_a_world_is_the_same_whatever_the_size_it_is_written_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "BLOCK_USERS", 512)
    few, many = (written(tmp_path / str(users), users=users).users for users in (1_000, 1_700))
    assert many.slice(0, 1_000).equals(few)


def test_a_world_is_the_same_on_one_core_and_on_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "BLOCK_USERS", 512)
    found = []
    for cores in ({0}, {0, 1, 2}):
        monkeypatch.setattr(worlds.os, "sched_getaffinity", lambda _, cores=cores: cores)
        found.append([(start, len(tastes), table) for start, tastes, table in World(SMALL, 0).blocks(2_000)])
    assert [start for start, _, _ in found[0]] == [0, 512, 1_024, 1_536]
    assert found[0] == found[1]


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_world(tmp_path: Path) -> None:
    for number, seed in enumerate((0, 0, 1)):
        written(tmp_path / str(number), seed=seed)
    first, again, other = ((tmp_path / str(number) / USERS).read_bytes() for number in range(3))
    assert first == again
    assert first != other


@pytest.mark.parametrize("chances", [[1.0], [0.5, 0.5], [0.7, 0.2, 0.1, 0.0], ZIPF / ZIPF.sum()])
def test_an_alias_table_draws_each_entry_with_its_chance(chances: Sequence[float]) -> None:
    keep, other = worlds._alias_table(np.array(chances))
    drawn = keep / len(keep) + np.bincount(other, (1 - keep) / len(keep), len(keep))
    np.testing.assert_allclose(drawn, chances, atol=1e-12)


def test_values_are_popular_by_zipfs_law(tmp_path: Path) -> None:
    dataset = written(tmp_path / "world", replace(REFERENCE, rows=(100, 100)), users=20_000)
    held = dataset.users.column("single2").value_counts().to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in held}
    first, tenth = counts["single2-0"], counts["single2-9"]
    assert first / tenth == pytest.approx(10**1.05, rel=0.35)


def test_campaigns_of_the_same_features_are_after_the_same_people_where_features_tell_all() -> None:
    scenario = replace(SMALL, campaign_fields=(replace(ORDINARY.campaign_fields[0], values=1),), told=1.0)
    _, aims = World(scenario, 0).campaigns(3)
    np.testing.assert_allclose(aims[0], aims[1])
    _, aims = World(replace(scenario, told=0.0), 0).campaigns(3)
    assert not np.allclose(aims[0], aims[1])


def test_a_user_has_a_value_once_and_no_more_than_there_may_be(tmp_path: Path) -> None:
    dataset = written(tmp_path / "world")
    lists = [held for held in dataset.users.column("interests").to_pylist() if held is not None]
    assert all(len(set(held)) == len(held) for held in lists)
    assert max(map(len, lists)) <= 12
    assert 0.01 < dataset.users.column("region").null_count / 2_000 < 0.03


def test_too_few_users_for_a_campaign_are_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1,000 rows; 999 users are too few"):
        written(tmp_path / "world", users=999)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path / "world")
    with pytest.raises(DataError, match="is there already"):
        written(tmp_path / "world")


def test_users_come_in_row_groups_so_that_a_large_world_can_be_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "BLOCK_USERS", 512)
    written(tmp_path / "world")
    assert pq.ParquetFile(tmp_path / "world" / USERS).num_row_groups == 4
