"""Row-level security: a transaction that names a tenant sees and changes that tenant's rows only.

One that names none, as every transaction of older versions, is held back by nothing.
"""

from alembic import op

revision = "0004_walls"
down_revision = "0003_monitoring"
branch_labels = None
depends_on = None

# In the order in which requests take them, jobs before what hangs on jobs: so nobody waits for another in a circle.
COLUMN_OF = {
    "tenants": "name",
    "idempotency_keys": "tenant",
    "campaigns": "tenant",
    "jobs": "tenant",
    "output_grants": "tenant",
    "webhook_endpoints": "tenant",
    "audit": "tenant",
    "audiences": "tenant",
    "erasures": "tenant",
    "api_keys": "tenant",
    "tenant_turns": "tenant",
}
WANTED = "(SELECT coalesce(nullif(current_setting('lookalike.tenant', true), ''), '*'))"  # once a statement, not a row
OF_A_JOB = f"{WANTED} = '*' OR EXISTS (SELECT FROM jobs WHERE jobs.id = job_id)"  # that is, of one that can be seen

# Every reader must know of the newest erasure, whoever asked for it. (SET as a clause of a function is for superusers.)
NEWEST_PENDING_ERASURE = """
CREATE FUNCTION newest_pending_erasure() RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
    tenant text := coalesce(current_setting('lookalike.tenant', true), '');
    newest integer;
BEGIN
    PERFORM set_config('lookalike.tenant', '*', true);
    SELECT max(generation) INTO newest FROM erasures WHERE finished_at IS NULL;
    PERFORM set_config('lookalike.tenant', tenant, true);
    RETURN newest;
END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in COLUMN_OF.items():
        seen = f"{WANTED} IN ('*', {column})"
        # What is nobody's, such as the delivery of a webhook, may be left for the workers, but not be read.
        _wall(table, seen, f"{seen} OR {column} IS NULL")
    _wall("job_inputs", OF_A_JOB, OF_A_JOB)
    op.execute(NEWEST_PENDING_ERASURE)


def _wall(table: str, seen: str, written: str) -> None:
    op.execute(f"CREATE POLICY tenants_apart ON {table} USING ({seen}) WITH CHECK ({written})")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP FUNCTION newest_pending_erasure()")
    for table in ("job_inputs", *COLUMN_OF):
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
        op.execute(f"DROP POLICY tenants_apart ON {table}")
