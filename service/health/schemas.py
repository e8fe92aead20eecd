"""The answer of the health checks."""

from pydantic import BaseModel


class Status(BaseModel):
    """One word for a person or a load balancer; the status code says the rest."""

    status: str
