"""`lookalike expand`: seeds in whatever form people have them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.__main__ import app
from service.campaigns.inputs import ExpansionInputs
from service.commands.kit import CommandError
from service.jobs.repository import get_payload
from service.kit.database import Database

SEEDS = {
    "seeds.txt": "b\n\n a \n",
    "seeds.CSV": "User_ID,weight\nb,1\na,2\n",
    "seeds.jsonl": '{"user_id":"b"}\n{"user_id":"a","weight":2}\n',
}


def expand(path: Path) -> str:
    done = CliRunner().invoke(app, ["expand", "spring", "--seeds", str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.strip()


def test_a_file_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    weights = []
    for name, text in SEEDS.items():
        (tmp_path / name).write_text(text)
        job_id = expand(tmp_path / name)
        database = Database(f"sqlite:///{tmp_path / 'lookalike.db'}")
        with database.read() as session:
            inputs = ExpansionInputs.decode(get_payload(session, job_id) or b"")
        database.dispose()
        assert inputs.seeds == ("a", "b")
        weights.append(inputs.weights)
    assert weights == [None, (2.0, 1.0), (2.0, 1.0)]


@pytest.mark.parametrize("name", ["c!", "-c", "c" * 65, ""])
def test_a_campaign_that_no_path_could_name_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    (tmp_path / "seeds.txt").write_text("a")
    done = CliRunner().invoke(app, ["expand", "--seeds", str(tmp_path / "seeds.txt"), "--", name])
    assert done.exit_code == 2
    assert "64 letters" in done.stderr
    assert not (tmp_path / "lookalike.db").exists()


def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "seeds.csv").write_text("user_id,weight\na,1\nb,none\n")
    with pytest.raises(CommandError, match="/lines/3/weight: must be a number"):
        expand(tmp_path / "seeds.csv")
