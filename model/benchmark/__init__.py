"""The benchmark: every method on the same splits, campaigns and rows."""
