"""How do a checkpoint's tensors get into the model's parameters?

A parameter of ours may be several tensors of theirs laid one under the other (q, k and v are one
matrix here). Each tensor is read from a memory map straight into its rows of the parameter, in the
parameter's own type: the weights exist once in memory, plus one parameter while it is being filled.

Does not know: what the model does with its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch

from anzoth.scheduler.checkpoint import CheckpointError, TensorHeader, read_headers, weight_files

Progress = Callable[[float], None]
"""Called with the share of the weights that has been read, from 0 to 1."""

_IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)
"""Old checkpoints store what config.json already says."""


@dataclass(slots=True, frozen=True)
class Part:
    """One tensor of the checkpoint."""

    name: str
    shape: tuple[int, ...]


class WeightReader:
    """Reads the parameters of one checkpoint, whose tensors must be exactly the wanted ones."""

    def __init__(
        self,
        directory: Path,
        wanted: Iterable[Part],
        *,
        ignored: Iterable[str] = (),
        prefix: str = "",
        progress: Progress | None = None,
    ) -> None:
        """Checks names and shapes of all tensors before any is read. Raises CheckpointError.

        `ignored`: names that may be there and are not needed. `prefix`: of wanted names, where the
        files may leave it out in all of them.
        """
        files = weight_files(directory)
        ignored = set(ignored)
        headers = read_headers(files, ignored=ignored)
        self._left_out = "" if any(name.startswith(prefix) for name in headers) else prefix
        self._headers = {self._left_out + name: header for name, header in headers.items()}
        parts = list(wanted)
        _check(directory, self._headers, parts, ignored)
        self._progress = progress
        self._num_wanted = sum(_num_elements(part.shape) for part in parts)
        self._num_read = 0
        # The library maps the file into memory; a tensor it returns is a view of the map.
        self._open = {file: safetensors.safe_open(file, framework="pt") for file in files}

    def read(self, parts: Iterable[Part], dtype: torch.dtype) -> torch.Tensor:
        """The parts, laid one under the other along their first dimension."""
        parts = tuple(parts)
        num_rows = sum(part.shape[0] for part in parts)
        parameter = torch.empty(num_rows, *parts[0].shape[1:], dtype=dtype)
        first = 0
        for part in parts:
            name = part.name.removeprefix(self._left_out)
            source = self._open[self._headers[part.name].file].get_tensor(name)
            parameter[first : first + part.shape[0]].copy_(source)
            first += part.shape[0]
        self._num_read += parameter.numel()
        if self._progress is not None:
            self._progress(self._num_read / self._num_wanted)
        return parameter


def _check(
    directory: Path, headers: dict[str, TensorHeader], parts: list[Part], ignored: set[str]
) -> None:
    wanted = {part.name: part.shape for part in parts}
    missing = [name for name in wanted if name not in headers]
    unexpected = [
        name
        for name in headers
        if name not in wanted and name not in ignored and not name.endswith(_IGNORED_SUFFIXES)
    ]
    misshaped = [
        f"{name} is {list(headers[name].shape)}, not {list(shape)}"
        for name, shape in wanted.items()
        if name in headers and headers[name].shape != shape
    ]
    problems = [
        f"{label} {_few(names)}"
        for label, names in (
            ("missing:", missing),
            ("unexpected:", unexpected),
            ("wrong shape:", misshaped),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the tensors in {directory} do not fit its config.json; {'; '.join(problems)}"
        )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _num_elements(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
