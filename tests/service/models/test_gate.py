"""The gate: finite, better than random, and not worse than what is served, on cold campaigns too."""

import numpy as np
import pytest

from model.evaluate import CampaignResult, Evaluation
from service.models.gate import Check, GateDecision, decide


def evaluation(*aucs: float, cold: int = 0) -> Evaluation:
    """Campaigns c0, c1, ... with these AUCs; the first `cold` have few seeds, or all have as many."""
    return Evaluation(
        tuple(
            CampaignResult(
                f"c{index}",
                seeds=3 if index < cold else 10,
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


def failed(decision: GateDecision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


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


def test_campaigns_are_compared_one_by_one() -> None:
    """How much campaigns differ from each other says nothing about the difference between two models."""
    served = np.linspace(0.55, 0.9, 30)
    steady = decide(evaluation(*(served - 0.012)), evaluation(*served))
    assert failed(steady) == ["cold", "served"]
    assert "with 80% confidence it is 0.0120 worse or more, and 0.005 is allowed" in steady.reason


def test_a_loss_that_may_be_chance_is_none() -> None:
    served = np.linspace(0.55, 0.9, 30)
    wobble = np.tile([0.08, -0.08], 15)
    assert decide(evaluation(*(served - 0.012 + wobble)), evaluation(*served)).accepted
    assert failed(decide(evaluation(*(served - 0.05 + wobble)), evaluation(*served))) == ["cold", "served"]


def test_only_campaigns_that_both_were_judged_on_are_compared() -> None:
    assert decide(evaluation(0.8, 0.7, 0.1), evaluation(0.8, 0.7)).checks[-1].passed
    strangers = Evaluation(evaluation(0.1, 0.1, 0.8).campaigns[2:], ())
    assert failed(decide(strangers, evaluation(0.7, 0.7))) == ["cold", "served"]


def test_a_gain_elsewhere_does_not_buy_a_loss_on_cold_campaigns() -> None:
    served = evaluation(*[0.7] * 10, cold=5)
    decision = decide(evaluation(*[0.67] * 5, *[0.8] * 5, cold=5), served)
    assert failed(decision) == ["cold"]
    assert "cold AUC 0.6700 on 5 campaigns, the served model has 0.7000" in decision.reason


def test_a_candidate_that_is_not_finite_is_refused_whatever_else_it_is() -> None:
    decision = decide(evaluation(), None, broken="tensor 'network.bias' has numbers that are not finite")
    assert (decision.accepted, decision.reason) == (False, "tensor 'network.bias' has numbers that are not finite")


def test_all_reasons_of_a_refusal_are_given_and_a_later_one_refuses_too() -> None:
    decision = decide(evaluation(0.51), evaluation(0.6))
    assert failed(decision) == ["random", "cold", "served"]
    assert decision.reason.count(";") == 2
    later = decide(evaluation(0.7), None).and_also(Check("current", passed=False, detail="v2 came first"))
    assert (later.accepted, later.reason) == (False, "v2 came first")
    assert [check["name"] for check in later.document()["checks"]] == ["finite", "random", "current"]
