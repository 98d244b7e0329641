"""What do the gateway and the engine say to each other?

Each message is a frame (`framing`). Its payload is little-endian: the int32 token ids of a `Submit`
or `Embed`, the float32 vectors of an `Embedded`; empty otherwise.

Every connection begins with the engine's `Hello`; a peer of another `PROTOCOL` is refused there, so
no other message carries a version. One `Step` frame carries the new tokens of all sequences of one
engine step: the gateway's work per step is one loop.

Does not know: sockets, processes, tensors, keys or HTTP. Nothing here is ever unpickled.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import orjson

from anzoth.framing import FrameDecoder, FrameError, frame, header

PROTOCOL = 8

MAX_HEADER_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = 64 << 20
MAX_GRAMMAR_BYTES = 128 << 10
"""Of `SamplingParams.grammar`, in UTF-8. How deep a grammar can nest follows from its size, and how
much stack its compilation takes from that (see `scheduler/constraint.py`)."""

MAX_TIMEOUT_MS = 86_400_000
"""Of `Submit.timeout_ms`: a day."""

FinishReason = Literal["stop", "length", "abort", "error", "deadline"]
RefusalCode = Literal["capacity", "late", "too_long", "invalid"]
"""`late`: it could not start before its deadline."""


@dataclass(slots=True, frozen=True)
class SamplingParams:
    """How the next token is chosen. The gateway fills every field; the engine re-checks ranges."""

    temperature: float = 1.0
    """0 means greedy."""
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    """Share of what the others left, tokens of the most usual surprise first."""
    seed: int = 0
    """64-bit. Noise is a function of (seed, choice, position), never of the batch."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    num_logprobs: int | None = None
    """None: no logprobs. 0: the chosen token's only. k: also the k most likely."""
    num_prompt_logprobs: int | None = None
    """The same for the tokens of the prompt, before any bias or penalty (see `PromptRow`)."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    """Beyond the model's own end-of-sequence ids."""
    grammar: str | None = field(default=None, repr=False)
    """What the output must follow, in llguidance's own form: a JSON object with `grammars`."""


# --- engine -> gateway ------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Hello:
    """First frame on every connection: who this engine is and what it can hold."""

    protocol: int
    model: str
    max_model_tokens: int
    """Prompt and output together; never more than the KV cache can hold for one sequence."""
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    num_blocks: int
    block_size_tokens: int
    dtype: str
    device: str
    fingerprint: str
    """Changes when weights, dtype or code change: reported to clients as `system_fingerprint`."""
    dimensions: int | None = None
    """Of the vectors that this engine makes of texts, or 1: it scores pairs of a query and a
    document. None: it generates text."""
    vector_space: str | None = None
    """Of an engine that makes vectors: those of two engines can be compared where it is the same.
    It follows weights, tokenizer and pooling, and nothing else."""


@dataclass(slots=True, frozen=True)
class Admitted:
    """The request is in the engine's queue: from here on it ends only with finished choices."""

    request: int


@dataclass(slots=True, frozen=True)
class Embedded:
    """The vectors of some inputs of one `Embed`, in the payload in this order.

    They come as they are computed; when every input has come, the request is over.
    """

    request: int
    inputs: tuple[int, ...]


@dataclass(slots=True, frozen=True)
class Failed:
    """An `Embed` could not be computed: nothing more comes of it."""

    request: int


@dataclass(slots=True, frozen=True)
class Refused:
    """The request never entered the queue."""

    request: int
    code: RefusalCode
    message: str
    retry_after_ms: int | None = None


@dataclass(slots=True, frozen=True)
class Purged:
    """The answer to a `Purge`: from here on no request finds any of it."""

    purge: int
    num_blocks: int
    """KV blocks that were zeroed."""
    num_blocks_in_use: int
    """KV blocks of sequences that still run: zeroed when those end."""


class Row(NamedTuple):
    """One new token (or one ending) of one choice."""

    request: int
    choice: int
    token: int | None
    """None when a choice ends without a token (abort, error, deadline)."""
    finish: FinishReason | None
    logprob: float | None
    top_logprobs: list[tuple[int, float]] | None
    cached_tokens: int | None
    """On a choice's first row: prompt tokens that were not computed again. None there, too, if the
    deadline passed before any token of the choice was computed."""
    message: str | None = None
    """With `error`: what in the request made it impossible to go on, in words for the client. None:
    it was no fault of the request's."""


RowFields = tuple[
    int,
    int,
    int | None,
    FinishReason | None,
    float | None,
    list[tuple[int, float]] | None,
    int | None,
    str | None,
]
row_of: Callable[[RowFields], Row] = partial(tuple.__new__, Row)
"""The `Row` of these fields, in 0.2 instead of 0.4 µs: one is made for each token of each step."""


class PromptRow(NamedTuple):
    """How likely some tokens of a choice's prompt are, each behind those before it.

    The runs of one choice follow each other, begin with the second token (nothing tells how likely
    the first is) and come before, or with, its first `Row`.
    """

    request: int
    choice: int
    logprobs: list[float]
    top_logprobs: list[list[tuple[int, float]]]


@dataclass(slots=True, frozen=True)
class Stats:
    """A snapshot of the engine; sent with every step, and once a second when idle."""

    step: int
    running: int
    waiting: int
    free_blocks: int
    cached_blocks: int
    """Free to be taken, but still holding a reusable prefix."""
    total_blocks: int
    preemptions: int
    step_s: float
    """Duration of the latest step."""
    batch_tokens: int
    """Tokens computed in the latest step."""
    oldest_running_s: float
    drafted_tokens: int = 0
    """Drafts computed since the engine started."""
    accepted_tokens: int = 0
    """Of those, the ones that turned out right: each saved its sequence a step."""


@dataclass(slots=True, frozen=True)
class Step:
    """All new tokens of one engine step. `rows` may be empty: then it is a heartbeat."""

    stats: Stats
    rows: tuple[Row, ...]
    prompt_rows: tuple[PromptRow, ...] = ()


# --- gateway -> engine ------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Submit:
    """Generate `num_choices` continuations of the prompt in the payload."""

    request: int
    """Chosen by the gateway; unique on its connection."""
    cache_salt: str = field(repr=False)
    """Secret of the tenant (hex): the root of its prefix-cache hash chain. Never from a client."""
    tenant: str
    """Opaque tag for fairness between tenants."""
    num_choices: int
    max_tokens: int
    """Per choice; prompt + max_tokens never exceeds `Hello.max_model_tokens`. 0 only scores the
    prompt, which needs `num_prompt_logprobs` and room for one token."""
    sampling: SamplingParams
    tags: tuple[str, ...] = ()
    """Opaque ids of the documents in the prompt, for a later `Purge`."""
    priority: int = 0
    """-2 of a batch; else the service tier: -1 flex, 0 default, 1 priority."""
    timeout_ms: int | None = None
    """From the arrival of this frame: later than that nobody waits for the answer."""


@dataclass(slots=True, frozen=True)
class Embed:
    """Make one vector of each input in the payload. Answered by `Refused`, or by `Embedded`.

    A reranker's inputs are pairs, and the vector of a pair has one number: its score.
    """

    request: int
    """As in `Submit`."""
    tenant: str
    lengths: tuple[int, ...]
    """Tokens of each input; the inputs lie end to end."""
    dimensions: int | None = None
    """Keep only so many leading numbers of each vector, at the length of the whole."""
    second_at: tuple[int, ...] = ()
    """Where in each input the tokens of the second type begin; empty: nowhere in any."""
    background: bool = False
    """Nobody waits for it: it is computed in what the others leave."""


@dataclass(slots=True, frozen=True)
class Abort:
    """Stop a request (all choices, or one): its blocks are free within one step. No answer."""

    request: int
    choice: int | None = None


@dataclass(slots=True, frozen=True)
class Purge:
    """Delete what is cached for some tenants. Answered by `Purged`; running requests go on."""

    purge: int
    """Chosen by the gateway; unique on its connection."""
    cache_salts: tuple[str, ...] = field(repr=False)
    """As in `Submit`: which tenants."""
    tags: tuple[str, ...] | None = None
    """Only what was computed from a prompt with one of these. None: everything."""


Message = (
    Hello | Admitted | Embedded | Failed | Refused | Purged | Step | Submit | Embed | Abort | Purge
)

_NAMES: dict[type[Any], str] = {
    Hello: "hello",
    Admitted: "admitted",
    Embedded: "embedded",
    Failed: "failed",
    Refused: "refused",
    Purged: "purged",
    Step: "step",
    Submit: "submit",
    Embed: "embed",
    Abort: "abort",
    Purge: "purge",
}


def encode(message: Message, payload: bytes = b"") -> bytes:
    """One frame, ready for a socket."""
    tuples = ("rows", "prompt_rows") if isinstance(message, Step) else ()
    return frame(header(_NAMES[type(message)], message, tuples), payload)


class Decoder(FrameDecoder[Message]):
    """Turns a byte stream into messages. Raises FrameError on anything that is not a frame."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_decode_header, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES)


def _decode_header(header: bytes) -> Message:
    try:
        fields = orjson.loads(header)
        return _BUILDERS[fields.pop("t")](fields)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise FrameError(f"not a message of protocol {PROTOCOL}: {error}") from error


def _build_hello(fields: dict[str, Any]) -> Hello:
    if fields.get("protocol") != PROTOCOL:
        raise FrameError(f"engine speaks protocol {fields.get('protocol')}, this is {PROTOCOL}")
    fields["eos_token_ids"] = tuple(fields["eos_token_ids"])
    return Hello(**fields)


def _build_step(fields: dict[str, Any]) -> Step:
    return Step(
        Stats(**fields["stats"]),
        tuple(Row(*row) for row in fields["rows"]),
        tuple(PromptRow(*row) for row in fields["prompt_rows"]),
    )


def _build_submit(fields: dict[str, Any]) -> Submit:
    sampling = fields["sampling"]
    sampling["logit_bias"] = tuple((int(i), float(b)) for i, b in sampling["logit_bias"])
    sampling["stop_token_ids"] = tuple(sampling["stop_token_ids"])
    fields["sampling"] = SamplingParams(**sampling)
    fields["tags"] = tuple(fields["tags"])
    return Submit(**fields)


def _build_embedded(fields: dict[str, Any]) -> Embedded:
    return Embedded(fields["request"], tuple(fields["inputs"]))


def _build_embed(fields: dict[str, Any]) -> Embed:
    fields["lengths"] = tuple(fields["lengths"])
    fields["second_at"] = tuple(fields["second_at"])
    return Embed(**fields)


def _build_purge(fields: dict[str, Any]) -> Purge:
    fields["cache_salts"] = tuple(fields["cache_salts"])
    if fields["tags"] is not None:
        fields["tags"] = tuple(fields["tags"])
    return Purge(**fields)


_BUILDERS: dict[str, Any] = {  # values are constructors of unrelated classes
    "hello": _build_hello,
    "admitted": lambda fields: Admitted(**fields),
    "embedded": _build_embedded,
    "failed": lambda fields: Failed(**fields),
    "refused": lambda fields: Refused(**fields),
    "purged": lambda fields: Purged(**fields),
    "step": _build_step,
    "submit": _build_submit,
    "embed": _build_embed,
    "abort": lambda fields: Abort(**fields),
    "purge": _build_purge,
}


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """Token ids as the payload of a `Submit` or an `Embed`."""
    packed = array("i", token_ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_token_ids(payload: bytes) -> list[int]:
    """The inverse of `pack_token_ids`; raises FrameError on a broken payload."""
    if len(payload) % 4:
        raise FrameError(f"{len(payload)} bytes are not a whole number of int32 token ids")
    unpacked = array("i")
    unpacked.frombytes(payload)
    if sys.byteorder == "big":
        unpacked.byteswap()
    return unpacked.tolist()
