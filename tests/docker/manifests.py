"""The Kubernetes manifests as they stand in the files, before kustomize."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.docker.files import ROOT

FOLDER = ROOT / "docker" / "kubernetes"
SETTINGS_FILES = sorted(FOLDER.rglob("settings.env"))
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))


@dataclass(frozen=True)
class Container:
    """A container, the pod it is of, and whether it runs until it is stopped."""

    spec: dict[str, Any]
    pod: dict[str, Any]
    lasting: bool

    def __str__(self) -> str:
        return str(self.spec["name"])

    @property
    def dockerfile(self) -> Path:
        """What its image is built from."""
        image, _, _ = self.spec["image"].partition(":")
        return ROOT / "docker" / image.replace("lookalike-", "Dockerfile.")


def kustomization(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def documents() -> Iterator[dict[str, Any]]:
    """What the base and the components list as their resources."""
    for path in KUSTOMIZATIONS:
        for resource in kustomization(path).get("resources", []):
            if resource.endswith(".yaml"):
                yield from yaml.safe_load_all((path.parent / resource).read_text())


def settings(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _containers() -> Iterator[Container]:
    for document in DOCUMENTS:
        spec = document["spec"].get("jobTemplate", document)["spec"]
        pod = spec.get("template", {}).get("spec")
        if pod is not None:
            yield from (Container(one, pod, document["kind"] == "Deployment") for one in pod["containers"])
            yield from (Container(one, pod, lasting=False) for one in pod.get("initContainers", []))


DOCUMENTS = list(documents())
CONTAINERS = list(_containers())
