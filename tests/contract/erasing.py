"""Asks for erasures as a caller, and does them as a worker."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.erasures.audiences import AudienceEraser
from service.erasures.erasing import EraseHandler
from service.erasures.pools import PoolEraser
from service.erasures.repository import TombstoneReader
from service.jobs.runner import Handler, Runner
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from service.pool.importing import ImportHandler
from service.pool.locations import ImportRoot
from service.serving.loader import Loader
from tests.contract.conftest import Api
from tests.fixtures.tiny import run_next

# On the first page of an audience of 3,456, at its very end, at the beginning of the second, together, and last of all.
ERASED = ["user-000000", "user-000999", "user-001000", "user-001500", "user-001501", "user-003455"]
ASKED = [*ERASED, "nobody"]


def erase(api: Api, user_ids: Sequence[str] = ASKED, **options: Any) -> str:
    """Submit an erasure; where it is told of."""
    answer = api.post("/erasures", {"user_ids": list(user_ids)}, key="operator", **options)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def look(api: Api, url: str) -> dict[str, Any]:
    """What an operator is told."""
    answer = api.get(url, key="operator")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def work(api: Api) -> Job:
    """Do the next erasure or import, without waiting until no process remembers the rows of before."""
    database, artifacts, metrics = api.database, api.app.state.artifacts, api.app.state.metrics
    publisher = AudiencePublisher(artifacts.audiences, AudienceCache(api.app.state.cache, 30), 30)
    tombstones = TombstoneReader(database, api.app.state.erasure_key)
    pools = PoolEraser(database, artifacts, Loader(artifacts, torch.device("cpu")), max_attempts=3)
    imports = ImportRoot(api.app.state.settings.resolved_import_root)
    handlers: dict[Kind, Handler] = {
        Kind.ERASE: EraseHandler(database, pools, AudienceEraser(database, publisher), metrics),
        Kind.IMPORT_POOL: ImportHandler(database, artifacts.pools, imports, 3, tombstones),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.erasures.erasing.ROW_SECONDS", 0)
        return run_next(database, Runner(database, metrics, handlers, 30, 90))


def done(api: Api) -> None:
    """The erasure is done, and the job has waited as long as rows are remembered."""
    assert work(api).state == State.SUCCEEDED
    api.app.state.recent_audiences.forget()
