"""How is a collection kept on disk, and read again?

Each generation of a collection is a set of sealed files (sealed.py) in the collection's folder: for
each part `rows` (numbers, files, live rows, attributes), `sparse`, `vectors` and, where there are
some, their `codes` or `graph`; and a manifest, written last, that names the others by their salts.
So a generation is complete or absent, and no file of another generation, collection or tenant can
stand in for one. Whoever opens a collection says which generation it must be (Postgres knows): an
older one that was put back is refused like a damaged one. Nothing is parsed that was not
authenticated first, because hnswlib crashes on damaged files.

hnswlib reads and writes files only; here that is a memfd, which has no place on disk. Where the
system has none, the graph is left out, searches are exact, and the next merge builds one again.

Does not know: where data keys come from, which generation is the last, or how to rebuild what is
refused.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pyroaring import BitMap

from anzoth.index.coded import CodedVectors, Codes
from anzoth.index.collection import MAX_CHUNKS, Collection
from anzoth.index.compiled import load_dense
from anzoth.index.dense import FlatVectors, Floats, Vectors
from anzoth.index.graph import GraphVectors, load_hnswlib
from anzoth.index.sealed import Label, SnapshotRefused, read_sealed, sync_folder, write_sealed
from anzoth.index.segment import Part, Segment
from anzoth.index.sparse import DamagedSegment, SparseSegment

__all__ = [
    "Owner",
    "SnapshotRefused",
    "generations",
    "open_collection",
    "prune",
    "quarantine",
    "save_collection",
]

log = logging.getLogger(__name__)

MANIFEST = "manifest"
QUARANTINE = "quarantine"
FORMAT = 2


@dataclass(slots=True, frozen=True)
class Owner:
    """Whose collection it is, and the tenant's data key (32 bytes)."""

    tenant: str
    store: str
    data_key: bytes = field(repr=False)


def save_collection(collection: Collection, folder: Path, owner: Owner, generation: int) -> None:
    """Writes the collection as it is now. Searches and writes go on.

    Generations rise. Older files stay until `prune`. Raises ValueError: this generation or a later
    one is there. OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if generation <= max(generations(folder), default=0):
        raise ValueError(f"generation {generation} is not above those that are there")
    seq = collection.seq  # before the state, which may have more than this says, but never less
    state = collection.state
    folder_of = _Folder(folder, owner, generation)
    manifest = {
        "format": FORMAT,
        "dimensions": collection.dimensions,
        "analyzer": collection.analyzer_name,
        "seq": seq,
        "parts": [_write_part(folder_of, str(at), part) for at, part in enumerate(state.parts)],
    }
    sync_folder(folder)
    folder_of.write(MANIFEST, orjson.dumps(manifest))
    sync_folder(folder)


def open_collection(
    folder: Path, owner: Owner, generation: int, *, max_chunks: int = MAX_CHUNKS
) -> Collection:
    """The collection of this generation. Raises SnapshotRefused: it is not all there, unchanged."""
    folder_of = _Folder(folder, owner, generation)
    try:
        manifest = orjson.loads(folder_of.read(MANIFEST))
        if manifest["format"] != FORMAT:
            raise SnapshotRefused(f"written in format {manifest['format']}, this reads {FORMAT}")
        dimensions = manifest["dimensions"]
        parts = [
            _read_part(folder_of, str(at), described, dimensions)
            for at, described in enumerate(manifest["parts"])
        ]
        return Collection(
            dimensions,
            manifest["analyzer"],
            max_chunks=max_chunks,
            parts=parts,
            seq=manifest["seq"],
        )
    except (KeyError, ValueError, struct.error, DamagedSegment) as error:
        # Authenticated, so we wrote it: another version of this program did.
        raise SnapshotRefused(f"generation {generation} cannot be read: {error!r}") from error


def generations(folder: Path) -> list[int]:
    """Those that were written to their end, ascending."""
    names = (path.name.partition(".")[0] for path in folder.glob(f"*.{MANIFEST}.sealed"))
    return sorted(int(name) for name in names if name.isdigit())


def quarantine(folder: Path, generation: int) -> None:
    """Puts the files of a generation that was refused aside, for whoever wants to know why.

    What was put aside before is deleted.
    """
    aside = folder / QUARANTINE
    aside.mkdir(mode=0o700, exist_ok=True)
    for path in aside.iterdir():
        path.unlink()
    for path in list(folder.glob(f"{_prefix(generation)}*.sealed")):
        path.rename(aside / path.name)
    sync_folder(folder)


def prune(folder: Path, keep: int) -> None:
    """Deletes the files of all other generations, and what interrupted writes left behind."""
    for path in list(folder.iterdir()):
        is_kept = path.name.startswith(_prefix(keep))
        if path.suffix == ".tmp" or (path.suffix == ".sealed" and not is_kept):
            path.unlink(missing_ok=True)
    sync_folder(folder)


@dataclass(slots=True, frozen=True)
class _Folder:
    path: Path
    owner: Owner
    generation: int

    def write(self, kind: str, payload: Any) -> str:
        """`payload` is anything with a contiguous buffer. Returns the salt in hexadecimal."""
        salt = write_sealed(
            self._file(kind), memoryview(payload), self.owner.data_key, self._label(kind)
        )
        return salt.hex()

    def read(self, kind: str, salt: str | None = None) -> memoryview:
        expected = None if salt is None else bytes.fromhex(salt)
        return read_sealed(
            self._file(kind), self.owner.data_key, self._label(kind), expected
        ).payload

    def _file(self, kind: str) -> Path:
        return self.path / f"{_prefix(self.generation)}{kind}.sealed"

    def _label(self, kind: str) -> Label:
        return Label(self.owner.tenant, self.owner.store, self.generation, kind)


def _prefix(generation: int) -> str:
    return f"{generation:016d}."


# --- parts --------------------------------------------------------------------------------------


def _write_part(folder: _Folder, name: str, part: Part) -> dict[str, Any]:
    segment = part.segment
    attributes = {str(file): part.attributes.attributes(file) for file in part.files}
    rows = _joined(
        [segment.numbers.tobytes(), segment.files.tobytes(), part.live.serialize(),
         orjson.dumps(attributes)]
    )  # fmt: skip
    matrix = segment.vectors.matrix
    described: dict[str, Any] = {
        "num_rows": len(segment),
        "rows": folder.write(f"{name}.rows", rows),
        "sparse": folder.write(f"{name}.sparse", segment.sparse.to_bytes()),
        "vectors": folder.write(f"{name}.vectors", matrix.reshape(-1)),
        "codes": None,
        "graph": None,
        "index_pending": segment.vectors.index_pending,
    }
    match segment.vectors:
        case CodedVectors(codes=codes):
            described["codes"] = folder.write(f"{name}.codes", _joined(codes.sections()))
            described["spread"] = codes.spread
        case GraphVectors() as vectors:
            described |= _write_graph(folder, f"{name}.graph", vectors)
        case _:
            pass
    return described


def _read_part(folder: _Folder, name: str, described: dict[str, Any], dimensions: int) -> Part:
    num_rows = described["num_rows"]
    numbers, files, live, attributes = _divided(folder.read(f"{name}.rows", described["rows"]))
    vectors = folder.read(f"{name}.vectors", described["vectors"])
    matrix = np.frombuffer(vectors, np.float32).reshape(num_rows, dimensions)
    segment = Segment(
        np.frombuffer(numbers, np.int64),
        np.frombuffer(files, np.int64),
        SparseSegment.from_bytes(folder.read(f"{name}.sparse", described["sparse"])),
        _read_vectors(folder, name, described, matrix),
    )
    lengths = {num_rows, len(segment.numbers), len(segment.files), len(segment.sparse)}
    if len(lengths) > 1:
        raise ValueError(f"part {name} has {sorted(lengths)} rows")
    by_file = {int(file): own for file, own in orjson.loads(attributes).items()}
    return Part.of(segment, BitMap.deserialize(bytes(live)), by_file)


def _write_graph(folder: _Folder, kind: str, vectors: GraphVectors) -> dict[str, Any]:
    if not hasattr(os, "memfd_create"):
        log.warning("this system has no memfd: the graph is left out of the snapshot")
        return {"index_pending": True}
    with _memfd() as (descriptor, path):
        vectors.graph.save_index(path)
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as saved, memoryview(saved) as view:
            salt = folder.write(kind, view)
    return {
        "graph": salt,
        "ef": vectors.ef,
        "sampled_recall": vectors.sampled_recall,
        # Its files carry no version of their own.
        "hnswlib": version("hnswlib"),
    }


def _read_vectors(folder: _Folder, name: str, described: dict[str, Any], matrix: Floats) -> Vectors:
    if described["codes"] is not None:
        return _read_codes(folder, f"{name}.codes", described, matrix)
    if described["graph"] is not None:
        return _read_graph(folder, f"{name}.graph", described, matrix)
    return FlatVectors(matrix, index_pending=described["index_pending"])


def _read_codes(folder: _Folder, kind: str, described: dict[str, Any], matrix: Floats) -> Vectors:
    sections = _divided(folder.read(kind, described["codes"]))
    kernel = load_dense()
    if kernel is None:
        log.warning("codes cannot be read here: searches are exact until the next merge")
        return FlatVectors(matrix, index_pending=True)
    return CodedVectors(
        matrix, Codes.from_sections(sections, described["spread"], *matrix.shape), kernel
    )


def _read_graph(folder: _Folder, kind: str, described: dict[str, Any], matrix: Floats) -> Vectors:
    payload = folder.read(kind, described["graph"])
    hnswlib = load_hnswlib()
    if (
        hnswlib is None
        or described["hnswlib"] != version("hnswlib")
        or not hasattr(os, "memfd_create")
    ):
        log.warning("a graph cannot be read here: searches are exact until the next merge")
        return FlatVectors(matrix, index_pending=True)
    num_rows, dimensions = matrix.shape
    graph = hnswlib.Index("ip", dimensions)
    with _memfd() as (descriptor, path):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(payload)
        graph.load_index(path, max_elements=num_rows)
    if graph.get_current_count() != num_rows:
        raise ValueError(f"{kind} has {graph.get_current_count()} rows, not {num_rows}")
    return GraphVectors(FlatVectors(matrix), graph, described["ef"], described["sampled_recall"])


@contextmanager
def _memfd() -> Iterator[tuple[int, str]]:
    """A file in memory, with a path for those who insist on one."""
    descriptor = os.memfd_create("anzoth-graph", os.MFD_CLOEXEC)
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _joined(sections: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f"<{len(sections)}Q", *map(len, sections))
    return struct.pack("<Q", len(sections)) + lengths + b"".join(sections)


def _divided(data: memoryview) -> list[memoryview]:
    (num_sections,) = struct.unpack_from("<Q", data)
    lengths = struct.unpack_from(f"<{num_sections}Q", data, 8)
    bounds = np.cumsum([8 * (1 + num_sections), *lengths]).tolist()
    return [data[start:end] for start, end in pairwise(bounds)]
