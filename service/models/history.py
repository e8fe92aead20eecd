"""The campaign history that a training run learns from, as it was at one moment."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.dataset import CAMPAIGNS, INTERACTIONS, SCHEMA, USERS, Dataset, load_dataset
from model.errors import DataError, StoreError


@dataclass(frozen=True)
class History:
    """A snapshot of a campaign-dataset directory: what was in it, and the sha256 of each of its files by name."""

    dataset: Dataset
    files: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Which data it is and how much, as JSON."""
        return {
            "files": self.files,
            "users": self.dataset.users.num_rows,
            "campaigns": self.dataset.campaigns.num_rows,
            "interactions": len(self.dataset.interactions.label),
        }


def take_history(directory: Path) -> History:
    """Read the directory as a whole. Raises DataError for unfit data; StoreError if somebody changed it meanwhile, as
    another attempt may find it at rest."""
    files = _digests(directory)
    try:
        dataset = load_dataset(directory)
    except DataError:
        _require_unchanged(directory, files)
        raise
    _require_unchanged(directory, files)
    return History(dataset, files)


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
