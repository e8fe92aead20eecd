"""Slow obvious implementations that the real ones are checked against."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from itertools import pairwise, permutations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.embedding import FeatureBatch, FieldEmbedding
from model.heads.dense import Problem
from model.network import HybridExpertsCritics


def minimise_with_lbfgs(problem: Problem, campaign: int) -> Tensor:
    """The head [d + 1] of one campaign by a generic optimiser on the objective alone."""
    head = problem.start()[campaign].clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [head], lr=1, max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = problem.features[campaign] @ head
        labels, weights = problem.labels[campaign], problem.weights[campaign]
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
        total = losses + 0.5 * (problem.ridge * (head - problem.mean).square()).sum()
        total.backward()
        return total

    optimiser.step(closure)
    return head.detach()


def pooled_fields(embedding: FieldEmbedding, batch: FeatureBatch, entity: int, power: float = 1.0) -> list[Tensor]:
    """Each field of one entity: the sum of its value embeddings / their number ^ power, with its vectors."""
    pooled = []
    for field in range(embedding.fields):
        bag = field * batch.size + entity
        rows = batch.rows[batch.offsets[bag] : batch.offsets[bag + 1]]
        pooled.append(embedding.table[rows].sum(0) / max(1, len(rows)) ** power)
    for field, projection, vector in zip(embedding.vector_fields, embedding.projections, batch.vectors, strict=True):
        pooled[field] = pooled[field] + vector[entity].to(projection.dtype) @ projection
    return pooled


def metaheac_chances(network: HybridExpertsCritics, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
    """p̂ [B] of section 4 of the paper, one user, one expert and one critic at a time."""
    attributes = torch.cat(pooled_fields(network.campaign_embedding, campaign, 0))
    chances = []
    for user in range(users.size):
        fields = pooled_fields(network.user_embedding, users, user, network.length_power)
        gate = torch.cat([attributes, torch.stack(fields).mean(0)])
        expert_weights = torch.softmax(network.expert_gate(gate), 0)
        critic_weights = torch.softmax(network.critic_gate(gate), 0)
        shared: Tensor = torch.zeros(())
        for expert, weight in enumerate(expert_weights):
            hidden = torch.cat(fields)
            for matrix, bias in zip(network.experts.weights, network.experts.biases, strict=True):
                hidden = torch.relu(hidden @ matrix[expert] + bias[expert, 0])
            shared = shared + weight * hidden
        chance: Tensor = torch.zeros(())
        for critic, weight in enumerate(critic_weights):
            hidden = shared
            layers = list(zip(network.critics.weights, network.critics.biases, strict=True))
            for matrix, bias in layers[:-1]:
                hidden = torch.relu(hidden @ matrix[critic] + bias[critic, 0])
            chance = chance + weight * torch.sigmoid(hidden @ layers[-1][0][critic] + layers[-1][1][critic, 0])
        chances.append(chance.squeeze())
    return torch.stack(chances)


def rank(scores: npt.NDArray[np.float64], size: int) -> list[tuple[int, float]]:
    """(ordinal, score) of the best users by falling score, then rising ordinal."""
    return sorted(enumerate(scores.tolist()), key=lambda user: (-user[1], user[0]))[:size]


def dense_inner_step(
    network: HybridExpertsCritics,
    users: FeatureBatch,
    campaign: FeatureBatch,
    labels: Tensor,
    rate: float,
    frozen: Collection[str] = (),
) -> dict[str, Tensor]:
    """θ - rate · ∂L_a/∂θ over every parameter and every row of the tables, on a copy, but for those that are frozen;
    labels [B] weigh 1."""
    copy = deepcopy(network)
    log_yes, _ = copy(users, campaign)
    torch.nn.functional.binary_cross_entropy(log_yes.exp(), labels).backward()
    return {
        name: value.detach() - (rate * value.grad if value.grad is not None and name not in frozen else 0)
        for name, value in copy.named_parameters()
    }


def auc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Every pair of a positive and a negative: 1 if the positive is above, 1/2 if they tie."""
    pairs = [
        (positive > negative) + (positive == negative) / 2
        for positive, label in zip(scores, labels, strict=True)
        if label
        for negative, other in zip(scores, labels, strict=True)
        if not other
    ]
    return sum(pairs) / len(pairs)


def mean_over_ties(labels: Sequence[int], scores: Sequence[float], worths: Sequence[float]) -> float:
    """Mean worth of the ranks of the positives (0 beyond `worths`) over every order that the scores allow."""
    values = [
        sum(worth for worth, row in zip(worths, order, strict=False) if labels[row])
        for order in permutations(range(len(labels)))
        if all(scores[above] >= scores[below] for above, below in pairwise(order))
    ]
    return sum(values) / len(values)
