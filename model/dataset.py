"""The campaign dataset: a directory of users, past campaigns and who converted, checked as it is read.

Every fault is a DataError that names the file, the column and the row, counted from 0 at the first row of data. Read
leniently, faults of single rows become warnings that say how many rows were dropped.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import DataError
from model.faults import CheckedRows
from model.pool.checks import feature_faults, id_column, id_faults, is_number, nan_count
from model.schema import Feature, Schema

SCHEMA, USERS, CAMPAIGNS, INTERACTIONS = "schema.json", "users.parquet", "campaigns.parquet", "interactions.parquet"
SPLITS = ("seed", "eval")


@dataclass(frozen=True)
class Interactions:
    """R labelled pairs: campaign and user i32 [R] are rows of those tables, label u8 [R] is 1 = converted or 0,
    split i8 [R] is 0 = seed or 1 = eval, weight f32 [R]."""

    campaign: NDArray[np.int32]
    user: NDArray[np.int32]
    label: NDArray[np.uint8]
    split: NDArray[np.int8] | None
    weight: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Users (user_id and their features), campaigns (campaign_id and theirs), and their interactions."""

    schema: Schema
    users: pa.Table
    campaigns: pa.Table
    interactions: Interactions
    warnings: tuple[str, ...] = ()

    @cached_property
    def campaign_ids(self) -> list[str]:
        """In the order of the campaigns table."""
        ids: list[str] = self.campaigns.column("campaign_id").to_pylist()
        return ids

    def rows_of(self, campaign: int) -> NDArray[np.int64]:
        """The rows of a campaign in the interactions, i64 [R], ascending."""
        order, bounds = self._by_campaign
        return order[bounds[campaign] : bounds[campaign + 1]]

    def campaign_attributes(self, campaign: int) -> dict[str, Any]:
        """The campaign's features by name; what is missing is left out."""
        values = {
            feature.name: self.campaigns.column(feature.name)[campaign].as_py()
            for feature in self.schema.campaign_features
        }
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def _by_campaign(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.interactions.campaign, kind="stable")
        counts = np.bincount(self.interactions.campaign, minlength=self.campaigns.num_rows)
        return order, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def load_dataset(directory: Path, *, lenient: bool = False) -> Dataset:
    """Read and check a campaign-dataset directory. Raises DataError for the first fault; `lenient` drops the rows at
    fault instead (never for a broken file, or a column that is missing, unknown or of the wrong type)."""
    schema = Schema.load(directory / SCHEMA)
    warnings: list[str] = []
    users = _entities(directory / USERS, "user_id", schema.user_features, warnings, lenient=lenient)
    campaigns = _entities(directory / CAMPAIGNS, "campaign_id", schema.campaign_features, warnings, lenient=lenient)
    interactions = _interactions(directory / INTERACTIONS, users, campaigns, warnings, lenient=lenient)
    campaigns, interactions = _without_empty(campaigns, interactions, warnings, lenient=lenient)
    return Dataset(schema, users, campaigns, interactions, tuple(warnings))


def write_dataset(
    directory: Path, schema: Schema, users: pa.Table, campaigns: pa.Table, interactions: pa.Table
) -> None:
    """Write a directory that `load_dataset` accepts, or nothing. Raises DataError."""
    with new_directory(directory) as scratch:
        write_schema(scratch, schema)
        for name, table in ((USERS, users), (CAMPAIGNS, campaigns), (INTERACTIONS, interactions)):
            pq.write_table(table, scratch / name, compression="zstd")
        load_dataset(scratch)


def write_schema(directory: Path, schema: Schema) -> None:
    """Write schema.json."""
    (directory / SCHEMA).write_text(json.dumps(schema.document(), indent=1) + "\n", encoding="utf-8")


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A scratch folder that becomes `directory` at the end, or goes if an error comes. Raises DataError, also if the
    directory is there already and not empty."""
    scratch: Path | None = None
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise DataError("is there already; name a new directory", file=str(directory))
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
        yield scratch
        scratch.chmod(0o755)
        scratch.rename(directory)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=str(directory)) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _entities(
    path: Path, id_name: str, features: tuple[Feature, ...], warnings: list[str], *, lenient: bool
) -> pa.Table:
    """Users or campaigns: ids are there once, values fit their feature's kind."""
    names = tuple(feature.name for feature in features)
    table = _read(path, required=(id_name, *names))
    rows = CheckedRows(path.name, table.num_rows, warnings, lenient=lenient)
    ids = id_column(table.column(id_name), path.name, id_name)
    for reason, fault in id_faults(ids):
        rows.refuse(fault, id_name, reason)
    rows.refuse_repeats(ids.dictionary_encode().indices.fill_null(-1).to_numpy(), id_name, "is the id of")
    for feature in features:
        for reason, fault in feature_faults(table.column(feature.name), feature, path.name):
            rows.refuse(fault, feature.name, reason)
        if feature.kind == "numeric" and (nan := nan_count(table.column(feature.name))):
            warnings.append(f"{path.name}, column {feature.name!r}: {nan} values are NaN and count as missing")
    table = table.set_column(table.column_names.index(id_name), id_name, ids)
    table = table if rows.kept.all() else table.filter(pa.array(rows.kept))
    if not table.num_rows:
        raise DataError("has no rows", file=path.name)
    return table.select([id_name, *names])


def _interactions(
    path: Path, users: pa.Table, campaigns: pa.Table, warnings: list[str], *, lenient: bool
) -> Interactions:
    table = _read(path, required=("campaign_id", "user_id", "label"), optional=("split", "weight"))
    rows = CheckedRows(path.name, table.num_rows, warnings, lenient=lenient)
    campaign = _lookup(rows, table, "campaign_id", campaigns, CAMPAIGNS)
    user = _lookup(rows, table, "user_id", users, USERS)
    label = _numbers(rows, table, "label")
    rows.refuse(~np.isin(label, (0, 1)), "label", "must be 0 or 1")
    split = weight = None
    if "split" in table.column_names:
        split = positions(id_column(table.column("split"), path.name, "split"), pa.array(SPLITS, pa.large_string()))
        rows.refuse(split < 0, "split", f"must be {' or '.join(SPLITS)}")
    if "weight" in table.column_names:
        weight = _numbers(rows, table, "weight")
        rows.refuse(~(np.isfinite(weight) & (weight > 0)), "weight", "must be finite and more than 0")
    pairs = campaign.astype(np.int64) * users.num_rows + user
    rows.refuse_repeats(pairs, "user_id", "is the same campaign and user as")
    kept = rows.kept
    return Interactions(
        campaign[kept],
        user[kept],
        label[kept].astype(np.uint8),
        None if split is None else split[kept].astype(np.int8),
        None if weight is None else weight[kept].astype(np.float32),
    )


def _without_empty(
    campaigns: pa.Table, interactions: Interactions, warnings: list[str], *, lenient: bool
) -> tuple[pa.Table, Interactions]:
    rows = CheckedRows(CAMPAIGNS, campaigns.num_rows, warnings, lenient=lenient)
    counts = np.bincount(interactions.campaign, minlength=campaigns.num_rows)
    rows.refuse(counts == 0, "campaign_id", f"has no rows in {INTERACTIONS}")
    if rows.kept.all():
        return campaigns, interactions
    if not rows.kept.any():
        raise DataError("no row is left", file=INTERACTIONS)
    renumbered = (np.cumsum(rows.kept) - 1).astype(np.int32)[interactions.campaign]
    rest = (interactions.user, interactions.label, interactions.split, interactions.weight)
    return campaigns.filter(pa.array(rows.kept)), Interactions(renumbered, *rest)


def _read(path: Path, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> pa.Table:
    try:
        # Told not to, Arrow takes a folder called a=b for a column.
        table = pq.read_table(path, partitioning=None)
        table.validate(full=True)
    except FileNotFoundError as error:
        raise DataError("is missing", file=path.name) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=path.name) from error
    names = table.column_names
    for name in required:
        if name not in names:
            raise DataError("is missing", file=path.name, column=name)
    for name in names:
        if name not in required + optional:
            raise DataError(
                f"is unknown: neither {', '.join(required[:1])} nor in {SCHEMA}", file=path.name, column=name
            )
        if names.count(name) > 1:
            raise DataError("is there twice", file=path.name, column=name)
    return table


def _lookup(rows: CheckedRows, table: pa.Table, name: str, known: pa.Table, known_file: str) -> NDArray[np.int32]:
    ids = id_column(table.column(name), rows.file, name)
    rows.refuse(pc.is_null(ids).to_numpy(zero_copy_only=False), name, "is null")
    found = positions(ids, known.column(name).combine_chunks())
    rows.refuse(found < 0, name, f"is not in {known_file}")
    return found


def positions(values: pa.Array, known: pa.Array) -> NDArray[np.int32]:
    """Where each value [V] is in `known`: i32 [V], -1 if nowhere; its first place if it is there more than once."""
    found: NDArray[np.int32] = pc.fill_null(pc.index_in(values, value_set=known, skip_nulls=True), -1).to_numpy()
    return found


def _numbers(rows: CheckedRows, table: pa.Table, name: str) -> NDArray[np.float64]:
    column = table.column(name)
    if not is_number(column.type):
        raise DataError(f"must be numbers, is {column.type}", file=rows.file, column=name)
    rows.refuse(column.is_null().to_numpy(), name, "is null")
    numbers: NDArray[np.float64] = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return numbers
