"""An engine without a model: speaks the frames of a real one over a real Unix socket.

What it says is a script: for each choice, the rows of its tokens. Everything else is as in the real
engine: Hello first, Admitted or Refused, then one Step frame with one row per running choice.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from anzoth.frames import (
    PROTOCOL,
    Abort,
    Admitted,
    Decoder,
    Embed,
    Embedded,
    Failed,
    FinishReason,
    Hello,
    Message,
    PromptRow,
    Purge,
    Purged,
    Refused,
    Row,
    Stats,
    Step,
    Submit,
    encode,
    unpack_token_ids,
)

DIMENSIONS = 4


def vector_of(token_ids: list[int]) -> list[float]:
    """What a scripted embedding engine makes of a text: different for different texts."""
    return [len(token_ids), sum(token_ids), token_ids[0] / 8, -0.5]


def score_of(token_ids: list[int]) -> float:
    """What a scripted reranker makes of a pair: more, the shorter it is."""
    return 1 / len(token_ids)


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
    message: str | None = None


NOTHING = Said(None, "deadline")
"""The end of a choice for which nothing was computed."""

Script = Callable[[Submit, list[int], int], list[Said]]
"""What choice number `int` of a request says to a prompt."""


EMBEDDING_HELLO = replace(
    HELLO,
    max_model_tokens=64,
    eos_token_ids=(),
    num_blocks=0,
    dimensions=DIMENSIONS,
    vector_space="scripted",
)

RERANK_HELLO = replace(EMBEDDING_HELLO, dimensions=1)


def stats(step: int) -> Stats:
    return Stats(step, 1, 0, 60, 2, 64, 0, 0.001, 1, 0.0)


def prompt_scores(submit: Submit, prompt: list[int]) -> tuple[PromptRow, ...]:
    """Log probabilities that tell tokens apart, in two runs, if the request wants any."""
    num_top = submit.sampling.num_prompt_logprobs
    if num_top is None:
        return ()
    logprobs = [-0.125 * token for token in prompt[1:]]
    tops = [[(other, -0.5 * other) for other in range(4, 4 + num_top)] for _ in logprobs]
    half = len(logprobs) // 2
    return tuple(
        PromptRow(submit.request, choice, logprobs[part], tops[part])
        for choice in range(submit.num_choices)
        for part in (slice(0, half), slice(half, None))
    )


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
    tokens_per_step: int = 1
    """Of each choice, as when drafts were right."""
    cached_tokens: int = 0
    greets: bool = True
    admits: bool = True
    submits: list[tuple[Submit, list[int]]] = field(default_factory=list)
    embeds: list[tuple[Embed, list[list[int]]]] = field(default_factory=list)
    embeds_fail: bool = False
    aborts: list[Abort] = field(default_factory=list)
    purges: list[Purge] = field(default_factory=list)
    answers_purges: bool = True
    vector_of: Callable[[list[int]], list[float]] = vector_of
    score_of: Callable[[list[int]], float] = score_of

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
        if isinstance(message, Purge):
            self.purges.append(message)
            if self.answers_purges:
                writer.write(encode(Purged(message.purge, 3, len(self._running))))
            return
        if isinstance(message, Embed):
            self._embed(writer, message, unpack_token_ids(payload))
            return
        assert isinstance(message, Submit)
        prompt = unpack_token_ids(payload)
        self.submits.append((message, prompt))
        if self.refusal is not None:
            writer.write(encode(replace(self.refusal, request=message.request)))
        elif self.admits:
            writer.write(encode(Admitted(message.request)))
            self._running[message.request] = asyncio.create_task(
                self._generate(writer, message, prompt)
            )

    def _embed(self, writer: asyncio.StreamWriter, embed: Embed, token_ids: list[int]) -> None:
        """The vectors come last text first, one frame each: the order is the gateway's to keep."""
        texts = []
        for length in embed.lengths:
            texts.append(token_ids[:length])
            token_ids = token_ids[length:]
        self.embeds.append((embed, texts))
        if self.refusal is not None:
            writer.write(encode(replace(self.refusal, request=embed.request)))
        elif self.embeds_fail:
            writer.write(encode(Failed(embed.request)))
        elif self.admits:
            for index in reversed(range(len(texts))):
                vector = self.vector_of(texts[index])[: embed.dimensions]
                if self.hello.dimensions == 1:
                    vector = [self.score_of(texts[index])]
                payload = struct.pack(f"<{len(vector)}f", *vector)
                writer.write(encode(Embedded(embed.request, (index,)), payload))

    async def _generate(
        self, writer: asyncio.StreamWriter, submit: Submit, prompt: list[int]
    ) -> None:
        scripts = [self.script(submit, prompt, i) for i in range(submit.num_choices)]
        size = self.tokens_per_step
        for step in range(-(-max(map(len, scripts)) // size)):
            if step == self.pause_after:
                await self._go_on.wait()
            rows = [
                self._row(submit.request, choice, position, said[position])
                for choice, said in enumerate(scripts)
                for position in range(step * size, min((step + 1) * size, len(said)))
            ]
            self._step += 1
            scores = () if step else prompt_scores(submit, prompt)
            writer.write(encode(Step(stats(self._step), tuple(rows), scores)))
            await asyncio.sleep(0)

    def _row(self, request: int, choice: int, position: int, said: Said) -> Row:
        cached = self.cached_tokens if position == 0 else None
        cached = None if said == NOTHING else cached
        return Row(
            request, choice, said.token, said.finish, said.logprob, said.top, cached, said.message
        )
