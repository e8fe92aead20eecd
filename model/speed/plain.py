"""Scores and rankings the plain way: what a score is, written out, and as it is usually computed."""

import numpy as np
import torch
from torch import Tensor

from model.heads.block import SparseWeights, sparse_logits
from model.heads.campaign import ConvexHead
from model.logistic import sigmoid
from model.model import Model
from model.pool import Pool
from model.represent import Representation, from_bits
from model.scoring.scores import Scores, rounded
from model.scoring.topk import Ranking
from model.speed.row import NotEqual

_BLOCK_ROWS = 1 << 16
_CPU = torch.device("cpu")


def plain_scores(model: Model, head: ConvexHead, pool: Pool, representation: Representation) -> Scores:
    """f64 [N] of everybody, of 6 decimals: φ·h in index order, then the values' weights field by field, then the bias.
    For pools without vector fields."""
    translation = model.vocabulary.translate(pool)
    by_row = None if head.sparse is None else head.sparse.by_row(translation.rows)
    logits = np.zeros(pool.size)
    for start, stop in pool.spans(_BLOCK_ROWS):
        total = logits[start:stop]
        for number, weight in zip(from_bits(representation.block(start, stop)).T, head.weights, strict=True):
            total += number * weight
        if head.sparse is not None and by_row is not None:
            batch = translation.batch(pool.block(start, stop), _CPU)
            lengths = batch.offsets.diff().numpy()
            list_of = np.repeat(np.arange(len(lengths)), lengths)
            sums = np.bincount(list_of, by_row[batch.rows.numpy()], len(lengths))
            sums = sums / np.maximum(lengths, 1.0) ** head.sparse.length_power
            on_values = np.zeros(batch.size)
            for field in sums.reshape(-1, batch.size):
                on_values += field
            total += on_values
    return rounded(sigmoid(logits + head.bias))


def plain_ranking(scores: Scores, size: int) -> Ranking:
    """Everybody sorted by falling score, then rising ordinal, and cut."""
    order = np.lexsort((np.arange(len(scores)), -scores))[:size]
    return Ranking(order, scores[order])


def check_ranking(name: str, found: Ranking, expected: Ranking) -> None:
    """Raises NotEqual naming the first rank where two rankings part."""
    if len(found.ordinals) != len(expected.ordinals):
        raise NotEqual(f"{name}: {len(found.ordinals):,} users are ranked, not {len(expected.ordinals):,}")
    differs = (found.ordinals != expected.ordinals) | (found.scores != expected.scores)
    if differs.any():
        rank = int(differs.argmax())
        here, there = (f"user {one.ordinals[rank]} with {one.scores[rank]:.6f}" for one in (found, expected))
        raise NotEqual(f"{name}: at rank {rank + 1} is {here}, by the reference {there}")


def torch_best(model: Model, head: ConvexHead, pool: Pool, phi: Tensor, size: int) -> Tensor:
    """The best users i64 [size] as torch usually finds them: fp32 scores of all, block by block, and topk; phi bf16
    [N, d]."""
    translation = model.vocabulary.translate(pool)
    weights = torch.from_numpy(head.weights).float()
    sparse: tuple[SparseWeights, Tensor] | None = None
    if head.sparse is not None:
        sparse = head.sparse, torch.from_numpy(head.sparse.by_row(translation.rows)).float().unsqueeze(1)
    scores = torch.empty(pool.size)
    for start, stop in pool.spans(_BLOCK_ROWS):
        logits = phi[start:stop].float() @ weights + head.bias
        if sparse is not None:
            block, table = sparse
            logits += sparse_logits(translation.batch(pool.block(start, stop), _CPU), table, block)
        scores[start:stop] = logits.sigmoid()
    return scores.topk(size).indices


def in_memory(representation: Representation) -> Tensor:
    """φ as torch holds it: bf16 [N, d]."""
    return torch.from_numpy(np.concatenate(representation.shards)).view(torch.bfloat16)
