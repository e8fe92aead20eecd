"""`lookalike verify`: the same audience again, or one line that says why not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sqlalchemy import text, update
from typer.testing import CliRunner, Result

from service.__main__ import app
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.service import ExpansionRequest, Limits, submit
from service.commands.kit import CommandError
from service.erasures.tables import Erasure
from service.jobs.states import Kind, State
from service.jobs.tables import Job, JobInput
from service.kit.database import Database
from service.kit.metrics import Metrics
from tests.fixtures.stage import Stage, open_stage
from tests.fixtures.tiny import TinyWorld, make_world


@pytest.fixture(scope="module", params=["default", "metaheac"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TinyWorld]:
    """LOOKALIKE_HOME with a model and a pool in its stores."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, make_world(folder, request.param)


@pytest.fixture
def stage(
    home: tuple[Path, TinyWorld], sqlite_url: str, monkeypatch: pytest.MonkeyPatch, redis_url: str, metrics: Metrics
) -> Iterator[Stage]:
    """An installation that serves them."""
    folder, world = home
    monkeypatch.setenv("LOOKALIKE_HOME", str(folder))
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    with open_stage(world, sqlite_url, redis_url, metrics) as stage:
        yield stage


@pytest.fixture
def database(stage: Stage) -> Database:
    return stage.database


@pytest.fixture
def job(stage: Stage) -> Job:
    """An expansion with everything that a request can ask for."""
    seeds = stage.world.seeds()
    inputs = ExpansionInputs.of(seeds[5:], [1.0 + index for index in range(len(seeds) - 5)], seeds[:2], seeds[2:5])
    request = ExpansionRequest(
        inputs, len(seeds), audience_size=70, eligibility=({"feature": "age", "min": 20},), deny_features=("city",)
    )
    with stage.database.write() as session:
        submit(session, "acme", "spring", request, idempotency=None, limits=Limits(0, 1))
    job = stage.run(Kind.EXPAND)
    assert job.state == State.SUCCEEDED, job.error
    return job


def verify(job_id: str) -> Result:
    return CliRunner().invoke(app, ["verify", job_id])


def refusal(job_id: str) -> str:
    """Why it exits with 1."""
    result = verify(job_id)
    assert isinstance(result.exception, CommandError), result.exception
    return str(result.exception)


def erase(database: Database) -> None:
    """An erasure is accepted."""
    with database.write() as session:
        session.add(Erasure(id="erasure_1", tenant="acme", job_id="job_e", generation=1, users_submitted=1))


def test_a_repeat_is_equal_to_the_byte_and_publishes_nothing(
    home: tuple[Path, TinyWorld], database: Database, job: Job
) -> None:
    _, world = home
    before = world.artifacts.audiences.names("audiences")
    result = verify(job.id)
    assert result.exit_code == 0, result.exception
    assert job.result is not None
    assert f"audience_sha256: {job.result['manifest']['audience_sha256']}\nequal\n" in result.output
    assert "on model tiny-1 and pool pool_" in result.output
    assert world.artifacts.audiences.names("audiences") == before
    with database.read() as session:
        assert session.get_one(Job, job.id).updated_at == job.updated_at


def test_the_number_of_threads_and_the_day_do_not_matter(database: Database, job: Job) -> None:
    with database.write() as session:
        session.execute(text("UPDATE jobs SET created_at = '2020-01-01 00:00:00.000000', lease_owner = 'another'"))
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert verify(job.id).exit_code == 0
    finally:
        torch.set_num_threads(threads)


def test_another_audience_is_told(database: Database, job: Job) -> None:
    assert job.result is not None
    manifest = {**job.result["manifest"], "audience_sha256": "0" * 64}
    with database.write() as session:
        session.execute(update(Job).values(result={**job.result, "manifest": manifest}))
    assert refusal(job.id) == f"differs: audience_sha256 is now {job.result['manifest']['audience_sha256']}"


def test_what_is_gone_is_named(database: Database, job: Job) -> None:
    for column, name, told in (
        ("model_version", job.model_version, "model gone: "),
        ("snapshot_id", job.snapshot_id, "pool gone: "),
    ):
        with database.write() as session:
            session.execute(text(f"UPDATE jobs SET {column} = 'gone'"))
        assert refusal(job.id).startswith(told)
        with database.write() as session:
            session.execute(text(f"UPDATE jobs SET {column} = :name"), {"name": name})
    with database.write() as session:
        session.execute(text("DELETE FROM job_inputs"))
    assert refusal(job.id).startswith("seeds expired: ")


def test_seeds_that_were_erased_are_no_mismatch(database: Database, job: Job) -> None:
    with database.write() as session:
        inputs = session.get_one(JobInput, job.id)
        kept = ExpansionInputs.decode(inputs.payload)
        fewer = replace(kept, seeds=kept.seeds[1:], weights=None if kept.weights is None else kept.weights[1:])
        inputs.payload = fewer.encode()
    erase(database)
    assert refusal(job.id).startswith("erased-since: ")


def test_what_an_erasure_changed_is_no_mismatch(database: Database, job: Job) -> None:
    assert job.result is not None
    with database.write() as session:
        manifest = {**job.result["manifest"], "pool_sha256": "0" * 64, "random_seed": 1, "audience_sha256": "0" * 64}
        session.execute(update(Job).values(result={**job.result, "manifest": manifest}))
    assert refusal(job.id).startswith("differs: pool_sha256 ")
    erase(database)
    assert refusal(job.id).startswith("erased-since: ")


def test_only_a_succeeded_expansion_can_be_repeated(database: Database, job: Job) -> None:
    assert refusal("job_0") == "there is no such job"
    with database.write() as session:
        session.execute(text("UPDATE jobs SET state = 'failed' WHERE id = :id"), {"id": job.id})
    assert "kind expand, failed" in refusal(job.id)
