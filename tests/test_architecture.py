"""What the import contracts of pyproject.toml say, seen in a running process."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("entry", ["service.__main__", "service.app", "service.scheduler"])
def test_a_process_that_does_not_score_loads_no_torch(entry: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {entry}; print(*sys.modules)"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert entry in loaded
    assert not {"torch", "safetensors", "numba"} & set(loaded)
