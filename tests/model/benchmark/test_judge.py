from pathlib import Path

import numpy as np
import pytest
import torch

from model.benchmark.judge import Unit, judge
from model.benchmark.protocol import ALL, Protocol
from model.errors import ModelError
from model.metrics import auc, precision_at
from tests.model.benchmark.conftest import Scripted

CPU = torch.device("cpu")


def judged(protocol: Protocol, max_seconds: float = np.inf, method: Scripted | None = None) -> Unit:
    method = method or Scripted("one")
    return judge(protocol, method, 0, max_seconds=max_seconds, device=CPU, progress=lambda *_: None)


def test_the_figures_are_those_of_the_scores(protocol: Protocol) -> None:
    unit = judged(protocol)
    tasks = dict(protocol.parts(0))[ALL]
    assert len(unit.slices["all"].campaigns) == len(tasks)
    for held, found in zip(tasks, unit.slices["all"].campaigns, strict=True):
        scores = (held.task.candidates % 97) / 97
        assert found.campaign == protocol.dataset.campaign_ids[held.task.campaign]
        assert (found.auc, found.p_at_5) == (auc(held.labels, scores), precision_at(held.labels, scores, 0.05))
        assert (found.seeds, found.rows) == (held.seeds, len(held.labels))
    pooled = [np.concatenate(parts) for parts in zip(*((h.labels, h.task.candidates % 97) for h in tasks), strict=True)]
    assert unit.slices["all"].pooled_auc == pytest.approx(auc(*pooled))


def test_slices_without_a_campaign_are_not_there(protocol: Protocol) -> None:
    slices = judged(protocol).slices
    assert {"all", "cold", "hot", "pu", "pu_hot", "pu_matched", "seeds_25"} <= set(slices)
    assert "seeds_2000" not in slices


def test_without_time_all_campaigns_are_judged_and_the_rest_is_named(protocol: Protocol) -> None:
    unit = judged(protocol, max_seconds=0.0)
    assert set(unit.slices) == {"all", "cold", "hot"}
    assert {"pu", "pu_matched", "seeds_25"} <= set(unit.cut)


def test_a_method_gets_its_share_and_no_test_campaign(protocol: Protocol) -> None:
    method = Scripted("one")
    judged(protocol, max_seconds=100.0, method=method)
    assert method.given is not None
    assert method.given.max_seconds == pytest.approx(60)
    assert all(len(method.given.dataset.rows_of(int(campaign))) == 0 for campaign in method.given.split.test)


def test_a_saved_result_is_read_back(protocol: Protocol, tmp_path: Path) -> None:
    unit = judged(protocol, max_seconds=0.0)
    unit.save(tmp_path / "unit.json")
    assert Unit.load(tmp_path / "unit.json") == unit
    assert [path.name for path in tmp_path.iterdir()] == ["unit.json"]


@pytest.mark.parametrize("text", ["", "{}", '{"slices": {"all": {}}}'])
def test_a_broken_result_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "unit.json").write_text(text)
    with pytest.raises(ModelError, match=r"unit\.json"):
        Unit.load(tmp_path / "unit.json")
