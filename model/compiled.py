"""Loops compiled to machine code by numba: no compiler is needed on the machine, and what was compiled is kept on disk.

Where: numba's choice, `__pycache__` beside the source or a folder of the user's; NUMBA_CACHE_DIR names another.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Exact: operations in the order they are written, each rounded on its own. Runs without the GIL."""
    machine_code: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    return machine_code


def compiled_loosely(function: Callable[P, R]) -> Callable[P, R]:
    """Fast: sums of floats may be taken in any order and fused with products; numbers must be finite."""
    machine_code: Callable[P, R] = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function)
    return machine_code
