"""A caller walks through an audience, in no hurry, while everything that it is made of changes."""

from collections.abc import Callable

from service.kit.database import Database
from service.models.repository import add_version
from tests.faults.one_of_each import AUDIENCE, SECONDS, OneOfEach
from tests.fixtures.redis import RedisServer
from tests.fixtures.tiny import VERSION, store_version, trained
from tests.fixtures.waiting import eventually

OTHER_VERSION = "tiny-2"
PAGE = 5


def publish_another_version(service: OneOfEach) -> None:
    database = Database(service.database_url)
    manifest = store_version(service.world.artifacts, trained("default", seed=1), OTHER_VERSION)
    with database.write() as session:
        add_version(session, manifest, {})
    database.dispose()


def serve(service: OneOfEach, path: str, version: str) -> None:
    """Promote or roll back, and wait until that version is served."""
    assert service.call("POST", f"/models/{path}", json={"reason": "test"}).status_code == 200
    assert eventually(lambda: service.call("GET", "/models/current").json()["version"] == version, SECONDS)


def test_the_pages_of_one_audience_stay_one_whatever_happens_between_them(
    service: OneOfEach, redis_server: RedisServer
) -> None:
    publish_another_version(service)
    job_id = service.submit()
    expected = service.audience_of(job_id)
    later: list[str] = []

    def run_again() -> None:
        later.append(service.submit())
        service.wait(later[-1])

    between: list[Callable[[], object]] = [
        redis_server.flush,
        lambda: serve(service, f"{OTHER_VERSION}/promote", OTHER_VERSION),
        run_again,
        redis_server.kill,
        redis_server.start,
        lambda: serve(service, "rollback", VERSION),
        run_again,
        redis_server.flush,
    ]
    members, token = [], ""
    while True:
        page = service.call("GET", "/campaigns/spring/audience", params={"page_token": token, "page_size": PAGE}).json()
        assert page["job_id"] == job_id
        members += [(user["rank"], user["user_id"], user["score"]) for user in page["users"]]
        token = page["next_page_token"]
        if not token:
            break
        if between:
            between.pop(0)()
    assert (members, len(members), between) == (expected, AUDIENCE, [])
    assert [service.job(each)["model"]["version"] for each in later] == [OTHER_VERSION, VERSION]
    assert service.audience(later[0]) != expected
    assert service.call("GET", "/campaigns/spring/audience").json()["job_id"] == later[1]
