"""The model registry over HTTP: what is served, and that only whole versions are promoted."""

import hashlib
import json
from pathlib import Path

import pytest
from sqlalchemy import select

from model.manifest import CheckpointManifest
from model.schema import Feature, Schema
from service.jobs.states import Kind
from service.jobs.tables import Job
from service.serving.tables import Promotion
from tests.contract.conftest import Api
from tests.contract.worlds import add_version, assert_problem, pointers

WEIGHTS = b"weights"


def put_version(api: Api, version: str) -> Path:
    """A version in the store and its row; the folder."""
    manifest = CheckpointManifest(
        name="default",
        version=version,
        sha256=version.ljust(64, "0"),
        trained_at="2026-01-02T03:04:05Z",
        weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        weights_bytes=len(WEIGHTS),
        preset={},
        schema=Schema((Feature("age", "numeric"),), ()),
        metrics={},
        tensors={},
        canary=(),
    )
    models = api.app.state.artifacts.models
    models.put(f"versions/{version}/model.safetensors", WEIGHTS)
    models.put(f"versions/{version}/manifest.json", json.dumps(manifest.document()).encode())
    with api.database.write() as session:
        add_version(session, version, manifest.sha256)
    folder: Path = models.local(f"versions/{version}")
    return folder


def test_versions_are_listed_newest_first_by_pages(api: Api) -> None:
    for version in ("v2", "v3"):
        put_version(api, version)
    first = api.get("/models?page_size=2").json()
    assert [model["version"] for model in first["models"]] == ["v3", "v2"]
    rest = api.get("/models", params={"page_token": first["next_page_token"]}).json()
    assert [model["version"] for model in rest["models"]] == ["v1"]
    assert rest["next_page_token"] == ""
    assert rest["models"][0]["metrics"] == {"auc": 0.7}
    assert_problem(api.get("/models?page_token=x"), 400, "invalid-page-token")
    assert_problem(api.get("/models?page_size=-1"), 400, "invalid-parameter")


def test_the_current_model_is_the_served_one(sqlite_api: Api) -> None:
    current = sqlite_api.get("/models/current").json()
    assert (current["version"], current["pending"], current["model"]["name"]) == ("v1", None, "default")


def test_a_promotion_is_pending_until_the_pool_is_represented(api: Api) -> None:
    put_version(api, "v2")
    rings: list[bool] = []
    api.app.state.bell.ring = lambda: rings.append(True)
    answer = api.post("/models/v2/promote", {"reason": "better", "expected_current": "v1"}, key="operator")
    assert (answer.status_code, answer.json()) == (200, {"current": "v1", "pending": "v2"})
    assert api.get("/models/current").json()["pending"] == "v2"
    assert rings == [True]
    with api.database.read() as session:
        assert session.scalars(select(Job.kind)).all() == [Kind.REPRESENT]
        promotion = session.scalars(select(Promotion)).one()
    assert (promotion.from_version, promotion.to_version, promotion.reason) == ("v1", "v2", "better")
    assert promotion.actor.startswith("key_")
    assert api.metric("lookalike_model_promotions_total", action="promote", outcome="ok") == 1


def test_a_promotion_that_expects_another_model_is_409(sqlite_api: Api) -> None:
    put_version(sqlite_api, "v2")
    body = {"reason": "better", "expected_current": "v0"}
    assert_problem(sqlite_api.post("/models/v2/promote", body, key="operator"), 409, "model-changed")
    assert_problem(sqlite_api.post("/models/rollback", body, key="operator"), 409, "model-changed")
    assert sqlite_api.metric("lookalike_model_promotions_total", action="promote", outcome="conflict") == 1


@pytest.mark.parametrize("damage", ["weights", "manifest", "no weights", "nothing", "another version's"])
def test_a_version_that_does_not_load_is_never_promoted(sqlite_api: Api, damage: str) -> None:
    folder = put_version(sqlite_api, "v2")
    match damage:
        case "weights":
            (folder / "model.safetensors").write_bytes(b"weighty")
        case "manifest":
            (folder / "manifest.json").write_bytes(b"{")
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "nothing":
            (folder / "manifest.json").unlink()
        case _:
            other = put_version(sqlite_api, "v3")
            (folder / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
    answer = sqlite_api.post("/models/v2/promote", {"reason": "x"}, key="operator")
    assert_problem(answer, 409, "model-changed")
    assert str(folder) not in answer.text
    assert sqlite_api.get("/models/current").json()["pending"] is None


def test_a_rollback_goes_back_and_needs_somewhere_to_go(api: Api) -> None:
    assert_problem(api.post("/models/rollback", {"reason": "x"}, key="operator"), 409, "model-changed")
    for version in ("v2", "v3"):
        put_version(api, version)
        api.post(f"/models/{version}/promote", key="operator")
    answer = api.post("/models/rollback", {"reason": "worse", "expected_current": "v3"}, key="operator")
    assert answer.json() == {"current": "v1", "pending": "v2"}


def test_a_rollback_to_a_damaged_version_is_refused(sqlite_api: Api) -> None:
    put_version(sqlite_api, "v2")
    sqlite_api.post("/models/v2/promote", key="operator")
    assert_problem(sqlite_api.post("/models/rollback", key="operator"), 409, "model-changed")  # v1 is not in the store
    assert sqlite_api.get("/models/current").json()["pending"] == "v2"


def test_unknown_versions_and_wrong_bodies_are_refused(sqlite_api: Api) -> None:
    for version in ("v9", "a%00b", "%2e%2e", "x" * 200):
        assert_problem(sqlite_api.post(f"/models/{version}/promote", key="operator"), 404, "not-found")
    for body, pointer in (({"force": True}, "/force"), ({"reason": 1}, "/reason"), ({"reason": "x" * 1001}, "/reason")):
        assert pointers(sqlite_api.post("/models/v1/promote", body, key="operator")) == [pointer]
