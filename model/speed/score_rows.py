"""Rows score_default and score_default_sparse: everybody's score by a convex head, and the best 1 % of them."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt

from model.heads.campaign import ConvexHead
from model.pool import repeat_shards
from model.pool.columns import arrays_of
from model.presets import HeadSetting
from model.represent import Representation
from model.scoring.plan import ScorePlan, score_plan
from model.scoring.scan import Scanned, scan
from model.speed.bench import Bench
from model.speed.plain import check_ranking, in_memory, plain_ranking, plain_scores, torch_best
from model.speed.row import NotEqual, Row
from model.speed.timing import interleaved
from model.speed.world import DENSE, SPARSE

SEEDS, NEGATIVES = 2_000, 10_000


@dataclass(frozen=True, eq=False)
class OwnWay:
    """An adapted head, and how it scores the pool."""

    bench: Bench
    head: ConvexHead
    plan: ScorePlan
    everybody: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, bench: Bench, setting: HeadSetting, head: ConvexHead | None = None) -> Self:
        """Adapted in this way, unless there is a head already."""
        world = bench.world
        head = head or world.head(world.labelled(SEEDS, NEGATIVES), setting)
        plan = score_plan(world.model, head, world.pool, world.representation)
        return cls(bench, head, plan, np.ones(world.pool.size, np.bool_))

    def scan(self) -> Scanned:
        """The audience, out of everybody."""
        bench = self.bench
        return scan(self.plan, bench.world.pool, self.everybody, bench.audience, threads=bench.threads)


def score_row(name: str, setting: HeadSetting, bench: Bench) -> Row:
    """The limit is reading what has to be read: φ and, for a sparse block, the values."""
    world, size = bench.world, bench.audience
    own = OwnWay.of(bench, setting)
    expected = plain_scores(world.model, own.head, world.pool, world.representation)
    check_ranking(name, own.scan().ranking, plain_ranking(expected, size))
    plain = partial(torch_best, world.model, own.head, world.pool, in_memory(world.representation), size)
    plain()
    fast, slow = (world.pool.size / seconds for seconds in interleaved([own.scan, plain], bench.seconds))
    limit = world.pool.size / bench.limits.reading(_bytes_read(bench, values=setting.reads_values))
    return Row(name, "users/s", fast, slow, "torch fp32 and topk", limit)


def repeated_row(name: str, setting: HeadSetting, times: int, bench: Bench) -> Row:
    """How a scan grows: the pool's shards listed again and again, from the page cache, beside as many scans of it."""
    world, size = bench.world, bench.audience
    own = OwnWay.of(bench, setting)
    more = replace(
        world,
        pool=repeat_shards(world.pool, times),
        representation=Representation(world.representation.shards * times),
    )
    large = OwnWay.of(replace(bench, world=more), setting, own.head)
    if not np.array_equal(large.scan().ranking.scores, np.repeat(own.scan().ranking.scores[:size], times)):
        raise NotEqual(f"{name}: the best of a repeated pool are not the pool's best, repeated")
    together, alone = interleaved([large.scan, own.scan], bench.seconds)
    limit = bench.limits.reading(times * _bytes_read(bench, values=setting.reads_values))
    return Row(name, "ms", 1e3 * together, 1e3 * times * alone, f"{times} scans of the pool", 1e3 * limit)


def _bytes_read(bench: Bench, *, values: bool) -> int:
    phi = sum(shard.nbytes for shard in bench.world.representation.shards)
    columns = [column for shard in bench.world.pool.shards for column in shard.columns] if values else []
    return phi + sum(array.nbytes for column in columns for _, array in arrays_of(column))


score_default = partial(score_row, "score_default", DENSE)
score_default_sparse = partial(score_row, "score_default_sparse", SPARSE)
score_default_x20 = partial(repeated_row, "score_default_x20", DENSE, 20)
score_default_x100 = partial(repeated_row, "score_default_x100", DENSE, 100)
score_default_sparse_x100 = partial(repeated_row, "score_default_sparse_x100", SPARSE, 100)
