"""The console in a real browser, in front of real processes: from a file of seeds to a ranked audience."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import torch
from playwright.sync_api import expect as seen

from service.keys.service import create_key
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.processes import stop_child
from service.serving.loader import Loader
from tests.fixtures.browser import CHROMIUM, browsing
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import Service, free_port
from tests.fixtures.tiny import USERS, make_world
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's Chromium is not installed")

SECONDS = 60.0
MILLISECONDS = 1_000 * SECONDS
AUDIENCE = 60
STORES = {"model": "models", "pool": "pool", "audience": "audiences"}


@pytest.fixture(scope="module")
def running(
    sqlite_template: Path, shared_redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with a small world, an api and a worker; `seeds.csv` lies in its home."""
    home = tmp_path_factory.mktemp("console")
    world = make_world(home, "default")
    url = f"sqlite:///{shutil.copyfile(sqlite_template, home / 'lookalike.db')}"
    shared_redis_server.start()
    stores = {f"{name.upper()}_STORE": str(home / folder) for name, folder in STORES.items()}
    own = {"DATABASE_URL": url, "REDIS_URL": shared_redis_server.url, "LOOKALIKE_HOME": str(home / "home"), **stores}
    service = Service({**os.environ, **own, "API_PORT": str(port := free_port())}, home, port)
    database = Database(url)
    world.serve(database, Metrics(version="test"), Loader(world.artifacts, torch.device("cpu")))
    database.dispose()
    service.key = make_key(url)
    (home / "seeds.csv").write_text("\n".join(["user_id", *world.seeds()]))
    service.start("api")
    service.start("worker")
    seen.set_options(timeout=MILLISECONDS)
    try:
        assert eventually(service.ready, SECONDS), service.log("worker").read_text()
        yield service
    finally:
        service.client.close()
        for process in service.processes:
            stop_child(process, SECONDS)


@pytest.fixture
def service(running: Service) -> Service:
    """The same for a marketer who has not been here before."""
    running.key = make_key(running.environment["DATABASE_URL"])
    return running


def make_key(url: str) -> str:
    """Of a new tenant."""
    database = Database(url)
    with database.write() as session:
        text = create_key(session, f"tenant-{token_hex(4)}", ["all"]).text
    database.dispose()
    return text


def test_a_marketer_signs_in_checks_seeds_expands_them_and_takes_the_audience_home(service: Service) -> None:
    with browsing(f"http://127.0.0.1:{service.port}") as page:
        page.set_default_timeout(MILLISECONDS)
        page.goto("/console")
        page.get_by_label("API key").fill("lk_nobody")
        page.get_by_role("button", name="Sign in").click()
        seen(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")

        page.get_by_label("API key").fill(service.key)
        page.get_by_role("button", name="Sign in").click()
        seen(page.locator("#served")).to_contain_text(f"{USERS} users")
        seen(page.get_by_text("No audience has been asked for yet.")).to_be_visible()

        page.get_by_label("Campaign").fill("spring")
        page.locator("input[type=file]").set_input_files(service.home / "seeds.csv")
        page.get_by_label("Users in the audience").fill(str(AUDIENCE))
        page.get_by_role("button", name="Check the seeds").click()
        seen(page.get_by_text("These seeds can be expanded.")).to_be_visible()

        page.get_by_role("button", name="Expand").click()
        seen(page.get_by_role("heading", name="Audience", exact=True)).to_be_visible()
        seen(page.get_by_role("heading", name="Quality")).to_be_visible()
        best = page.locator("section", has=page.get_by_role("heading", name="Audience", exact=True))
        job_id = page.url.rsplit("/", 1)[-1]
        members = service.audience(job_id)
        shown = best.locator("tbody tr td:nth-child(2)")
        assert shown.all_text_contents() == [user_id for _, user_id, _ in members[:50]]
        best.get_by_role("button", name="Next").click()
        seen(shown).to_have_text([user_id for _, user_id, _ in members[50:]])

        with page.expect_download() as saved:
            best.get_by_role("button", name="csv").click()
        lines = Path(saved.value.path()).read_text().splitlines()
        assert [line.split(",")[1] for line in lines] == ["user_id", *(user_id for _, user_id, _ in members)]

        page.get_by_role("link", name="lookalike").click()
        seen(page.get_by_role("row", name="spring")).to_contain_text("succeeded")
        page.get_by_role("button", name="Sign out").click()
        seen(page.get_by_label("API key")).to_be_visible()


def test_what_is_wrong_with_the_seeds_is_said_where_they_were_given(service: Service) -> None:
    with browsing(f"http://127.0.0.1:{service.port}") as page:
        page.set_default_timeout(MILLISECONDS)
        page.goto("/console")
        page.get_by_label("API key").fill(service.key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Campaign").fill("spring")
        page.get_by_role("button", name="Expand").click()
        seen(page.get_by_role("alert")).to_contain_text("Choose a file of seeds")
        page.locator("textarea").fill("nobody-1\nnobody-2")
        page.get_by_role("button", name="Expand").click()
        seen(page.get_by_role("alert")).to_contain_text("Fewer")
        seen(page.get_by_text("failed")).to_be_visible()


def test_the_api_is_shown_by_example(service: Service) -> None:
    with browsing(f"http://127.0.0.1:{service.port}") as page:
        page.set_default_timeout(MILLISECONDS)
        page.goto("/docs")
        expansion = page.locator("details", has_text="POST /campaigns/{campaign_id}/expand")
        expansion.locator("summary").click()
        seen(expansion.get_by_text("seed_user_ids").first).to_be_visible()
        seen(expansion.get_by_text("campaign-busy")).to_be_visible()
        assert page.locator("details").count() > 20
