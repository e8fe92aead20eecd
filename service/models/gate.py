"""Decides whether a freshly trained model may be served."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.evaluate import Evaluation

# Mean AUC that a model must exceed to be better than random order, beyond the noise of a few dozen campaigns.
FLOOR = 0.52
# A candidate may be this much worse in mean AUC than the served model; on cold campaigns alone, which are half as many
# and noisier, by twice as much.
MARGIN, COLD_MARGIN = 0.005, 0.01
# That it is worse than that must hold with this confidence, one-sided. Asking for proof of the opposite, the gate would
# refuse most models that are as good, for trainings differ by chance: docs/training.md has the figures.
CONFIDENCE = 0.8
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Check:
    """One question that the gate asks, whether the answer lets the candidate pass, and the figures in words."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class GateDecision:
    """Accepted or not, the sentence that says why, the two mean AUCs behind it, and every check."""

    accepted: bool
    reason: str
    candidate_auc: float | None
    champion_auc: float | None
    checks: tuple[Check, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def and_also(self, check: Check) -> "GateDecision":
        """The decision after one more check."""
        return _decision((*self.checks, check), self.candidate_auc, self.champion_auc)


def decide(candidate: Evaluation, champion: Evaluation | None, *, broken: str | None = None) -> GateDecision:
    """Compare on the same held-out campaigns; without a champion the candidate only has to beat random order.

    broken: what is not finite about the candidate, in words, or None.
    """
    found, served = (_aucs(evaluation) for evaluation in (candidate, champion))
    mean, served_mean = _mean(found), _mean(served)
    if broken is not None:
        return _decision((Check("finite", passed=False, detail=broken),), mean, served_mean)
    if mean is None:
        nobody = "no held-out campaign could be judged: none has positives and negatives in both parts"
        return _decision((Check("judged", passed=False, detail=nobody),), mean, served_mean)
    checks = [
        Check("finite", passed=True, detail="all weights and scores are finite"),
        _above_random(mean),
    ]
    if served:
        cold, _ = candidate.cold_and_hot()
        # Those with few seeds need the service most, and a mean over all hides them.
        checks.append(_not_worse("cold", "cold", _aucs(cold), served, COLD_MARGIN))
        checks.append(_not_worse("served", "held-out", found, served, MARGIN))
    return _decision(tuple(checks), mean, served_mean)


def _above_random(mean: float) -> Check:
    if mean > FLOOR:
        return Check("random", passed=True, detail=f"held-out AUC {mean:.4f} is better than random")
    return Check("random", passed=False, detail=f"held-out AUC {mean:.4f} is not better than random (floor {FLOOR})")


def _not_worse(
    name: str, campaigns: str, candidate: Mapping[str, float], served: Mapping[str, float], margin: float
) -> Check:
    """A paired comparison over the campaigns that both were judged on."""
    both = sorted(candidate.keys() & served.keys())
    if not both:
        return Check(name, passed=False, detail=f"there is no {campaigns} campaign to compare with the served model on")
    differences = np.array([candidate[campaign] - served[campaign] for campaign in both])
    highest = _upper_bound(differences)
    figures = (
        f"{campaigns} AUC {np.mean([candidate[campaign] for campaign in both]):.4f} on {len(both)} campaigns, the"
        f" served model has {np.mean([served[campaign] for campaign in both]):.4f}"
    )
    if highest >= -margin:
        return Check(name, passed=True, detail=figures)
    detail = f"{figures}: with {CONFIDENCE:.0%} confidence it is {-highest:.4f} worse or more, and {margin} is allowed"
    return Check(name, passed=False, detail=detail)


def _upper_bound(differences: npt.NDArray[np.float64]) -> float:
    """Of their mean over campaigns like these, by bootstrap; always the same for the same differences."""
    generator = np.random.default_rng(0)
    means = [generator.choice(differences, len(differences)).mean() for _ in range(_RESAMPLES)]
    return float(np.quantile(means, CONFIDENCE))


def _aucs(evaluation: Evaluation | None) -> dict[str, float]:
    return {} if evaluation is None else {result.campaign_id: result.auc for result in evaluation.campaigns}


def _mean(aucs: Mapping[str, float]) -> float | None:
    return float(np.mean(list(aucs.values()))) if aucs else None


def _decision(checks: tuple[Check, ...], candidate_auc: float | None, champion_auc: float | None) -> GateDecision:
    """All must pass. The reason is what failed; of an accepted candidate, what was asked last."""
    failed = [check.detail for check in checks if not check.passed]
    reason = "; ".join(failed) if failed else checks[-1].detail
    if not failed and champion_auc is None:
        reason += "; no served model could be judged beside it"
    return GateDecision(not failed, reason, candidate_auc, champion_auc, checks)
