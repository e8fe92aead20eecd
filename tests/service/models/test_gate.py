"""The gate: better than random, and not worse than what is served."""

import pytest

from model.evaluate import CampaignResult, Evaluation
from service.models.gate import decide


def evaluation(*aucs: float) -> Evaluation:
    return Evaluation(
        tuple(
            CampaignResult(
                f"c{index}",
                seeds=10,
                rows=100,
                positives=10,
                auc=auc,
                p_at_5=0.5,
                r_at_5=0.5,
                random_auc=0.5,
                random_p_at_5=0.1,
                random_r_at_5=0.05,
            )
            for index, auc in enumerate(aucs)
        ),
        (),
    )


@pytest.mark.parametrize(
    ("candidate", "champion", "accepted"),
    [
        (evaluation(0.6, 0.7), None, True),
        (evaluation(0.5, 0.52), None, False),
        (evaluation(), None, False),
        (evaluation(0.7), evaluation(0.7), True),
        (evaluation(0.697), evaluation(0.7), True),
        (evaluation(0.69), evaluation(0.7), False),
        (evaluation(0.51), evaluation(0.4), False),
    ],
)
def test_the_gate_opens_for_models_that_are_no_step_back(
    candidate: Evaluation, champion: Evaluation | None, *, accepted: bool
) -> None:
    decision = decide(candidate, champion)
    assert decision.accepted is accepted
    assert decision.reason
