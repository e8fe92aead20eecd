"""Losses on labelled users: class balance and log-likelihoods."""

import torch
from torch import Tensor


def balance(labels: Tensor, weights: Tensor) -> Tensor:
    """Rescale row weights so that positives and negatives weigh the same in total; rows along the last dimension.

    The score then does not depend on the rate at which negatives were sampled. The grand total is
    4 / (1/n₊ + 1/n₋) with n the effective sample size (Σw)²/Σw² of a class: the evidence that the smaller class
    allows, so a prior keeps its meaning however many negatives are drawn. Rows of weight zero take no part.
    A class without rows makes every weight zero.

    labels, weights [..., rows] -> [..., rows]
    """
    positive = weights * labels
    negative = weights * (1 - labels)
    sums = positive.sum(-1, keepdim=True), negative.sum(-1, keepdim=True)
    sizes = [
        total.square() / part.square().sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        for total, part in zip(sums, (positive, negative), strict=True)
    ]
    half = 2 * sizes[0] * sizes[1] / (sizes[0] + sizes[1]).clamp_min(1)
    return half * (_share(positive, sums[0]) + _share(negative, sums[1]))


def _share(part: Tensor, total: Tensor) -> Tensor:
    return part / torch.where(total > 0, total, torch.ones_like(total))


def logit_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of -[y log p + (1 - y) log(1 - p)] with p = sigmoid(logit): [..., rows] -> [...]."""
    losses = torch.nn.functional.softplus(logits) - labels * logits
    return (weights * losses).sum(-1)


def mixture_loss(log_chances: tuple[Tensor, Tensor], labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of -[y log p̂ + (1 - y) log(1 - p̂)] from (log p̂, log(1 - p̂)), each [rows] -> scalar."""
    log_yes, log_no = log_chances
    losses = -(labels * log_yes + (1 - labels) * log_no)
    return (weights * losses).sum() / weights.sum()
