"""Alerts lead to a section of the runbook, Prometheus takes the rules, Grafana shows six rows."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.observability import ALERTS, DASHBOARD, DOCKER, PROMTOOL, RECORDED, promtool

ROOT = DOCKER.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SECTIONS = re.findall(r"^### (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(alert["alert"] for alert in ALERTS)


def test_every_window_of_the_error_budget_is_recorded() -> None:
    assert [f"lookalike:http_error_ratio:rate{window}" for window in ("5m", "30m", "1h", "6h", "3d")] == RECORDED


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "question",
    [("check", "rules", DOCKER / "alerts.yml"), ("test", "rules", ROOT / "tests" / "docker" / "alerts_test.yml")],
)
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(question: tuple[str | Path, ...]) -> None:
    assert promtool(*question) == ""


def test_the_dashboard_has_its_six_rows_and_its_panels_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "User view",
        "Jobs",
        "Model",
        "Adaptation and scoring",
        "Quality",
        "Stores",
    ]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells


def test_compose_gives_prometheus_its_rules_and_grafana_its_dashboard_and_data() -> None:
    prometheus, grafana = (COMPOSE["services"][name] for name in ("prometheus", "grafana"))
    assert prometheus["profiles"] == grafana["profiles"] == ["observability"]
    (rules,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["rule_files"]
    assert f"./docker/{rules}:/etc/prometheus/{rules}:ro" in prometheus["volumes"]
    (provider,) = yaml.safe_load((DOCKER / "grafana" / "dashboards.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./docker/grafana/dashboard.json:{folder}/dashboard.json:ro" in grafana["volumes"]
    (source,) = yaml.safe_load((DOCKER / "grafana" / "datasource.yml").read_text())["datasources"]
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}
    assert uids == {source["uid"]}
