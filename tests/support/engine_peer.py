"""An engine without a model: speaks the frames of a real one over a real Unix socket.

What it says is a script: for each choice, the rows of its tokens. Everything else is as in the real
engine: Hello first, Admitted or Refused, then one Step frame with one row per running choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.frames import (
    PROTOCOL,
    Abort,
    Admitted,
    Decoder,
    FinishReason,
    Hello,
    Message,
    Refused,
    Row,
    Stats,
    Step,
    Submit,
    encode,
    unpack_token_ids,
)

HELLO = Hello(
    protocol=PROTOCOL,
    model="scripted",
    max_model_tokens=256,
    vocab_size=400,
    eos_token_ids=(1,),
    num_blocks=64,
    block_size_tokens=16,
    dtype="bfloat16",
    device="cpu",
    fingerprint="fp_scripted",
)


@dataclass(frozen=True)
class Said:
    """One token of a script."""

    token: int | None
    finish: FinishReason | None = None
    logprob: float | None = None
    top: list[tuple[int, float]] | None = None


Script = Callable[[Submit, list[int], int], list[Said]]
"""What choice number `int` of a request says to a prompt."""


def stats(step: int) -> Stats:
    return Stats(step, 1, 0, 60, 2, 64, 0, 0.001, 1, 0.0)


@dataclass
class EnginePeer:
    """Serves one connection after another until `stop`."""

    path: Path
    script: Script
    hello: Hello = HELLO
    refusal: Refused | None = None
    """Answers every Submit, instead of Admitted."""
    pause_after: int | None = None
    """Steps of each request before it waits for `go_on`."""
    cached_tokens: int = 0
    greets: bool = True
    admits: bool = True
    submits: list[tuple[Submit, list[int]]] = field(default_factory=list)
    aborts: list[Abort] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed = asyncio.Condition()
        self.num_accepted = 0
        """Connections so far. The other side may see one as made before this side does."""
        self._go_on = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._step = 0

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        """As when the process is killed: every connection breaks, nobody listens."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()
        for writer in list(self._writers):
            writer.transport.abort()
        self.path.unlink(missing_ok=True)

    def go_on(self) -> None:
        self._go_on.set()

    def send(self, message: Message) -> None:
        for writer in self._writers:
            writer.write(encode(message))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something that arrived makes `condition` true."""
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(condition)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder()
        self._writers.add(writer)
        self.num_accepted += 1
        if self.greets:
            writer.write(encode(self.hello))
        try:
            while data := await reader.read(65536):
                for message, payload in decoder.feed(data):
                    self._received(writer, message, payload)
                async with self.changed:
                    self.changed.notify_all()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _received(self, writer: asyncio.StreamWriter, message: Message, payload: bytes) -> None:
        if isinstance(message, Abort):
            self.aborts.append(message)
            if message.choice is None and (task := self._running.pop(message.request, None)):
                task.cancel()
            return
        assert isinstance(message, Submit)
        prompt = unpack_token_ids(payload)
        self.submits.append((message, prompt))
        if self.refusal is not None:
            refusal = self.refusal
            writer.write(
                encode(
                    Refused(message.request, refusal.code, refusal.message, refusal.retry_after_ms)
                )
            )
        elif self.admits:
            writer.write(encode(Admitted(message.request)))
            self._running[message.request] = asyncio.create_task(
                self._generate(writer, message, prompt)
            )

    async def _generate(
        self, writer: asyncio.StreamWriter, submit: Submit, prompt: list[int]
    ) -> None:
        scripts = [self.script(submit, prompt, i) for i in range(submit.num_choices)]
        for position in range(max(map(len, scripts))):
            if position == self.pause_after:
                await self._go_on.wait()
            rows = []
            for choice, said in enumerate(scripts):
                if position < len(said):
                    rows.append(self._row(submit.request, choice, position, said[position]))
            self._step += 1
            writer.write(encode(Step(stats(self._step), tuple(rows))))
            await asyncio.sleep(0)

    def _row(self, request: int, choice: int, position: int, said: Said) -> Row:
        cached = self.cached_tokens if position == 0 else None
        return Row(request, choice, said.token, said.finish, said.logprob, said.top, cached)
