"""What lies in a checkpoint directory, before any weight is read?

JSON files, safetensors files and their headers. Everything a file claims is checked against the
file's real size here, so that a damaged download is one clear sentence and not a crash later.

    safetensors file = u64 header length (little-endian) | header (JSON) | tensor bytes
    header           = {"name": {"dtype", "shape", "data_offsets": [begin, end)}, …}

Does not know: what the tensors mean, or torch. Pickle formats are never opened.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anzoth.config import ConfigError

_MAX_HEADER_BYTES = 100 << 20
_PAGE_BYTES = 4096
_LENGTH = struct.Struct("<Q")
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""The number types that weights may have. Others belong to quantised checkpoints."""
_INDEX_BYTES = {"I64": 8, "I32": 4}
"""Types of tables that old checkpoints store beside their weights and that nobody reads."""


class CheckpointError(ConfigError):
    """The model directory cannot be served."""


@dataclass(slots=True, frozen=True)
class TensorHeader:
    """What a safetensors header says about one tensor."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def read_json(file: Path) -> dict[str, Any]:  # Any: JSON; whoever reads a field checks it
    """The object in a JSON file. Raises CheckpointError."""
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{file} is not valid JSON") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} does not hold a JSON object")
    return value


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those its index names, or else the single one."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index} has no weight_map")
        names = sorted({str(name) for name in weight_map.values()})
        if outside := [name for name in names if Path(name).name != name]:
            raise CheckpointError(f"{index} names a file outside its directory: {outside[0]!r}")
        files = [directory / name for name in names]
        if missing := [file.name for file in files if not file.is_file()]:
            raise CheckpointError(f"{directory} lacks {_few(missing)}, which its index names")
        return files
    single = directory / "model.safetensors"
    if single.is_file():
        return [single]
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt*")):
        raise CheckpointError(
            f"{directory} has only pickled weights (*.bin, *.pt), which can run code when they are "
            f"loaded and are never opened here; convert them to safetensors first"
        )
    raise CheckpointError(f"{directory} has no model.safetensors and no index of several")


def read_headers(files: list[Path], *, ignored: Collection[str] = ()) -> dict[str, TensorHeader]:
    """All tensors of the files by name. Raises CheckpointError for anything inconsistent.

    `ignored`: names whose tensors nobody will read; they may hold whole numbers.
    """
    tensors: dict[str, TensorHeader] = {}
    for file in files:
        size = file.stat().st_size
        header, data_bytes = _header_object(file, size)
        end_of_data = 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            item_bytes = ITEM_BYTES | _INDEX_BYTES if name in ignored else ITEM_BYTES
            tensor, end = _tensor_header(file, name, entry, data_bytes, item_bytes)
            if name in tensors:
                raise CheckpointError(
                    f"tensor {name!r} is in both {tensors[name].file.name} and {file.name}"
                )
            tensors[name] = tensor
            end_of_data = max(end_of_data, end)
        if end_of_data != data_bytes:
            raise CheckpointError(f"{file} has {data_bytes - end_of_data} bytes after its tensors")
    return tensors


def sample_weights(directory: Path, num_pages: int) -> Iterator[bytes]:
    """What a fingerprint hashes: of each file its name, size, header and evenly spaced pages.

    Reading all of a large model would double its loading time. Raises CheckpointError, OSError.
    """
    for file in weight_files(directory):
        size = file.stat().st_size
        yield f"\0{file.name}\0{size}\0".encode()
        with file.open("rb") as stream:
            yield stream.read(_header_length(file, stream.read(8), size))
            for page in range(num_pages):
                stream.seek(size * page // num_pages)
                yield stream.read(_PAGE_BYTES)


def _header_object(file: Path, size: int) -> tuple[dict[str, Any], int]:
    with file.open("rb") as stream:
        length = _header_length(file, stream.read(8), size)
        raw = stream.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file} has a damaged header: not a JSON object")
    return header, size - 8 - length


def _header_length(file: Path, first_bytes: bytes, size: int) -> int:
    length = _LENGTH.unpack(first_bytes)[0] if len(first_bytes) == 8 else 0
    if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
        raise CheckpointError(f"{file} is not a safetensors file, or it is cut off ({size} bytes)")
    return length


def _tensor_header(
    file: Path, name: str, entry: object, data_bytes: int, item_bytes: Mapping[str, int]
) -> tuple[TensorHeader, int]:
    """One entry, checked: known type, and offsets that lie in the file and fit the shape."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise CheckpointError(f"{file} describes tensor {name!r} wrongly")
    if dtype not in item_bytes:
        raise CheckpointError(
            f"tensor {name!r} in {file.name} has type {dtype}; quantised checkpoints are not "
            f"supported, only {', '.join(sorted(ITEM_BYTES))}"
        )
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise CheckpointError(f"tensor {name!r} in {file.name} has shape {shape}")
    wanted_bytes = math.prod(shape) * item_bytes[dtype]
    if not 0 <= begin <= end <= data_bytes or end - begin != wanted_bytes:
        raise CheckpointError(
            f"tensor {name!r} in {file.name} claims bytes [{begin}, {end}) of {data_bytes}, but "
            f"its shape {shape} needs {wanted_bytes}"
        )
    return TensorHeader(file, dtype, tuple(shape)), end


def _few(names: list[str]) -> str:
    """At most three of the names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
