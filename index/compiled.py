"""Was the scoring kernel compiled here, and how is it called?

`setup.py` compiles `native/` into a plain shared library. It uses no instruction that a processor
of its family may lack, so there is one build. Arrays are handed over as addresses.

Does not know: what the kernel computes (see bm25.py), or when to use it.
"""

from __future__ import annotations

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
"""In the environment: `numpy` instead of the compiled kernel, to compare and to find faults."""

_INT, _REAL, _ADDRESS = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
_BYTES = ctypes.c_char_p
# As native/bm25.cpp declares them: the query, then what each does with it.
_QUERY = [_BYTES, _BYTES, _INT, _INT, _ADDRESS, _REAL, _REAL, _REAL]
_SCORES = [*_QUERY, _ADDRESS, _INT, _ADDRESS]
_TOP_K = [
    *(*_QUERY, _INT, _REAL, _REAL, _ADDRESS),
    *(_ADDRESS, _ADDRESS, _INT, _INT, _ADDRESS, _ADDRESS),
]


class Kernel:
    """The functions of the library; they release the GIL."""

    def __init__(self, file: Path) -> None:
        library = ctypes.CDLL(os.fspath(file))
        # Any: ctypes has no type for what it makes.
        self.scores: Any = library.anzoth_bm25_scores
        self.scores.argtypes, self.scores.restype = _SCORES, None
        self.top_k: Any = library.anzoth_bm25_top_k
        self.top_k.argtypes, self.top_k.restype = _TOP_K, _INT


@cache
def load() -> Kernel | None:
    """The kernel; None: there is none, and numpy computes instead."""
    if os.environ.get(VARIABLE) == "numpy":
        return None
    files = sorted(Path(__file__).parent.glob("native_bm25.*so"))
    if files:
        return Kernel(files[0])
    log.warning(
        "no compiled kernel for keyword search: numpy computes instead, several times slower "
        "(install a C++ compiler, then this package again)"
    )
    return None


def address(array: NDArray[Any]) -> int:
    """Of its first element. It must stay alive, and be contiguous."""
    return array.__array_interface__["data"][0]


def packed(*arrays: NDArray[Any]) -> bytes:
    """The addresses of some arrays of one length, and that length."""
    return np.array([*map(address, arrays), len(arrays[0])], np.uint64).tobytes()
