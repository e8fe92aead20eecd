"""The demo step by step: pool, training, promotion, the service as processes, expansions and how good they are."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from model.dataset import USERS, Dataset, load_dataset
from model.importers.census import import_census
from service.config import Settings
from service.demo import report
from service.demo.campaigns import HeldOut, choose, judge
from service.demo.client import Api, Json
from service.demo.comparison import Rivals
from service.demo.errors import DemoError
from service.demo.processes import Services, embedded_settings
from service.demo.report import Told
from service.demo.screen import Screen
from service.keys.service import create_key
from service.kit.artifacts import open_artifacts
from service.kit.database import Database
from service.models.training import Candidate, TrainingRun, adopt, desired_version, train_candidate
from service.pool.importing import adopt_snapshot, store_snapshot
from service.schema import migrate
from service.serving.loader import Loader, choose_device

TENANT = "demo"
PRESET = "default"
AUDIENCE_FRACTION = 0.05
SEED = 0  # of every draw: the split into past and held-out campaigns, the seeds, the random audiences


@dataclass(frozen=True)
class DemoRun:
    """What to do: budget of the training, how many held-out campaigns to expand from how many seeds, and where."""

    home: Path
    minutes: float
    campaigns: int
    seeds: int
    port: int


@contextmanager
def own(home: Path) -> Iterator[None]:
    """Keep other demos out of this home. Raises DemoError where there is one."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "demo.lock").open("ab") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo runs in {home}; name another folder with --home") from None
        yield


def obtain_census(home: Path, source: Path | None, screen: Screen) -> Path:
    """The imported census data of this home, imported now if it is not there. Raises DataError."""
    directory = home / "census"
    if directory.exists():
        screen.say(f"data: {directory}, imported by an earlier run")
        return directory
    screen.begin("importing census data")
    import_census(directory, source, seed=SEED, progress=lambda words: screen.report(None, words))
    screen.end()
    return directory


def make_settings(run: DemoRun) -> Settings:
    """Of the demo's service, whose state begins empty."""
    state = run.home / "service"
    if state.exists():
        shutil.rmtree(state)
    return embedded_settings(state.absolute(), run.port)


@dataclass(frozen=True)
class Telling:
    """What the demo has shown, and the services that go on running."""

    told: list[Told]
    services: Services


@contextmanager
def tell(run: DemoRun, data: Path, screen: Screen, out: Console) -> Iterator[Telling]:
    """Run the whole demo on a campaign-dataset directory; the services stop when the block ends, however it ends.

    Raises DemoError, ModelError, ChildError.
    """
    settings = make_settings(run)
    generator = np.random.default_rng(SEED)
    screen.begin("reading the data")
    dataset = load_dataset(data)
    screen.end()
    people, campaigns = len(dataset.users), len(dataset.campaign_ids)
    screen.say(f"{people:,} people, {campaigns} campaigns, {len(dataset.interactions.label):,} labelled pairs")
    database = Database(settings.resolved_database_url)
    try:
        migrate(database)
        candidate = _prepare(run, settings, data, dataset, database, screen)
        out.print(report.evaluation_table(candidate.evaluation))
        if not candidate.gate.accepted:
            raise DemoError(f"the gate does not let the model be served: {candidate.gate.reason}")
        screen.say(f"promoted {candidate.manifest.version}: {candidate.gate.reason}")
        chosen = _choose(run, settings, dataset, candidate, generator)
        with database.write() as session:
            key = create_key(session, TENANT, ["all"], name="demo").text
    finally:
        database.dispose()

    api = Api(settings.api_host, settings.api_port, key)
    screen.begin("starting api, worker and Redis")
    with Services(settings, screen.say) as services:
        services.wait_until_ready(api, lambda: screen.report(None, "the worker computes every user's representation"))
        screen.end()
        before = services.stage_seconds()
        all_told = _expand_all(run, chosen, dataset, api, services, screen, generator)
        stages = {stage: seconds - before[stage] for stage, seconds in services.stage_seconds().items()}
        lifts = _compare(run, settings, dataset, all_told, screen, generator)
        _show(run, all_told, lifts, stages, dataset, api, screen, out)
        yield Telling(all_told, services)


def _prepare(
    run: DemoRun, settings: Settings, data: Path, dataset: Dataset, database: Database, screen: Screen
) -> Candidate:
    """Import the pool; train, evaluate and store a model, and promote it if the gate accepts it."""
    artifacts = open_artifacts(settings)
    screen.begin("importing the pool")
    imported = store_snapshot(artifacts.pools, data / USERS, dataset.schema.user_features, progress=screen.report)
    with database.write() as session:
        adopt_snapshot(session, imported, max_attempts=settings.job_max_attempts)
    phases = {
        "training": f"training ({run.minutes:g} min budget)",
        "evaluating": "evaluating on held-out campaigns",
        "publishing": "publishing the checkpoint",
    }
    begun: list[str] = []

    def hear(phase: str, fraction: float, detail: str) -> None:
        if phase not in begun:
            begun.append(phase)
            screen.begin(phases[phase])
        screen.report(fraction, detail)

    device = choose_device(settings.device)
    candidate = train_candidate(
        TrainingRun(data, PRESET, run.minutes * 60, SEED),
        artifacts,
        Loader(artifacts, device),
        desired_version(database),
        device,
        hear,
    )
    with database.write() as session:
        adopt(session, candidate, actor="demo", max_attempts=settings.job_max_attempts)
    screen.end()
    return candidate


def _choose(
    run: DemoRun, settings: Settings, dataset: Dataset, candidate: Candidate, generator: np.random.Generator
) -> list[HeldOut]:
    chosen = choose(
        dataset,
        candidate.split.test.tolist(),
        count=run.campaigns,
        seeds=run.seeds,
        min_seeds=settings.min_seeds,
        generator=generator,
    )
    if not chosen:
        raise DemoError(f"no held-out campaign has {2 * settings.min_seeds} converters: half of them are the seeds")
    return chosen


def _expand_all(
    run: DemoRun,
    chosen: list[HeldOut],
    dataset: Dataset,
    api: Api,
    services: Services,
    screen: Screen,
    generator: np.random.Generator,
) -> list[Told]:
    """Post each campaign's seeds, read the audience, and judge it by the converters that were kept back."""
    screen.begin("expanding seeds to audiences")
    everybody = dataset.users.column("user_id").to_pylist()
    all_told: list[Told] = []

    def watch(job: Json) -> None:
        services.check()
        progress = job["progress"]
        done = (len(all_told) + progress["fraction"]) / len(chosen)
        stage = job["stage"] or job["state"]
        screen.report(done, f"{job['campaign_id']}: {stage}, {progress['scored_users']:,} users scored")

    for campaign in chosen:
        body = _body(campaign, dataset)
        _body_file(run.home, campaign).write_text(json.dumps(body), encoding="utf-8")
        expanded = api.expand(campaign.campaign_id, body, watch)
        audience = [user["user_id"] for user in expanded.users]
        all_told.append(Told(campaign, expanded, judge(campaign, audience, everybody, generator)))
    screen.end()
    return all_told


def _compare(
    run: DemoRun,
    settings: Settings,
    dataset: Dataset,
    all_told: list[Told],
    screen: Screen,
    generator: np.random.Generator,
) -> list[dict[str, float]]:
    """For each campaign, the lifts of other methods that had as much time to learn as the served model."""
    screen.begin(f"training other methods to compare with ({run.minutes:g} min budget)")
    device = choose_device(settings.device)
    rivals = Rivals.trained(dataset, seed=SEED, max_seconds=run.minutes * 60, device=device, progress=screen.report)
    screen.begin("their audiences")
    lifts = []
    for done, told in enumerate(all_told):
        screen.report(done / len(all_told), told.campaign.campaign_id)
        share = told.judgement.size / told.judgement.candidates
        lifts.append(rivals.lifts(told.campaign, share, generator))
    screen.end()
    return lifts


def _body(campaign: HeldOut, dataset: Dataset) -> dict[str, Any]:
    size = max(1, int(AUDIENCE_FRACTION * len(dataset.users)))
    return {"seed_user_ids": list(campaign.seeds), "audience_size": size, "campaign": campaign.attributes}


def _body_file(home: Path, campaign: HeldOut) -> Path:
    return home / f"expand-{campaign.campaign_id}.json"


def _show(
    run: DemoRun,
    all_told: list[Told],
    lifts: list[dict[str, float]],
    stages: dict[str, float],
    dataset: Dataset,
    api: Api,
    screen: Screen,
    out: Console,
) -> None:
    first = all_told[0]
    out.print(report.people_table(first, dataset))
    out.print(report.campaigns_table(all_told))
    out.print(report.lifts_table(PRESET, all_told, lifts))
    out.print(report.verdict(all_told))
    out.print(report.times_table(screen.seconds, stages, len(all_told)))
    curl = report.curl_line(api.url, api.key, first.campaign.campaign_id, _body_file(run.home, first.campaign))
    pages = f"Console: {api.url}/console (API key: {api.key}); documentation of the api: {api.url}/docs"
    for line in (pages, "The same expansion once more:", curl):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
