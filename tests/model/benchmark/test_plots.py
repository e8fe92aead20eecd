from pathlib import Path

from model.benchmark.plots import write_plots
from model.benchmark.report import results
from model.benchmark.run import Finished
from tests.model.benchmark.test_report import aucs, unit

PNG = b"\x89PNG"


def test_curves_and_bars_are_pictures(tmp_path: Path) -> None:
    slices = ("all", "cold", "hot", "seeds_25", "seeds_50")
    units = tuple(unit(method, seed, aucs(10, 0.6, seed), *slices) for method in ("lr", "default") for seed in (0, 1))
    written = write_plots(results("made-up", Finished(units, ())), tmp_path)
    assert [path.name for path in written] == ["curve_auc.png", "bars_auc.png", "curve_p_at_5.png", "bars_p_at_5.png"]
    assert all(path.read_bytes().startswith(PNG) for path in written)


def test_a_curve_of_one_point_is_not_drawn(tmp_path: Path) -> None:
    units = (unit("lr", 0, aucs(10, 0.6, 0), "all", "cold", "seeds_25"),)
    written = write_plots(results("made-up", Finished(units, ())), tmp_path)
    assert [path.name for path in written] == ["bars_auc.png", "bars_p_at_5.png"]
