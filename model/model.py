"""A trained model: everything that determines a score, in one value."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model.network import Network
from model.presets import PresetConfig, preset_document
from model.schema import Schema
from model.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Model:
    """The preset's configuration, the schema of its training data, what it knows of users' and campaigns' values, and
    the network on its device. `campaigns` has no fields where the preset does not use campaign features."""

    preset: PresetConfig
    schema: Schema
    vocabulary: Vocabulary
    campaigns: Vocabulary
    network: Network
    device: torch.device

    def tensors(self) -> dict[str, Tensor]:
        """Weights and vocabularies by name, contiguous on the CPU."""
        weights = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        known = {**self.vocabulary.arrays("users"), **self.campaigns.arrays("campaigns")}
        named = {**weights, **{name: torch.from_numpy(array) for name, array in known.items()}}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(named.items())}

    @cached_property
    def sha256(self) -> str:
        """Hash of all that determines a score: preset, schema and every tensor; not of time or place."""
        contents = {
            "preset": preset_document(self.preset),
            "schema": self.schema.document(),
            "tensors": {
                name: [str(tensor.dtype), list(tensor.shape), hashlib.sha256(tensor.numpy().data).hexdigest()]
                for name, tensor in self.tensors().items()
            },
        }
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
