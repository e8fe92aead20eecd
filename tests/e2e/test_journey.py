"""From a data set to an audience through real processes, PostgreSQL and Redis; a worker is killed on the way."""

import json
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.dataset import Dataset
from service.kit.processes import stop_child
from tests.fixtures.observability import PROMTOOL, RECORDED, expressions, promtool
from tests.fixtures.promql import Exposed
from tests.fixtures.receiver import Receiver, receiver
from tests.fixtures.service import Service, free_port, stuck_in_mid_job
from tests.fixtures.waiting import eventually
from tests.model.worlds import make_dataset, write

SECONDS = 60.0
POOL_COPIES = 3  # of the data set's users


@pytest.fixture
def service(empty_postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Service]:
    port = free_port()
    own = {
        "DATABASE_URL": empty_postgres_url,
        "REDIS_URL": redis_url,
        "LOOKALIKE_HOME": str(tmp_path / "home"),
        "API_PORT": str(port),
        "WORKER_METRICS_PORT": str(free_port()),
        "JOB_LEASE_SECONDS": "2",
        "REAPER_SECONDS": "0.5",
        "OMP_NUM_THREADS": "1",
    }
    service = Service({**os.environ, **own}, tmp_path, port)
    yield service
    service.client.close()
    for process in service.processes:  # of a failed test
        process.kill()
        process.wait()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def pool_of(dataset: Dataset, path: Path) -> None:
    """The data set's users, and copies of them under other ids."""
    users = dataset.users
    parts = [users]
    for copy in range(1, POOL_COPIES):
        ids = pa.array([f"{user_id}-{copy:03d}" for user_id in users.column("user_id").to_pylist()], pa.large_string())
        parts.append(users.set_column(0, "user_id", ids))
    pq.write_table(pa.concat_tables(parts), path)


def seeds_of(dataset: Dataset) -> list[str]:
    rows = dataset.rows_of(0)
    users = dataset.interactions.user[rows[dataset.interactions.label[rows] == 1]]
    return [str(user_id) for user_id in dataset.users.column("user_id").take(pa.array(np.sort(users))).to_pylist()]


def told(hook: Receiver, job_id: str) -> list[str]:
    """The messages about a job."""
    messages = [json.loads(received.body) for received in hook.received]
    return [message["type"] for message in messages if message["data"]["id"] == job_id]


def names_nobody(service: Service, user_ids: list[str]) -> None:
    """Neither what the processes have logged nor the metrics hold a user's id, a campaign, a tenant's key or its name;
    a database's password neither."""
    lookalike = service.command("keys", "create", "--tenant", "ops", "--scopes", "ops:read", "--operator")
    metrics = service.client.get(
        f"http://127.0.0.1:{service.port}/metrics", headers={"Authorization": f"Bearer {lookalike}"}
    )
    assert metrics.status_code == 200
    logged = "".join(service.log(name).read_text() for name in ("api", "worker"))
    for text, forbidden in (
        (logged, [*user_ids, "spring", service.key, service.key[3:11], lookalike, service.environment["DATABASE_URL"]]),
        (metrics.text, [*user_ids, "spring", service.key[3:11], lookalike[3:11], "acme"]),
    ):
        assert len(text) > 1_000
        words = set(re.findall(r"[\w.@:/-]+", text))
        assert not words.intersection(forbidden)


def scrape(service: Service) -> dict[str, str]:
    """The metrics of both processes, by Prometheus's job."""
    key = service.command("keys", "create", "--tenant", "operations", "--scopes", "ops:read", "--operator")
    api = service.call("GET", "/metrics", headers={"Authorization": f"Bearer {key}"})
    worker = service.client.get(f"http://127.0.0.1:{service.environment['WORKER_METRICS_PORT']}/metrics")
    assert (api.status_code, worker.status_code) == (200, 200)
    return {"lookalike-api": api.text, "lookalike-worker": worker.text}


def check_metrics(service: Service) -> None:
    """Alerts and dashboard ask for series that are there, and what was done shows in them."""
    scraped = scrape(service)
    if PROMTOOL:
        assert [promtool("check", "metrics", of=text) for text in scraped.values()] == ["", ""]
    # A scheduler is a job of Prometheus's, too; it is not started here, and has no series that the others lack.
    exposed = Exposed({**scraped, "lookalike-scheduler": ""}, RECORDED)
    checked = [(place, exposed.faults(expression, legend)) for place, expression, legend in expressions()]
    assert len(checked) > 100
    assert [(place, faults) for place, faults in checked if faults] == []
    worker = {
        sample.name: sample.value
        for family in text_string_to_metric_families(scraped["lookalike-worker"])
        for sample in family.samples
    }
    for known in ("pool_users", "pool_snapshot_timestamp_seconds", "model_trained_timestamp_seconds"):
        assert worker[f"lookalike_{known}"] > 0
    assert 0 <= worker["lookalike_feature_drift_psi_max"] < 0.25  # the pool is the training users, thrice
    assert worker["lookalike_model_alias_mismatch"] == 0


def check_logs(service: Service, job_id: str) -> None:
    """A request leads to its job, and the job to its worker."""
    api, worker = (service.log(name).read_text() for name in ("api", "worker"))
    (queued,) = (line for line in map(json.loads, api.splitlines()) if line.get("job_id") == job_id)
    assert queued["request_id"]
    done = [json.loads(line) for line in worker.splitlines() if job_id in line]
    changes = [(line["from"], line["to"]) for line in (queued, *done) if line["event"] == "job_state_change"]
    assert changes == [(None, "queued"), ("queued", "running"), ("running", "succeeded")]
    assert {line["attempt"] for line in done} == {1}
    assert len({line["tenant_hash"] for line in (queued, *done)}) == 1


def test_a_worker_killed_in_mid_job_is_replaced_and_the_audience_is_the_same(service: Service, hook: Receiver) -> None:
    dataset = make_dataset(users=2000, campaigns=10, rows=400)
    write(dataset, service.home / "data")
    pool_of(dataset, service.home / "users.parquet")
    service.command("migrate")
    service.command("pool", "import", service.home / "users.parquet", "--schema", service.home / "data" / "schema.json")
    version = service.command("train", "--data", service.home / "data", "--preset", "metaheac", "--max-minutes", "0.05")
    assert re.fullmatch(r"metaheac-\S+", version)
    promoted = service.command("models", "promote", version, "--reason", "three seconds of training need no gate")
    assert promoted == f"served: none; pending: {version}"
    service.key = service.command("keys", "create", "--tenant", "acme", "--scopes", "all")
    service.command("webhooks", "add", "--tenant", "acme", "--url", hook.url)
    api, worker = service.start("api"), service.start("worker")
    assert eventually(service.ready, SECONDS), "".join(log.read_text() for log in service.home.glob("*.log"))
    assert service.call("GET", "/models/current").json()["version"] == version

    undisturbed = service.expand(seeds_of(dataset))
    assert eventually(lambda: service.job(undisturbed)["done"], SECONDS)
    expected = service.audience(undisturbed)
    assert [rank for rank, _, _ in expected] == list(range(1, 2501))

    body = {"seed_user_ids": seeds_of(dataset), "audience_size": 2500}
    ask = partial(service.call, "POST", "/campaigns/spring/preflight", json=body)
    assert eventually(lambda: ask().status_code == 200, SECONDS)  # on a slow machine the first one is told to come back
    foreseen = ask().json()
    assert (foreseen["ok"], foreseen["seed"]) == (True, service.job(undisturbed)["seed"])
    assert foreseen["eta_seconds"] > 0

    with stuck_in_mid_job(service, worker, lambda: service.expand(seeds_of(dataset))) as disturbed:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    successor = service.start("worker")
    assert eventually(lambda: service.job(disturbed)["done"], SECONDS)
    job = service.job(disturbed)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert service.audience(disturbed) == expected
    assert job["manifest"]["audience_sha256"] == service.job(undisturbed)["manifest"]["audience_sha256"]

    # A clean stop hands the job over at once, without waiting for its lease, and costs no attempt.
    with stuck_in_mid_job(service, successor, lambda: service.expand(seeds_of(dataset))) as handed_over:
        successor.send_signal(signal.SIGTERM)
    assert eventually(lambda: service.job(handed_over)["state"] == "queued")
    assert successor.wait(20) == 0
    assert (service.job(handed_over)["state"], service.job(handed_over)["attempt"]) == ("queued", 0)
    last = service.start("worker")
    assert eventually(lambda: service.job(handed_over)["done"], SECONDS)
    assert service.audience(handed_over) == expected
    for job_id in (undisturbed, disturbed, handed_over):
        assert eventually(lambda job_id=job_id: told(hook, job_id) == ["job.succeeded"], SECONDS)  # type: ignore[misc]
    check_metrics(service)
    check_logs(service, undisturbed)
    assert stop_child(last, 20) == 0
    names_nobody(service, seeds_of(dataset))
    assert stop_child(api, 20) == 0
