"""Whether scores still look as they did: recent jobs of the served model against its first ones."""

import logging
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy.exc import SQLAlchemyError

from model.drift import population_stability
from model.scoring.kernels import Counts
from model.scoring.scores import BINS
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.models.repository import take_into_reference

logger = logging.getLogger(__name__)

# Campaigns differ in their scores: only many of them together show what the model does.
REFERENCE_JOBS = 50
RECENT_JOBS = 50
FEWEST_JOBS = 20
STORED_BINS = 64  # half a unit of a logit each

Shares = npt.NDArray[np.float64]


@dataclass
class ScoreDrift:
    """Sets the metric of drift after each job of a worker.

    The first REFERENCE_JOBS of a model are the reference, kept in the database for all workers. Each job counts as
    much as another, however many users it scored.
    """

    database: Database
    metrics: Metrics
    _version: str | None = None
    _reference: Shares | None = None
    _recent: deque[Shares] = field(default_factory=lambda: deque(maxlen=RECENT_JOBS))

    def take(self, version: str, counts: Counts) -> None:
        """Hear how many candidates of a job of the served version have a logit in each of BINS: i64 [bins]."""
        if not counts.any():
            return
        if version != self._version:
            self._version, self._reference = version, None
            self._recent.clear()
            self.metrics.score_drift_psi.set(math.nan)
        shares = counts.reshape(STORED_BINS, BINS.count // STORED_BINS).sum(1) / counts.sum()
        if self._reference is None:
            self._reference = self._reference_with(version, shares)
        if self._reference is None:
            return
        self._recent.append(shares)
        if len(self._recent) >= FEWEST_JOBS:
            self.metrics.score_drift_psi.set(population_stability(self._reference, np.sum(self._recent, axis=0)))

    def _reference_with(self, version: str, shares: Shares) -> Shares | None:
        """The reference, if it is complete; else the job's shares become part of it."""
        try:
            with self.database.write() as session:
                complete = take_into_reference(session, version, shares.tolist(), REFERENCE_JOBS)
        except SQLAlchemyError as error:  # a job is not to fail for being measured
            logger.warning("scores not compared: %s", type(error).__name__)
            return None
        return None if complete is None else np.array(complete)
