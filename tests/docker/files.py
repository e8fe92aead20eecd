"""What the tests of this folder read: the Dockerfiles, the compose file, the locks."""

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from service.config import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "docker" / "Dockerfile.api", ROOT / "docker" / "Dockerfile.worker"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = [name for name, service in SERVICES.items() if "build" in service]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction and its argument, continuation lines joined, comments dropped."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(dockerfile: Path, word: str) -> list[str]:
    return [rest for found, rest in instructions(dockerfile) if found == word]


def environment(dockerfile: Path) -> dict[str, str]:
    pairs = (pair for line in arguments(dockerfile, "ENV") for pair in shlex.split(line))
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def settings_names() -> set[str]:
    return {name.upper() for name in Settings.model_fields}


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "docker" / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ]+)(?: ;.*)? \\$", text, re.MULTILINE))
