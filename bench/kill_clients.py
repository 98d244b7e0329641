"""The clients of `kill_ledger.py`: what does each of them see of its requests?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field

from api_harness import MODEL

from kill_parts import prompt_of

_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Seen:
    """What one client saw of one request."""

    number: int
    max_tokens: int
    status: int | None = None
    received: int = 0
    is_whole: bool = False


@dataclass(slots=True)
class Load:
    """Clients that ask again and again until told to stop."""

    address: tuple[str, int]
    keys: list[str]
    random: random.Random
    seen: list[Seen] = field(default_factory=list)
    is_over: bool = False

    async def run(self, num_clients: int) -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(num_clients):
                group.create_task(self._client(self.keys[client % len(self.keys)]))

    async def _client(self, key: str) -> None:
        while not self.is_over:
            seen = Seen(len(self.seen), self.random.randint(1, 40))
            self.seen.append(seen)
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._ask(key, seen)
            if seen.status != 200:
                await asyncio.sleep(0.02)

    async def _ask(self, key: str, seen: Seen) -> None:
        kind = self.random.random()
        is_streamed = kind < 0.85
        leaves_after = self.random.randint(0, seen.max_tokens) if kind < 0.1 else None
        body = json.dumps(
            {"model": MODEL, "prompt": prompt_of(seen.number), "max_tokens": seen.max_tokens}
            | {"stream": is_streamed, "user": str(seen.number)}
        ).encode()
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 "):
                raise RuntimeError(f"an answer without a head: {head[:2000]!r}")
            seen.status = int(head.split(b" ", 2)[1])
            if seen.status != 200:
                return
            if not is_streamed:
                answer = json.loads(await _whole_body(reader, head))
                seen.received, seen.is_whole = len(answer["choices"][0]["text"]), True
                return
            async for event in _events(reader):
                if event == b"[DONE]":
                    seen.is_whole = True
                else:
                    chunk = json.loads(event)
                    seen.received += sum(len(choice["text"]) for choice in chunk.get("choices", ()))
                if leaves_after is not None and seen.received >= leaves_after:
                    return
        finally:
            writer.transport.abort()


async def _whole_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    return await reader.readexactly(length)


async def _events(reader: asyncio.StreamReader):
    """The payloads of the whole events: what of the last one is missing was not received."""
    data = b""
    while size := int(await reader.readline() or b"0", 16):
        data += (await reader.readexactly(size + 2))[:-2]
        *events, data = data.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                yield event.removeprefix(b"data: ")
