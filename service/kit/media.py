"""Which media types a request brings and would take back."""

from collections.abc import Sequence
from email.message import Message

from fastapi import Request

from service.kit.errors import MEDIA_TYPE, Problem

JSON = "application/json"


def body_media(request: Request, read: Sequence[str] = (JSON,)) -> str:
    """Which of the media types in `read` the body says that it is. Problem unsupported-media-type unless it is one of
    them, in UTF-8."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    media, charset = header.get_content_type(), header.get_param("charset", "utf-8")
    # A message without a type, or with one that is none, is text/plain, which no path reads.
    if media not in read or str(charset).lower() not in ("utf-8", "utf8"):
        raise Problem("unsupported-media-type", f"This path reads {' or '.join(read)}, in UTF-8.")
    return media


async def accept_json(request: Request) -> None:
    """Problem not-acceptable when the caller takes no JSON; to be a dependency of every route that answers with it."""
    negotiate(request, (JSON, MEDIA_TYPE))


def negotiate(request: Request, offers: Sequence[str]) -> str:
    """The first of `offers` that the Accept header rates highest. Problem not-acceptable if it takes none."""
    ranges = [_parse_range(part) for part in ",".join(request.headers.getlist("accept")).split(",") if part.strip()]
    if not ranges:
        return offers[0]
    quality, index = max((_quality(offer, ranges), -index) for index, offer in enumerate(offers))
    if quality <= 0:
        raise Problem("not-acceptable", f"This path answers with {' or '.join(offers)}.")
    return offers[-index]


def _parse_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media, float(parameter[2:])
            except ValueError:
                return media, 0.0
    return media, 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Of the most exact range that covers the offer."""
    for wanted in (offer, offer.split("/", maxsplit=1)[0] + "/*", "*/*"):
        for media, quality in ranges:
            if media == wanted:
                return quality
    return 0.0
