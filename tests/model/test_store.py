"""The store of immutable objects, on a folder."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model.errors import ObjectExists, ObjectMissing, StoreError
from model.store import LEFTOVER_SECONDS, ObjectStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> ObjectStore:
    return ObjectStore(str(folder))


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def make_directory(folder: Path) -> Path:
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "a.npy").write_bytes(b"first")
    (folder / "b.bin").write_bytes(b"second")
    (folder / "manifest.json").write_bytes(b"{}")
    return folder


def test_an_object_is_read_as_it_was_written(store, tmp_path):
    (tmp_path / "file").write_bytes(b"from a file")
    store.put("a/b/from-bytes", b"0123456789")
    store.put("a/b/from-file", tmp_path / "file")
    assert store.get("a/b/from-bytes") == b"0123456789"
    assert store.get("a/b/from-file") == b"from a file"
    assert store.get_range("a/b/from-bytes", 3, 6) == b"345"
    assert store.size("a/b/from-bytes") == 10


def test_a_folder_can_be_named_by_address(tmp_path):
    folder = tmp_path / "with space"
    ObjectStore(folder.as_uri()).put("a", b"x")
    assert ObjectStore(str(folder)).get("a") == b"x"


def test_an_object_is_never_overwritten(store):
    store.put("a", b"first")
    with pytest.raises(ObjectExists, match="a: there is such an object already"):
        store.put("a", b"second")
    assert store.get("a") == b"first"


def test_of_many_writers_of_one_name_one_wins_and_the_others_are_told(store, folder):
    def write(number: int) -> bytes | None:
        data = b"%d" % number * 100_000
        try:
            store.put("deep/down/a", data)
        except ObjectExists:
            return None
        return data

    with ThreadPoolExecutor(16) as threads:
        won = [data for data in threads.map(write, range(32)) if data is not None]
    assert won == [store.get("deep/down/a")]
    assert files_under(folder) == ["deep/down/a"]


@pytest.mark.parametrize("name", ["a", "b/c", "a/below", "missing/d"])
def test_a_missing_object_is_named(store, name):
    store.put("a/below/it", b"x")
    for read in (store.get, store.size, lambda name: store.get_range(name, 0, 1), store.local):
        with pytest.raises(ObjectMissing, match=name):
            read(name)
    assert not store.exists(name)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a\0b", ".staging/x", "a/.put-x"]
)
def test_a_name_that_leads_elsewhere_is_refused(store, folder, name):
    for use in (lambda: store.put(name, b"x"), lambda: store.get(name), lambda: store.delete(name)):
        with pytest.raises(StoreError, match="is not a name of an object"):
            use()
    with pytest.raises(StoreError, match="is not a name of an object"):
        store.put_directory(folder, name)
    assert not folder.exists()


def test_an_unknown_kind_of_address_is_refused():
    with pytest.raises(StoreError, match="ftp://host/x: a store is a folder or an s3:// address"):
        ObjectStore("ftp://host/x")


def test_names_are_those_under_a_prefix(store):
    for name in ("a/2", "a/1/x", "ab/3", "c"):
        store.put(name, b"")
    assert store.names("a") == ["a/1/x", "a/2"]
    assert store.names("nothing") == []


def test_deleting_takes_the_object_or_all_under_the_prefix_and_counts_them(store, folder):
    for name in ("a/2", "a/1/x", "ab/3"):
        store.put(name, b"")
    assert store.delete("a") == 2
    assert store.delete("ab/3") == 1
    assert store.delete("a") == 0
    assert files_under(folder) == []


def test_a_directory_is_stored_with_all_its_files(store, folder, tmp_path):
    store.put_directory(make_directory(tmp_path / "made"), "pools/one")
    assert store.names("pools/one") == ["pools/one/b.bin", "pools/one/manifest.json", "pools/one/shards/a.npy"]
    assert store.local("pools/one") == folder / "pools" / "one"
    assert files_under(tmp_path / "made") == ["b.bin", "manifest.json", "shards/a.npy"]
    (tmp_path / "made" / "b.bin").write_bytes(b"changed later")
    assert store.get("pools/one/b.bin") == b"second"


def test_a_directory_is_never_overwritten(store, tmp_path):
    store.put_directory(make_directory(tmp_path / "made"), "pools/one")
    (tmp_path / "made" / "b.bin").write_bytes(b"other")
    with pytest.raises(ObjectExists, match="pools/one"):
        store.put_directory(tmp_path / "made", "pools/one")
    assert store.get("pools/one/b.bin") == b"second"


def test_staging_lies_on_the_same_file_system_and_goes_in_the_end(store, folder):
    with store.staging() as scratch:
        assert scratch.stat().st_dev == folder.stat().st_dev
        store.put_directory(make_directory(scratch / "made"), "pools/one")
    assert not scratch.exists()
    assert store.get("pools/one/shards/a.npy") == b"first"
    assert files_under(folder) == ["pools/one/b.bin", "pools/one/manifest.json", "pools/one/shards/a.npy"]


def test_staging_goes_after_an_error_too(store, folder):
    with pytest.raises(ZeroDivisionError), store.staging() as scratch:
        (scratch / "x").write_bytes(b"%d" % (1 // 0))
    assert files_under(folder) == []
    assert list((folder / ".staging").iterdir()) == []


def test_a_source_that_is_not_there_is_an_error_and_leaves_nothing(store, folder, tmp_path):
    with pytest.raises(StoreError, match="a: No such file"):
        store.put("a", tmp_path / "nowhere")
    assert files_under(folder) == []


def run(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script)]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, **options)


def allow_small_files_only() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


@pytest.mark.parametrize("call", ["put('big', made / 'b')", "put_directory(made, 'big')"])
def test_a_full_disk_leaves_nothing_and_the_store_goes_on(folder, tmp_path, call):
    """A limit on the size of files stands in for the disk: writing fails half-way, as on a full one."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a").write_bytes(b"small")
    (tmp_path / "made" / "b").write_bytes(bytes(1 << 20))
    script = f"""
        from pathlib import Path
        from model.errors import StoreError
        from model.store import ObjectStore
        store, made = ObjectStore({str(folder)!r}), Path({str(tmp_path / "made")!r})
        try:
            store.{call}
        except StoreError as error:
            print(error)
        store.put("small", b"fits")
    """
    done = run(script, preexec_fn=allow_small_files_only)
    assert (done.stdout, done.stderr) == ("big: File too large\n", "")
    assert files_under(folder) == ["small"]


def test_a_directory_half_written_by_a_killed_process_is_no_hindrance(folder, tmp_path):
    make_directory(tmp_path / "made")
    script = f"""
        import os
        from pathlib import Path
        from model.store import ObjectStore, folder
        def die_at_the_second(source, target):
            if list(target.parent.iterdir()):
                os.kill(os.getpid(), 9)
            target.write_bytes(source.read_bytes())
        folder.shutil.copyfile = die_at_the_second
        ObjectStore({str(folder)!r}).put_directory(Path({str(tmp_path / "made")!r}), "pools/one")
    """
    assert run(script).returncode == -signal.SIGKILL
    store = ObjectStore(str(folder))
    assert store.names("pools") == []
    store.put_directory(tmp_path / "made", "pools/one")
    assert store.get("pools/one/shards/a.npy") == b"first"


def age(path: Path) -> None:
    """As if it had been written longer ago than anything is built for."""
    then = path.stat().st_mtime - LEFTOVER_SECONDS - 60
    os.utime(path, (then, then))


def test_what_killed_processes_left_is_swept_up_once_it_is_old(store, folder):
    store.put("a/kept", b"x")
    for name in ("old", "new", "busy"):
        (folder / ".staging" / name / "shards").mkdir(parents=True)
    for name in (".staging/old/shards", ".staging/old", ".staging/busy"):
        age(folder / name)
    for name in (".put-old", ".put-new"):
        (folder / "a" / name).write_bytes(b"half")
    age(folder / "a" / ".put-old")
    age(folder / "a" / "kept")
    assert store.sweep() == 2
    assert sorted(path.name for path in (folder / ".staging").iterdir()) == ["busy", "new"]
    assert files_under(folder) == ["a/.put-new", "a/kept"]
    assert store.sweep() == 0


def test_there_is_nothing_to_sweep_before_anything_is_stored(store):
    assert store.sweep() == 0


def test_a_store_that_is_there_to_be_read_is_left_to_those_who_write_to_it(store, folder, monkeypatch):
    (folder / ".staging" / "old").mkdir(parents=True)
    age(folder / ".staging" / "old")

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr("model.store.store.shutil.rmtree", refuse)
    assert store.sweep() == 0
