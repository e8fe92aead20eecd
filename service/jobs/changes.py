"""The line in the log for a job that changes its state: alike wherever that happens, so that its life can be read."""

import logging

from service.jobs.states import State

logger = logging.getLogger(__name__)


def log_change(before: State | None, after: State, *, level: int = logging.INFO, **more: object) -> None:
    """Say what the job was, if it was there, and what it is.

    more: what is known of `job_id` (unless the line's context has it), `lease` (the fencing token), `error`, `detail`.
    """
    known = {name: value for name, value in more.items() if value is not None}
    logger.log(level, "job_state_change", extra={"from": before, "to": after, **known})
