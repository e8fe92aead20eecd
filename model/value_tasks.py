"""Tasks that need no campaign: who has this value of a feature?

A value is hidden from its users, and told from the rest of their features: as good a lesson in what people have in
common as a campaign is, and there are thousands of them where campaigns are few.
"""

from dataclasses import dataclass

import numpy as np
import torch

from model.field_vocabulary import FIRST_VALUE
from model.pool import Pool
from model.tasks import Rows
from model.vocabulary import Translation

_BLOCK_ROWS = 1 << 14
# The values' holders are read from so many users: enough to learn from, little to keep.
_MOST_USERS = 1 << 18
_FEWEST_HOLDERS = 20


@dataclass(frozen=True)
class ValueTask:
    """holders: ordinals of all users who have the value, ascending; users: some of them, and as many others;
    hidden: the rows (start, stop) of the users' table that would give the answer away."""

    holders: Rows
    users: Rows
    hidden: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ValueTasks:
    """values: rows of the users' table that some users hold, but no more than half of them; hidden i64 [values, 2];
    field i64 [values, 2]: first row of the value's field, and of the next. holders[starts[row] : starts[row + 1]] have
    the row, ascending."""

    values: Rows
    hidden: Rows
    field: Rows
    holders: Rows
    starts: Rows
    users: int

    @classmethod
    def of(cls, pool: Pool, translation: Translation) -> "ValueTasks":
        """Of the categorical and the multi-valued features of a pool's first users."""
        spans = [span for span in pool.spans(_BLOCK_ROWS) if span[0] < _MOST_USERS]
        rows, users = [], []
        for start, stop in spans:
            batch = translation.batch(pool.block(start, stop), torch.device("cpu"))
            rows.append(batch.rows.numpy())
            owner = np.tile(np.arange(start, stop), len(translation.fields))
            users.append(np.repeat(owner, batch.offsets.diff().numpy()))
        held = np.concatenate(rows)
        order = np.argsort(held, kind="stable")
        bounds = np.array([*(field.offset for field in translation.fields), translation.rows])
        starts = np.searchsorted(held[order], np.arange(translation.rows + 1))
        counts = np.diff(starts)
        asked = []
        for number, part in enumerate(translation.fields):
            first, stop = bounds[number : number + 2]
            found = np.arange(first + FIRST_VALUE, stop) if part.code_rows is not None else np.empty(0, np.int64)
            found = found[(counts[found] >= _FEWEST_HOLDERS) & (counts[found] <= spans[-1][1] / 2)]
            whole = np.tile(bounds[number : number + 2], (len(found), 1))
            # Without one of its values a list is a shorter list; a single value has to go from everybody.
            alone = np.stack([found, found + 1], axis=1)
            asked.append((found, alone if part.field.feature.kind == "multi" else whole, whole))
        holders = np.concatenate(users)[order]
        values, hidden, field = (np.concatenate(parts) for parts in zip(*asked, strict=True))
        return cls(values, hidden, field, holders, starts, spans[-1][1])

    def draw(self, count: int, generator: np.random.Generator) -> ValueTask:
        """A value, up to count / 2 of its holders, and others for the rest: two in three of them drawn by the number
        of values that they have in the same field, as holders are, so that a long list is no answer."""
        number = generator.integers(len(self.values))
        value = self.values[number]
        holders = self.holders[self.starts[value] : self.starts[value + 1]]
        first, stop = self.starts[self.field[number]]
        some = generator.permutation(holders)[: count // 2]
        active = self.holders[generator.integers(first, stop, 2 * count // 3)]
        anybody = generator.integers(0, self.users, count // 3)
        others = generator.permutation(np.setdiff1d(np.concatenate([active, anybody]), holders))[: count - len(some)]
        start, stop = map(int, self.hidden[number])
        return ValueTask(holders, np.concatenate([some, others]), (start, stop))
