"""`lookalike train`, run as a command in an embedded service of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.model.worlds import make_dataset, write


def test_auto_trains_both_recipes_and_says_which_is_kept(tmp_path: Path) -> None:
    write(make_dataset(users=600, campaigns=12, rows=100), tmp_path / "data")
    command = [sys.executable, "-m", "service", "train", "--data", tmp_path / "data", "--preset", "auto"]
    done = subprocess.run(
        [*command, "--max-minutes", "0.1"],
        env=os.environ | {"LOOKALIKE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept = done.stdout.strip().split("-")[0]
    said = " ".join(done.stderr.split())
    assert kept in ("default", "metaheac")
    assert f"; {kept} is kept" in said
    assert "AUC on validation campaigns: default 0." in said
    assert ", metaheac 0." in said
