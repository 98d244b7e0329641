"""A real retriever process for tests, and a peer that speaks its frames as a gateway would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from anzoth.index_frames import (
    Answer,
    Chunks,
    Decoder,
    Delete,
    Done,
    Forget,
    Hello,
    Hits,
    Message,
    Open,
    Put,
    Saved,
    Search,
    Stats,
    encode,
    pack_chunks,
)

DIMENSIONS = 8
START_TIMEOUT_S = 60.0


@dataclass
class Retriever:
    """One folder, and the process that serves it."""

    folder: Path
    memory_bytes: int = 1 << 30
    save_after_s: float = 3600.0
    """By default no snapshot is written before the end."""
    log: Path | None = None
    """Where all that it says is added. None: it says nothing."""
    process: subprocess.Popen[bytes] | None = None
    generation: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def socket_path(self) -> Path:
        return self.folder / "retriever.sock"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    def start(self) -> None:
        with contextlib.nullcontext() if self.log is None else self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "anzoth.index.process"],
                stdin=subprocess.PIPE,
                stderr=log,
            )
        settings = {
            "socket": str(self.socket_path),
            "folder": str(self.index),
            "memory_bytes": self.memory_bytes,
            "save_after_s": self.save_after_s,
            "log_level": "critical" if self.log is None else "debug",
        }
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(settings) + b"\n")
        self.process.stdin.flush()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status. Idempotent."""
        process = self.process
        assert process is not None
        assert process.stdin is not None
        process.send_signal(number)
        status = process.wait(60)
        process.stdin.close()
        if number == signal.SIGKILL:
            self.socket_path.unlink(missing_ok=True)
        return status

    def restart(self, number: signal.Signals) -> None:
        self.end(number)
        self.start()


class Peer:
    """One connection, whose requests may be made at the same time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.saved: list[Saved] = []
        self.stats: list[Stats] = []
        self.hello: Hello | None = None
        self.closed = asyncio.Event()
        self._reader = reader
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}

    async def read(self) -> None:
        decoder = Decoder()
        try:
            while data := await self._reader.read(1 << 16):
                for message, _ in decoder.feed(data):
                    if isinstance(message, Saved):
                        self.saved.append(message)
                    elif isinstance(message, Stats):
                        self.stats.append(message)
                    elif isinstance(message, Hello):
                        self.hello = message
                    else:
                        self._answers.pop(message.request).set_result(message)  # type: ignore[union-attr, arg-type]  # an answer
        except ConnectionError:
            pass
        self.closed.set()
        for answer in self._answers.values():
            answer.cancel()

    async def ask(self, message: type[Any], *values: Any, payload: bytes = b"", **more: Any) -> Any:
        """The answer to a message with these fields behind its number."""
        request = next(self._numbers)
        answer = self._answers[request] = asyncio.get_running_loop().create_future()
        self.send(message(request, *values, **more), payload)
        async with asyncio.timeout(60):
            return await answer

    def send(self, message: Message, payload: bytes = b"") -> None:
        self.writer.write(encode(message, payload))

    # --- short forms ----------------------------------------------------------------------------

    async def open(self, tenant: str, store: str, generation: int = 0, **other: Any) -> Any:
        options = {"dimensions": DIMENSIONS, "analyzer": "plain", **other}
        key = options.pop("key", key_of(tenant))
        return await self.ask(
            Open, tenant, store, **options, generation=generation, payload=key
        )  # fmt: skip

    async def put(
        self,
        tenant: str,
        store: str,
        file: int,
        seq: int,
        chunks: Sequence[tuple[int, str, Sequence[float]]],
        attributes: Mapping[str, Any] | None = None,
    ) -> Any:
        payload = pack_chunks(chunks_of(chunks))
        return await self.ask(
            *(Put, tenant, store, file, seq, len(chunks), attributes or {}), payload=payload
        )

    async def delete(self, tenant: str, store: str, file: int, seq: int) -> Any:
        return await self.ask(Delete, tenant, store, file, seq)

    async def search(
        self,
        tenant: str,
        store: str,
        head: int,
        text: str | None = None,
        vector: Sequence[float] | None = None,
        k: int = 50,
        **more: Any,
    ) -> Any:
        payload = b"" if vector is None else np.asarray(vector, "<f4").tobytes()
        return await self.ask(Search, tenant, store, head, k, text, payload=payload, **more)

    async def forget(self, tenant: str, store: str | None = None) -> Done:
        return await self.ask(Forget, tenant, store)


@asynccontextmanager
async def connected(retriever: Retriever) -> AsyncIterator[Peer]:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(str(retriever.socket_path))
            break
        except OSError:
            assert retriever.process is not None
            assert retriever.process.poll() is None, "the retriever ended"
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)
    peer = Peer(reader, writer)
    reading = asyncio.create_task(peer.read())
    try:
        yield peer
    finally:
        writer.close()
        reading.cancel()
        await asyncio.wait({reading})


def key_of(tenant: str) -> bytes:
    return tenant.encode().ljust(32, b".")


def unit(number: int) -> list[float]:
    """A direction of the number's own."""
    return np.random.default_rng(number).standard_normal(DIMENSIONS).tolist()


def chunks_of(chunks: Sequence[tuple[int, str, Sequence[float]]]) -> Chunks:
    vectors = np.array([vector for _, _, vector in chunks], "<f4").tobytes()
    return Chunks([number for number, _, _ in chunks], [text for _, text, _ in chunks], vectors)


def numbers(answer: Any) -> list[int]:
    """Of the chunks that were found; what is no answer to that fails."""
    assert isinstance(answer, Hits), answer
    return [row.number for row in answer.rows]
