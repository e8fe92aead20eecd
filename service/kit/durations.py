"""Lengths of time, in seconds."""

MINUTE = 60
DAY = 24 * 60 * MINUTE
