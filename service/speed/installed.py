"""An installation of its own to measure: the world's pool and model, api, worker, embedded database and Redis."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from model.checkpoint import save_checkpoint
from model.pool.manifest import read_pool_manifest
from model.speed.world import World
from service.demo.client import Api
from service.demo.processes import Services, embedded_settings
from service.keys.service import create_key
from service.kit.artifacts import Artifacts, open_artifacts, snapshot_prefix, version_prefix
from service.kit.database import Database
from service.kit.ids import new_id
from service.models.repository import add_version
from service.pool.importing import Imported, adopt_snapshot
from service.schema import migrate
from service.serving.service import promote

VERSION = "speed"


@contextmanager
def installed(world: World, scratch: Path) -> Iterator[Api]:
    """Serve the world's model and pool from a folder in `scratch`, until the block ends. Raises DemoError."""
    with tempfile.TemporaryDirectory(dir=scratch) as home:
        settings = embedded_settings(Path(home))
        database = Database(settings.resolved_database_url)
        try:
            migrate(database)
            api = Api(settings.api_host, settings.api_port, _publish(world, database, open_artifacts(settings)))
        finally:
            database.dispose()
        with Services(settings, lambda _: None) as services:
            services.wait_until_ready(api, lambda: None)
            yield api


def _publish(world: World, database: Database, artifacts: Artifacts) -> str:
    """Store model and pool and make them the served ones; a key of a caller."""
    snapshot = new_id("pool")
    with artifacts.models.staging() as made:
        manifest = save_checkpoint(world.model, made, version=VERSION, trained_at=datetime.now(UTC), metrics={})
        artifacts.signing.write(made, version_prefix(VERSION))
        artifacts.models.put_directory(made, version_prefix(VERSION))
    artifacts.pools.put_directory(world.pool_directory, snapshot_prefix(snapshot))
    features = [feature.document() for feature in world.pool.features]
    imported = Imported(snapshot, read_pool_manifest(world.pool_directory), features, datetime.now(UTC))
    with database.write() as session:
        add_version(session, manifest, {})
        adopt_snapshot(session, imported, max_attempts=1)
        promote(session, VERSION, actor=VERSION, reason="to measure", max_attempts=1)
        return create_key(session, VERSION, ["all"], name=VERSION).text
