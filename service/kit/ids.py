"""Identifiers: a prefix that names the noun, the time so that they sort, and enough chance to be unguessable."""

import secrets
import time


def new_id(prefix: str) -> str:
    """Return e.g. `job_0199f3c2a1b47f3e...`: milliseconds in 12 hex digits, then 64 random bits."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def made_at(identifier: str) -> float:
    """When `new_id` made it, in seconds since 1970."""
    return int(identifier.rpartition("_")[2][:12], 16) / 1000
