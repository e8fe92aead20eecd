"""The campaign-dataset directory: users, past campaigns, and who of the users converted in which campaign.

schema.json, users.parquet, campaigns.parquet, interactions.parquet (campaign_id, user_id, label [, split][, weight]).
Faults are DataErrors that name file, column and row; rows count from 0.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import DataError
from model.schema import Feature, Schema

USERS, CAMPAIGNS, INTERACTIONS, SCHEMA = "users.parquet", "campaigns.parquet", "interactions.parquet", "schema.json"
SPLITS = ("seed", "eval")

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_] | pa.BooleanArray | pa.ChunkedArray


@dataclass(frozen=True)
class Interactions:
    """R rows: campaign i32 and user i32 (rows of the other two tables), label u8 (1 = converted), split i8 (0 = seed,
    1 = eval) and weight f32, both None where the data has none."""

    campaign: NDArray[np.int32]
    user: NDArray[np.int32]
    label: NDArray[np.uint8]
    split: NDArray[np.int8] | None
    weight: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that has been checked; `warnings` counts what --lenient let pass."""

    schema: Schema
    users: pa.Table
    campaigns: pa.Table
    interactions: Interactions
    warnings: tuple[str, ...] = ()

    @cached_property
    def campaign_ids(self) -> list[str]:
        """Ids in the order of the campaigns' rows."""
        ids: list[str] = self.campaigns.column("campaign_id").to_pylist()
        return ids

    def rows_of(self, campaign: int) -> Rows:
        """The rows of `interactions` of a campaign (a row number of `campaigns`)."""
        order, bounds = self._by_campaign
        return order[bounds[campaign] : bounds[campaign + 1]]

    def campaign_attributes(self, campaign: int) -> dict[str, Any]:
        """A campaign's features by name; what is missing is left out."""
        row = self.campaigns.slice(campaign, 1).to_pylist()[0]
        values = {feature.name: row[feature.name] for feature in self.schema.campaign_features}
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def _by_campaign(self) -> tuple[Rows, Rows]:
        order = np.argsort(self.interactions.campaign, kind="stable")
        counts = np.bincount(self.interactions.campaign, minlength=len(self.campaigns))
        return order, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def load_dataset(directory: Path, *, lenient: bool = False) -> Dataset:
    """Read and check a directory. Raises DataError; `lenient` drops faulty rows and counts them as warnings."""
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory")
    schema = Schema.load(directory / SCHEMA)
    faults = _Faults(lenient)
    users = _read_entities(directory / USERS, "user_id", schema.user_features, faults)
    campaigns = _read_entities(directory / CAMPAIGNS, "campaign_id", schema.campaign_features, faults)
    interactions = _read_interactions(directory / INTERACTIONS, users, campaigns, faults)
    campaigns, interactions = _without_empty_campaigns(campaigns, interactions, faults)
    return Dataset(schema, users, campaigns, interactions, tuple(faults.warnings))


def write_dataset(
    directory: Path, schema: Schema, users: pa.Table, campaigns: pa.Table, interactions: pa.Table
) -> None:
    """Write a new directory, all or nothing, and check it by reading it. Raises DataError."""
    if directory.exists():
        raise DataError(f"{directory} exists already; name a new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".dataset-") as scratch:
        made = Path(scratch) / directory.name
        made.mkdir()
        (made / SCHEMA).write_text(json.dumps(schema.document(), indent=1) + "\n", encoding="utf-8")
        for name, table in ((USERS, users), (CAMPAIGNS, campaigns), (INTERACTIONS, interactions)):
            pq.write_table(table, made / name, compression="zstd")
        load_dataset(made)
        shutil.move(made, directory)


@dataclass
class _Faults:
    """Raises at the first faulty row, or drops such rows and counts them."""

    lenient: bool
    warnings: list[str] = field(default_factory=list)

    def drop(self, table: pa.Table, fault: Mask, reason: str, file: str, column: str) -> pa.Table:
        """The table without the rows in which `fault` is true."""
        mask = fault if isinstance(fault, np.ndarray) else np.asarray(fault, dtype=bool)
        if not mask.any():
            return table
        if not self.lenient:
            raise DataError(reason, file=file, column=column, row=int(np.argmax(mask)))
        self.warnings.append(f"{file}, column {column!r}: {int(mask.sum())} rows dropped: {reason}")
        return table.filter(pa.array(~mask))


def _read(path: Path, needed: Sequence[str]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError("is missing", file=path.name) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=path.name) from error
    for name in needed:
        if name not in table.column_names:
            raise DataError("is missing", file=path.name, column=name)
    return table


def _read_entities(path: Path, key: str, features: tuple[Feature, ...], faults: _Faults) -> pa.Table:
    names = [key, *(feature.name for feature in features)]
    table = _read(path, names)
    unknown = [name for name in table.column_names if name not in names]
    if unknown:
        raise DataError(f"is not in {SCHEMA}", file=path.name, column=unknown[0])
    for feature in features:
        _check_type(table.schema.field(feature.name).type, feature, path.name)
    table = _with_ids(table, key, path.name, faults)
    ids = table.column(key).combine_chunks()
    first = pc.index_in(ids, value_set=ids).to_numpy()
    twice = first != np.arange(len(ids))
    reason = f"is the id of row {int(first[twice][0])} again" if twice.any() else ""
    table = faults.drop(table, twice, reason, path.name, key)
    if not len(table):
        raise DataError("has no rows", file=path.name)
    return table.select(names)


def _read_interactions(path: Path, users: pa.Table, campaigns: pa.Table, faults: _Faults) -> Interactions:
    table = _read(path, ("campaign_id", "user_id", "label"))
    known = ("campaign_id", "user_id", "label", "split", "weight")
    unknown = [name for name in table.column_names if name not in known]
    if unknown:
        raise DataError(f"is unknown; there may be {', '.join(known)}", file=path.name, column=unknown[0])
    for key, entities, other in (("campaign_id", campaigns, CAMPAIGNS), ("user_id", users, USERS)):
        table = _with_ids(table, key, path.name, faults)
        rows = _rows_of(table.column(key), entities.column(key))
        table = faults.drop(table, rows < 0, f"is not in {other}", path.name, key)
    if not (pa.types.is_integer(table.schema.field("label").type) or _is_boolean(table, "label")):
        raise DataError("must be 0 or 1", file=path.name, column="label")
    labels = table.column("label").cast(pa.int64())
    table = faults.drop(table, pc.invert(pc.is_in(labels, pa.array([0, 1]))), "must be 0 or 1", path.name, "label")
    if "split" in table.column_names:
        fault = pc.invert(pc.is_in(table.column("split"), pa.array(SPLITS, table.schema.field("split").type)))
        table = faults.drop(table, fault, "must be seed or eval", path.name, "split")
    if "weight" in table.column_names:
        weights = pc.fill_null(table.column("weight").cast(pa.float64()), 0.0).to_numpy()
        fault = ~(np.isfinite(weights) & (weights > 0))
        table = faults.drop(table, fault, "must be finite and greater than 0", path.name, "weight")
    campaign = _rows_of(table.column("campaign_id"), campaigns.column("campaign_id"))
    user = _rows_of(table.column("user_id"), users.column("user_id"))
    twice, reason = _duplicate_pairs(campaign, user, len(users))
    table = faults.drop(table, twice, reason, path.name, "user_id")
    split = table.column("split").combine_chunks() if "split" in table.column_names else None
    return Interactions(
        campaign=campaign[~twice].astype(np.int32),
        user=user[~twice].astype(np.int32),
        label=table.column("label").cast(pa.uint8()).to_numpy(),
        split=None if split is None else pc.equal(split, SPLITS[1]).cast(pa.int8()).to_numpy(),
        weight=table.column("weight").cast(pa.float32()).to_numpy() if "weight" in table.column_names else None,
    )


def _duplicate_pairs(campaign: Rows, user: Rows, users: int) -> tuple[NDArray[np.bool_], str]:
    """Which rows repeat the pair of an earlier one, and the sentence about the first of them."""
    keys = campaign * users + user
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    twice = np.zeros(len(keys), dtype=bool)
    twice[order[again + 1]] = True
    if not len(again):
        return twice, ""
    repeated = int(np.argmax(twice))
    earlier = int(np.argmax(keys == keys[repeated]))
    return twice, f"has the same campaign and user as row {earlier}"


def _without_empty_campaigns(
    campaigns: pa.Table, interactions: Interactions, faults: _Faults
) -> tuple[pa.Table, Interactions]:
    counts = np.bincount(interactions.campaign, minlength=len(campaigns))
    reason = f"has no row in {INTERACTIONS}"
    kept = faults.drop(campaigns, counts == 0, reason, CAMPAIGNS, "campaign_id")
    if not len(kept):
        raise DataError("has no usable rows", file=INTERACTIONS)
    renumbered = np.cumsum(counts > 0) - 1
    campaign = renumbered[interactions.campaign].astype(np.int32)
    label, split, weight = interactions.label, interactions.split, interactions.weight
    return kept, Interactions(campaign, interactions.user, label, split, weight)


def _with_ids(table: pa.Table, key: str, file: str, faults: _Faults) -> pa.Table:
    kind = table.schema.field(key).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"must be a string, is {kind}", file=file, column=key)
    ids = table.column(key).cast(pa.string())
    table = table.set_column(table.column_names.index(key), key, ids)
    empty = pc.fill_null(pc.equal(ids, ""), fill_value=True)
    return faults.drop(table, empty, "is null or empty", file, key)


def _rows_of(ids: pa.ChunkedArray, entities: pa.ChunkedArray) -> Rows:
    rows: Rows = pc.fill_null(pc.index_in(ids, value_set=entities.combine_chunks()), -1).to_numpy().astype(np.int64)
    return rows


def _check_type(kind: pa.DataType, feature: Feature, file: str) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    wanted, allowed = {
        "categorical": ("a string", text),
        "multi": ("a list of strings", lists),
        "numeric": ("a number", number),
        "vector": ("a list of numbers", lists),
    }[feature.kind]
    if not any(is_kind(kind) for is_kind in allowed):
        raise DataError(f"a {feature.kind} feature must be {wanted}, is {kind}", file=file, column=feature.name)


def _is_boolean(table: pa.Table, name: str) -> bool:
    return bool(pa.types.is_boolean(table.schema.field(name).type))
