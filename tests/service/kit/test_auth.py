"""Keys, scopes and the guard of a route."""

import asyncio
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request

from service.kit.auth import (
    KEY_SECONDS,
    LOCK_SECONDS,
    MOST_FAILURES,
    OPERATOR_SCOPES,
    TENANT_SCOPES,
    KeyRing,
    Principal,
    make_key,
    require,
    resolve_scopes,
    secret_matches,
    split_key,
)
from service.kit.http import RequestMiddleware
from service.kit.metrics import Metrics
from service.kit.problems import install_problem_handlers

READER = Principal("acme", frozenset({"jobs:read"}), operator=False, key_id="key_1")
KEY = make_key().text


def test_a_key_is_found_by_its_prefix_and_proved_by_its_secret() -> None:
    key = make_key()
    parts = split_key(key.text)
    assert parts is not None
    assert parts[0] == key.prefix
    assert secret_matches(parts[1], key.secret_sha256)
    assert parts[1] not in key.secret_sha256


def test_another_keys_secret_does_not_match() -> None:
    parts = split_key(make_key().text)
    assert parts is not None
    assert not secret_matches(parts[1], make_key().secret_sha256)


@pytest.mark.parametrize("text", ["", "lk_abcdefgh_short", "lk_ABCDEFGH_" + "x" * 43, "pk_abcdefgh_" + "x" * 43, "é"])
def test_what_cannot_be_a_key_has_no_parts(text: str) -> None:
    assert split_key(text) is None


def test_all_without_operator_is_every_tenant_scope_and_no_other() -> None:
    assert resolve_scopes(["all"], operator=False) == TENANT_SCOPES
    assert resolve_scopes(["all"], operator=True) == TENANT_SCOPES | OPERATOR_SCOPES


@pytest.mark.parametrize("scope", sorted(OPERATOR_SCOPES))
def test_an_operators_scope_needs_an_operators_key(scope: str) -> None:
    with pytest.raises(ValueError, match=scope):
        resolve_scopes([scope], operator=False)
    with pytest.raises(ValueError, match=scope):
        resolve_scopes(["all", scope], operator=False)
    assert resolve_scopes([scope], operator=True) == {scope}


def test_an_unknown_scope_is_named() -> None:
    with pytest.raises(ValueError, match="jobs:destroy"):
        resolve_scopes(["jobs:read", "jobs:destroy"], operator=True)


def test_a_key_without_a_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        resolve_scopes([], operator=False)


@pytest.fixture
def app() -> FastAPI:
    metrics = Metrics(version="test")
    app = FastAPI()
    app.state.keys = KeyRing({KEY: READER}.get)
    app.state.body_was_read = False

    async def read_body(request: Request) -> bytes:
        app.state.body_was_read = True
        return await request.body()

    @app.get("/jobs")
    def jobs(principal: Annotated[Principal, Depends(require("jobs:read"))]) -> str:
        return principal.tenant

    @app.post("/expand", dependencies=[Depends(require("audience:expand"))])
    def expand(body: Annotated[bytes, Depends(read_body)]) -> None:
        pass

    install_problem_handlers(app, metrics)
    app.add_middleware(RequestMiddleware, metrics=metrics)
    return app


def call(app: FastAPI, method: str, path: str, authorization: str | None = None) -> httpx.Response:
    async def send() -> httpx.Response:
        headers: dict[str, Any] = {"Authorization": authorization} if authorization is not None else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, headers=headers, content=b"{" if method == "POST" else None)

    return asyncio.run(send())


def test_a_valid_key_gives_its_principal(app: FastAPI) -> None:
    assert call(app, "GET", "/jobs", f"Bearer {KEY}").json() == "acme"
    assert call(app, "GET", "/jobs", f"bearer {KEY}").json() == "acme"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", f"Bearer {make_key().text}", "Basic cmVhZGVy", KEY],
    ids=["nothing", "empty", "no key", "unknown key", "another scheme", "no scheme"],
)
def test_anything_else_is_unauthenticated(app: FastAPI, authorization: str | None) -> None:
    answer = call(app, "GET", "/jobs", authorization)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "/problems/unauthenticated"


def test_a_missing_scope_is_named(app: FastAPI) -> None:
    answer = call(app, "POST", "/expand", f"Bearer {KEY}")
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/insufficient-scope"
    assert "audience:expand" in answer.json()["detail"]


def test_the_key_is_checked_before_the_body_is_read(app: FastAPI) -> None:
    assert call(app, "POST", "/expand").status_code == 401
    assert not app.state.body_was_read


class Lookups:
    """A database with one key, which counts how often it is asked, and a clock."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.ring = KeyRing(self._authenticate, lambda: self.now)

    def whose(self, text: str) -> Principal | None:
        return asyncio.run(self.ring.principal(text))

    def _authenticate(self, text: str) -> Principal | None:
        self.asked += 1
        return READER if text == KEY else None


def guesses(count: int) -> list[str]:
    """Wrong keys under the prefix of the right one."""
    return [f"{KEY[:12]}{number:043d}" for number in range(count)]


def test_under_one_prefix_only_so_many_wrong_keys_are_looked_up_in_a_while() -> None:
    lookups = Lookups()
    assert not any(lookups.whose(guess) for guess in guesses(10 * MOST_FAILURES))
    assert lookups.asked == MOST_FAILURES
    assert lookups.whose(KEY) is None  # which nobody has used before
    lookups.now += LOCK_SECONDS
    assert lookups.whose(KEY) is READER


def test_a_key_in_use_is_not_locked_out_by_those_who_guess_at_it() -> None:
    lookups = Lookups()
    assert lookups.whose(KEY) is READER
    assert not any(lookups.whose(guess) for guess in guesses(10 * MOST_FAILURES))
    lookups.now += 2 * KEY_SECONDS
    assert lookups.whose(KEY) is READER
    assert lookups.asked == MOST_FAILURES + 2


def test_wrong_keys_of_one_prefix_are_nothing_to_another() -> None:
    lookups = Lookups()
    assert not any(lookups.whose(f"lk_aaaaaaaa_{number:043d}") for number in range(2 * MOST_FAILURES))
    assert lookups.whose(KEY) is READER
