"""Every table of the service, for those who need them all: migrations and their tests."""

from importlib import import_module

NOUNS = (
    "audiences",
    "audit",
    "campaigns",
    "erasures",
    "jobs",
    "keys",
    "models",
    "pool",
    "serving",
    "tenants",
    "webhooks",
)


def import_all_tables() -> None:
    """Fill `Base.metadata`."""
    for noun in NOUNS:
        import_module(f"service.{noun}.tables")
