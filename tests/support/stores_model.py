"""What a dictionary says of vector stores, and how answers are compared with it.

Does not know: how anything is asked (see `tenants_model`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from marked_files import COMMON, Document
from two_gateways import CHAT, Named

State = Literal["in_progress", "completed", "failed", "cancelled"]
Attributes = dict[str, Any]
_ECHOES = ("search_query", "queries")
"""Fields in which an answer repeats what was asked."""


@dataclass(eq=False)
class File(Named):
    """One of a project."""

    id: str
    document: Document

    def __repr__(self) -> str:
        return self.document.filename


@dataclass(eq=False, repr=False)
class Placed(Named):
    """A file in a store."""

    file: File
    attributes: Attributes = field(default_factory=dict)
    state: State = "in_progress"
    may_be_cancelled: bool = False

    def __repr__(self) -> str:
        return f"{self.file} ({self.state}, {self.attributes})"


@dataclass(eq=False)
class Store(Named):
    id: str
    name: str
    files: dict[str, Placed] = field(default_factory=dict, repr=False)
    is_expired: bool = False
    batches: list[str] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        return self.name

    def searched(self, colour: str | None = None) -> list[Placed]:
        """What a search must find, with this attribute."""
        return [p for p in self.files.values() if p.state == "completed" and has_colour(p, colour)]

    def waiting(self) -> list[Placed]:
        return [p for p in self.files.values() if p.state == "in_progress"]


def has_colour(placed: Placed, colour: str | None) -> bool:
    return colour is None or placed.attributes.get("colour") == colour


# --- comparing ------------------------------------------------------------------------------------


def without_echoes(said: Any) -> Any:
    if isinstance(said, dict):
        return {k: without_echoes(v) for k, v in said.items() if k not in _ECHOES}
    return [without_echoes(v) for v in said] if isinstance(said, list) else said


def assert_whole(must: Sequence[Placed], results: Sequence[Any]) -> None:
    """The chunks of each document are all of its text, each once. Of files that say the same every
    chunk is found in one of them."""
    alike: defaultdict[Document, set[str]] = defaultdict(set)
    for placed in must:
        alike[placed.file.document].add(placed.file.id)
    for document, ids in alike.items():
        assert document.text is not None
        at = 0
        for result in sorted(
            (result for result in results if result["file_id"] in ids),
            key=lambda result: result["chunk"]["start"],
        ):
            start, end = result["chunk"]["start"], result["chunk"]["end"]
            assert start >= at, f"twice in {document}"
            assert not document.text[at:start].strip(), f"missing in {document}"
            assert result["content"] == [{"type": "text", "text": document.text[start:end]}]
            at = end
        assert not document.text[at:].strip(), f"missing at the end of {document}"


def assert_words(
    must: Sequence[Placed], results: Sequence[Any], query: str, *, is_degraded: bool
) -> None:
    """A word that nobody else has leads to where it stands; by words alone, to nothing else."""
    if query == COMMON:
        return
    texts = [result["content"][0]["text"] + result["filename"] for result in results]
    holding = [p for p in must if query in p.file.document.words]
    if holding:
        assert query in texts[0], (query, texts[0])
    if is_degraded:
        assert bool(texts) >= bool(holding)
        for result, text in zip(results, texts, strict=True):
            assert query in text or not result["chunk"]["text"], result


def probes(ids: Mapping[str, str], own: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Requests in which one thing is named that is not one's own, `ids`; all else is `own`."""
    file, store, batch = ids["file"], ids["store"], ids["batch"]
    mine = f"/vector_stores/{own['store']}"
    yield from (
        ("GET", f"/files/{file}", None),
        ("GET", f"/files/{file}/content", None),
        ("DELETE", f"/files/{file}", None),
        ("GET", f"/files?after={file}", None),
        ("POST", "/vector_stores", {"file_ids": [file]}),
        ("GET", f"/vector_stores?after={store}", None),
    )
    for id, other in ((store, own["file"]), (store, file), (own["store"], file)):
        yield from (
            ("POST", f"/vector_stores/{id}/files", {"file_id": other}),
            ("POST", f"/vector_stores/{id}/file_batches", {"file_ids": [other]}),
            ("GET", f"/vector_stores/{id}/files?after={file}", None),
            ("GET", f"/vector_stores/{id}/files/{other}", None),
            ("GET", f"/vector_stores/{id}/files/{other}/content", None),
            ("POST", f"/vector_stores/{id}/files/{other}", {"attributes": {"colour": "red"}}),
            ("DELETE", f"/vector_stores/{id}/files/{other}", None),
        )
    for path in (f"/vector_stores/{store}", mine):
        yield from (
            ("GET", f"{path}/file_batches/{batch}", None),
            ("GET", f"{path}/file_batches/{batch}/files", None),
            ("POST", f"{path}/file_batches/{batch}/cancel", None),
        )
    search = {"type": "file_search", "vector_store_ids": [own["store"], store]}
    said = [{"role": "user", "content": f"What about the {COMMON} in the documents?"}]
    yield from (
        ("GET", f"/vector_stores/{store}", None),
        ("POST", f"/vector_stores/{store}", {"name": "mine"}),
        ("DELETE", f"/vector_stores/{store}", None),
        ("POST", f"/vector_stores/{store}/search", {"query": COMMON}),
        ("POST", "/chat/completions", {"model": CHAT, "messages": said, "tools": [search]}),
    )
