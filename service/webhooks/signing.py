"""Signatures of the Standard Webhooks specification (standardwebhooks.com), the symmetric kind."""

from datetime import UTC, datetime

from standardwebhooks import Webhook


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove id, time (Unix seconds) and body of a message."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body.decode()),
    }
