"""Loops compiled to machine code by numba: no compiler is needed on the machine, and what was compiled is kept on disk.

Where: numba's choice, `__pycache__` beside the source or a folder of the user's; NUMBA_CACHE_DIR names another.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba
import numpy as np
import numpy.typing as npt

P = ParamSpec("P")
R = TypeVar("R")
Number = TypeVar("Number", bound=np.generic)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Exact: operations in the order they are written, each rounded on its own; a division by zero gives what numpy
    gives. Runs without the GIL."""
    machine_code: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return machine_code


def compiled_loosely(function: Callable[P, R]) -> Callable[P, R]:
    """Fast: sums of floats may be taken in any order and fused with products; numbers must be finite."""
    machine_code: Callable[P, R] = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function)
    return machine_code


def read_only(array: npt.NDArray[np.generic], dtype: type[Number]) -> npt.NDArray[Number]:
    """The same memory as numbers of this type, not to be written to: compiled loops then see one type of array, and are
    compiled once, whether it is in memory or mapped from a file."""
    view: npt.NDArray[Number] = np.ascontiguousarray(array).view(dtype).view(np.ndarray)
    view.flags.writeable = False
    return view
