"""What do the gateway and the retriever say to each other?

Each message is a frame (`framing`). A store is always named by its tenant and its own id together,
and a connection may speak of those that it has opened with the tenant's data key. The payload is
the data key of an `Open`, the chunks of a `Put` (`pack_chunks`), the query vector of a `Search`,
and empty otherwise.

Every change of a store has a number, `seq`, in the order in which the database made them. The
retriever applies changes in whatever order they come, each file's latest one winning, and knows up
to which `seq` it has all of them. A search names the `seq` that it must see; a retriever that has
not come so far answers `Behind`, is given the files that changed since, and then told by `Advance`
that these were all.

Messages check themselves: what does not fit its bounds is not a message of this protocol. Values
that only a collection can judge (filters, attributes, vectors) are answered by `Refused`.

Does not know: sockets, processes, keys other than by length, SQL or HTTP.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

import orjson

from anzoth.framing import FrameDecoder, FrameError, frame, header

PROTOCOL = 1

MAX_HEADER_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 256 << 20
"""A file of 50,000 chunks with vectors of 1,024 numbers."""
MAX_FILE_CHUNKS = 50_000
MAX_DIMENSIONS = 8192
MAX_HITS = 1000
MAX_QUERY_BYTES = 64 << 10
"""Of a search's text, in UTF-8."""
MAX_TIMEOUT_MS = 86_400_000
DATA_KEY_BYTES = 32
_MAX_NUMBER = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
"""Of tenants and stores: they also name folders."""

RefusalCode = Literal["invalid", "full", "late", "closed", "failed"]
"""`late`: not done before its deadline. `closed`: this connection has no such store open, or the
store was forgotten meanwhile. `failed`: our bug, logged there."""
FusionMethod = Literal["calibrated", "convex", "rrf"]


@dataclass(slots=True, frozen=True)
class Fusion:
    """How the two legs become one list (`anzoth.index.fusion`). `calibrated` has no weights."""

    method: FusionMethod = "calibrated"
    dense_weight: float = 1.0
    sparse_weight: float = 1.0


# --- retriever -> gateway -----------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Hello:
    """First frame on every connection."""

    protocol: int
    memory_bytes: int
    """What collections may take before cold ones are put aside."""


@dataclass(slots=True, frozen=True)
class Done:
    """The answer to all that is not a search, a `Close` or refused."""

    request: int
    seq: int
    """All changes of the store up to this one are in. 0 for a `Forget`."""


@dataclass(slots=True, frozen=True)
class Behind:
    """Not done: it needs changes that have not come. Those after `seq` are asked for."""

    request: int
    seq: int
    life: int
    """Another one when the store has lost changes that it once had: for `Advance`."""


@dataclass(slots=True, frozen=True)
class Refused:
    request: int
    code: RefusalCode
    message: str


class HitRow(NamedTuple):
    """A chunk that was found. Ranks count from 1; None: that leg did not list it."""

    number: int
    file: int
    score: float
    dense_rank: int | None
    dense_score: float | None
    sparse_rank: int | None
    sparse_score: float | None


@dataclass(slots=True, frozen=True)
class Hits:
    """The answer to a `Search`, best first."""

    request: int
    seq: int
    """At least the head that was asked for."""
    rows: tuple[HitRow, ...]
    exact: bool
    """No chunk was missed; otherwise a graph was used."""
    trace: Mapping[str, float]
    """What the search did, and how long it took (`anzoth.index.search.Trace`)."""


@dataclass(slots=True, frozen=True)
class Saved:
    """A snapshot was written. To every connection that has the store open."""

    tenant: str
    store: str
    generation: int
    """An older one will not do from here on: for the next `Open`."""
    seq: int


@dataclass(slots=True, frozen=True)
class Stats:
    """To every connection once a second: how much there is, and that the retriever lives."""

    stores: int
    loaded_stores: int
    loaded_bytes: int
    searches: int
    changes: int
    snapshots: int
    evictions: int
    quarantines: int
    """The last five: since it started."""


# --- gateway -> retriever -----------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Open:
    """From here on this connection may speak of the store. The payload is the tenant's data key."""

    request: int
    """Chosen by the gateway; unique among the unanswered ones of its connection."""
    tenant: str
    store: str
    dimensions: int
    analyzer: str
    generation: int = 0
    """The least that a snapshot must have; 0: none was ever reported."""


@dataclass(slots=True, frozen=True)
class Put:
    """A file was added, or replaced by this. The payload is its chunks."""

    request: int
    tenant: str
    store: str
    file: int
    seq: int
    num_chunks: int
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Values as OpenAI has them: texts, numbers, booleans."""


@dataclass(slots=True, frozen=True)
class Delete:
    request: int
    tenant: str
    store: str
    file: int
    seq: int


@dataclass(slots=True, frozen=True)
class SetAttributes:
    """A file has these attributes now, and no others. `Behind` unless all before `seq` is in."""

    request: int
    tenant: str
    store: str
    file: int
    seq: int
    attributes: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True, frozen=True)
class Advance:
    """All that is left of the changes after `after`, up to `seq`, was sent and answered.

    Without effect in another `life` than that of the `Behind`: some of it may be lost again.
    """

    request: int
    tenant: str
    store: str
    after: int
    seq: int
    life: int


@dataclass(slots=True, frozen=True)
class Search:
    """The `k` best chunks for a vector, a text's words, or both. The payload is the vector."""

    request: int
    tenant: str
    store: str
    head: int
    """The `seq` of the last change that the search must see."""
    k: int
    text: str | None = field(default=None, repr=False)
    filters: Mapping[str, Any] | None = field(default=None, repr=False)
    """In OpenAI's form."""
    fusion: Fusion = Fusion()
    timeout_ms: int | None = None
    """From the arrival of this frame."""


@dataclass(slots=True, frozen=True)
class Close:
    """The connection speaks of the store no more. No answer."""

    tenant: str
    store: str


@dataclass(slots=True, frozen=True)
class Forget:
    """Deletes a store, or all of a tenant's, from memory and disk, for every connection."""

    request: int
    tenant: str
    only_store: str | None = None
    """None: all of them."""


Change = Put | Delete | SetAttributes | Advance
Request = Open | Change | Search | Close | Forget
Answer = Done | Behind | Refused | Hits
Report = Hello | Saved | Stats
Message = Request | Answer | Report

_NAMES: dict[type[Any], str] = {
    Hello: "hello",
    Done: "done",
    Behind: "behind",
    Refused: "refused",
    Hits: "hits",
    Saved: "saved",
    Stats: "stats",
    Open: "open",
    Put: "put",
    Delete: "delete",
    SetAttributes: "set_attributes",
    Advance: "advance",
    Search: "search",
    Close: "close",
    Forget: "forget",
}
_TYPES = {name: message for message, name in _NAMES.items()}


def encode(message: Message, payload: bytes = b"") -> bytes:
    """One frame, ready for a socket."""
    tuples = ("rows",) if isinstance(message, Hits) else ()
    return frame(header(_NAMES[type(message)], message, tuples), payload)


class Decoder(FrameDecoder[Message]):
    """Turns a byte stream into messages. Raises FrameError on anything that is not a frame."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_decode_header, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES)


# --- checks -------------------------------------------------------------------------------------


def _decode_header(header: bytes) -> Message:
    try:
        fields = orjson.loads(header)
        message_type = _TYPES[fields.pop("t")]
        if message_type is Hello and fields["protocol"] != PROTOCOL:
            raise FrameError(f"the retriever speaks protocol {fields['protocol']}, not {PROTOCOL}")
        checked = {name: _FIELDS[name](value) for name, value in fields.items()}
        return message_type(**checked)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        # Not the error itself: it may quote what somebody asked.
        raise FrameError(f"not a message of protocol {PROTOCOL}: {type(error).__name__}") from None


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError
        return value

    return check


def _instance(*types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError
        return value

    return check


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def is_name(value: object) -> bool:
    """Whether a tenant or a store can be called so."""
    return type(value) is str and _NAME.fullmatch(value) is not None


def _name(value: Any) -> str:
    if not is_name(value):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if type(value) is not str or len(value.encode()) > MAX_QUERY_BYTES:
        raise ValueError
    return value


def _fusion(value: Any) -> Fusion:
    made = Fusion(**value)
    if made.method not in ("calibrated", "convex", "rrf"):
        raise ValueError
    for weight in (made.dense_weight, made.sparse_weight):
        _NUMBER(weight)
    return made


def _rows(value: Any) -> tuple[HitRow, ...]:
    if len(value) > MAX_HITS:
        raise ValueError
    return tuple(HitRow(*map(_CELL, row)) for row in value)


_NUMBER = _instance(int, float)
_CELL = _optional(_NUMBER)
_COUNT = _whole(0, _MAX_NUMBER)
_ID = _whole(1, _MAX_NUMBER)

_FIELDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("request", "file"), _ID),
    **dict.fromkeys(
        ("seq", "after", "life", "head", "generation", "protocol", "memory_bytes"), _COUNT
    ),
    **{f.name: _COUNT for f in dataclasses.fields(Stats)},
    **dict.fromkeys(("tenant", "store", "analyzer"), _name),
    "only_store": _optional(_name),
    "dimensions": _whole(1, MAX_DIMENSIONS),
    "num_chunks": _whole(0, MAX_FILE_CHUNKS),
    "k": _whole(1, MAX_HITS),
    "timeout_ms": _optional(_whole(0, MAX_TIMEOUT_MS)),
    "text": _optional(_text),
    "filters": _optional(_instance(dict)),
    "attributes": _instance(dict),
    "fusion": _fusion,
    "code": _instance(str),
    "message": _instance(str),
    "rows": _rows,
    "exact": _instance(bool),
    "trace": _instance(dict),
}
"""A field means the same in whichever message it is."""


# --- payloads -----------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Chunks:
    """What of a file is searched. `vectors`: float32, little-endian, end to end."""

    numbers: Sequence[int]
    texts: Sequence[str] = field(repr=False)
    vectors: bytes = field(repr=False)


def pack_chunks(chunks: Chunks) -> bytes:
    """The payload of a `Put`: numbers (int64), lengths of the texts in bytes (uint32), vectors,
    texts in UTF-8."""
    texts = [text.encode() for text in chunks.texts]
    numbers, lengths = array("q", chunks.numbers), array("I", map(len, texts))
    if sys.byteorder == "big":
        numbers.byteswap()
        lengths.byteswap()
    return b"".join((numbers.tobytes(), lengths.tobytes(), chunks.vectors, *texts))


def unpack_chunks(payload: bytes, num_chunks: int, dimensions: int) -> Chunks:
    """The inverse of `pack_chunks`. Raises FrameError."""
    numbers, lengths = array("q"), array("I")
    ends = list(accumulate((8 * num_chunks, 4 * num_chunks, 4 * num_chunks * dimensions)))
    if len(payload) < ends[-1]:
        raise FrameError(f"{len(payload)} bytes are not {num_chunks} chunks")
    numbers.frombytes(payload[: ends[0]])
    lengths.frombytes(payload[ends[0] : ends[1]])
    if sys.byteorder == "big":
        numbers.byteswap()
        lengths.byteswap()
    bounds = list(accumulate(lengths, initial=ends[2]))
    if bounds[-1] != len(payload) or (num_chunks and min(numbers) < 0):
        raise FrameError(f"{len(payload)} bytes are not {num_chunks} chunks")
    try:
        texts = [payload[start:end].decode() for start, end in pairwise(bounds)]
    except UnicodeDecodeError:
        raise FrameError("a text is not UTF-8") from None
    return Chunks(numbers.tolist(), texts, payload[ends[1] : ends[2]])
