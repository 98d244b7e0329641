"""Which compiled kernels can this processor run, and how are they called?

`setup.py` compiles `native/` once per instruction set into a plain shared library; here the best
one that the processor has is loaded. Tensors are handed over as addresses and nothing of torch is
compiled in, so one build fits every version of it.

Does not know: what the kernels compute (see the C++ files), or when to use them.
"""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

_FLAG, _INT, _FLOAT, _ADDRESS = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_TYPES = {"f": _FLAG, "i": _INT, "x": _FLOAT, "p": _ADDRESS}

# Arguments in the order of the C++ declarations: flag, integer, real number, pointer.
_SIGNATURES = {
    "set_num_threads": "f",
    "packed_size": "fii",
    "pack": "fpiip",
    "linear": "fppiifpiifpi",
    "rms_norm": "ffpippiix",
    "rope": "fpipppiiii",
    "gated": "ffpipii",
    "forbid": "piippii",
    "write_kv": "fpipipippii",
    "paged_attention": "fpipppiiipppiiixxi",
}

# Best first: the flags that /proc/cpuinfo must show, and what setup.py calls the library.
BUILDS = {
    "avx512": ({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"}, "native_v4"),
    "avx2": ({"avx2", "fma", "bmi2", "f16c"}, "native_v3"),
}
VARIABLE = "ANZOTH_CPU_KERNELS"
"""In the environment: `avx2` or `torch` instead of the best, to compare and to find faults."""


class Library:
    """The functions of one build, each taking numbers and addresses."""

    def __init__(self, instructions: str, file: Path) -> None:
        self.instructions = instructions
        library = ctypes.CDLL(os.fspath(file))
        self._functions: dict[str, Any] = {}  # Any: ctypes has no type for what it makes
        for name, arguments in _SIGNATURES.items():
            function = library[f"anzoth_{name}"]
            function.argtypes = [_TYPES[letter] for letter in arguments]
            function.restype = _INT if name == "packed_size" else None
            self._functions[name] = function

    def __getitem__(self, name: str) -> Any:
        return self._functions[name]


@cache
def load() -> Library | None:
    """The best build for this processor; None: there is none, and torch computes instead.

    It computes with as many threads as torch does at the first call.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice == "torch":
        return None
    for instructions in BUILDS:
        if choice in ("", instructions) and (library := load_build(instructions)):
            return library
    log.warning(
        "no compiled CPU kernels for this processor: torch computes instead, several times slower "
        "(install a C++ compiler, then this package again)"
    )
    return None


@cache
def load_build(instructions: str) -> Library | None:
    """The named build; None where it was not compiled or the processor cannot run it."""
    needed, name = BUILDS[instructions]
    files = sorted(Path(__file__).parent.glob(f"{name}.*so"))
    if not files or not needed <= processor_flags():
        return None
    library = Library(instructions, files[0])
    library["set_num_threads"](torch.get_num_threads())
    return library


@cache
def processor_flags() -> frozenset[str]:
    """The instruction sets of the processor; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
