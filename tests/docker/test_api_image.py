"""What the api's image leaves out of its libraries, nobody misses."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from tests.docker.files import DOCKERFILES, ROOT, arguments

STEPS = arguments(DOCKERFILES[0], "RUN")
INSTALLED = Path(pa.__file__).parents[1]
WORK = """
import io
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv as csv, pyarrow.parquet as pq
table = pa.table({"user_id": ["b", "a"], "score": [0.5, 0.25]})
table = table.take(pc.sort_indices(table, sort_keys=[("user_id", "ascending")]))
file, text = io.BytesIO(), io.BytesIO()
pq.write_table(table, file, compression="zstd")
csv.write_csv(pq.read_table(file), text)
print(text.getvalue().decode())
print([name for name in ("pyarrow._flight", "pyarrow._s3fs") if name in sys.modules])
"""


def left_out() -> list[str]:
    """The patterns that the image's build removes from its site-packages."""
    (step,) = (step for step in STEPS if "--require-hashes" in step)
    removals = (shlex.split(command) for command in step.split("&&") if command.strip().startswith("rm "))
    return [word for _, *words in removals for word in words if not word.startswith("-")]


def imported() -> str:
    """The program whose imports the build compiles: what the image's processes load."""
    (step,) = (step for step in STEPS if "compileall" in step)
    return shlex.split(step)[-1]


def test_the_processes_of_the_api_image_work_without_what_it_leaves_out(tmp_path: Path) -> None:
    for folder in {"numpy.libs", *(pattern.partition("/")[0] for pattern in left_out())}:
        shutil.copytree(INSTALLED / folder, tmp_path / folder, copy_function=os.symlink)
    for pattern in left_out():
        found = list(tmp_path.glob(pattern))
        assert found, f"{pattern}: no longer there"
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    program = f"{imported()}\nimport sys\n{WORK}"
    given = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "LOOKALIKE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], check=False, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['"user_id","score"', '"a",0.25', '"b",0.5', "[]"]
