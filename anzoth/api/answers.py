"""What do the parts look like that several answers share: ids, usage, calls, log probabilities?

Key order and presence follow OpenAI's own answers: SDKs validate some, people diff the rest.

Does not know: requests, streams.
"""

from __future__ import annotations

import math
import secrets
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anzoth.gateway.choices import TokenLogprob
from anzoth.gateway.models import ServedModel
from anzoth.text.tokenizer import Tokenizer
from anzoth.text.tool_calls import ToolCall, ToolCallFormat

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not have."""

_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(slots=True, frozen=True)
class Identity:
    """What every part of one answer repeats."""

    id: str
    created: int
    model: str
    fingerprint: str | None
    service_tier: str | None = None


class Answering(Protocol):
    """What makes an answer: a generation, or several."""

    @property
    def model(self) -> ServedModel: ...

    @property
    def fingerprint(self) -> str | None: ...

    @property
    def num_prompt_tokens(self) -> int: ...

    @property
    def num_cached_tokens(self) -> int:
        """Of the prompt's."""
        ...

    @property
    def num_completion_tokens(self) -> int: ...

    @property
    def num_reasoning_tokens(self) -> int:
        """Of the completion's."""
        ...


def identify(prefix: str, generation: Answering, service_tier: str | None = None) -> Identity:
    """A new identity; `prefix` is `chatcmpl` or `cmpl`.

    `service_tier`: the one it is served in, which is named when the request asked for any.
    """
    return Identity(
        id=f"{prefix}-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=generation.model.name,
        fingerprint=generation.fingerprint,
        service_tier=service_tier,
    )


def usage(counted: Answering) -> dict[str, Any]:
    """Final once the generation's `run` has returned."""
    prompt, completion = counted.num_prompt_tokens, counted.num_completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": counted.num_cached_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": counted.num_reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def merged(fields: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Further fields of one answer; what both have is an object."""
    both = fields.keys() & more.keys()
    return {**fields, **more, **{name: {**fields[name], **more[name]} for name in both}}


def tool_call(call: ToolCall, written: ToolCallFormat | None) -> dict[str, Any]:
    """A call as callers see it, under a new id that the model's template takes back."""
    has_short_id = written is not None and written.has_short_ids
    return {
        "id": _short_id() if has_short_id else f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _short_id() -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))


def chat_logprobs(entries: Sequence[TokenLogprob], tokenizer: Tokenizer) -> dict[str, Any]:
    """The `logprobs` object of a chat choice or chunk."""
    return {
        "content": [
            {
                **_chat_token(entry.token_id, entry.logprob, tokenizer),
                "top_logprobs": [
                    _chat_token(token_id, logprob, tokenizer) for token_id, logprob in entry.top
                ],
            }
            for entry in entries
        ],
        "refusal": None,
    }


def _chat_token(token_id: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    piece = tokenizer.token_bytes(token_id)
    return {
        "token": piece.decode("utf-8", "backslashreplace"),
        "logprob": _finite(logprob),
        "bytes": list(piece),
    }


def completion_logprobs(
    entries: Sequence[TokenLogprob], tokenizer: Tokenizer, first_offset: int = 0
) -> dict[str, Any]:
    """The four parallel lists of the older endpoint; `first_offset` is the echoed prompt's length.

    `top_logprobs` always holds the chosen token too, so a list may have one entry more than asked.
    """
    return {
        "tokens": [_completion_token(entry.token_id, tokenizer) for entry in entries],
        "token_logprobs": [_finite(entry.logprob) for entry in entries],
        "top_logprobs": [
            {
                _completion_token(token_id, tokenizer): _finite(logprob)
                for token_id, logprob in [*entry.top, (entry.token_id, entry.logprob)]
            }
            for entry in entries
        ],
        "text_offset": [first_offset + entry.text_offset for entry in entries],
    }


def _completion_token(token_id: int, tokenizer: Tokenizer) -> str:
    """Text, or `bytes:\\x…` for a token that is not whole characters: keys must differ."""
    piece = tokenizer.token_bytes(token_id)
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB) if math.isfinite(logprob) else LEAST_LOGPROB
