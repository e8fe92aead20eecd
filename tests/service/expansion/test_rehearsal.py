"""What a worker does before it takes its first job."""

import pytest

from model.pool import encode_users
from model.represent import represent
from model.scoring.scan import Scanned
from service.expansion import rehearsal
from service.expansion.pinning import Pinned
from service.expansion.rehearsal import rehearse
from tests.model.worlds import make_dataset, make_untrained

DATASET = make_dataset(users=400)


def pin(users: int) -> Pinned:
    """An untrained model of recipe `default`, and so many of the data set's users."""
    everybody = encode_users(DATASET.users, DATASET.schema.user_features)
    pool = encode_users(DATASET.users.slice(0, users), DATASET.schema.user_features)
    model = make_untrained(everybody)
    return Pinned("tiny-1", model, pool, represent(model, pool))


def test_heads_of_few_seeds_and_of_many_are_made_and_the_pool_is_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[int] = []
    real = rehearsal.scan

    def scan(*arguments, **options) -> Scanned:  # type: ignore[no-untyped-def]
        found = real(*arguments, **options)
        scanned.append(int(found.counts.sum()))
        return found

    monkeypatch.setattr(rehearsal, "scan", scan)
    rehearse(pin(400))
    assert scanned == [400] * 6


def test_a_pool_of_one_user_is_no_reason_not_to_start() -> None:
    rehearse(pin(1))
