"""API keys: made, found, listed, rotated and revoked."""
