"""Which files of some paths belong into a knowledge base, and which of them are new to it?

A file is known by its path below the folder that was named, and by the hash of its content; both
are kept as attributes of the file in the store. So adding a folder again adds what is new, replaces
what has changed and leaves the rest alone.

Does not know: HTTP, or how progress is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anzoth.ingest.extensions import EXTENSIONS

PATH, SHA256 = "path", "sha256"
_MAX_PATH = 512
"""Characters of an attribute (OpenAI)."""
_READABLE = frozenset({"pdf", "docx", "pptx", "xlsx", "rtf", "txt", "text", "log", *EXTENSIONS})
"""Name endings of what is taken from a folder. A file that is named itself is always taken."""


@dataclass(slots=True, frozen=True)
class Candidate:
    """A file that may have to be added."""

    path: Path
    name: str
    """How the store knows it: its path below the folder that was named."""
    num_bytes: int


@dataclass(slots=True, frozen=True)
class Known:
    """A file that is in the store."""

    file_id: str
    sha256: str | None
    status: str


@dataclass(slots=True, frozen=True)
class Plan:
    """What is to be done with a candidate."""

    candidate: Candidate
    sha256: str
    replaces: str | None
    """The id of the file with an older content."""


def candidates(paths: Sequence[Path]) -> tuple[list[Candidate], int]:
    """The files of `paths`, and of their folders the readable ones; how many others there were."""
    found: dict[str, Candidate] = {}
    num_skipped = 0
    for path in paths:
        if not path.is_dir():
            found[path.name] = _candidate(path, path.name)
            continue
        for inner in _walk(path):
            if inner.suffix.lower().removeprefix(".") not in _READABLE:
                num_skipped += 1
                continue
            name = inner.relative_to(path.parent if path.name else path).as_posix()
            found[name] = _candidate(inner, name)
    return list(found.values()), num_skipped


def known(files: Iterable[Mapping[str, Any]]) -> dict[str, Known]:
    """By name, from the store's list of files; one that failed is as good as none."""
    made: dict[str, Known] = {}
    for file in files:
        attributes = file.get("attributes") or {}
        if isinstance(name := attributes.get(PATH), str):
            made[name] = Known(file["id"], attributes.get(SHA256), file["status"])
    return made


def plan(found: Iterable[Candidate], in_store: Mapping[str, Known]) -> Iterator[Plan]:
    """What has to be added, or added in place of an older content. Reads each file once."""
    for candidate in found:
        sha256 = _sha256(candidate.path)
        before = in_store.get(candidate.name)
        if before is not None and before.sha256 == sha256 and before.status != "failed":
            continue
        yield Plan(candidate, sha256, None if before is None else before.file_id)


def _candidate(path: Path, name: str) -> Candidate:
    return Candidate(path, name[-_MAX_PATH:], path.stat().st_size)


def _walk(folder: Path) -> Iterator[Path]:
    """Its files in the order of their names, hidden ones and links left out."""
    for inner in sorted(folder.iterdir()):
        if inner.name.startswith(".") or inner.is_symlink():
            continue
        if inner.is_dir():
            yield from _walk(inner)
        elif inner.is_file():
            yield inner


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
