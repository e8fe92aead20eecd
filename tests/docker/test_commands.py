"""The images start commands that the console script has."""

from pathlib import Path

import pytest
import typer
import yaml

from service.__main__ import app

SERVICES = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]
OWN = [name for name, service in SERVICES.items() if "build" in service]


@pytest.mark.parametrize("name", OWN)
def test_a_service_runs_a_command_that_lookalike_has(name: str) -> None:
    program, command, *options = SERVICES[name]["command"]
    assert program == "lookalike"
    group = typer.main.get_group(app)
    assert command in group.commands
    group.commands[command].make_context(command, list(options))  # raises on an option it does not have
