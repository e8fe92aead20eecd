"""The state of an unfinished training, kept in a store so that a killed training goes on from there.

A state is one safetensors object; what JSON can say stands in its header. Its name is the step and the sha256 of its
bytes, so it is there whole or not at all, and what has changed since is noticed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.errors import CheckpointError, StoreError
from model.store import ObjectStore

# To be raised whenever a loop or a step keeps anything else, or does anything else with it.
FORMAT = "lookalike-training-1"

Generators = Mapping[str, np.random.Generator | torch.Generator]


@dataclass(frozen=True)
class TrainingState:
    """A training between two steps: how many were done, in how many seconds; all else that JSON can say; and tensors
    by name, on any device."""

    step: int
    seconds: float
    values: dict[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with the prefix and a dot, by the rest of their names."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


@dataclass(frozen=True)
class RecipeStates:
    """The states of the training of one recipe: there is one, but for the moment in which a new one takes its place.

    identity: all that must be the same for a training to go on, by name, as JSON; the rest as in SavedStates.
    """

    store: ObjectStore
    prefix: str
    identity: Mapping[str, Any]
    leaving: Callable[[], bool]
    hear: Callable[[str], object]

    def save(self, state: TrainingState) -> None:
        """Put the state in the place of the one before. A store that fails is no reason to stop training: it is heard
        of, and what was there stays."""
        header = {"identity": self.identity, "step": state.step, "seconds": state.seconds, "values": state.values}
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
        data = save(tensors, {"state": json.dumps(header)})
        try:
            before = self.store.names(self.prefix)
            self.store.put(f"{self.prefix}/{state.step:09d}-{hashlib.sha256(data).hexdigest()}", data)
            for name in before:
                self.store.delete(name)
        except StoreError as error:
            self.hear(f"the state of the training at step {state.step} is not saved: {error}")

    def newest(self) -> TrainingState | None:
        """The state to go on from. One that is damaged or of another training is deleted, and its fault is heard of.
        Raises StoreError where the store cannot be read."""
        names = self.store.names(self.prefix)
        if not names:
            return None
        try:
            state = self._read(names[-1])
        except CheckpointError as error:
            self.hear(f"training starts from the beginning: the saved state {error}")
            self.store.delete(self.prefix)
            return None
        self.hear(f"training goes on from step {state.step}, reached in {state.seconds:.0f} s")
        return state

    def _read(self, name: str) -> TrainingState:
        data = self.store.get(name)
        if hashlib.sha256(data).hexdigest() != name.rpartition("-")[2]:
            raise CheckpointError(f"{name} is damaged (sha256)")
        try:
            tensors = load(data)
            length = int.from_bytes(data[:8], "little")
            header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])
            found = header["identity"]
            state = TrainingState(header["step"], header["seconds"], header["values"], tensors)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{name} is not the state of a training") from error
        for kind, expected in json.loads(json.dumps(self.identity)).items():
            if found.get(kind) != expected:
                raise CheckpointError(f"{name} is of another {kind}")
        return state


@dataclass(frozen=True)
class SavedStates:
    """Where a training keeps its states: in `store` under `prefix`, apart for every recipe.

    leaving: whether an exception of `progress` means that this process stops and another one shall go on, so that a
    state is to be saved; hear: gets a sentence when a training goes on from a state, or cannot, or cannot save one.
    """

    store: ObjectStore
    prefix: str
    leaving: Callable[[], bool]
    hear: Callable[[str], object]

    def of(self, recipe: str, identity: Mapping[str, Any]) -> RecipeStates:
        """Those of one recipe, by the name of its preset."""
        identity = {"format": FORMAT, **identity}
        return RecipeStates(self.store, f"{self.prefix}/{recipe}", identity, self.leaving, self.hear)

    def clear(self) -> None:
        """Delete them all: the training is over."""
        self.store.delete(self.prefix)


def generator_values(generators: Generators) -> dict[str, Any]:
    """Where numpy's generators stand, as JSON."""
    return {
        name: generator.bit_generator.state
        for name, generator in generators.items()
        if isinstance(generator, np.random.Generator)
    }


def generator_tensors(generators: Generators) -> dict[str, Tensor]:
    """Where torch's generators stand."""
    return {
        name: generator.get_state() for name, generator in generators.items() if isinstance(generator, torch.Generator)
    }


def set_generators(generators: Generators, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Put generators where these values and tensors say."""
    for name, generator in generators.items():
        if isinstance(generator, torch.Generator):
            generator.set_state(tensors[name])
        else:
            generator.bit_generator.state = values[name]
