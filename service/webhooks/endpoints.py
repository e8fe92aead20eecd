"""What the OpenAPI document says of webhooks: the requests that the service makes, not those it answers."""

from fastapi import APIRouter

from service.webhooks.schemas import WebhookMessage

router = APIRouter(tags=["webhooks"])


@router.post("job", status_code=204)
def job_ended(_message: WebhookMessage) -> None:
    """A job of the tenant has ended. Answer 2xx within 15 s; anything else is tried again for about 20 hours.

    Headers `webhook-id` (the same at each attempt), `webhook-timestamp` and `webhook-signature` are those of the
    Standard Webhooks specification; check them with the secret that `lookalike webhooks add` printed.
    """
