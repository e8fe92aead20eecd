"""What a run leaves: figures, JSON, and a history that tells a slowdown."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from model.__main__ import main
from model.errors import ModelError
from model.speed import command
from model.speed.bench import Bench
from model.speed.history import remember
from model.speed.report import figure
from model.speed.row import NotEqual, Row
from model.speed.run import Measured
from model.speed.timing import LEAST_ROUNDS, interleaved
from model.speed.world import CAMPAIGN_ROWS
from tests.model.speed.conftest import LIMITS

MACHINE = {"processor": "any", "cores": 2, "threads": 2, "memory_gb": 1.0, "system": "Linux", "torch": "2"}
FAST = Row("fast", "users/s", 3e6, 1e6, "plain", limit=12e6)
QUICK = Row("quick", "ms", 2.0, 6.0, "plain", limit=0.5)
OTHER = Row("other", "users/s", 1e5, 1e6, "ours")


def test_rates_and_times_are_compared_by_speed() -> None:
    assert (FAST.ratio, FAST.limit_share) == (3, 0.25)
    assert (QUICK.ratio, QUICK.limit_share) == (3, 0.25)
    assert (OTHER.ratio, OTHER.limit_share) == (0.1, None)


def test_figures_have_three_digits_that_count() -> None:
    assert figure(123_456_789.0, "users/s") == "123 M users/s"
    assert figure(45_678.0, "users/s") == "45.7 k users/s"
    assert figure(1_234.5, "ms") == "1,234 ms"
    assert figure(0.1234, "ms") == "0.123 ms"


def test_works_take_turns_and_the_median_counts() -> None:
    order: list[str] = []
    first, second = interleaved([lambda: order.append("A"), lambda: order.append("B")], 0)
    assert order == ["A", "B"] * LEAST_ROUNDS
    assert first > 0
    assert second > 0


def make_measured(*rows: Row, machine: dict[str, object] = MACHINE, refused: tuple[str, ...] = ()) -> Measured:
    return Measured(rows, refused, (), LIMITS, machine, CAMPAIGN_ROWS)


def test_a_slower_row_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for factor in (1.0, 0.9, 1.1):
        run = make_measured(replace(FAST, value=factor * FAST.value), replace(QUICK, value=factor * QUICK.value))
        assert remember(run, path) == []
    slower = make_measured(replace(FAST, value=0.79 * FAST.value), replace(QUICK, value=QUICK.value / 0.79), OTHER)
    warnings = remember(slower, path)
    assert [warning.split(" times")[0] for warning in warnings] == ["fast: 0.79", "quick: 0.79"]
    assert "3 earlier runs (median 3e+06 users/s)" in warnings[0]


def test_other_machines_and_thread_counts_are_not_compared_with(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    remember(make_measured(FAST), path)
    slow = replace(FAST, value=1.0)
    for key, value in (("threads", 1), ("processor", "another"), ("cores", 64)):
        assert remember(make_measured(slow, machine={**MACHINE, key: value}), path) == []
    assert remember(make_measured(slow, machine={**MACHINE, "torch": "3"}), path)


def test_the_history_says_when_where_and_of_which_code(tmp_path: Path) -> None:
    remember(make_measured(FAST), tmp_path / "history.jsonl")
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    run = json.loads(line)
    assert set(run) == {"date", "commit", "conditions", "machine", "rows"}
    assert run["rows"] == [FAST.document()]


@pytest.mark.usefixtures("known_limits")
def test_json_has_exactly_the_agreed_fields(cache: Path, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"fast": lambda _: FAST, "other": lambda _: OTHER}
    command.speed(users=CAMPAIGN_ROWS, names="other,fast", threads=2, cache=cache, as_json=True, rows=rows)
    assert json.loads(capsys.readouterr().out) == [
        {"name": "other", "value": 1e5, "unit": "users/s", "reference": 1e6, "ratio": 0.1, "limit_share": None},
        {"name": "fast", "value": 3e6, "unit": "users/s", "reference": 1e6, "ratio": 3.0, "limit_share": 0.25},
    ]
    assert (cache / "history.jsonl").exists()


@pytest.mark.usefixtures("known_limits")
def test_a_table_is_shown_before_a_wrong_row_ends_the_command(
    cache: Path, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(_: Bench) -> Row:
        raise NotEqual("wrong: at rank 1 is user 3, by the reference user 5")

    rows = {"wrong": wrong, "quick": lambda _: QUICK}
    with pytest.raises(ModelError, match="1 rows give another answer"):
        command.speed(users=CAMPAIGN_ROWS, names=None, threads=1, cache=cache, as_json=False, rows=rows)
    shown = capsys.readouterr()
    assert "| quick |  2 ms |      6 ms |" in shown.out
    assert "refused: wrong: at rank 1" in shown.err
    assert "1 threads; 20,000 users" in shown.err


def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["model", "speed", "--rows", "guess", "--cache", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("speed: unknown rows: guess")
