"""Kinds, queues and states of a job, and the errors that end one."""

from enum import StrEnum


class State(StrEnum):
    """queued -> running -> succeeded | failed, by cancelling to cancelled; running -> queued when handed over."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (State.QUEUED, State.RUNNING, State.CANCELLING)
CLAIMED = (State.RUNNING, State.CANCELLING)
FINISHED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Kind(StrEnum):
    """What a job does; each kind has one handler in the worker."""

    EXPAND = "expand"
    PREFLIGHT = "preflight"
    REPRESENT = "represent"
    IMPORT_POOL = "import_pool"
    EXPORT = "export"
    TRAIN = "train"
    ERASE = "erase"
    DELIVER_WEBHOOK = "deliver_webhook"


class Queue(StrEnum):
    """Which workers take a job: training never stands in the way of an expansion, nor that of a preflight, nor does a
    webhook's receiver."""

    EXPAND = "expand"
    PREFLIGHT = "preflight"
    TRAINING = "training"
    DELIVERY = "delivery"


QUEUE_OF = {
    Kind.EXPAND: Queue.EXPAND,
    Kind.PREFLIGHT: Queue.PREFLIGHT,
    Kind.REPRESENT: Queue.EXPAND,
    Kind.IMPORT_POOL: Queue.EXPAND,
    Kind.EXPORT: Queue.EXPAND,
    Kind.TRAIN: Queue.TRAINING,
    Kind.ERASE: Queue.EXPAND,
    Kind.DELIVER_WEBHOOK: Queue.DELIVERY,
}
# A new model or pool waits for its representation, and queued expansions should get the new one: it goes first.
PRIORITY_OF = {
    Kind.REPRESENT: 0,
    Kind.IMPORT_POOL: 1,
    Kind.ERASE: 1,
    Kind.EXPAND: 2,
    Kind.EXPORT: 2,
    Kind.PREFLIGHT: 2,
    Kind.TRAIN: 2,
    Kind.DELIVER_WEBHOOK: 2,
}
# Questions in the form of jobs: nobody's, in no list and no count, and gone a moment after their answer.
UNLISTED = (Kind.PREFLIGHT,)
UNCOUNTED = (*UNLISTED, Kind.DELIVER_WEBHOOK)


class JobError(StrEnum):
    """Slugs of the problems a job can end with (the contract's closed set)."""

    TOO_FEW_MATCHED_SEEDS = "too-few-matched-seeds"
    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    MODEL_UNAVAILABLE = "model-unavailable"
    POOL_UNAVAILABLE = "pool-unavailable"
    OUT_OF_MEMORY = "out-of-memory"
    INTERNAL = "internal"


class Stage(StrEnum):
    """Where a running expansion stands."""

    MATCHING = "matching"
    ADAPTING = "adapting"
    SCORING = "scoring"
    RANKING = "ranking"
    PUBLISHING = "publishing"
