"""Insights: those stored with the campaign's current audience, as they were found."""

from datetime import UTC, datetime

from sqlalchemy import update

from service.audiences.tables import Audience
from tests.contract.conftest import Api
from tests.contract.worlds import assert_problem, expand, publish

URL = "/campaigns/spring/insights"
FOUND = [
    {"feature": "city", "value": "Ulm", "audience_share": 0.5, "seed_share": 0.6, "pool_share": 0.1, "lift": 5.0},
    {"feature": "age", "value": "under 30", "audience_share": 0.1, "seed_share": 0.1, "pool_share": 0.2, "lift": 0.5},
]


def test_the_insights_of_the_current_audience_in_their_order(api: Api) -> None:
    first, second = (expand(api)["id"] for _ in range(2))
    publish(api, first, 40, insights=FOUND[:1])
    assert api.get(URL).json() == {"insights": FOUND[:1]}
    publish(api, second, 40, insights=FOUND)
    assert api.get(URL).json() == {"insights": FOUND}


def test_an_audience_from_before_there_were_insights_has_none(api: Api) -> None:
    publish(api, expand(api)["id"], 40)
    assert api.get(URL).json() == {"insights": []}


def test_what_has_no_audience_has_no_insights(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    assert_problem(sqlite_api.get(URL), 404, "not-found")
    publish(sqlite_api, job_id, 40, insights=FOUND)
    assert_problem(sqlite_api.get(URL, key="globex"), 404, "not-found")
    with sqlite_api.database.write() as session:
        session.execute(update(Audience).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert_problem(sqlite_api.get(URL), 410, "audience-expired")
