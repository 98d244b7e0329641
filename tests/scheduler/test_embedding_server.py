"""Gateways over a real socket: they get their own vectors, and trouble stays with its author."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_embedding_runner import FakeEmbeddingRunner, spelled

from anzoth import unix_socket
from anzoth.frames import (
    Abort,
    Decoder,
    Embed,
    Embedded,
    Failed,
    Hello,
    Message,
    Purge,
    Purged,
    Refused,
    SamplingParams,
    Step,
    Submit,
    encode,
    pack_token_ids,
)
from anzoth.model_config import EngineConfig
from anzoth.scheduler import embedding_server
from anzoth.scheduler.embedding_engine import EmbeddingEngine

DEADLINE_S = 20.0


class Gateway:
    """A client of the engine, with its own numbers."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(path)
        self.vectors: dict[int, dict[int, bytes]] = {}
        self.others: list[Message] = []
        self.steps: list[Step] = []
        self._decoder = Decoder()
        self.read_until(lambda: bool(self.others))
        (self.hello,) = self.others
        self.others = []

    def embed(self, number: int, *texts: list[int]) -> None:
        token_ids = [token for text in texts for token in text]
        message = Embed(number, "t", tuple(map(len, texts)))
        self.socket.sendall(encode(message, pack_token_ids(token_ids)))

    def read_until(self, done: Callable[[], bool]) -> None:
        while not done():
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed by the engine")
            for message, payload in self._decoder.feed(data):
                if isinstance(message, Embedded):
                    vectors = [part + b";" for part in payload.split(b";")[:-1]]
                    got = self.vectors.setdefault(message.request, {})
                    got.update(zip(message.inputs, vectors, strict=True))
                elif isinstance(message, Step):
                    self.steps.append(message)
                else:
                    self.others.append(message)

    def read_vectors(self, number: int, num_texts: int) -> list[bytes]:
        self.read_until(lambda: len(self.vectors.get(number, ())) == num_texts)
        return [vector for _, vector in sorted(self.vectors[number].items())]


Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts an engine with a fake model in a thread; returns its path."""
    monkeypatch.setattr(embedding_server, "HEARTBEAT_S", 0.02)
    path = str(tmp_path / "engine.sock")
    threads: list[threading.Thread] = []
    parent_read, parent_write = os.pipe()

    def start_one(runner: FakeEmbeddingRunner | None = None) -> str:
        clock = iter(range(10**9))
        engine = EmbeddingEngine(
            runner or FakeEmbeddingRunner(),
            EngineConfig(max_batch_tokens=10),
            lambda: float(next(clock)),
        )
        listener = unix_socket.listen(path)

        def run() -> None:
            with listener:
                embedding_server.serve(engine, "m", listener, parent_read)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return path

    yield start_one
    os.close(parent_write)
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    os.close(parent_read)


@pytest.fixture
def connect() -> Iterator[Callable[[str], Gateway]]:
    made: list[Gateway] = []

    def connect_one(path: str) -> Gateway:
        made.append(Gateway(path))
        return made[-1]

    yield connect_one
    for gateway in made:
        gateway.socket.close()


def held_runner() -> tuple[FakeEmbeddingRunner, threading.Semaphore]:
    """A runner that waits before each step until the test lets it go on."""
    gate = threading.Semaphore(0)

    def wait(_: int) -> None:
        assert gate.acquire(timeout=DEADLINE_S)

    return FakeEmbeddingRunner(before_step=wait), gate


def test_hello_comes_first_and_says_how_large_vectors_are(start: Start, connect) -> None:
    hello = connect(start()).hello
    assert isinstance(hello, Hello)
    assert (hello.model, hello.dimensions) == ("m", 8)


def test_two_gateways_with_equal_numbers_get_their_own_vectors(start: Start, connect) -> None:
    path = start()
    first, second = connect(path), connect(path)
    first.embed(1, [5, 6], [7] * 9)
    second.embed(1, [50], [60])
    assert first.read_vectors(1, 2) == [spelled([5, 6]), spelled([7] * 9)]
    assert second.read_vectors(1, 2) == [spelled([50]), spelled([60])]
    first.embed(1, [8])  # a number may be used again
    first.vectors.clear()
    assert first.read_vectors(1, 1) == [spelled([8])]


def test_refusals_carry_the_gateways_number_and_the_connection_goes_on(
    start: Start, connect
) -> None:
    gateway = connect(start())
    gateway.embed(3, [1] * 21)
    gateway.embed(4)
    submit = Submit(5, "salt", "t", 1, 8, SamplingParams())
    gateway.socket.sendall(encode(submit, pack_token_ids([5])))
    gateway.embed(6, [5])
    gateway.read_vectors(6, 1)
    assert [(r.request, r.code) for r in gateway.others if isinstance(r, Refused)] == [
        (3, "too_long"),
        (4, "invalid"),
        (5, "invalid"),
    ]


def test_purge_finds_nothing_because_nothing_is_kept(start: Start, connect) -> None:
    gateway = connect(start())
    gateway.socket.sendall(encode(Purge(3, ("salt",))))
    gateway.embed(6, [5])
    gateway.read_vectors(6, 1)
    assert gateway.others == [Purged(3, 0, 0)]


def test_a_request_that_cannot_be_computed_is_told_so(start: Start, connect) -> None:
    gateway = connect(start(FakeEmbeddingRunner(fails=lambda text: text[0] == 66)))
    gateway.embed(1, [66], [5])
    gateway.embed(2, [5])
    gateway.read_vectors(2, 1)
    assert gateway.others == [Failed(1)]
    assert 1 not in gateway.vectors


def test_an_idle_engine_sends_heartbeats(start: Start, connect) -> None:
    gateway = connect(start())
    gateway.read_until(lambda: len(gateway.steps) >= 3)
    assert all(step.rows == () and step.stats.batch_tokens == 0 for step in gateway.steps)


def test_every_step_is_reported_with_its_tokens(start: Start, connect) -> None:
    gateway = connect(start())
    gateway.embed(1, [5] * 6, [6] * 6)
    gateway.read_until(lambda: sum(step.stats.batch_tokens for step in gateway.steps) == 12)
    assert gateway.read_vectors(1, 2)


def test_an_abort_takes_effect_before_the_next_step(start: Start, connect) -> None:
    runner, gate = held_runner()
    gateway = connect(start(runner))
    gateway.embed(1, [5] * 9, [6] * 9)
    gate.release()
    gateway.read_until(lambda: 0 in gateway.vectors.get(1, {}))
    # Its second text is in the step that waits now, unless the abort is handled first: both are
    # allowed, but nothing may come of a number that is used again.
    gateway.socket.sendall(encode(Abort(1)))
    gateway.embed(2, [7])
    gate.release(3)
    assert gateway.read_vectors(2, 1) == [spelled([7])]


def test_a_lost_gateway_takes_its_requests_with_it(start: Start, connect) -> None:
    runner, gate = held_runner()
    path = start(runner)
    leaving, staying = connect(path), connect(path)
    leaving.embed(1, *([[5] * 9] * 50))
    gate.release()
    leaving.read_until(lambda: bool(leaving.vectors))
    leaving.socket.close()
    staying.embed(1, [7])
    gate.release(60)
    assert staying.read_vectors(1, 1) == [spelled([7])]
    staying.read_until(lambda: staying.steps[-1].stats.waiting == 0)
    assert len(runner.batches) < 50


def test_a_number_in_use_ends_the_connection(start: Start, connect) -> None:
    runner, gate = held_runner()
    gateway = connect(start(runner))
    gateway.embed(1, *([[5] * 9] * 3))
    gateway.embed(1, [5])
    gate.release(10)
    with pytest.raises(ConnectionError):
        gateway.read_until(lambda: False)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff" * 8,
        encode(Embed(1, "t", (1,)), b"abc"),
        encode(Embed("1", "t", (1,)), pack_token_ids([5])),  # type: ignore[arg-type]  # on purpose
        encode(Embedded(1, (0,)), b"abcd"),
    ],
)
def test_a_broken_frame_ends_its_own_connection_only(start: Start, connect, frame: bytes) -> None:
    path = start()
    broken, whole = connect(path), connect(path)
    broken.socket.sendall(frame)
    with pytest.raises(ConnectionError):
        broken.read_until(lambda: False)
    whole.embed(1, [5])
    assert whole.read_vectors(1, 1) == [spelled([5])]
