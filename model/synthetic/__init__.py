"""Made-up campaign datasets of any size, in which the truth is known."""

from model.synthetic.scenarios import SCENARIOS, Scenario
from model.synthetic.writing import write_synthetic

__all__ = ["SCENARIOS", "Scenario", "write_synthetic"]
