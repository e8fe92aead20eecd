"""Conditional requests: whether a caller has already what it asks for (RFC 9110, section 13)."""


def is_known(if_none_match: str, etag: str) -> bool:
    """Whether the If-None-Match header names the ETag, or anything at all."""
    candidates = (candidate.strip().removeprefix("W/") for candidate in if_none_match.split(","))
    return any(candidate in (etag, "*") for candidate in candidates)
