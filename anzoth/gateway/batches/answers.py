"""What does a request of a batch come back with, and how does that stand in the batch's files?

    {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error": null}
    {"id", "custom_id", "response": null, "error": {"code", "message"}}         it was never made

Answers with a status of 400 or more, and requests that were never made, stand in the error file,
all others in the output file.

Does not know: how a request is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from anzoth.db.store.batch_claim_rows import AnswerRow
from anzoth.errors import AnzothError
from anzoth.gateway.batches.input_lines import InputLine
from anzoth.gateway.principal import Address, Principal
from anzoth.gateway.tenant_crypt import Label, TenantCipher

_KIND = "batch.answer"

NEVER_MADE = {
    "batch_expired": "This request could not be made before the batch expired.",
    "batch_cancelled": "The batch was cancelled before this request was answered.",
}


@dataclass(slots=True, frozen=True)
class Answer:
    """What a handler says to one request."""

    request_id: str | None
    """None: it was refused before it was made."""
    status: int
    body: bytes = field(repr=False)
    """JSON."""
    failure: AnzothError | None = None
    was_lost: bool = False
    """With the engine that computed it."""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


Ask = Callable[[Principal, str, Mapping[str, Any], Address | None], Awaitable[Answer]]
"""Makes one request of a key at an endpoint, with a body, as it would come over HTTP from an
address, and reads the whole answer."""


def answered(cipher: TenantCipher, batch_id: str, line: InputLine, answer: Answer) -> AnswerRow:
    response = {
        "status_code": answer.status,
        "request_id": answer.request_id,
        "body": orjson.Fragment(answer.body),
    }
    return AnswerRow(
        line.number,
        answer.status >= 400,
        _sealed(cipher, batch_id, line, response, None),
        *(answer.input_tokens, answer.cached_tokens, answer.output_tokens),
        answer.reasoning_tokens,
    )


def never_made(cipher: TenantCipher, batch_id: str, line: InputLine, code: str) -> AnswerRow:
    """`code`: one of NEVER_MADE."""
    error = {"code": code, "message": NEVER_MADE[code]}
    return AnswerRow(line.number, True, _sealed(cipher, batch_id, line, None, error))


def _sealed(
    cipher: TenantCipher,
    batch_id: str,
    line: InputLine,
    response: Mapping[str, Any] | None,
    error: Mapping[str, str] | None,
) -> bytes:
    content = orjson.dumps(
        {
            "id": f"batch_req_{secrets.token_hex(12)}",
            "custom_id": line.custom_id,
            "response": response,
            "error": error,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )
    return cipher.seal(content, Label(_KIND, batch_id, line.number))


def file_line(cipher: TenantCipher, batch_id: str, number: int, sealed: bytes) -> bytes:
    """Raises CannotOpen."""
    return cipher.open(sealed, Label(_KIND, batch_id, number))
