"""Two gateways on one database, as `anzoth.server` builds them, that go on in the background.

Each has a data directory and a retriever of its own; both have the same pepper and master key, and
both may be restarted. The engines that they share are scripted: one makes a vector of the words of
a text, one answers chats and keeps what it was given to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import threading
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import gateway_kit
import httpx2
import numpy as np
import tokenizers
from checkpoints import EOS_ID, write_checkpoint
from engine_peer import EMBEDDING_HELLO, HELLO, EnginePeer, Said
from ingestion_kit import write_letters_checkpoint
from retriever_kit import Retriever

from anzoth.api.call import Services
from anzoth.config import index_folder
from anzoth.frames import Submit
from anzoth.gateway import keys, tenant_crypt
from anzoth.gateway.keys import Pepper
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway_settings import offered_model
from anzoth.model_config import ModelConfig

CHAT, EMBEDDER = "chat", "embedder"
DIMENSIONS = 32
MEMORY_BYTES = 40_000
"""Of a retriever: two small stores."""
SAVE_AFTER_S = 0.1
_PAUSE_S = 0.005

T = TypeVar("T")


class Background:
    """An event loop in a thread of its own: what runs there goes on between calls."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateways")
        self._thread.start()

    def __call__(self, work: Coroutine[Any, Any, T], timeout_s: float = 120.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(_PAUSE_S)


class Named:
    """Is shown by its name, by Hypothesis, too."""

    def _repr_pretty_(self, printer: Any, is_cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(eq=False)
class Node(Named):
    """One gateway and its retriever."""

    data_dir: Path
    dsn: str
    models: Sequence[Mapping[str, object]]
    retriever: Retriever = field(init=False)
    url: str = ""
    """With /v1; another one after each start."""

    def __post_init__(self) -> None:
        assert self.data_dir / "index" == index_folder(self.data_dir)
        log = self.data_dir / "retriever.log"
        self.retriever = Retriever(self.data_dir, MEMORY_BYTES, SAVE_AFTER_S, log=log)
        self._running: asyncio.Task[None] | None = None
        self._must_stop = asyncio.Event()
        self._services: Services | None = None

    def __repr__(self) -> str:
        return self.data_dir.name

    @property
    def services(self) -> Services:
        assert self._services is not None, "it does not run"
        return self._services

    @property
    def indexes(self) -> Indexes:
        return self.services.searcher._indexes

    @property
    def has_retriever(self) -> bool:
        return self.indexes.client.healthy

    async def start(self) -> None:
        """The gateway."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._must_stop.clear()
        self._running = asyncio.create_task(self._run(started))
        await asyncio.wait({started, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            await self._running
        await gateway_kit.until_ready(
            self.services, "retriever", f"engine {CHAT}", f"engine {EMBEDDER}"
        )

    async def _run(self, started: asyncio.Future[None]) -> None:
        """In one task: what is entered in it is left in it."""
        async with contextlib.AsyncExitStack() as stack:
            self.url, self._services = await gateway_kit.serve(
                *(stack, self.dsn, self.data_dir, self.models),
                retriever_socket=str(self.retriever.socket_path),
            )
            started.set_result(None)
            await self._must_stop.wait()

    async def stop(self) -> None:
        """As SIGTERM does. Idempotent."""
        self._must_stop.set()
        if self._running is not None:
            await self._running
            self._running = None

    async def end_retriever(self, number: signal.Signals) -> None:
        await asyncio.to_thread(self.retriever.end, number)
        await until(lambda: not self.has_retriever)

    async def start_retriever(self) -> None:
        self.retriever.start()
        await until(lambda: self.has_retriever)

    def folder_of(self, tenant_id: object, store_id: str) -> Path:
        """Where the snapshots of a store are."""
        return self.retriever.index / str(tenant_id) / store_id


@dataclass
class TwoGateways:
    """All of it, and a client."""

    dsn: str
    folder: Path
    nodes: list[Node]
    embedder: EnginePeer
    chats: EnginePeer
    client: httpx2.AsyncClient
    pepper: Pepper
    can_embed: bool = True

    @classmethod
    async def start(cls, dsn: str, folder: Path) -> TwoGateways:
        chat = write_checkpoint(folder / "chat")
        letters = write_letters_checkpoint(folder / "letters")
        chats = EnginePeer(
            folder / "chat.sock", _answer_of(chat), replace(HELLO, max_model_tokens=16_384)
        )
        embedder = EnginePeer(
            folder / "embedder.sock",
            lambda *_: [],
            replace(EMBEDDING_HELLO, dimensions=DIMENSIONS, max_model_tokens=512, vocab_size=400),
        )
        embedder.vector_of = _vector_of(letters)
        models = [
            offered_model(ModelConfig(CHAT, chat), chats.path),
            offered_model(ModelConfig(EMBEDDER, letters), embedder.path),
        ]
        await asyncio.gather(chats.start(), embedder.start())
        first = folder / "first"
        first.mkdir()
        pepper = keys.load_pepper(first)
        tenant_crypt.load_master_key(first)
        shutil.copytree(first, folder / "second")
        nodes = [Node(folder / name, dsn, models) for name in ("first", "second")]
        for node in nodes:
            node.retriever.start()
        client = httpx2.AsyncClient(timeout=60, trust_env=False)
        made = cls(dsn, folder, nodes, embedder, chats, client, pepper)
        await asyncio.gather(*(node.start() for node in nodes))
        return made

    async def end(self) -> None:
        await self.client.aclose()
        for node in self.nodes:
            await node.stop()
            await asyncio.to_thread(node.retriever.end, signal.SIGKILL)
        await self.chats.stop()
        await self.embedder.stop()

    async def stop_embedding(self) -> None:
        await self.embedder.stop()
        await until(lambda: not any(map(_embeds, self.nodes)))
        self.can_embed = False

    async def start_embedding(self) -> None:
        await self.embedder.start()
        await until(lambda: all(map(_embeds, self.nodes)))
        self.can_embed = True

    def prompts(self) -> list[str]:
        """What the chat engine was given to read since the last call."""
        tokenizer = self.nodes[0].services.models.get(CHAT).tokenizer
        read = [tokenizer.decode(prompt) for _, prompt in self.chats.submits]
        self.chats.submits.clear()
        return read


def _embeds(node: Node) -> bool:
    return node.services.models.get(EMBEDDER).engine.healthy


def _answer_of(checkpoint: Path) -> Callable[[Submit, list[int], int], list[Said]]:
    backend = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokens = backend.encode("So it is [1].", add_special_tokens=False).ids
    said = [*map(Said, tokens), Said(EOS_ID, "stop")]
    return lambda submit, prompt, choice: said


def _vector_of(checkpoint: Path) -> Callable[[list[int]], list[float]]:
    """The sum of the words' own directions: texts that share words are alike."""
    backend = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    def vector_of(token_ids: list[int]) -> list[float]:
        words = backend.decode(token_ids).lower().split()
        total = sum(
            (_direction(word.strip(".,;:#*|")) for word in words), np.full(DIMENSIONS, 1e-3)
        )
        return total.tolist()

    return vector_of


@cache
def _direction(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSIONS)
