"""Snapshots of the user pool."""
