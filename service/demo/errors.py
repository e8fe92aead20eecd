"""What ends a demo early."""


class DemoError(Exception):
    """A step of the demo failed; the message says which and why."""
