"""Where files to import may lie."""

from pathlib import Path

import pytest

from model.errors import PoolError
from service.pool.locations import ImportRoot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "imports"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "users.parquet").write_bytes(b"users")
    (tmp_path / "secret.parquet").write_bytes(b"secret")
    (folder / "link.parquet").symlink_to(tmp_path / "secret.parquet")
    (folder / "elsewhere").symlink_to(tmp_path)
    return folder


def test_a_file_is_found_in_a_folder(folder: Path) -> None:
    with ImportRoot(str(folder)).file("inside/users.parquet") as found:
        assert found.read_bytes() == b"users"


@pytest.mark.parametrize(
    "location",
    [
        "../secret.parquet",
        "/etc/passwd",
        "link.parquet",
        "elsewhere/secret.parquet",
        "inside/../../secret.parquet",
        "inside/../inside/users.parquet",
    ],
)
def test_a_location_outside_the_folder_is_refused(folder: Path, location: str) -> None:
    root = ImportRoot(str(folder))
    with pytest.raises(PoolError, match="out of IMPORT_ROOT"):
        root.check(location)
    with pytest.raises(PoolError, match="out of IMPORT_ROOT"), root.file(location):
        pass


@pytest.mark.parametrize("location", ["nowhere.parquet", "inside", "x" * 1_000, "a\0b"])
def test_a_location_without_a_file_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(PoolError, match="no such file"):
        ImportRoot(str(folder)).check(location)


@pytest.mark.parametrize("location", ["../a", "a/../../b", "/a", "s3://other/a", "a//b", "./a", "a\nb", ""])
def test_a_location_outside_the_bucket_is_refused_without_asking_it(location: str) -> None:
    with pytest.raises(PoolError, match="out of IMPORT_ROOT"):
        ImportRoot("s3://bucket/prefix").check(location)


def test_whether_a_file_lies_in_a_bucket_is_left_to_the_job() -> None:
    ImportRoot("s3://bucket/prefix").check("users/2026=11.parquet")
