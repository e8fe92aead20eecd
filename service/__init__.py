"""The production service around the model: api, worker and scheduler processes."""

from importlib.metadata import version

__version__ = version("lookalike")
