import pytest
import torch

from model.loss import balance, logit_loss, mixture_loss


def test_positives_and_negatives_weigh_the_same_in_total() -> None:
    labels = torch.tensor([1.0, 0, 0, 0, 0])
    weights = balance(labels, torch.ones(5))
    assert weights[0] == pytest.approx(float(weights[1:].sum()))
    assert float(weights.sum()) == pytest.approx(4 / (1 / 1 + 1 / 4))


def test_the_scale_of_the_weights_does_not_matter() -> None:
    labels = torch.tensor([1.0, 1, 0, 0, 0])
    weights = torch.tensor([1.0, 3, 2, 1, 1])
    torch.testing.assert_close(balance(labels, weights * 7), balance(labels, weights))


def test_drawing_every_negative_twice_moves_nothing_between_the_classes() -> None:
    once = balance(torch.tensor([1.0, 1, 0, 0]), torch.ones(4))
    twice = balance(torch.tensor([1.0, 1, 0, 0, 0, 0]), torch.ones(6))
    assert float(once[:2].sum() / once.sum()) == pytest.approx(float(twice[:2].sum() / twice.sum()))


def test_rows_of_weight_zero_take_no_part() -> None:
    labels = torch.tensor([1.0, 0, 1, 0])
    some = balance(labels, torch.tensor([1.0, 1, 0, 0]))
    torch.testing.assert_close(some, torch.tensor([1.0, 1, 0, 0]))


def test_without_one_class_every_weight_is_zero_and_finite() -> None:
    assert balance(torch.ones(3), torch.ones(3)).tolist() == [0, 0, 0]


def test_campaigns_are_balanced_each_for_itself() -> None:
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    together = balance(labels, torch.ones(2, 3))
    for row in range(2):
        torch.testing.assert_close(together[row], balance(labels[row], torch.ones(3)))


def test_both_losses_are_the_negative_log_likelihood() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5])
    labels = torch.tensor([1.0, 1.0, 0.0])
    weights = torch.tensor([1.0, 2.0, 3.0])
    chances = torch.sigmoid(logits)
    expected = -(weights * torch.where(labels == 1, chances.log(), (1 - chances).log())).sum()
    torch.testing.assert_close(logit_loss(logits, labels, weights), expected)
    mixed = mixture_loss((chances.log(), (1 - chances).log()), labels, weights)
    torch.testing.assert_close(mixed, expected / 6)
