"""Insights as the contract shows them."""

from pydantic import BaseModel


class InsightView(BaseModel):
    """A feature's value, or range, and the share of the audience, of its seeds and of the whole pool that has it."""

    feature: str
    value: str
    audience_share: float
    seed_share: float
    pool_share: float
    lift: float


class Insights(BaseModel):
    """The most telling first; none with fewer than 20 people behind it."""

    insights: list[InsightView]
