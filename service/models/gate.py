"""Decides whether a freshly trained model may be served."""

from dataclasses import asdict, dataclass
from typing import Any

from model.evaluate import Evaluation

# A candidate may be this much worse in mean AUC than the served model: the noise of a few dozen campaigns.
MARGIN = 0.005
# Mean AUC that a model must exceed to be better than random order, beyond the same noise.
FLOOR = 0.52


@dataclass(frozen=True)
class GateDecision:
    """Accepted or not, the sentence that says why, and the two figures behind it."""

    accepted: bool
    reason: str
    candidate_auc: float | None
    champion_auc: float | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def decide(candidate: Evaluation, champion: Evaluation | None) -> GateDecision:
    """Compare on the same held-out campaigns; without a champion the candidate only has to beat random order."""
    auc = candidate.summary().get("auc")
    champion_auc = champion.summary().get("auc") if champion is not None else None
    if auc is None:
        reason = "no held-out campaign could be judged: none has positives and negatives in both parts"
        return GateDecision(accepted=False, reason=reason, candidate_auc=None, champion_auc=champion_auc)
    if auc <= FLOOR:
        accepted, reason = False, f"held-out AUC {auc:.4f} is not better than random (floor {FLOOR})"
    elif champion_auc is not None and auc < champion_auc - MARGIN:
        accepted, reason = False, f"held-out AUC {auc:.4f} is below the served model's {champion_auc:.4f} - {MARGIN}"
    elif champion_auc is not None:
        accepted, reason = True, f"held-out AUC {auc:.4f}, the served model has {champion_auc:.4f}"
    else:
        accepted, reason = True, f"held-out AUC {auc:.4f}, better than random; there is no served model"
    return GateDecision(accepted=accepted, reason=reason, candidate_auc=auc, champion_auc=champion_auc)
