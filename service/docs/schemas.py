"""What a problem's page says."""

from pydantic import BaseModel


class ProblemPage(BaseModel):
    """A problem of the catalogue."""

    type: str
    title: str
    status: int
    explanation: str
