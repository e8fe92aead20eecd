"""Sums of rows of a table per bag, as often differentiable as wanted."""

from typing import Any

import torch
from torch import Tensor, nn


class Bags:
    """A matrix of counts, bags x rows of a table: the rows i64 [T] in the bags, all bags behind each other, and where
    each bag begins, offsets i64 [bags + 1]. With weights [T] each row counts for as much as its weight says."""

    def __init__(
        self, rows: Tensor, offsets: Tensor, weights: Tensor | None = None, transposed: "Bags | None" = None
    ) -> None:
        self.rows = rows
        self.offsets = offsets
        self.weights = weights
        self._transposed = transposed

    def sum(self, table: Tensor) -> Tensor:
        """Sum of table [V, D] rows per bag: [bags, D]; an empty bag is 0. Twice differentiable in the table."""
        sums: Tensor = _BagSum.apply(table, self)  # type: ignore[no-untyped-call]
        return sums

    def joined(self, bags: int) -> "Bags":
        """The same rows in so many larger bags, each of as many of these as the others."""
        parts = torch.arange(bags + 1, device=self.offsets.device) * ((len(self.offsets) - 1) // bags)
        return Bags(self.rows, self.offsets[parts], self.weights)

    def transposed(self, row_count: int) -> "Bags":
        """For each row of a table of so many, the bags it is in; kept, for training needs it several times."""
        if self._transposed is None or len(self._transposed.offsets) != row_count + 1:
            counts = self.offsets.diff()
            bags = torch.arange(len(counts), device=self.rows.device)
            bag_of_value = bags.repeat_interleave(counts, output_size=len(self.rows))
            by_row, order = self.rows.sort(stable=True)
            starts = torch.searchsorted(by_row, torch.arange(row_count + 1, device=self.rows.device))
            weights = None if self.weights is None else self.weights[order]
            self._transposed = Bags(bag_of_value[order], starts, weights, self)
        return self._transposed


class _BagSum(torch.autograd.Function):
    """Linear: its gradient is the same with the bags transposed, so it can be differentiated as often as wanted, which
    embedding_bag alone cannot."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, bags: Bags) -> Tensor:
        ctx.bags, ctx.row_count = bags, len(table)
        return nn.functional.embedding_bag(
            bags.rows,
            table,
            bags.offsets,
            mode="sum",
            per_sample_weights=None if bags.weights is None else bags.weights.to(table.dtype),
            include_last_offset=True,
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.bags.transposed(ctx.row_count).sum(gradients[0]), None


def bag_sum(table: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """`Bags(rows, offsets).sum(table)`."""
    return Bags(rows, offsets).sum(table)
