import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.__main__ import app
from tests.model.worlds import make_dataset, write

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("benchmark") / "tiny"
    write(make_dataset(campaigns=40, rows=80), directory)
    return directory


def invoke(data: Path, out: Path, *options: str) -> str:
    result = RUNNER.invoke(app, ["benchmark", "--data", str(data), "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_plots_and_results_are_made(data: Path, tmp_path: Path) -> None:
    shown = invoke(data, tmp_path, "--methods", "centroid", "--seeds", "2")
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["dataset"] == "tiny"
    assert document["seeds"] == 2
    assert {row["method"] for row in document["rows"]} == {"random", "activity", "centroid"}
    assert {"all", "cold", "hot", "pu"} <= {row["slice"] for row in document["rows"]}
    assert "### cold" in shown
    assert (tmp_path / "bars_auc.png").exists()


def test_an_unknown_method_is_named(data: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["benchmark", "--data", str(data), "--out", str(tmp_path), "--methods", "lr,guess"])
    assert result.exit_code != 0
    assert "unknown methods: guess" in str(result.exception)


def test_a_killed_benchmark_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "benchmark", "--data", str(data), "--out", str(tmp_path)]
    command += ["--methods", "centroid", "--seeds", "200"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    units = tmp_path / "units"
    deadline = time.monotonic() + 60
    while len(list(units.glob("*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.wait()
    done = {path: path.stat().st_mtime_ns for path in units.glob("*.json")}
    assert len(done) >= 4
    invoke(data, tmp_path, "--methods", "centroid", "--seeds", "2")
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert json.loads((tmp_path / "results.json").read_text())["seeds"] == 2
