"""What a finished expansion says of itself, and the seed that its sampling is drawn with."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from model.quality import Quality
from service.audiences.publishing import StoredAudience
from service.campaigns.inputs import ExpansionInputs
from service.expansion.matching import Matched
from service.expansion.pinning import Pinned
from service.kit.database import JsonObject

LOW_MATCH_RATE = 0.5
DECIMALS = 6
STALE_AFTER = timedelta(days=8)  # a weekly training, and a day to spare


def draw_seed(inputs: ExpansionInputs, request: Mapping[str, Any], pinned: Pinned) -> int:
    """63 bits from the seeds, the options, the model and the pool: never from the job, so that a repeat is the same."""
    ignored = ("labels", "submitted")
    options = {name: value for name, value in request.items() if name not in ignored}
    parts = (
        inputs.seed_sha256(),
        *inputs.negatives,
        *inputs.excluded,
        json.dumps(options, sort_keys=True),
        pinned.model.sha256,
        pinned.pool.sha256,
    )
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:8], "big") >> 1


def describe(
    request: Mapping[str, Any],
    inputs: ExpansionInputs,
    matched: Matched,
    pinned: Pinned,
    stored: StoredAudience,
    *,
    eligible: int,
    random_seed: int,
    largest_size: int,
    quality: Quality | None,
) -> JsonObject:
    """The result kept in the job's row; `eligible` counts the users that pass the rules."""
    seed = seed_counts(request["submitted"], inputs, matched)
    return {
        "seed": seed,
        "quality": None if quality is None else _quality(quality),
        "pool_eligible": eligible,
        "audience": stored.view(),
        "manifest": {
            "seed_sha256": inputs.seed_sha256(),
            "model_sha256": pinned.model.sha256,
            "pool_sha256": pinned.pool.sha256,
            "random_seed": random_seed,
            "audience_sha256": stored.sha256,
        },
        "warnings": warnings_of(request, seed["match_rate"], pinned, largest_size=largest_size, quality=quality),
    }


def warnings_of(
    request: Mapping[str, Any],
    match_rate: float | None,
    pinned: Pinned,
    *,
    largest_size: int,
    quality: Quality | None,
) -> list[JsonObject]:
    """What the caller should know of an audience that is made all the same; match_rate None where it stays untold."""
    warnings = []
    if match_rate is not None and match_rate < LOW_MATCH_RATE:
        detail = f"Only {match_rate:.0%} of the distinct seed users are in the pool."
        warnings.append({"code": "low_match_rate", "detail": detail})
    if (request["audience_size"] or 0) > largest_size:
        detail = f"An audience is at most half of the pool: {largest_size} users."
        warnings.append({"code": "audience_truncated", "detail": detail})
    if quality is not None and quality.low_signal:
        warnings.append({"code": "low_signal", "detail": quality.detail})
    age = None if pinned.trained_at is None else datetime.now(UTC) - pinned.trained_at
    if age is not None and age > STALE_AFTER:
        detail = f"The model was trained {age.days} days ago; it should not be older than {STALE_AFTER.days}."
        warnings.append({"code": "stale_model", "detail": detail})
    return warnings


def _quality(quality: Quality) -> JsonObject:
    return {
        "heldout_auc": round(quality.auc, DECIMALS),
        "heldout_auc_interval": [round(bound, DECIMALS) for bound in quality.interval],
        "lift_curve": [
            {
                "size": point.size,
                "fraction": round(point.fraction, DECIMALS),
                "recall": round(point.recall, DECIMALS),
                "lift": None if point.lift is None else round(point.lift, DECIMALS),
            }
            for point in quality.lift_curve
        ],
        "seeds_held_out": quality.seeds_held_out,
        "verdict": f"{quality.verdict}: {quality.detail}",
    }


def seed_counts(submitted: int, inputs: ExpansionInputs, matched: Matched) -> JsonObject:
    """The `seed` of the Job document."""
    unique = len(inputs.seeds)
    return {
        "submitted": submitted,
        "unique": unique,
        "duplicates": submitted - unique,
        "matched": len(matched.seeds),
        "unknown": unique - len(matched.seeds),
        "match_rate": round(len(matched.seeds) / unique, 6),
    }
