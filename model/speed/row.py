"""A row of the speed table: what was measured, and beside what."""

from dataclasses import dataclass
from typing import Any, Literal

from model.errors import ModelError

Unit = Literal["users/s", "steps/s", "ms"]


class NotEqual(ModelError):
    """What a row was to measure does not give the reference's answer, so that its speed means nothing."""


class Absent(ModelError):
    """A row cannot be measured in this run."""


@dataclass(frozen=True)
class Row:
    """value, reference and limit in the row's unit. against: what the reference is. limit: what the machine would
    reach at the measured rates of memory and arithmetic; None where the work is neither one pass nor one product."""

    name: str
    unit: Unit
    value: float
    reference: float
    against: str
    limit: float | None = None

    @property
    def ratio(self) -> float:
        """How many times as fast as the reference."""
        return self._speed(self.value) / self._speed(self.reference)

    @property
    def limit_share(self) -> float | None:
        """Of the limit, which part is reached; above 1 where the work was cut down to less than the limit counts."""
        return None if self.limit is None else self._speed(self.value) / self._speed(self.limit)

    def speed_to(self, other: float) -> float:
        """The row's speed in units of another value's."""
        return self._speed(self.value) / self._speed(other)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "ratio": self.ratio,
            "limit_share": self.limit_share,
        }

    def _speed(self, value: float) -> float:
        """A number that is larger the faster."""
        return 1 / value if self.unit == "ms" else value
