"""What the faults are done to."""

from tests.contract.conftest import _logs, start_api

__all__ = ["_logs", "start_api"]
