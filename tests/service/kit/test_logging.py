"""Logs: one JSON line per event, with its context, without end users."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service.kit.logging import configure_logging, hash_tenant, job_context, request_context


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("production", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_both_kinds_of_logger_write_the_same_form_and_name_their_request(stream: io.StringIO) -> None:
    with request_context("request-1"):
        logging.getLogger("service.a").warning("slow by %d ms", 7)
        structlog.stdlib.get_logger("service.b").info("request", status=200)
    first, second = lines(stream)
    assert (first["event"], first["level"], first["logger"]) == ("slow by 7 ms", "warning", "service.a")
    assert (second["event"], second["status"], second["logger"]) == ("request", 200, "service.b")
    assert first["request_id"] == second["request_id"] == "request-1"


def test_a_line_inside_a_job_names_it_and_one_after_it_does_not(stream: io.StringIO) -> None:
    with job_context("job_1", "expand", 2, "acme"):
        logging.getLogger("x").info("inside")
    logging.getLogger("x").info("after")
    inside, after = lines(stream)
    assert (inside["job_id"], inside["job_kind"], inside["attempt"]) == ("job_1", "expand", 2)
    assert inside["tenant_hash"] == hash_tenant("acme")
    assert "acme" not in stream.getvalue()
    assert not {"job_id", "tenant_hash"} & after.keys()


def test_ids_of_end_users_are_not_logged(stream: io.StringIO) -> None:
    structlog.stdlib.get_logger("x").info("seeds", user_ids=["u1"], user_id="u2")
    logging.getLogger("x").info("seeds", extra={"seed_user_ids": ["u3"]})
    assert not any(user in stream.getvalue() for user in ("u1", "u2", "u3"))


def test_a_traceback_is_one_line_of_json(stream: io.StringIO) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("x").exception("it failed")
    (line,) = lines(stream)
    assert "RuntimeError: broken" in line["exception"]
