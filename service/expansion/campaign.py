"""A campaign as a pinned model and pool see it: heads of labelled rows, plans to score with, and how good they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from model.adapt import Head, adapt
from model.errors import AdaptationError
from model.heads.dense import GRADIENT_TOLERANCE
from model.labelled import Labelled
from model.quality import Quality, estimate_quality
from model.represent import Representation, represent
from model.scoring.plan import ScorePlan, score_plan
from service.expansion.pinning import Pinned

# Heads that judge an expansion: as many as told apart, where one is a matter of milliseconds, else the fewest.
SPLITS, FEWEST_SPLITS = 5, 2
# So near the minimum a head ranks as at the minimum, and it is reached in half the time.
ENOUGH_TO_JUDGE = 1e-5


@dataclass(frozen=True)
class CampaignModel:
    """attributes: of the campaign; deny: the features that must not matter; the representation leaves them out."""

    pinned: Pinned
    representation: Representation | None
    attributes: Mapping[str, Any]
    deny: frozenset[str]

    @classmethod
    def of(cls, pinned: Pinned, request: Mapping[str, Any], check: Callable[[], None]) -> Self:
        """What a job's request asks for; check is called now and then, and may raise to stop."""
        deny = frozenset(request["deny_features"])
        representation = pinned.representation
        if deny or representation is None:
            # Without the denied features the stored representation does not hold: make one for this job alone.
            representation = represent(pinned.model, pinned.pool, deny=deny, progress=lambda _done: check())
        return cls(pinned, representation, request["attributes"], deny)

    def head(self, rows: Labelled, tolerance: float = GRADIENT_TOLERANCE) -> Head:
        """Adapt the model to these rows; tolerance as in `adapt`. Raises AdaptationError."""
        return adapt(
            self.pinned.model,
            self.pinned.pool,
            self.representation,
            rows,
            self.attributes,
            deny=self.deny,
            tolerance=tolerance,
        )

    def plan(self, head: Head) -> ScorePlan:
        """How such a head scores the pool."""
        pinned = self.pinned
        return score_plan(
            pinned.model, head, pinned.pool, self.representation, deny=self.deny, precision=pinned.precision
        )

    def quality(
        self, rows: Labelled, eligible: NDArray[np.bool_], *, audience_size: int, random_seed: int
    ) -> Quality | None:
        """How well heads made of parts of the rows find the seeds that were kept from them; None where that cannot be
        told."""
        try:
            return estimate_quality(
                lambda part: self.plan(self.head(part, ENOUGH_TO_JUDGE)),
                rows,
                eligible,
                audience_size=audience_size,
                splits=SPLITS if self.pinned.adapts_at_once else FEWEST_SPLITS,
                random_seed=random_seed,
                threads=torch.get_num_threads(),
            )
        except AdaptationError:
            return None
