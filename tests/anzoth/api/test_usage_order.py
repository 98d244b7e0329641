"""Nothing is asked of an engine, and nothing sent, that the ledger could not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from api_harness import Api, Scenario, record, until
from api_stand_ins import MemorySink
from engine_peer import Said

from anzoth.errors import LedgerUnavailable
from anzoth.gateway.health import Component
from anzoth.gateway.journal_counts import CACHED, COMPLETION, DELIVERED, PROMPT
from anzoth.gateway.usage import UsageRecord

Run = Callable[[Scenario], None]


class CountedSink(MemorySink):
    """Looks at the counts just before each write, as a kill at that moment would find them."""

    def __init__(self, begun: list[UsageRecord]) -> None:
        super().__init__()
        self.begun = begun
        self.letters = 0

    def write(self, data: bytes) -> None:
        if data.startswith(b'data: {"id"'):
            chunk = orjson.loads(data.removeprefix(b"data: "))
            self.letters += sum(len(c["delta"].get("content", "")) for c in chunk["choices"])
        counts = self.begun[0].counts
        assert self.letters <= counts[COMPLETION]
        assert counts[DELIVERED] <= counts[COMPLETION]
        super().write(data)


def watch(api: Api, monkeypatch: pytest.MonkeyPatch) -> list[UsageRecord]:
    """The records that are begun; the engine must not have been asked before."""
    begun: list[UsageRecord] = []

    def begin(usage: UsageRecord, max_completion_tokens: int) -> None:
        assert len(api.peer.submits) == len(api.peer.embeds) == 0
        begun.append(usage)

    monkeypatch.setattr(api.ledger, "begin", begin)
    return begun


def test_a_token_is_counted_before_any_of_it_is_sent(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(api: Api) -> None:
        (letter,) = api.tokens("x")
        api.peer.script = lambda submit, prompt, choice: (
            [Said(letter)] * 11 + [Said(letter, "length")]
        )
        api.peer.cached_tokens = 2
        begun = watch(api, monkeypatch)
        sink = CountedSink(begun)
        await api.chat(stream=True, n=2, sink=sink)
        assert sink.letters == 24
        counts = begun[0].counts
        prompt = api.ledger.records[0].prompt_tokens
        assert (counts[PROMPT], counts[CACHED]) == (prompt, 2)
        assert (counts[COMPLETION], counts[DELIVERED]) == (24, 24)

    run(scenario)


def test_an_answer_in_one_piece_counts_as_it_is_computed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(api: Api) -> None:
        begun = watch(api, monkeypatch)
        await api.chat()
        counts = begun[0].counts
        assert counts[COMPLETION] == api.ledger.records[0].completion_tokens > 0
        assert counts[DELIVERED] == 0  # the ledger counts it with the answer

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_written_down_is_refused_before_the_engine_hears_of_it(
    stream: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(api: Api) -> None:
        def begin(usage: UsageRecord, max_completion_tokens: int) -> None:
            raise LedgerUnavailable()

        monkeypatch.setattr(api.ledger, "begin", begin)
        reply = await api.chat(stream=stream)
        assert (reply.status, reply.error["code"]) == (503, "ledger_unavailable")
        assert reply.headers["x-should-retry"] == "true"
        assert api.peer.submits == []
        assert record(api)["status"] == 503

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_reach_the_disk_is_refused_and_stopped(
    stream: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(api: Api) -> None:
        async def begun(usage: UsageRecord) -> None:
            raise LedgerUnavailable()

        api.peer.script = lambda submit, prompt, choice: [Said(10)] * submit.max_tokens
        api.peer.pause_after = 1
        monkeypatch.setattr(api.ledger, "begun", begun)
        reply = await api.chat(stream=stream)
        assert (reply.status, reply.error["code"]) == (503, "ledger_unavailable")
        await until(lambda: len(api.peer.aborts) == 1)
        assert api.ledger.records[0].completion_tokens == 0

    run(scenario)


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [("ready", 200, "ready"), ("degraded", 200, "degraded"), ("unavailable", 503, "not ready")],
)
def test_a_gateway_without_its_database_still_takes_requests(
    state: Any, status: int, said: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(api: Api) -> None:
        async def components() -> dict[str, Component]:
            return {"gateway": Component("ready"), "database": Component(state)}

        monkeypatch.setattr(api.app._services.health, "components", components)
        reply = await api.call("GET", "/readyz", key=None)
        assert (reply.status, reply.json["status"]) == (status, said)

    run(scenario)
