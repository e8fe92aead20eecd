"""Ranked audiences: an immutable object with a row, cached in Redis by chunks."""
