"""`lookalike train`, run as a command in an embedded service of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_checkpoint
from model.metatrain import TrainingProgress
from model.presets import MetaHeacConfig
from model.threads import one_thread
from service.commands.train import Preset, train
from service.kit.artifacts import version_prefix
from service.kit.database import Database
from service.models import training
from service.models.report import REPORT
from tests.fixtures.choice import short_choice
from tests.fixtures.recorded import allow, record_expansion
from tests.model.worlds import SMALL_DEFAULT, SMALL_METAHEAC, make_dataset, write


def test_auto_trains_both_recipes_and_says_which_is_kept(tmp_path: Path) -> None:
    write(make_dataset(users=600, campaigns=12, rows=100), tmp_path / "data")
    command = [sys.executable, "-m", "service", "train", "--data", tmp_path / "data", "--preset", "auto"]
    done = subprocess.run(
        [*command, "--max-minutes", "0.05"],
        env=os.environ | {"LOOKALIKE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept = done.stdout.strip().split("-")[0]
    said = " ".join(done.stderr.split())
    assert kept in ("default", "metaheac")
    assert f"; {kept} is kept" in said
    assert "AUC on validation campaigns: default 0." in said
    assert ", metaheac 0." in said


def test_the_option_of_frozen_embeddings_travels_in_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(make_dataset(users=120, campaigns=6, rows=60), tmp_path / "data")
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path / "home"))
    recipe = replace(SMALL_METAHEAC, max_steps=2, tune_online=False)
    monkeypatch.setattr(training, "PRESETS", {"metaheac": recipe})
    train(tmp_path / "data", preset=Preset.METAHEAC, frozen_embeddings=True)
    version = capsys.readouterr().out.strip()
    model = load_checkpoint(tmp_path / "home" / "models" / version_prefix(version), torch.device("cpu"))
    assert isinstance(model.preset, MetaHeacConfig)
    assert model.preset == replace(recipe, frozen_embeddings=True)
    assert model.network.represents


def test_what_was_recorded_by_now_takes_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sqlite_url: str
) -> None:
    write(make_dataset(users=120, campaigns=6, rows=60), tmp_path / "data")
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setattr(training, "PRESETS", {"default": replace(SMALL_DEFAULT, max_steps=2)})
    database = Database(sqlite_url)
    allow(database)
    record_expansion(database, [f"u{number}" for number in range(30)])
    database.dispose()
    with short_choice(), one_thread():
        train(tmp_path / "data")
    version = capsys.readouterr().out.strip()
    report = json.loads((tmp_path / "models" / version_prefix(version) / REPORT).read_text())
    assert report["data"]["recorded"]["campaigns"] == 1
    assert report["data"]["recorded"]["sampled_negatives"] == 90  # everybody else


def test_an_interrupted_training_goes_on_when_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(make_dataset(users=120, campaigns=6, rows=60), tmp_path / "data")
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(training, "PRESETS", {"default": replace(SMALL_DEFAULT, max_steps=24)})

    def run(*, stop_at: int | None = None, fresh: bool = False) -> str:
        def words(now: TrainingProgress) -> str:
            if now.step == stop_at:
                raise KeyboardInterrupt
            return ""

        with monkeypatch.context() as patch, one_thread():
            patch.setattr(training, "_in_words", words)
            if stop_at is None:
                train(tmp_path / "data", fresh=fresh)
            else:
                with pytest.raises(KeyboardInterrupt):
                    train(tmp_path / "data", fresh=fresh)
        return " ".join(capsys.readouterr().err.split())

    assert "goes on" not in run(stop_at=5)
    assert "training goes on from step 4," in run(stop_at=7)
    assert "goes on" not in run(stop_at=3, fresh=True)
    assert "training goes on from step 2," in run()
    assert not (tmp_path / "home" / "training").exists()
