"""Choosing what to answer with, and refusing what cannot be read."""

import pytest
from fastapi import Request

from service.kit.errors import Problem
from service.kit.media import body_media, negotiate

OFFERS = ("application/json", "text/html")


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "text/html"),
        ("text/*", "text/html"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("text/html;q=0.5, */*", "application/json"),
        ("application/json;q=0, */*", "text/html"),
        ("TEXT/HTML ; Q=1", "text/html"),
    ],
)
def test_the_offer_that_the_caller_rates_highest_is_chosen(accept: str, chosen: str) -> None:
    assert negotiate(request(accept=accept), OFFERS) == chosen


def test_a_caller_without_an_accept_header_takes_the_first_offer() -> None:
    assert negotiate(request(), OFFERS) == "application/json"


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0, application/json;q=x", "text", "application/jsonx"])
def test_a_caller_that_takes_no_offer_is_told_so(accept: str) -> None:
    with pytest.raises(Problem) as refused:
        negotiate(request(accept=accept), OFFERS)
    assert refused.value.slug == "not-acceptable"


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
def test_json_in_utf_8_is_read(content_type: str) -> None:
    assert body_media(request(content_type=content_type)) == "application/json"


@pytest.mark.parametrize(
    "content_type", ["", "json", "text/json", "text/csv", "application/json+x", "application/json;charset=latin-1"]
)
def test_any_other_body_is_refused(content_type: str) -> None:
    with pytest.raises(Problem) as refused:
        body_media(request(content_type=content_type))
    assert refused.value.slug == "unsupported-media-type"


def test_a_body_is_told_from_others_that_are_read_too() -> None:
    read = ("application/json", "text/csv")
    assert body_media(request(content_type="text/csv; header=present; charset=utf-8"), read) == "text/csv"
    with pytest.raises(Problem, match="reads application/json or text/csv"):
        body_media(request(content_type="text/plain"), read)
