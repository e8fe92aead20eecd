"""Imports the raw files of the Tencent advertising algorithm contest of 2018: 173 ads and the users they were shown.

userFeature.data (a user per line: `uid 1|age 4|interest1 93 70|...`), adFeature.csv, train.csv, test1_truth.csv.
As in the published protocol train.csv is what a campaign adapts on (split "seed") and test1_truth.csv what is ranked
(split "eval"); users are those of either.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from model.dataset import CAMPAIGNS, INTERACTIONS, USERS, new_directory, write_schema
from model.errors import DataError
from model.schema import Feature, Schema

PROFILES, ADS = "userFeature.data", "adFeature.csv"
PAIRS = {"seed": "train.csv", "eval": "test1_truth.csv"}
USERS_PER_BATCH = 200_000

# Raw name -> feature. Keywords and topics have at most 5 values in the raw data; interests and apps have long tails.
USER_FEATURES = {
    **{
        raw: Feature(name, "categorical")
        for raw, name in {
            "age": "age",
            "gender": "gender",
            "education": "education",
            "consumptionAbility": "consumption_ability",
            "LBS": "location",
            "carrier": "carrier",
            "house": "house",
        }.items()
    },
    "marriageStatus": Feature("marriage_status", "multi", 4),
    "ct": Feature("connection_types", "multi", 4),
    "os": Feature("operating_systems", "multi", 2),
    **{f"interest{number}": Feature(f"interests_{number}", "multi", 30) for number in range(1, 6)},
    **{f"kw{number}": Feature(f"keywords_{number}", "multi", 5) for number in range(1, 4)},
    **{f"topic{number}": Feature(f"topics_{number}", "multi", 5) for number in range(1, 4)},
    "appIdInstall": Feature("apps_installed", "multi", 50),
    "appIdAction": Feature("apps_opened", "multi", 50),
}
AD_FEATURES = {
    raw: Feature(name, "categorical")
    for raw, name in {
        "advertiserId": "advertiser",
        "campaignId": "ad_campaign",
        "creativeSize": "creative_size",
        "adCategoryId": "ad_category",
        "productId": "product",
        "productType": "product_type",
    }.items()
}
SCHEMA = Schema(tuple(USER_FEATURES.values()), tuple(AD_FEATURES.values()))


@dataclass(frozen=True)
class _Pairs:
    """Rows of train.csv or test1_truth.csv."""

    file: str
    aid: NDArray[np.int64]
    uid: NDArray[np.int64]
    label: NDArray[np.int8]


def import_tencent(
    out: Path,
    source: Path,
    *,
    seed: int = 0,  # noqa: ARG001  (negatives are in the data, nothing is drawn)
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the campaign dataset to the new directory `out` from the folder `source`. Raises DataError.

    The profiles, by far the largest file, are streamed; memory holds the pairs, about 40 bytes each.
    """
    with new_directory(out) as scratch:
        write_schema(scratch, SCHEMA)
        parts = {split: _read_pairs(source / file) for split, file in PAIRS.items()}
        wanted = np.unique(np.concatenate([part.uid for part in parts.values()]))
        progress(
            f"{sum(len(part.uid) for part in parts.values()):,} pairs of {len(wanted):,} users; reading {PROFILES}"
        )
        found = _write_users(source / PROFILES, scratch / USERS, wanted, progress)
        aids = _write_campaigns(source / ADS, scratch / CAMPAIGNS, parts)
        for part in parts.values():
            _require(part, "uid", part.uid, wanted[found], PROFILES)
            _require(part, "aid", part.aid, aids, ADS)
        _refuse_repeats(parts, aids, wanted)
        progress(f"{len(aids)} campaigns; writing {out}")
        _write_interactions(scratch / INTERACTIONS, parts)


def _read_pairs(path: Path) -> _Pairs:
    """With a header or without: test1_truth.csv goes around in both forms."""
    names = ["aid", "uid", "label"]
    try:
        with path.open("rb") as file:
            headed = file.readline().split(b",")[0].strip() == b"aid"
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(column_names=names, skip_rows=int(headed), use_threads=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.int64()), null_values=[]),
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot be read as aid,uid,label: {error}", file=path.name) from error
    aid, uid, label = (table.column(name).to_numpy() for name in names)
    wrong = np.flatnonzero(~np.isin(label, (-1, 0, 1)))
    if len(wrong):
        raise DataError("must be 1, 0 or -1", file=path.name, column="label", row=int(wrong[0]))
    return _Pairs(path.name, aid, uid, (label == 1).astype(np.int8))


def _write_users(
    path: Path, out: Path, wanted: NDArray[np.int64], progress: Callable[[str], None]
) -> NDArray[np.bool_]:
    """Write the profiles of the `wanted` uids (sorted); which of them there are."""
    multi = {raw for raw, feature in USER_FEATURES.items() if feature.kind == "multi"}
    kinds = {raw: pa.list_(pa.string()) if raw in multi else pa.string() for raw in USER_FEATURES}
    names = ["user_id", *(feature.name for feature in USER_FEATURES.values())]
    table_schema = pa.schema(list(zip(names, (pa.string(), *kinds.values()), strict=True)))
    found = np.zeros(len(wanted), bool)
    uids: list[str] = []
    columns: dict[str, list[object]] = {raw: [] for raw in USER_FEATURES}
    with pq.ParquetWriter(out, table_schema, compression="zstd") as writer:

        def flush() -> None:
            arrays = [pa.array(uids), *(pa.array(values, kinds[raw]) for raw, values in columns.items())]
            writer.write_table(pa.table(arrays, schema=table_schema))
            uids.clear()
            for values in columns.values():
                values.clear()

        for row, uid, profile in _profiles(path):
            # Not a dictionary: of eleven million users that would be a gigabyte.
            position = int(np.searchsorted(wanted, uid))
            if position == len(wanted) or wanted[position] != uid:
                continue
            if found[position]:
                raise DataError(f"user {uid} is there twice", file=path.name, column="uid", row=row)
            found[position] = True
            uids.append(str(uid))
            for raw, values in columns.items():
                value = profile.get(raw)
                values.append(value if raw in multi or not value else value[0])
            if len(uids) == USERS_PER_BATCH:
                flush()
                progress(f"{int(found.sum()):,} of {len(wanted):,} users")
        if uids:
            flush()
    return found


def _profiles(path: Path) -> Iterator[tuple[int, int, dict[str, list[str]]]]:
    """Row, uid and raw features of each line. Raises DataError."""
    try:
        with path.open(encoding="ascii") as file:
            for row, line in enumerate(file):
                profile = {}
                for field in line.rstrip("\n").split("|"):
                    name, *values = field.split()
                    profile[name] = values
                (uid,) = profile.pop("uid")
                if not profile.keys() <= USER_FEATURES.keys():
                    unknown = sorted(profile.keys() - USER_FEATURES.keys())[0]
                    raise DataError("is not a feature of the contest", file=path.name, column=unknown, row=row)
                yield row, int(uid), profile
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path.name) from error
    except (ValueError, KeyError) as error:
        raise DataError("is not of the form `uid 1|age 4|interest1 93 70|...`", file=path.name, row=row) from error


def _write_campaigns(path: Path, out: Path, parts: dict[str, _Pairs]) -> NDArray[np.int64]:
    """Write the ads that have pairs; their aids, sorted."""
    columns = ["aid", *AD_FEATURES]
    options = csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
    try:
        ads = csv.read_csv(path, convert_options=options)
        aids = ads.column("aid").cast(pa.int64()).to_numpy()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(f"cannot be read: {error}", file=path.name) from error
    shown = np.isin(aids, np.concatenate([part.aid for part in parts.values()]))
    kept, first = np.unique(aids[shown], return_index=True)
    if len(kept) != shown.sum():
        raise DataError("an ad is there twice", file=path.name, column="aid")
    names = ["campaign_id", *(feature.name for feature in AD_FEATURES.values())]
    pq.write_table(ads.filter(pa.array(shown)).take(pa.array(first)).rename_columns(names), out, compression="zstd")
    return kept


def _require(part: _Pairs, column: str, values: NDArray[np.int64], known: NDArray[np.int64], file: str) -> None:
    unknown = np.flatnonzero(~np.isin(values, known))
    if len(unknown):
        raise DataError(f"{values[unknown[0]]} is not in {file}", file=part.file, column=column, row=int(unknown[0]))


def _refuse_repeats(parts: dict[str, _Pairs], aids: NDArray[np.int64], uids: NDArray[np.int64]) -> None:
    keys = np.concatenate(
        [np.searchsorted(aids, part.aid) * len(uids) + np.searchsorted(uids, part.uid) for part in parts.values()]
    )
    _, first = np.unique(keys, return_index=True)
    if len(first) == len(keys):
        return
    repeated = np.ones(len(keys), bool)
    repeated[first] = False
    row = int(np.argmax(repeated))
    for part in parts.values():
        if row < len(part.aid):
            raise DataError("the ad has this user already", file=part.file, column="uid", row=row)
        row -= len(part.aid)


def _write_interactions(out: Path, parts: dict[str, _Pairs]) -> None:
    columns = [("campaign_id", pa.string()), ("user_id", pa.string()), ("label", pa.int8()), ("split", pa.string())]
    with pq.ParquetWriter(out, pa.schema(columns), compression="zstd") as writer:
        for split, part in parts.items():
            ids = [pc.cast(pa.array(numbers), pa.string()) for numbers in (part.aid, part.uid)]
            splits = pa.repeat(split, len(part.label))
            writer.write_table(pa.table([*ids, pa.array(part.label), splits], schema=pa.schema(columns)))
