"""`lookalike pool import` in an embedded service of its own."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from model.errors import PoolError
from model.pool import open_pool
from service.commands.pool import import_pool

SCHEMA = {"user_features": [{"name": "city", "kind": "categorical"}]}


def test_a_pool_is_replaced_and_updated_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path / "home"))
    users, schema = tmp_path / "users.parquet", tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    pq.write_table(pa.table({"user_id": ["a", "b"], "city": ["Ulm", "Kiel"]}), users)
    with pytest.raises(typer.BadParameter, match="replace needs the schema"):
        import_pool(users)
    with pytest.raises(PoolError, match="there is no pool yet; upsert needs one"):
        import_pool(users, mode="upsert")
    import_pool(users, schema)
    pq.write_table(pa.table({"user_id": ["c", "a"], "city": ["Bonn", None]}), users)
    import_pool(users, schema, "upsert")
    import_pool(users, mode="delete")

    told = capsys.readouterr()
    sizes = [line for line in told.err.splitlines() if line.endswith(" users")]
    assert sizes == ["2 users", "3 users", "1 users"]
    snapshots = [tmp_path / "home" / "pool" / "snapshots" / line for line in told.out.splitlines()]
    assert [shard.ids.tolist() for shard in open_pool(snapshots[-1]).shards] == [[b"b"]]
