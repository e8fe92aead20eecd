"""The second wall between tenants: a statement of the api that forgot to ask for its tenant sees its own rows alone."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Table, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from service.campaigns.tables import Campaign
from service.jobs import repository
from service.jobs.tables import Job, JobInput
from service.kit.database import Base, Database
from service.kit.tenancy import NOBODY, stands, work_for
from service.tables import import_all_tables
from tests.contract.conftest import StartApi
from tests.contract.worlds import expand
from tests.fixtures.any_rows import row_of
from tests.fixtures.postgres import ROLE, SUPERUSER
from tests.fixtures.waiting import eventually

TENANTS = ("acme", "globex")
OWNER = {"tenants": "name", "job_inputs": "job_id"}  # the column that says whose a row is, elsewhere `tenant`


def tables_of_tenants() -> Iterator[tuple[Table, str]]:
    """Every table of what belongs to tenants, in the order in which rows may be written, and the column that tells."""
    import_all_tables()
    for table in Base.metadata.sorted_tables:
        if table.name in OWNER or "tenant" in table.columns:
            yield table, OWNER.get(table.name, "tenant")


@pytest.fixture
def everything(postgres_url: str) -> Iterator[Database]:
    """A row of each tenant in every table, whose texts are all the tenant's name; opened as workers do."""
    database = Database(postgres_url)
    with database.write() as session:
        for number, tenant in enumerate(TENANTS):
            for table, _ in tables_of_tenants():
                session.execute(insert(table).values(row_of(table, word=tenant, number=number)))
    yield database
    database.dispose()


@pytest.fixture
def walled(everything: Database, postgres_url: str) -> Iterator[Database]:
    """The same as the api opens it."""
    database = Database(postgres_url, walled=True)
    yield database
    work_for(NOBODY)
    database.dispose()


def test_the_role_of_the_tests_is_one_that_the_wall_holds_back(walled: Database) -> None:
    with walled.engine.connect() as connection:
        assert stands(connection)


def test_an_api_that_postgresql_lets_past_the_wall_says_so(
    start_api: StartApi, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    start_api(postgres_url)
    assert "row-level security" not in caplog.text
    start_api(postgres_url.replace(f"//{ROLE}@", f"//{SUPERUSER}@"), served=False)
    assert eventually(lambda: "lets this role past row-level security" in caplog.text)


def test_without_a_where_every_table_shows_the_rows_of_the_tenant_alone(walled: Database, everything: Database) -> None:
    walked = 0
    for table, owner in tables_of_tenants():
        whose = select(table.c[owner])
        assert {row[0] for row in everything.look(whose)} == set(TENANTS), table.name
        for tenant in TENANTS:
            work_for(tenant)
            assert [row[0] for row in walled.look(whose)] == [tenant], table.name
            with walled.read() as session:
                assert session.scalars(whose).all() == [tenant], table.name
        walked += 1
    assert walked >= 12


def test_nobody_sees_anything_before_it_is_known_who_asks(walled: Database) -> None:
    work_for(NOBODY)
    for table, _ in tables_of_tenants():
        assert walled.look(select(table)) == [], table.name


def test_what_is_done_across_tenants_says_so(walled: Database) -> None:
    work_for("acme")
    assert len(walled.across_tenants.look(select(Job))) == len(TENANTS)
    assert len(walled.look(select(Job))) == 1


def test_without_a_where_nothing_of_others_is_changed_and_nothing_is_made_theirs(
    walled: Database, everything: Database
) -> None:
    work_for("acme")
    with walled.write() as session:
        session.execute(update(Campaign).values(labels={"mine": "now"}))
        session.execute(delete(JobInput))
    with everything.read() as session:
        labels = dict(session.execute(select(Campaign.tenant, Campaign.labels)).all())  # type: ignore[arg-type]
        assert labels == {"acme": {"mine": "now"}, "globex": {"globex": 1}}
        assert session.scalars(select(JobInput.job_id)).all() == ["globex"]
    for statement in (
        insert(Campaign).values(tenant="globex", campaign_id="theirs"),
        update(Campaign).values(tenant="globex"),
        insert(JobInput).values(job_id="globex", payload=b""),
    ):
        with pytest.raises(DBAPIError, match="row-level security"), walled.write() as session:
            session.execute(statement)


def test_a_transaction_that_failed_leaves_nothing_to_the_next_on_its_connection(walled: Database) -> None:
    work_for("acme")
    with pytest.raises(DBAPIError, match="no_such_table"), walled.read() as session:
        session.execute(text("SELECT * FROM no_such_table"))
    work_for("globex")
    assert [row.tenant for row in walled.look(select(Job))] == ["globex"]


def test_a_route_that_forgot_its_where_shows_nothing_of_others(
    start_api: StartApi, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = start_api(postgres_url)
    expand(api, "theirs", key="globex")
    expand(api, "mine")
    monkeypatch.setattr(repository, "list_jobs", lambda session, *_, **__: session.scalars(select(Job)).all())
    assert [job["campaign_id"] for job in api.get("/jobs").json()["jobs"]] == ["mine"]
    assert [job["campaign_id"] for job in api.get("/jobs", key="globex").json()["jobs"]] == ["theirs"]


@pytest.mark.parametrize("begun_by", ["look", "transaction"])
def test_a_connection_lost_before_the_tenant_is_named_is_a_lost_connection(
    walled: Database, everything: Database, begun_by: str
) -> None:
    """Not a fault of ours, which would be answered with 500."""
    with walled.engine.connect() as connection:
        if begun_by == "look":
            connection.execution_options(isolation_level="AUTOCOMMIT")
        assert connection.connection.driver_connection is not None
        pid = connection.connection.driver_connection.info.backend_pid
        everything.look(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
        with pytest.raises(OperationalError) as lost:
            connection.execute(text("SELECT 1"))
    assert lost.value.connection_invalidated
