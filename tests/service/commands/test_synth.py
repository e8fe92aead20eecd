"""`lookalike data synth`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.dataset import load_dataset
from model.errors import DataError
from model.synthetic import SCENARIOS
from service.__main__ import app
from service.commands.data import World


def test_every_scenario_can_be_named() -> None:
    assert [world.value for world in World] == list(SCENARIOS)


def test_a_world_of_the_size_asked_for_is_made(tmp_path: Path) -> None:
    out = tmp_path / "world"
    done = CliRunner().invoke(app, ["data", "synth", "--out", str(out), "--users", "4500", "--campaigns", "3"])
    assert done.exit_code == 0
    dataset = load_dataset(out)
    assert (len(dataset.users), len(dataset.campaign_ids)) == (4_500, 3)


def test_too_few_users_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        CliRunner().invoke(
            app, ["data", "synth", "--out", str(tmp_path / "world"), "--users", "10"], catch_exceptions=False
        )
