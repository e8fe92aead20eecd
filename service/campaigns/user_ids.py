"""Puts the user ids of an expansion into the form in which they may be stored."""

from dataclasses import replace

from sqlalchemy.orm import Session

from service.campaigns.request import ExpansionRequest
from service.kit.errors import FieldError, validation_failed
from service.pool.repository import served_id_kind


def with_normal_ids(session: Session, request: ExpansionRequest) -> ExpansionRequest:
    """The request with its ids as they may be stored: in the normal form of the served pool's kind.

    Before there is a pool nobody knows whether e-mail addresses are to be hashed, so they are refused. Problem
    validation-failed.
    """
    kind = served_id_kind(session)
    inputs = request.inputs.normal(kind or "text")
    members = {
        "seed_user_ids": inputs.seeds,
        "negative_user_ids": inputs.negatives,
        "exclude_user_ids": inputs.excluded,
    }
    detail = "must not hold e-mail addresses while there is no pool that says whether ids are their hashes"
    errors = [
        FieldError(f"/{member}", "no-pool", detail)
        for member, user_ids in members.items()
        if kind is None and any("@" in user_id for user_id in user_ids)
    ]
    if not frozenset(inputs.seeds).isdisjoint(inputs.negatives):
        errors.append(FieldError("/negative_user_ids", "also-seed", "must not hold a seed in another form"))
    if errors:
        raise validation_failed(*errors)
    return replace(request, inputs=inputs)
