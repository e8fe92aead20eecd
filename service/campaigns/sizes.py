"""How large an audience is: what was asked for, and what a pool allows."""

from collections.abc import Mapping
from decimal import Decimal
from math import floor
from typing import Any

LARGEST_SHARE = 0.5


def asked_size(options: Mapping[str, Any], pool_size: int) -> int:
    """Of a job's options, which have a size or a fraction."""
    if options["audience_size"] is not None:
        return int(options["audience_size"])
    # The fraction as the caller wrote it: 0.29 of 100 users is 29, though the nearest float is below 0.29.
    return max(1, floor(Decimal(str(options["audience_fraction"])) * pool_size))


def largest_size(pool_size: int) -> int:
    """What a larger audience is cut to."""
    return max(1, floor(pool_size * LARGEST_SHARE))


def output_of(options: Mapping[str, Any], pool_size: int | None) -> int:
    """Users that an expansion asks for; 0 for a fraction of a pool that is not there yet."""
    if pool_size is not None:
        return min(asked_size(options, pool_size), largest_size(pool_size))
    return options["audience_size"] or 0
