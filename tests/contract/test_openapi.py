"""The OpenAPI document is true: what it says is what a running service does, and everything in it has an example."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import jsonschema_rs
import pytest

from service.keys.service import create_key
from service.kit.describing import problems
from service.kit.errors import CATALOGUE, MEDIA_TYPE
from service.kit.processes import start_child, stop_child
from tests.contract.conftest import Api
from tests.contract.worlds import expand, publish
from tests.fixtures.service import free_port
from tests.fixtures.waiting import eventually

EXAMPLES_PER_OPERATION = 10
CONFIG = Path(__file__).with_name("schemathesis.toml")
# What a job ends in is in its `error`, and a wrong method or an impossible path belongs to no operation.
ELSEWHERE = {
    "too-few-matched-seeds",
    "attempts-exhausted",
    "deadline-exceeded",
    "model-unavailable",
    "pool-unavailable",
    "out-of-memory",
    "method-not-allowed",
}


@pytest.fixture
def document(sqlite_api: Api) -> dict[str, Any]:
    answer = sqlite_api.get("/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_problem_is_documented_with_an_example_somewhere(document: dict[str, Any]) -> None:
    documented = set()
    for _, operation in operations(document):
        for status, response in operation["responses"].items():
            for slug in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", ()):
                assert CATALOGUE[slug].status == int(status)
                documented.add(slug)
    assert documented == set(CATALOGUE) - ELSEWHERE
    schema = jsonschema_rs.validator_for(document["components"]["schemas"]["Problem"])
    for slug, example in document["components"]["examples"].items():
        schema.validate(example["value"])
        assert example["value"]["type"].endswith(slug)


def test_every_body_and_every_answer_has_an_example_that_its_schema_allows(document: dict[str, Any]) -> None:
    shown = 0
    for name, operation in operations(document):
        answers = [response for status, response in operation["responses"].items() if status.startswith("2")]
        for described in (operation.get("requestBody", {}), answers[0]):
            contents = described.get("content", {}).values()
            examples = [(content, value) for content in contents for value in examples_of(content)]
            assert examples or not contents, f"{name} has no example"
            for content, value in examples:
                schema = {**content.get("schema", {}), "components": document["components"]}
                jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)
                shown += 1
    assert shown > len(document["paths"])


def examples_of(content: dict[str, Any]) -> list[Any]:
    alone = [content["example"]] if "example" in content else []
    return alone + [example["value"] for example in content.get("examples", {}).values()]


def test_a_route_cannot_name_a_problem_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="out-of-cheese"):
        problems("not-found", "out-of-cheese")


def test_a_running_service_keeps_to_its_document_whatever_is_sent(sqlite_api: Api, tmp_path: Path) -> None:
    finished = expand(sqlite_api)["id"]
    publish(sqlite_api, finished, size=2_500)
    with sqlite_api.database.write() as session:
        key = create_key(session, "acme", ["all"], operator=True).text
    settings = sqlite_api.app.state.settings
    port = free_port()
    environment = {name.upper(): str(value) for name, value in settings.model_dump(exclude_unset=True).items()}
    environment["API_PORT"] = str(port)
    with (tmp_path / "api.log").open("wb") as log:
        child = start_child([sys.executable, "-m", "service", "api"], env={**os.environ, **environment}, stderr=log)
    url = f"http://127.0.0.1:{port}/openapi.json"
    try:
        assert eventually(lambda: answers(url), 30)
        command = [Path(sys.executable).with_name("st"), "--config-file", CONFIG, "run", url]
        options = ["--checks", "all", "--max-examples", EXAMPLES_PER_OPERATION, "--seed", 1, "--no-color"]
        ran = subprocess.run(
            [*map(str, command + options), "--header", f"Authorization: Bearer {key}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CONFIG.parents[2]), "FINISHED_JOB": finished},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        stop_child(child, settings.shutdown_grace_seconds)
    assert ran.returncode == 0, ran.stdout
    tested = re.search(r"Tested: (\d+)", ran.stdout)
    paths = sqlite_api.get("/openapi.json").json()["paths"]
    assert tested is not None
    assert int(tested[1]) == sum(len(methods) for methods in paths.values()) - 1  # preflight, see the configuration


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(json.load(answer))
    except OSError:
        return False
