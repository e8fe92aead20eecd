"""What the pages of the documentation name is there: commands, settings, files, series, lines of the log, charts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from opentelemetry.sdk import environment_variables

from service.__main__ import app
from service.config import Settings
from service.kit.metrics import DatabaseCounts, Metrics
from tests.fixtures.observability import DASHBOARD, RECORDED

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
RUNBOOK = PAGES["runbook.md"]

Found = set[tuple[str, str]]


def code(text: str) -> Iterator[str]:
    """What is set as code: fenced, indented or between backticks; drawings are not."""
    yield from re.findall(r"^```(?!mermaid)\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^    .*\n)+", rest, re.MULTILINE):
        yield block.replace("\\\n", " ")
    yield from re.findall(r"`([^`]+)`", rest)


def named(pattern: str) -> Found:
    """Every match in code, with the page that it stands in. There are some, or the pattern is wrong."""
    found = {(page, name) for page, text in PAGES.items() for part in code(text) for name in re.findall(pattern, part)}
    assert found
    return found


def source(folder: str) -> str:
    return "\n".join(file.read_text() for file in (ROOT / folder).rglob("*.py"))


def is_command(words: list[str]) -> bool:
    """Whether `lookalike` has it, and the command each of its options."""
    command: Any = typer.main.get_group(app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return False
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    return {word.strip("[") for word in words if word.strip("[").startswith("--")} <= options | {"--help"}


def test_commands_and_their_options_exist() -> None:
    commands = named(r"(?<!namespace )(?<![\w@/:.-])lookalike ([a-z][^#>|'\n]*)")
    assert {(page, words) for page, words in commands if not is_command(words.split())} == set()


def test_modules_that_are_run_and_targets_of_make_exist() -> None:
    modules = {(page, name, ROOT / name.replace(".", "/")) for page, name in named(r"python -m ([a-z.]+)")}
    missing = {
        each for each in modules if not (each[2].with_suffix(".py").exists() or (each[2] / "__main__.py").exists())
    }
    assert missing == set()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {(page, name) for page, name in named(r"\bmake ([a-z]+)") if name not in targets} == set()


def test_routes_exist() -> None:
    examples = json.loads((ROOT / "service" / "docs" / "examples.json").read_text())
    routes = named(r"\b((?:GET|POST|PUT|DELETE) /[\w/{}]*[\w}])(?![\w/.])")
    assert {(page, route) for page, route in routes if route not in examples} == set()


def test_settings_are_ours_or_of_compose_or_of_the_tests_or_opentelemetrys() -> None:
    known = {field.upper() for field in Settings.model_fields} | set(vars(environment_variables))
    known |= set(re.findall(r"\w+", (ROOT / "docker-compose.yml").read_text() + source("tests")))
    assert {(page, name) for page, name in named(r"\b([A-Z]+(?:_[A-Z]+)+)\b") if name not in known} == set()


def test_files_and_folders_exist() -> None:
    # Most are named from the root; in tables about one folder, from there.
    folders = (ROOT, ROOT / "service", ROOT / "tests")
    paths = named(r"^([a-z.]+/[\w./*-]*(?:/|\.(?:py|md|yml|yaml|json|txt))|[a-z]+/)$")
    assert {(page, path) for page, path in paths if not any(any(folder.glob(path)) for folder in folders)} == set()


def test_series_exist_unless_they_are_said_not_to() -> None:
    metrics = Metrics(version="test")
    metrics.watch_database(lambda: DatabaseCounts({}))
    exposed = re.findall(r"^# TYPE (\w+)", metrics.render().decode(), re.MULTILINE)
    without = {("metrics.md", name) for name in re.findall(r"`(lookalike_\w+)` \| does not exist", PAGES["metrics.md"])}
    assert without
    assert {(page, name) for page, name in named(r"\b(lookalike_\w+)") if name not in exposed} == without
    assert {name for _, name in named(r"\b(lookalike:\w+:\w+)")} <= set(RECORDED)


def test_the_runbook_looks_for_lines_that_are_logged_and_charts_that_are_drawn() -> None:
    lines, charts = re.findall(r"grep '([\w ]+)'", RUNBOOK), re.findall(r'(?<![\w`])"([A-Z0-9][^"`]*)"', RUNBOOK)
    fields = set(re.findall(r"grep '\"(\w+)\": ", RUNBOOK)) - {"level"}  # which is every line's
    assert len(lines) > 3
    assert len(fields) > 1
    assert len(charts) > 10
    logged = source("service") + source("model")
    assert [line for line in lines if line not in logged] == []
    assert [field for field in fields if not re.search(rf'"{field}": |\b{field}=', logged)] == []
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    assert {" ".join(chart.split()) for chart in charts} <= titles
