"""The campaign history that a training run learns from, as it was at one moment."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from model.dataset import CAMPAIGNS, INTERACTIONS, SCHEMA, USERS, Dataset, load_dataset
from model.errors import DataError, StoreError
from model.recorded import Joined
from service.models.outcomes import Outcomes


@dataclass(frozen=True)
class History:
    """A snapshot of a campaign-dataset directory, with the sha256 of each of its files by name; and joined to it, what
    the service had recorded at a moment (None: it was not asked)."""

    joined: Joined
    files: dict[str, str]
    recorded_until: datetime | None

    @property
    def dataset(self) -> Dataset:
        """Both together."""
        return self.joined.dataset

    def document(self) -> dict[str, Any]:
        """Which data it is and how much, as JSON."""
        return {
            "files": self.files,
            "users": self.dataset.users.num_rows,
            "campaigns": self.dataset.campaigns.num_rows,
            "interactions": len(self.dataset.interactions.label),
            "recorded": {
                "until": self.recorded_until and self.recorded_until.isoformat(),
                "campaigns": self.joined.campaigns,
                "unknown_users": self.joined.unknown_users,
                "sampled_negatives": self.joined.sampled_negatives,
            },
        }


def take_history(directory: Path, outcomes: Outcomes | None = None, seed: int = 0) -> History:
    """Read the directory as a whole, and join to it what the service recorded; seed: of the draws that this takes.
    Raises DataError for unfit data; StoreError if somebody changed it meanwhile, as another attempt may find it at
    rest."""
    files = _digests(directory)
    try:
        dataset = load_dataset(directory)
    except DataError:
        _require_unchanged(directory, files)
        raise
    _require_unchanged(directory, files)
    if outcomes is None:
        return History(Joined(dataset), files, None)
    return History(outcomes.join(dataset, seed), files, outcomes.until)


def _require_unchanged(directory: Path, files: dict[str, str]) -> None:
    if _digests(directory) != files:
        raise StoreError(f"{directory}: its files were changed while they were read")


def _digests(directory: Path) -> dict[str, str]:
    """Of the files that are there; which ones must be is for `load_dataset` to say."""
    found = {}
    for name in (SCHEMA, USERS, CAMPAIGNS, INTERACTIONS):
        try:
            with (directory / name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue
    return found
