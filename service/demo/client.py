"""A caller of the HTTP api, as small as the demo needs."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from service.demo.errors import DemoError

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1
PAGE_SIZE = 10_000

Json = dict[str, Any]


@dataclass(frozen=True)
class Expanded:
    """A finished expansion: its job, its audience by rank, and the seconds from the POST to the first page."""

    job: Json
    users: list[Json]
    seconds: float


@dataclass(frozen=True)
class Api:
    """The api at host and port, called with one key."""

    host: str
    port: int
    key: str = ""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def ready(self) -> bool:
        """Whether /readyz says so; an api that does not answer yet is not ready."""
        try:
            return self._send("GET", "/readyz", None)[0] == 200
        except (OSError, HTTPException):
            return False

    def get(self, path: str) -> Json:
        """Raises DemoError for anything but success."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Json) -> Json:
        """Raises DemoError for anything but success."""
        return self._call("POST", path, body)

    def expand(self, campaign_id: str, body: Json, watch: Callable[[Json], None]) -> Expanded:
        """Post an expansion and read its audience; `watch` sees the job at each poll and may raise.

        Raises DemoError for one that does not succeed.
        """
        started = time.monotonic()
        job = self.post(f"/campaigns/{campaign_id}/expand", body)
        while not job["done"]:
            watch(job)
            time.sleep(POLL_SECONDS)
            job = self.get(f"/jobs/{job['id']}")
        if job["state"] != "succeeded":
            reason = job["error"]["detail"] if job["error"] else f"it was {job['state']}"
            raise DemoError(f"the expansion of {campaign_id} failed: {reason}")
        page = self.get(f"/jobs/{job['id']}/audience?page_size={PAGE_SIZE}")
        seconds = time.monotonic() - started
        users = list(page["users"])
        while page["next_page_token"]:
            page = self.get(f"/jobs/{job['id']}/audience?page_size={PAGE_SIZE}&page_token={page['next_page_token']}")
            users += page["users"]
        return Expanded(job, users, seconds)

    def _call(self, method: str, path: str, body: Json | None) -> Json:
        try:
            status, answer = self._send(method, path, body)
        except (OSError, HTTPException) as error:
            raise DemoError(f"{method} {path} got no answer: {type(error).__name__}") from error
        if status >= 400:
            problem = json.loads(answer)
            errors = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in problem.get("errors", ()))
            raise DemoError(f"{method} {path} was answered {status}: {errors or problem.get('detail', '')}")
        found: Json = json.loads(answer)
        return found

    def _send(self, method: str, path: str, body: Json | None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
