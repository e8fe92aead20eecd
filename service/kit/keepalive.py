"""How soon a peer that has vanished without a word is noticed: by default the kernel takes two hours.

A machine that lost its power or its network closes no connection, and whoever waits for its answer would wait on.
"""

IDLE_SECONDS = 10
INTERVAL_SECONDS = 5
PROBES = 3
# For what was sent and is not acknowledged.
UNACKNOWLEDGED_SECONDS = IDLE_SECONDS + PROBES * INTERVAL_SECONDS
