"""Loops compiled to machine code by numba: no compiler is needed on the machine, and what was compiled is kept on disk.

Where: numba's choice, `__pycache__` beside the source or a folder of the user's; NUMBA_CACHE_DIR names another.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.extending import intrinsic

P = ParamSpec("P")
R = TypeVar("R")
Number = TypeVar("Number", bound=np.generic)

# What LLVM's prefetch wants to know: whether it is for writing, how near to bring it, and whether it is data.
_READ_DATA_INTO_SECOND_LEVEL = (0, 2, 1)


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


def _prefetch(_context: Any, array: Any, _position: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        llvm = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(llvm, [address, *map(number, _READ_DATA_INTO_SECOND_LEVEL)])
        return context.get_dummy_value()

    return numba.void(array, numba.intp), code


# In a compiled loop, prefetch(array, position): have the cache line of a number of a contiguous one-dimensional array
# brought into the second-level cache, without waiting for it.
prefetch = cast("Callable[[npt.NDArray[Any], int | np.integer[Any]], None]", intrinsic(_prefetch))
