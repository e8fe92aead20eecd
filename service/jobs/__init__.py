"""The one durable job mechanism: a job is a row, claimed under a lease with a fencing token."""
