"""A training that is killed, and asked for again, ends as if nothing had happened."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model import loop, metatrain, training_state
from model.dataset import Dataset
from model.metatrain import Compared, Trained, TrainingProgress, train, train_best
from model.store import ObjectStore
from model.threads import one_thread
from model.training_state import SavedStates
from tests.fixtures.choice import short_choice
from tests.model.worlds import SMALL, make_dataset, with_labels

STEPS = 26  # every third is followed by a validation, and the last
BEGIN = TrainingProgress(0, 0.0, None, None, 0.0)
make_tiny = partial(make_dataset, users=120, campaigns=6, rows=60)


class Stopped(Exception):
    """The process ended here, for all that the training knows."""


def stop_at(step: int) -> Callable[[TrainingProgress], None]:
    def progress(now: TrainingProgress) -> None:
        if now.step == step:
            raise Stopped

    return progress


class Home:
    """A store of states, and what is heard of them."""

    def __init__(self, folder: Path) -> None:
        self.store = ObjectStore(str(folder))
        self.heard: list[str] = []
        self.seen: list[TrainingProgress] = []
        self.leaving = False
        self.states = SavedStates(self.store, "training", lambda: self.leaving, self.heard.append)

    def train(
        self,
        preset: str,
        progress: Callable[[TrainingProgress], object] = lambda _: None,
        *,
        dataset: Dataset | None = None,
        learning_rate: float = 0.003,
        **changes: Any,
    ) -> Trained:
        def report(now: TrainingProgress) -> None:
            self.seen.append(now)
            progress(now)

        options = {"seed": 0, "max_steps": STEPS, "states": self.states, **changes}
        recipe = replace(SMALL[preset], learning_rate=learning_rate)
        return train(dataset or make_tiny(), recipe, device=torch.device("cpu"), progress=report, **options)

    def stop(self, preset: str, step: int, **changes: Any) -> None:
        with pytest.raises(Stopped):
            self.train(preset, stop_at(step), **changes)
        self.seen.clear()

    @property
    def first_step(self) -> int:
        return next(now.step for now in self.seen if now.step)

    def names(self) -> list[str]:
        return self.store.names("training")


@pytest.fixture(scope="module", autouse=True)
def little_to_do() -> Iterator[None]:
    """A short choice; and one thread, here and in the children: more would only wait for one another."""
    with short_choice(), one_thread():
        yield


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def outcome(trained: Trained) -> tuple[object, ...]:
    """All that a training determines, to the last bit: seconds are another matter."""
    history = [(now.step, now.loss, now.validation_auc) for now in trained.history]
    return trained.model.sha256, history, trained.unlearnable


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """How the training of each preset ends where nothing happens, and nothing is saved."""
    home = Home(tmp_path_factory.mktemp("uninterrupted"))
    return {preset: outcome(home.train(preset, states=None)) for preset in SMALL}


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.model.test_training_state import Home

def progress(now):
    if now.step == 11:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
for preset in sys.argv[2:]:
    child = os.fork()  # torch is loaded once, and no thread of it has started
    if child == 0:
        Home(Path(sys.argv[1]) / preset).train(preset, progress)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What processes left behind, for each preset, that were killed in their eleventh step."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, folder, *SMALL]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * len(SMALL)
    return folder


@pytest.mark.parametrize("preset", SMALL)
def test_a_training_whose_process_was_killed_ends_like_one_that_was_not(
    uninterrupted: dict[str, tuple[object, ...]], killed: Path, preset: str
) -> None:
    again = Home(killed / preset)
    assert outcome(again.train(preset)) == uninterrupted[preset]
    assert again.first_step == 10  # the last validation was after the ninth
    assert again.heard[0].startswith("training goes on from step 9, ")


def test_it_may_be_killed_anywhere_and_more_than_once(
    home: Home, uninterrupted: dict[str, tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.stop("default", 2)
    assert home.names() == []
    home.stop("default", 4)
    with monkeypatch.context() as patch:
        patch.setattr(metatrain, "choose_heads", lambda *_, **__: stop_at(0)(BEGIN))
        with pytest.raises(Stopped):
            home.train("default")
    assert home.first_step == 4
    home.seen.clear()
    trained = home.train("default")
    assert outcome(trained) == uninterrupted["default"]
    assert {now.step for now in home.seen} == {0, trained.history[-1].step}  # only the choice was left to do


@pytest.mark.parametrize("preset", SMALL)
def test_who_is_about_to_leave_saves_first(
    home: Home, uninterrupted: dict[str, tuple[object, ...]], preset: str
) -> None:
    def leave_in_validation(now: TrainingProgress) -> None:
        if [report.step for report in home.seen].count(6) == 2:
            raise Stopped

    home.leaving = True
    home.stop(preset, 5)
    assert home.names()[0].startswith(f"training/{preset}/000000005-")
    with pytest.raises(Stopped):
        home.train(preset, leave_in_validation)
    home.seen.clear()
    assert outcome(home.train(preset)) == uninterrupted[preset]
    assert home.first_step == 6  # whose validation is done again
    assert [sentence.split(",")[0] for sentence in home.heard] == [
        "training goes on from step 5",
        "training goes on from step 6",
    ]


def test_a_new_state_takes_the_place_of_the_one_before_and_clearing_leaves_nothing(home: Home) -> None:
    home.stop("default", 8)
    (name,) = home.names()
    assert name.startswith("training/default/000000006-")
    home.states.clear()
    assert home.names() == []


def test_the_seconds_before_count_towards_the_budget(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    for module in (metatrain, loop):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock))

    def a_second_later(now: TrainingProgress) -> None:
        nonlocal clock
        clock += 1
        if now.step in (3, 5):
            raise Stopped

    home.leaving = True
    for expected in ([0, 1, 2, 3], [0, 5, 6]):
        with pytest.raises(Stopped):
            home.train("default", a_second_later, max_steps=None, max_seconds=100)
        assert [now.seconds for now in home.seen] == expected
        home.seen.clear()
        clock = 1000
    assert home.heard == ["training goes on from step 3, reached in 4 s"]


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [flipped, lambda data: data[: len(data) // 2], lambda _: b""])
def test_a_damaged_state_is_named_and_training_starts_from_the_beginning(
    home: Home, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    home.stop("default", 4)
    (name,) = home.names()
    path = tmp_path / "home" / name
    path.write_bytes(damage(path.read_bytes()))
    home.stop("default", 2)
    assert home.heard == [f"training starts from the beginning: the saved state {name} is damaged (sha256)"]
    assert home.names() == []


def test_what_is_no_state_at_all_is_refused(home: Home) -> None:
    name = f"training/default/000000001-{hashlib.sha256(b'nothing').hexdigest()}"
    home.store.put(name, b"nothing")
    home.stop("default", 2)
    assert home.heard[0].endswith(f"{name} is not the state of a training")


def other_labels() -> Dataset:
    labels = make_tiny().interactions.label.copy()
    labels[7] ^= 1
    return with_labels(make_tiny(), labels)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("data set", {"dataset": other_labels()}),
        ("data set", {"dataset": make_tiny(seed=1)}),
        ("preset", {"learning_rate": 0.004}),
        ("seed", {"seed": 1}),
        ("budget", {"max_steps": STEPS + 1}),
    ],
)
def test_a_state_of_another_training_is_named_and_not_gone_on_with(
    home: Home, kind: str, changes: dict[str, Any]
) -> None:
    home.stop("default", 4)
    (name,) = home.names()
    home.stop("default", 1, **changes)
    assert home.heard == [f"training starts from the beginning: the saved state {name} is of another {kind}"]


def test_a_state_of_an_earlier_release_is_named_and_not_gone_on_with(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.stop("default", 4)
    monkeypatch.setattr(training_state, "FORMAT", "lookalike-training-2")
    home.stop("default", 1)
    assert home.heard[0].endswith("is of another format")


def test_a_store_that_cannot_be_written_does_not_end_the_training(home: Home, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "training").write_text("in the way")
    home.stop("default", 4)
    assert home.heard[0].startswith("the state of the training at step 3 is not saved: training/default/000000003-")


def test_of_several_recipes_those_that_were_done_are_not_trained_again(home: Home) -> None:
    presets = [replace(recipe, max_steps=5) for recipe in SMALL.values()]

    def best(progress: Callable[[TrainingProgress], object], states: SavedStates | None) -> Compared:
        return train_best(make_tiny(), presets, seed=0, device=torch.device("cpu"), progress=progress, states=states)

    def stop_in_the_second(now: TrainingProgress) -> None:
        if now.fraction > 0.5 and now.step == 4:
            raise Stopped

    uninterrupted = best(lambda _: None, None)
    with pytest.raises(Stopped):
        best(stop_in_the_second, home.states)
    again = best(home.seen.append, home.states)
    assert again.aucs == uninterrupted.aucs
    assert outcome(again.trained) == outcome(uninterrupted.trained)
    assert [now.step for now in home.seen if now.fraction < 0.5] == [0]
    assert [sentence.split(",")[0] for sentence in home.heard] == [
        "training goes on from step 5",
        "training goes on from step 3",
    ]
