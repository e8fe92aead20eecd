"""The report of a training run: a JSON object beside the checkpoint, for whoever asks how a version came to be."""

import json
import logging
from typing import Any

from model.errors import ObjectMissing
from model.store import ObjectStore
from model.tasks import PARTS
from service.kit.artifacts import version_prefix

logger = logging.getLogger(__name__)

REPORT = "report.json"

Parts = dict[str, list[str]]
"""The ids of the campaigns that trained, validated and tested, by those names."""


def read_parts(models: ObjectStore, version: str | None) -> Parts:
    """Which campaigns were whose when this version was trained, and the versions before it; nothing where no report
    says so."""
    if version is None:
        return {}
    try:
        document: dict[str, Any] = json.loads(models.get(f"{version_prefix(version)}/{REPORT}"))
        return {part: [str(name) for name in document["split"][part]] for part in PARTS}
    except ObjectMissing:
        return {}
    except (ValueError, KeyError, TypeError):
        logger.warning("the report of %s cannot be read: it is not known which campaigns it was taught", version)
        return {}


def merged(earlier: Parts, now: Parts) -> Parts:
    """Both: a campaign that is no longer in the data may come back."""
    present = {name for names in now.values() for name in names}
    return {part: sorted({*now[part], *(set(earlier.get(part, ())) - present)}) for part in PARTS}
