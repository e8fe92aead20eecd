"""Adam over the labelled rows of one campaign: what fine-tunes `metaheac`, and every neural baseline."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]


def adam_epochs(
    moving: Sequence[Tensor],
    loss: Callable[[Rows], Tensor],
    rows: int,
    *,
    rate: float,
    batch_rows: int,
    epoch_rows: int | None = None,
    generator: np.random.Generator,
) -> Iterator[int]:
    """Train `moving` in place, for as many epochs as are asked for; yields the number of each when it is done.

    loss: of some of the rows 0 .. rows - 1, which come shuffled by the generator in batches of up to batch_rows;
    an epoch ends after epoch_rows of them, if there are more. Raises ValueError where nothing is to move.
    """
    seen = rows if epoch_rows is None else min(rows, epoch_rows)
    optimiser = torch.optim.Adam(list(moving), lr=rate, fused=True)
    for epoch in count(1):
        for part in np.array_split(generator.permutation(rows)[:seen], -(-seen // batch_rows)):
            optimiser.zero_grad()
            loss(part).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        yield epoch
