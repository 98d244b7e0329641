"""Were the retriever's kernels compiled here, and how are they called?

`setup.py` compiles `native/` into one plain shared library. There is one build: what uses
instructions that not every processor of its family has asks for them first. Arrays are handed over
as addresses.

Does not know: what the kernels compute (see bm25.py, coded.py, candidates.py), or when to use them.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

VARIABLE = "ANZOTH_INDEX_KERNELS"
"""In the environment: `numpy` instead of the compiled kernels, to compare and to find faults."""

_INT, _REAL, _SINGLE = ctypes.c_int64, ctypes.c_double, ctypes.c_float
_ADDRESS, _BYTES = ctypes.c_void_p, ctypes.c_char_p
# As native/bm25.cpp declares them: the query, then what each does with it.
_QUERY = [_BYTES, _BYTES, _INT, _INT, _ADDRESS, _REAL, _REAL, _REAL]
_SCORES = [*_QUERY, _ADDRESS, _INT, _ADDRESS]
_TOP_K = [
    *(*_QUERY, _INT, _REAL, _REAL, _ADDRESS),
    *(_ADDRESS, _ADDRESS, _INT, _INT, _ADDRESS, _ADDRESS),
]
# As native/dense.cpp.
_PRODUCTS = [_ADDRESS, _INT, _ADDRESS, _ADDRESS, _INT, _ADDRESS]
_ESTIMATES = [_BYTES, _ADDRESS, _INT, _ADDRESS]
_NEAREST = [
    *(_BYTES, _ADDRESS, _SINGLE, _SINGLE, _SINGLE),
    *(_INT, _ADDRESS, _INT, _INT, _ADDRESS, _ADDRESS, _ADDRESS),
]
# As native/fusion.cpp.
_FUSE = [
    *(_BYTES, _INT, _INT, _ADDRESS, _BYTES, _BYTES, _BYTES, _REAL, _REAL, _REAL),
    *(_ADDRESS, _ADDRESS, _INT, _ADDRESS, _ADDRESS, _INT, _BYTES, _INT, _ADDRESS),
]


class Kernel:
    """The functions of the library; they release the GIL."""

    def __init__(self, file: Path) -> None:
        library = ctypes.CDLL(os.fspath(file))
        # Any: ctypes has no type for what it makes.
        self.scores: Any = _function(library.anzoth_bm25_scores, _SCORES, None)
        self.top_k: Any = _function(library.anzoth_bm25_top_k, _TOP_K, _INT)
        self.has_dense = bool(_function(library.anzoth_dense_usable, [], _INT)())
        """Whether this processor can run those that follow."""
        self.products: Any = _function(library.anzoth_dense_scores, _PRODUCTS, None)
        self.estimates: Any = _function(library.anzoth_dense_estimates, _ESTIMATES, None)
        self.nearest: Any = _function(library.anzoth_dense_nearest, _NEAREST, _INT)
        self.fuse: Any = _function(library.anzoth_fuse, _FUSE, _INT)


@cache
def load() -> Kernel | None:
    """The kernels; None: there are none, and numpy computes instead."""
    if os.environ.get(VARIABLE) == "numpy":
        return None
    for file in sorted(Path(__file__).parent.glob("native_search.*so")):
        with contextlib.suppress(OSError, AttributeError):  # of another machine, or version
            return Kernel(file)
    log.warning(
        "no compiled kernels for search: numpy computes instead, several times slower "
        "(install a C++ compiler, then this package again)"
    )
    return None


def load_dense() -> Kernel | None:
    """Those for vectors too; None: numpy computes with them."""
    kernel = load()
    return kernel if kernel is not None and kernel.has_dense else None


def address(array: NDArray[Any]) -> int:
    """Of its first element. It must stay alive, and be contiguous."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    except (TypeError, ValueError):  # not to be written to, or empty: numpy takes 6 µs to say it
        return array.__array_interface__["data"][0]


def packed(*arrays: NDArray[Any]) -> bytes:
    """The addresses of some arrays of one length, and that length."""
    return np.array([*map(address, arrays), len(arrays[0])], np.uint64).tobytes()


def _function(function: Any, arguments: list[Any], result: Any) -> Any:
    function.argtypes, function.restype = arguments, result
    return function
