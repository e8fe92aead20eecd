"""Of the rough logits of a block of users: how many there are of each, and who stays in the running."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.errors import ScoreError
from model.scoring import kernels
from model.scoring.kernels import Counts, Mask, Singles
from model.scoring.scores import BINS, Ordinals


def count(rough: Tensor, candidates: Mask) -> Counts:
    """How many candidates of a block [B] have a rough logit in each of BINS: i64 [bins]. Raises ScoreError where a
    logit is not a number."""
    if rough.device.type != "cpu":
        return count_on_device(rough, candidates)
    counts = np.zeros(BINS.count + 1, np.int64)
    if not kernels.count(rough.numpy(), candidates, BINS.low, BINS.per_unit, counts):
        raise _not_a_number()
    return counts[:-1]


def keep(rough: Tensor, candidates: Mask, cut: float) -> tuple[Ordinals, Singles]:
    """The numbers of the candidates of a block [B] whose rough logit is at least cut, ascending, and these logits."""
    if rough.device.type != "cpu":
        return keep_on_device(rough, candidates, cut)
    kept, logits = np.empty(len(rough), np.int64), np.empty(len(rough), np.float32)
    # The nearest number of single precision drops nobody: none lies between it and the cut.
    found = kernels.keep(rough.numpy(), candidates, np.float32(cut), kept, logits)
    return kept[:found].copy(), logits[:found].copy()


def count_on_device(rough: Tensor, candidates: Mask) -> Counts:
    """As `count`, where the rough logits are: only what is returned leaves the device."""
    if not bool(torch.isfinite(rough).all()):
        raise _not_a_number()
    first_bin = BINS.low * BINS.per_unit
    # Powers of two: nothing is rounded but by floor.
    bin_of = ((rough * BINS.per_unit).floor() - first_bin).clamp(0, BINS.count - 1).long()
    counts = torch.bincount(bin_of[_on(rough.device, candidates)], minlength=BINS.count)
    found: npt.NDArray[np.int64] = counts.cpu().numpy()
    return found


def keep_on_device(rough: Tensor, candidates: Mask, cut: float) -> tuple[Ordinals, Singles]:
    """As `keep`, where the rough logits are."""
    chosen = torch.nonzero(_on(rough.device, candidates) & (rough >= cut)).squeeze(1)
    return chosen.cpu().numpy(), rough[chosen].cpu().numpy()


def _on(device: torch.device, candidates: Mask) -> Tensor:
    return torch.from_numpy(candidates).to(device)


def _not_a_number() -> ScoreError:
    return ScoreError("a score is not a number")
