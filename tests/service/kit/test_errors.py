"""Problems: a closed catalogue, and documents that stay small whatever went wrong."""

import json

import pytest

from service.kit.errors import CATALOGUE, FieldError, Problem, unavailable, validation_failed


@pytest.mark.parametrize("slug", CATALOGUE)
def test_every_problem_has_a_status_a_title_and_an_explanation(slug: str) -> None:
    document = Problem(slug).as_document("request-1")
    assert document["type"] == f"/problems/{slug}"
    assert 400 <= document["status"] <= 599
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == "request-1"


def test_a_slug_outside_the_catalogue_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Problem("no-such-problem")


def test_the_problem_of_a_job_has_no_request() -> None:
    assert "request_id" not in Problem("attempts-exhausted").as_document()


def test_a_validation_problem_lists_its_faults() -> None:
    fault = FieldError("/audience_size", "mutually_exclusive", "cannot be given together with audience_fraction")
    assert validation_failed(fault).as_document("r")["errors"] == [
        {"pointer": fault.pointer, "code": fault.code, "detail": fault.detail}
    ]


def test_no_problem_is_larger_than_64_kib() -> None:
    fault = FieldError("/" + "\x01" * 1_000_000, "extra_forbidden", "is not a known field")
    document = validation_failed(*[fault] * 1_000).as_document("r")
    assert len(document["errors"]) == 20
    assert len(json.dumps(document)) <= 64 << 10


def test_unavailable_says_when_to_come_back() -> None:
    assert unavailable("The database is away.", retry_after=7).headers == {"Retry-After": "7"}
