"""Webhooks: callers are told of the end of their jobs at addresses that were registered for them."""
