"""What a row measures with."""

from collections.abc import Callable
from dataclasses import dataclass

from model.speed.limits import Limits
from model.speed.row import Row
from model.speed.world import World


@dataclass(frozen=True)
class Bench:
    """The world, the machine's limits, threads to use, and how many seconds to go on with each row."""

    world: World
    limits: Limits
    threads: int
    seconds: float

    @property
    def audience(self) -> int:
        """1 % of the pool."""
        return self.world.pool.size // 100


# Checks that the fast way gives the reference's answer, then times both. Raises NotEqual, or ModuleNotFoundError
# where the reference is a library that is not installed.
Measure = Callable[[Bench], Row]
