"""An OpenAI-compatible server that says what a test scripts, down to where its bytes break off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from anzoth.backend_config import BackendConfig

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
}
SECRET = "sk-the-operators-own-key"
KEY_VARIABLE = "ANZOTH_TEST_BACKEND_KEY"

Failure = Literal["reset", "hang"]


@dataclass
class Script:
    """One answer: bytes in pieces, and what follows them."""

    pieces: Sequence[bytes] = ()
    then: Failure | None = None
    """None: the connection is closed in order."""


@dataclass
class Asked:
    path: str
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)


def head(status: int = 200, content_type: str = "application/json", **fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def chat_chunk(delta: dict[str, Any], ending: str | None = None, index: int = 0) -> bytes:
    return event(
        {
            "id": "theirs",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "their-model-0613",
            "system_fingerprint": "theirs",
            "choices": [{"index": index, "delta": delta, "finish_reason": ending}],
        }
    )


def chat_stream(*texts: str, usage: dict[str, Any] | None = USAGE) -> list[bytes]:
    return [
        head(content_type="text/event-stream"),
        b": welcome\n\n",
        chat_chunk({"role": "assistant", "content": ""}),
        *(chat_chunk({"content": text}) for text in texts),
        chat_chunk({}, "stop"),
        *([event({"choices": [], "usage": usage})] if usage else []),
        b"data: [DONE]\n\n",
    ]


def chat_whole(text: str, usage: dict[str, Any] | None = USAGE) -> list[bytes]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "their_secret": 1},
        "finish_reason": "stop",
    }
    answer = {"id": "theirs", "model": "their-model-0613", "choices": [choice], "usage": usage}
    return [head(), orjson.dumps(answer)]


def error(status: int, message: str = f"account 42: {SECRET}", **more: Any) -> Script:
    body = {"error": {"message": message, "type": "t", "param": None, "code": None, **more}}
    return Script([head(status), orjson.dumps(body)])


class OpenaiPeer:
    """Answers each request with what `script` makes of it; keeps what it was asked."""

    def __init__(self) -> None:
        self.script: Callable[[Asked], Script] = lambda asked: Script(
            chat_stream("one ", "two ", "three")
            if asked.body.get("stream")
            else chat_whole("one two three")
        )
        self.asked: list[Asked] = []
        self.num_left = 0
        """Connections that the other side ended while this one still had to answer."""
        self.left = asyncio.Event()
        self.port = 0
        self._hanging: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[OpenaiPeer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            for task in self._hanging:
                task.cancel()
            server.close()
            await server.wait_closed()

    def config(self, name: str = "far", **more: Any) -> BackendConfig:
        given = {
            "base_url": f"http://127.0.0.1:{self.port}/v1",
            "models": ("big",),
            "api_key_env": KEY_VARIABLE,
            **more,
        }
        return BackendConfig(name, **given)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._hanging.add(task)
        try:
            raw = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in raw[1:] if line)
            }
            body = orjson.loads(await reader.readexactly(int(headers["content-length"])))
            asked = Asked(raw[0].split()[1], headers, body)
            self.asked.append(asked)
            script = self.script(asked)
            for piece in script.pieces:
                writer.write(piece)
                await writer.drain()
            if script.then == "hang":
                await reader.read()
                self.num_left += 1
                self.left.set()
            elif script.then == "reset":
                writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._hanging.discard(task)
            writer.close()
