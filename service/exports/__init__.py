"""Audiences as files: streamed to the caller, or written by a job to the tenant's export location."""
