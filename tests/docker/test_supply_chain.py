"""What the images and the tests install is known to the byte, listed, and no version with a known hole."""

import json
import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.docker.files import ROOT, locked

LOCKS = ("api.txt", "worker.txt", "dev.txt")
# The first versions without a hole that matters here, and what it was. No index of advisories is asked: this list is
# what a reader can check without one. Above all `pip-audit -r docker/requirements/worker.txt` should be run where one
# can be reached.
FLOORS = {
    "h11": ("0.16.0", "chunked bodies read leniently: request smuggling (CVE-2025-43859)"),
    "idna": ("3.7", "quadratic time for a long name (CVE-2024-3651)"),
    "jinja2": ("3.1.6", "a way out of the sandbox (CVE-2025-27516)"),
    "mako": ("1.2.2", "exponential time in its lexer (CVE-2022-40023)"),
    "pyarrow": ("14.0.1", "reading a file could run code (CVE-2023-47248)"),
    "redis": ("4.5.5", "answers given to another caller after a cancelled command (CVE-2023-28859)"),
    "requests": ("2.32.4", ".netrc credentials sent to another host (CVE-2024-47081)"),
    "setuptools": ("78.1.1", "files written outside their folder (CVE-2025-47273)"),
    "starlette": (
        "1.3.1",
        "the last of the security releases of spring 2026; quadratic ranges before (CVE-2025-62727)",
    ),
    "torch": ("2.13.0", "memory corruption in weights_only loading (GHSA-63cw-57p8-fm3p) and in jit.script"),
    "urllib3": ("2.6.0", "decompression without bounds (CVE-2025-66471)"),
}


def requirements(lock: str) -> list[str]:
    """The lock's requirements, each with its hashes, in one line."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "docker" / "requirements" / lock).read_text())
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def hashes(requirement: str) -> set[str]:
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})(?= |$)", requirement))


def torch() -> str:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (version,) = (one.removeprefix("torch==") for one in extras["worker"] if one.startswith("torch=="))
    return str(version)


def bill(image: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "docker" / "sbom" / f"{image}.cdx.json").read_text())
    return loaded


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_its_hashes(lock: str) -> None:
    lines = requirements(lock)
    assert len(lines) == len(locked(lock)) > 30
    print(f"{lock}: {len(lines)} packages, {sum(len(hashes(line)) for line in lines)} hashes")  # noqa: T201
    for line in lines:
        (pin,) = Requirement(line.partition(" --hash")[0]).specifier
        assert pin.operator == "==", line
        assert hashes(line), line


@pytest.mark.parametrize("package", FLOORS)
def test_no_lock_has_a_version_with_a_known_hole(package: str) -> None:
    floor, hole = FLOORS[package]
    versions = {locked(lock)[package] for lock in LOCKS if package in locked(lock)} | (
        {torch()} if package == "torch" else set()
    )
    assert versions, "no longer installed: take it off the list"
    assert all(Version(version) >= Version(floor) for version in versions), hole


@pytest.mark.parametrize("image", ["api", "worker"])
def test_the_bill_of_materials_lists_what_the_image_installs(image: str) -> None:
    document = bill(image)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    root = document["metadata"]["component"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (root["name"], root["version"], root["type"]) == (project["name"], project["version"], "application")
    listed = {component["name"]: component for component in document["components"]}
    assert len(listed) == len(document["components"])
    expected = locked(f"{image}.txt") | ({"torch": torch()} if image == "worker" else {})
    assert {name: component["version"] for name, component in listed.items()} == expected, "run `make sbom`"
    for name, component in listed.items():
        assert component["type"] == "library"
        assert component["purl"].startswith(f"pkg:pypi/{name}@{component['version']}")


@pytest.mark.parametrize("image", ["api", "worker"])
def test_the_bill_of_materials_has_the_hashes_of_the_lock(image: str) -> None:
    of_lock = {Requirement(line.partition(" --hash")[0]).name: hashes(line) for line in requirements(f"{image}.txt")}
    of_bill = {
        component["name"]: {
            digest["content"]
            for reference in component["externalReferences"]
            for digest in reference.get("hashes", [])
            if digest["alg"] == "SHA-256"
        }
        for component in bill(image)["components"]
    }
    assert {name: found for name, found in of_bill.items() if name != "torch"} == of_lock
