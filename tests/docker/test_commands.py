"""The images and manifests start commands that the console script has."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from service.__main__ import app
from tests.docker.files import OWN, SERVICES
from tests.docker.manifests import CONTAINERS, Container


def check(words: Sequence[str]) -> None:
    program, command, *options = words
    assert program == "lookalike"
    group = typer.main.get_group(app)
    assert command in group.commands
    group.commands[command].make_context(command, options)  # raises on an option it does not have


@pytest.mark.parametrize("name", OWN)
def test_a_service_runs_a_command_that_lookalike_has(name: str) -> None:
    check(SERVICES[name]["command"])


@pytest.mark.parametrize("container", CONTAINERS, ids=str)
def test_a_container_runs_a_command_that_lookalike_has(container: Container, tmp_path: Path) -> None:
    mounts = {mount["mountPath"] for mount in container.spec["volumeMounts"]}
    check([str(tmp_path) if word in mounts else word for word in container.spec["command"]])
