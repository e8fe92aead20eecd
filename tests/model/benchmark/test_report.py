import json
from pathlib import Path

import numpy as np
import pytest

from model.benchmark.judge import CampaignScore, SliceScore, Unit
from model.benchmark.report import results, table, write_results
from model.benchmark.run import Finished


def unit(method: str, seed: int, aucs: dict[str, float], *slices: str) -> Unit:
    campaigns = tuple(CampaignScore(name, 10, 50, auc, auc / 2, 0.1, 0.2, 0.3, 0.6, 0.01) for name, auc in aucs.items())
    found = SliceScore(campaigns, 0.5)
    return Unit(method, seed, None, 3.0, 2.0, 1e6, dict.fromkeys(slices or ("all",), found), ())


def aucs(count: int, level: float, seed: int) -> dict[str, float]:
    noise = np.random.default_rng(seed).normal(0, 0.02, count)
    return {f"c{number}": level + float(noise[number]) for number in range(count)}


def test_means_are_over_campaigns_then_over_splits() -> None:
    units = (unit("lr", 0, {"a": 0.5, "b": 0.7}), unit("lr", 1, {"b": 0.8}))
    document = results("made-up", Finished(units, ()))
    (row,) = document["rows"]
    assert (row["method"], row["slice"], row["campaigns"]) == ("lr", "all", 2)
    assert row["auc"] == {"mean": pytest.approx(0.7), "std": pytest.approx(np.sqrt(0.02))}
    assert row["p_at_5"]["mean"] == pytest.approx(0.35)
    assert (row["pretrain_seconds"], row["adapt_seconds_per_campaign"], row["users_per_second"]) == (2.0, 0.01, 1e6)
    assert (document["dataset"], document["seeds"], document["tests"]) == ("made-up", 2, [])
    assert document["machine"]["cores"] >= 1


def test_the_best_is_compared_with_the_second() -> None:
    units = tuple(
        unit(method, seed, aucs(12, level, seed))
        for seed in range(3)
        for method, level in (("random", 0.5), ("lr", 0.7), ("default", 0.75))
    )
    (test,) = (test for test in results("made-up", Finished(units, ()))["tests"] if test["metric"] == "auc")
    assert (test["slice"], test["first"], test["second"]) == ("all", "default", "lr")
    assert test["difference"] == pytest.approx(0.05)
    assert test["p_value"] < 0.01


def test_a_method_that_lacks_a_split_is_marked_and_not_compared() -> None:
    units = (unit("lr", 0, {"a": 0.6}), unit("lr", 1, {"a": 0.6}), unit("default", 0, {"a": 0.9}))
    document = results("made-up", Finished(units, ()))
    assert document["tests"] == []
    assert "default (1 of 2 splits)" in table(document)


def test_a_point_of_the_curve_with_few_campaigns_is_left_out_by_name() -> None:
    units = (unit("lr", 0, aucs(10, 0.6, 0), "all", "seeds_25"), unit("lr", 1, aucs(9, 0.6, 0), "seeds_100"))
    document = results("made-up", Finished(units, ()))
    assert [row["slice"] for row in document["rows"]] == ["all", "seeds_25"]
    assert "seeds_100: 9 test campaigns, at least 10 are needed" in document["left_out"]


def test_the_table_ranks_by_auc_and_says_what_was_cut() -> None:
    units = (unit("random", 0, {"a": 0.5}), unit("lr", 0, {"a": 0.6}))
    text = table(results("made-up", Finished(units, ("mmoe, split 0: no time left",))))
    assert text.index("| lr |") < text.index("| random |")
    assert "* mmoe, split 0: no time left" in text


def test_results_are_json_without_odd_numbers(tmp_path: Path) -> None:
    units = (unit("random", 0, {"a": 0.5}), unit("lr", 0, {"a": 0.6}))
    write_results(results("made-up", Finished(units, ())), tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["rows"][0]["auc"] == {"mean": 0.5, "std": None}
    assert document["tests"][0]["low"] is None
