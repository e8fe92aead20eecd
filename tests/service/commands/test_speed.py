from pathlib import Path

from typer.testing import CliRunner

from service.__main__ import app


def test_an_unknown_row_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["speed", "--rows", "topk_1m,guess", "--cache", str(tmp_path)])
    assert result.exit_code != 0
    assert "unknown rows: guess" in str(result.exception)
