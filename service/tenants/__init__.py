"""Tenants: what belongs to one as a whole, beside its keys, campaigns and jobs."""
