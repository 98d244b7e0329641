"""How is a line of a batch asked as if it had come over HTTP?

    line ─▶ a request without a connection ─▶ the application ─▶ the whole answer

So it passes what every request passes: grants, limits, handlers, usage. Only the key is not checked
by its secret, which nobody keeps.

Does not know: which line is next, or what becomes of the answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from anzoth.api.app import App
from anzoth.api.fields import unsupported
from anzoth.errors import AnzothError, InvalidValue, PayloadTooLarge
from anzoth.gateway.batches import answers
from anzoth.gateway.principal import Address, Principal
from anzoth.http.exchange import mint_request_id
from anzoth.http.messages import Headers, Request, Response
from anzoth.http.render import error_response


class BatchLines:
    """Asks one application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def ask(
        self,
        principal: Principal,
        endpoint: str,
        body: Mapping[str, Any],
        address: Address | None,
    ) -> answers.Answer:
        """The answer to a POST of `body`, which seems to come from `address`."""
        try:
            request = _request(endpoint, orjson.dumps(body), address)
        except TypeError:  # more is read than can be written
            return _refused(None, InvalidValue("The body of this request is nested too deeply."))
        if body.get("stream"):
            refused = unsupported("stream", "is not for batches: leave it out")
            return _refused(request.request_id, refused)
        call = self._app.call_of_batch(request, principal)
        reply = await self._app.serve(call)
        assert isinstance(reply, Response), "what is not asked to stream does not"
        usage = call.usage
        if usage is None:
            return answers.Answer(request.request_id, reply.status, reply.body, call.failure)
        return answers.Answer(
            request.request_id,
            reply.status,
            reply.body,
            call.failure,
            was_lost=usage.finish_reason == "error",
            input_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        )


def _refused(request_id: str | None, error: AnzothError) -> answers.Answer:
    return answers.Answer(request_id, error.status, error_response(error).body, error)


def _request(endpoint: str, content: bytes, address: Address | None) -> Request:
    async def read_body(limit_bytes: int) -> bytes:
        if len(content) > limit_bytes:
            raise PayloadTooLarge(f"The body is larger than {limit_bytes} bytes.")
        return content

    async def stream_body(limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
        yield await read_body(limit_bytes)

    return Request(
        method="POST",
        path=endpoint,
        query="",
        headers=Headers([]),
        request_id=mint_request_id(),
        peer="batch" if address is None else str(address),
        received_at_s=time.monotonic(),
        read_body=read_body,
        stream_body=stream_body,
    )
