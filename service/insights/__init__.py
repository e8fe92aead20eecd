"""What sets an audience apart from the pool."""
