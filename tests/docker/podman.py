"""Podman, told what docker-compose.yml says."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.docker.files import ROOT, SERVICES


def podman(*words: str | Path) -> str:
    """Run it to its end; what it printed."""
    done = subprocess.run(["podman", *map(str, words)], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"podman {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def build(name: str, given: Mapping[str, str]) -> None:
    """Build the image of a service, with the build arguments that the variables give."""
    instructions = SERVICES[name]["build"]
    arguments = {key: filled(value, given) for key, value in instructions.get("args", {}).items()}
    podman(
        "build",
        "--format=docker",  # the other one knows no health checks
        "--network=host",
        f"--file={instructions['dockerfile']}",
        f"--tag={SERVICES[name]['image']}",
        *(f"--build-arg={key}={value}" for key, value in arguments.items()),
        instructions["context"],
    )


def sizes(image: str) -> tuple[float, float]:
    """Megabytes of an image as `podman images` shows it, and compressed, as a registry keeps it."""
    with tempfile.TemporaryDirectory(prefix="lookalike-image-") as folder:
        podman("push", "--compress", image, f"dir:{folder}")
        compressed = sum(file.stat().st_size for file in Path(folder).iterdir())
    return int(podman("image", "inspect", "--format={{.Size}}", image)) / 1e6, compressed / 1e6


def run(name: str, *words: str, given: Mapping[str, str], project: str) -> str:
    """Run a command in a container of a service to its end; what it printed."""
    return podman("run", "--rm", *_flags(name, given, project), SERVICES[name]["image"], *words)


def start(name: str, container: str, *, given: Mapping[str, str], project: str) -> None:
    """Start a service's own command in a container of this name."""
    service = SERVICES[name]
    podman(
        "run", "--detach", f"--name={container}", *_flags(name, given, project), service["image"], *service["command"]
    )


def filled(text: str, given: Mapping[str, str]) -> str:
    """The text with its ${NAME}, ${NAME:-default} and ${NAME:?reason} replaced."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda found: given.get(found[1], found[2] or ""), text)


def _flags(name: str, given: Mapping[str, str], project: str) -> Iterator[str]:
    """What the compose file says of a service. The network is the machine's, since its PostgreSQL and Redis, reached by
    sockets in the folders SOCKETS, are; variables of `given` replace those of the file."""
    service = SERVICES[name]
    assert service["init"]
    assert service["read_only"]
    yield from ("--network=host", "--init", "--read-only", "--read-only-tmpfs=false")
    yield from (f"--tmpfs={path}" for path in service["tmpfs"])
    yield from (f"--cap-drop={capability}" for capability in service["cap_drop"])
    yield from (f"--security-opt={option.removesuffix(':true')}" for option in service["security_opt"])
    yield f"--stop-timeout={service['stop_grace_period'].removesuffix('s')}"
    for volume in service["volumes"]:
        text = filled(volume, given)
        yield f"--volume={text if text.startswith('/') else f'{project}-{text}'}"
    yield from (f"--volume={folder}:{folder}" for folder in given["SOCKETS"].split(":"))
    environment = {key: given.get(key) or filled(value, given) for key, value in service["environment"].items()}
    ports = {key: value for key, value in given.items() if key.endswith("_PORT")}
    yield from (f"--env={key}={value}" for key, value in (environment | ports).items())
    health = service.get("healthcheck", {})
    if "test" in health:
        yield f"--health-cmd={json.dumps(health['test'][1:])}"
