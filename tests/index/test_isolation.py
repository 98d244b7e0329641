"""Tenants against a dictionary, through a real retriever that is restarted, crowded and harmed.

Whatever happens in whatever order, a search gives the chunks that the dictionary has and no chunk
of anybody else. Chunk numbers say whose they are; two tenants have stores of the same name.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from retriever_kit import Peer, Retriever, connected, numbers, unit

from anzoth.index_frames import Advance, Behind, Hits

pytestmark = pytest.mark.slow

STORES = [("a", "s"), ("b", "s"), ("b", "t"), ("c", "s")]
NAMES = st.sampled_from(STORES)
FILES = st.integers(1, 4)
LANGUAGES = ["de", "en"]
OWN = 1_000_000
"""Chunk numbers of a store begin at its position in STORES times this."""

Chunk = tuple[int, str, list[float]]
File = tuple[int, list[Chunk], dict[str, Any]]
"""Its seq, its chunks (none: it was deleted), its attributes."""


class Tenants(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.truth: dict[tuple[str, str], dict[int, File]] = {name: {} for name in STORES}
        self.heads = dict.fromkeys(STORES, 0)
        self.folder = tempfile.TemporaryDirectory()
        self.retriever = Retriever(Path(self.folder.name), memory_bytes=1, save_after_s=0.0)
        self.runner = asyncio.Runner()
        self.opened: set[tuple[str, str]] = set()

    @initialize()
    def begin(self) -> None:
        self.retriever.start()
        self.connect()

    def connect(self) -> None:
        self.connection = connected(self.retriever)
        self.peer: Peer = self.runner.run(self.connection.__aenter__())
        self.opened.clear()

    def disconnect(self) -> None:
        self.runner.run(self.connection.__aexit__(None, None, None))

    def teardown(self) -> None:
        if self.retriever.process is not None:
            self.disconnect()
            self.retriever.end(signal.SIGKILL)
        self.runner.close()
        self.folder.cleanup()

    # --- what can happen ------------------------------------------------------------------------

    @rule(name=NAMES, file=FILES, count=st.integers(0, 3), language=st.sampled_from(LANGUAGES))
    def put(self, name: tuple[str, str], file: int, count: int, language: str) -> None:
        seq = self.next_seq(name)
        first = OWN * STORES.index(name) + 10 * seq
        chunks = [(first + i, f"word {name[0]}{name[1]}", unit(first + i)) for i in range(count)]
        self.truth[name][file] = (seq, chunks, {"lang": language})
        self.runner.run(self.tell(name, file))

    @rule(name=NAMES, file=FILES)
    def put_that_does_not_arrive(self, name: tuple[str, str], file: int) -> None:
        seq = self.next_seq(name)
        first = OWN * STORES.index(name) + 10 * seq
        self.truth[name][file] = (seq, [(first, "word", unit(first))], {})

    @rule(name=NAMES, file=FILES)
    def delete(self, name: tuple[str, str], file: int) -> None:
        self.truth[name][file] = (self.next_seq(name), [], {})
        self.runner.run(self.tell(name, file))

    @rule(name=NAMES)
    def forget(self, name: tuple[str, str]) -> None:
        self.runner.run(self.peer.forget(*name))
        self.opened.discard(name)

    @rule(number=st.sampled_from([signal.SIGTERM, signal.SIGKILL]))
    def restart(self, number: signal.Signals) -> None:
        self.disconnect()
        self.retriever.restart(number)
        self.connect()

    @rule(source=NAMES, place=NAMES)
    def files_of_a_store_are_put_in_anothers_place(
        self, source: tuple[str, str], place: tuple[str, str]
    ) -> None:
        self.disconnect()
        self.retriever.end(signal.SIGTERM)
        folders = [self.retriever.index.joinpath(*name) for name in (source, place)]
        if source != place and all(folder.exists() for folder in folders):
            for path in folders[1].glob("*.sealed"):
                path.unlink()
            for path in folders[0].glob("*.sealed"):
                (folders[1] / path.name).write_bytes(path.read_bytes())
        self.retriever.start()
        self.connect()

    @rule(
        name=NAMES,
        language=st.sampled_from([None, *LANGUAGES]),
        by=st.sampled_from(["words", "meaning", "both"]),
    )
    def search(self, name: tuple[str, str], language: str | None, by: str) -> None:
        expected = sorted(
            number
            for _, chunks, attributes in self.truth[name].values()
            for number, _, _ in chunks
            if language is None or attributes.get("lang") == language
        )
        filters = {"type": "eq", "key": "lang", "value": language} if language else None
        found = self.runner.run(
            self.find(
                name,
                text=None if by == "meaning" else "word as bs bt cs",
                vector=None if by == "words" else unit(1),
                filters=filters,
            )
        )
        assert sorted(numbers(found)) == expected

    # --- as a gateway does it -------------------------------------------------------------------

    def next_seq(self, name: tuple[str, str]) -> int:
        self.heads[name] += 1
        return self.heads[name]

    async def open(self, name: tuple[str, str]) -> None:
        if name not in self.opened:
            await self.peer.open(*name)
            self.opened.add(name)

    async def tell(self, name: tuple[str, str], file: int) -> None:
        await self.open(name)
        seq, chunks, attributes = self.truth[name][file]
        if chunks:
            await self.peer.put(*name, file, seq, chunks, attributes)
        else:
            await self.peer.delete(*name, file, seq)

    async def find(self, name: tuple[str, str], **query: Any) -> Hits:
        await self.open(name)
        for _ in range(4):  # it may be put aside between a replay and the search
            answer = await self.peer.search(*name, self.heads[name], **query)
            if not isinstance(answer, Behind):
                return answer
            for file, (seq, _, _) in list(self.truth[name].items()):
                if seq > answer.seq:
                    await self.tell(name, file)
            await self.peer.ask(Advance, *name, answer.seq, self.heads[name], answer.life)
        raise AssertionError("still behind")


TestTenants = Tenants.TestCase
TestTenants.settings = settings(max_examples=6, stateful_step_count=30, deadline=None)
