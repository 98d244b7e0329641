"""Gateways over a real Unix socket: they get their own rows, and trouble stays with its author."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grammar_kit
import orjson
import pytest

from anzoth import unix_socket
from anzoth.frames import (
    MAX_GRAMMAR_BYTES,
    PROTOCOL,
    Abort,
    Admitted,
    Decoder,
    Hello,
    Message,
    Purge,
    Purged,
    Refused,
    SamplingParams,
    Stats,
    Step,
    Submit,
    encode,
    pack_token_ids,
)
from anzoth.model_config import EngineConfig
from anzoth.scheduler import server
from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.constraint import Constraint, GrammarCompiler
from anzoth.scheduler.engine import Engine
from fake_runner import FakeRunner, FakeSpec, continuation

ENDLESS = SamplingParams(ignore_eos=True)
DEADLINE_S = 20.0


@dataclass
class Gateway:
    """A client of the engine, with its own numbers."""

    socket: socket.socket
    hello: Hello = field(init=False)
    answers: dict[int, Admitted | Refused] = field(default_factory=dict)
    tokens: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    finish: dict[tuple[int, int], str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    purged: list[Purged] = field(default_factory=list)
    _decoder: Decoder = field(default_factory=Decoder)

    def __post_init__(self) -> None:
        self.socket.settimeout(DEADLINE_S)
        first, *later = self._receive_some()
        assert isinstance(first, Hello)
        assert all(isinstance(message, Step) for message in later)
        self.hello = first

    def _receive_some(self) -> list[Message]:
        while True:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed by the engine")
            if messages := [message for message, _ in self._decoder.feed(data)]:
                return messages

    def submit(
        self,
        number: int,
        prompt: list[int],
        max_tokens: int = 8,
        num_choices: int = 1,
        sampling: SamplingParams = ENDLESS,
        tags: tuple[str, ...] = (),
        timeout_ms: int | None = None,
    ) -> None:
        message = Submit(
            number, "salt", "t", num_choices, max_tokens, sampling, tags, timeout_ms=timeout_ms
        )
        self.socket.sendall(encode(message, pack_token_ids(prompt)))

    def read_until(self, done: Callable[[], bool]) -> None:
        while not done():
            for message in self._receive_some():
                if isinstance(message, Admitted | Refused):
                    self.answers[message.request] = message
                elif isinstance(message, Purged):
                    self.purged.append(message)
                elif isinstance(message, Step):
                    self.steps.append(message)
                    for row in message.rows:
                        key = (row.request, row.choice)
                        if row.token is not None:
                            self.tokens.setdefault(key, []).append(row.token)
                        if row.finish is not None:
                            self.finish[key] = row.finish

    def purge(self, number: int, *tags: str) -> Purged:
        self.socket.sendall(encode(Purge(number, ("salt",), tags or None)))
        self.read_until(lambda: any(answer.purge == number for answer in self.purged))
        return self.purged[-1]

    def read_until_finished(self, number: int, choice: int = 0) -> list[int]:
        self.read_until(lambda: (number, choice) in self.finish)
        return self.tokens[number, choice]

    def next_stats(self, is_wanted: Callable[[Stats], bool]) -> Stats:
        """The first statistics from now on that are as wanted."""
        self.steps.clear()
        self.read_until(lambda: any(is_wanted(step.stats) for step in self.steps))
        return next(step.stats for step in self.steps if is_wanted(step.stats))

    def is_cut_off(self) -> bool:
        """Whether the engine closes the connection; heartbeats would go on for ever otherwise."""
        try:
            return any(not self.socket.recv(65536) for _ in range(1000))
        except ConnectionResetError:
            return True


@dataclass
class Running:
    """An engine that serves in a thread, and the error that ended it if one did."""

    path: str
    runner: FakeRunner
    thread: threading.Thread
    parent: int
    errors: list[Exception]
    sockets: list[socket.socket] = field(default_factory=list)

    def raw(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(DEADLINE_S)
        client.connect(self.path)
        self.sockets.append(client)
        return client

    def connect(self) -> Gateway:
        return Gateway(self.raw())

    def stop(self) -> None:
        if self.parent >= 0:
            os.close(self.parent)
            self.parent = -1
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        for client in self.sockets:
            client.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts an engine with a fake model; everything about it is optional."""
    monkeypatch.setattr(server, "HEARTBEAT_S", 0.02)
    started: list[Running] = []

    def start_one(
        runner: FakeRunner | None = None,
        max_unsent_bytes: int = 1 << 20,
        config: EngineConfig | None = None,
        compiler: GrammarCompiler | None = None,
    ) -> Running:
        runner = runner or FakeRunner()
        clock = iter(range(10**9))
        engine = Engine(
            runner, config or EngineConfig(max_batch_tokens=16), lambda: float(next(clock))
        )
        path = str(tmp_path / f"engine-{len(started)}.sock")
        listener = unix_socket.listen(path)
        parent_read, parent_write = os.pipe()
        errors: list[Exception] = []

        def run() -> None:
            try:
                with listener:
                    server.serve(
                        engine,
                        "m",
                        listener,
                        parent_read,
                        compiler=compiler,
                        max_unsent_bytes=max_unsent_bytes,
                    )
            except Exception as error:  # noqa: BLE001  # the thread's edge: tests look at it
                errors.append(error)
            finally:
                os.close(parent_read)

        thread = threading.Thread(target=run)
        thread.start()
        started.append(Running(path, runner, thread, parent_write, errors))
        return started[-1]

    yield start_one
    for running in started:
        running.stop()


def test_hello_comes_first_and_describes_the_engine(start: Start) -> None:
    hello = start().connect().hello
    assert (hello.protocol, hello.model, hello.num_blocks) == (PROTOCOL, "m", 64)
    assert (hello.vocab_size, hello.block_size_tokens, hello.dtype) == (97, 4, "float32")


def test_request_is_admitted_and_streams_exactly_the_models_tokens(start: Start) -> None:
    gateway = start().connect()
    gateway.submit(7, [5, 6, 7], num_choices=2)
    gateway.read_until(lambda: len(gateway.finish) == 2)
    assert gateway.answers == {7: Admitted(7)}
    assert gateway.tokens[7, 0] == continuation([5, 6, 7], 8, ENDLESS)
    assert gateway.tokens[7, 1] == continuation([5, 6, 7], 8, ENDLESS, choice=1)


def test_two_gateways_with_equal_numbers_get_their_own_rows(start: Start) -> None:
    running = start()
    first, second = running.connect(), running.connect()
    first.submit(1, [5, 6])
    second.submit(1, [50, 60])
    assert first.read_until_finished(1) == continuation([5, 6], 8, ENDLESS)
    assert second.read_until_finished(1) == continuation([50, 60], 8, ENDLESS)


def test_number_may_be_used_again_after_the_request_ended(start: Start) -> None:
    gateway = start().connect()
    for prompt in ([5], [6]):
        gateway.tokens.clear()
        gateway.finish.clear()
        gateway.submit(1, prompt)
        assert gateway.read_until_finished(1) == continuation(prompt, 8, ENDLESS)


def test_refusals_carry_the_gateways_number_and_the_connection_goes_on(start: Start) -> None:
    gateway = start().connect()
    gateway.submit(3, list(range(90)), max_tokens=90)
    gateway.submit(4, [])
    gateway.submit(5, [5])
    gateway.read_until_finished(5)
    too_long, invalid = gateway.answers[3], gateway.answers[4]
    assert isinstance(too_long, Refused)
    assert isinstance(invalid, Refused)
    assert (too_long.code, invalid.code) == ("too_long", "invalid")


def test_all_tokens_of_a_step_come_in_one_frame(start: Start) -> None:
    gateway = start().connect()
    frames = [
        encode(Submit(n, "salt", "t", 1, 8, ENDLESS), pack_token_ids([n + 5])) for n in range(5)
    ]
    gateway.socket.sendall(b"".join(frames))
    gateway.read_until(lambda: len(gateway.finish) == 5)
    assert max(len(step.rows) for step in gateway.steps) == 5
    numbers = [step.stats.step for step in gateway.steps if step.stats.batch_tokens]
    assert len(numbers) == len(set(numbers))


def test_idle_engine_sends_heartbeats_without_rows_or_timing(start: Start) -> None:
    gateway = start().connect()
    gateway.read_until(lambda: len(gateway.steps) >= 3)
    assert all(step.rows == () and step.stats.batch_tokens == 0 for step in gateway.steps)


def held_runner(max_tokens: int = 4000) -> tuple[FakeRunner, threading.Semaphore]:
    """A runner that waits before each step until the test lets it go on."""
    gate = threading.Semaphore(0)

    def wait(_: int) -> None:
        assert gate.acquire(timeout=DEADLINE_S)

    runner = FakeRunner(
        num_blocks=max_tokens // 4 + 64, max_model_tokens=max_tokens, before_step=wait
    )
    return runner, gate


def test_abort_takes_effect_before_the_next_step(start: Start) -> None:
    runner, gate = held_runner()
    gateway = start(runner).connect()
    gateway.submit(1, [5], max_tokens=100)
    gateway.submit(2, [6], max_tokens=5)
    gate.release(1)
    gateway.read_until(lambda: (1, 0) in gateway.tokens and len(gateway.answers) == 2)
    gateway.socket.sendall(encode(Abort(1)))
    gate.release(50)
    gateway.read_until_finished(2)
    stats = gateway.next_stats(lambda stats: stats.running == 0)
    assert stats.free_blocks + stats.cached_blocks == stats.total_blocks
    # The step under way when the abort arrived was the last one that held the request.
    assert sum(any(row[0] == 0 for row in batch) for batch in runner.batches) <= 2
    gateway.socket.sendall(encode(Abort(1)) + encode(Abort(99)))
    gateway.submit(3, [7])
    assert gateway.read_until_finished(3) == continuation([7], 8, ENDLESS)


def test_closed_connection_aborts_its_requests_and_no_others(start: Start) -> None:
    runner, gate = held_runner()
    running = start(runner)
    leaving, staying = running.connect(), running.connect()
    leaving.submit(1, [5], max_tokens=1000)
    leaving.read_until(lambda: 1 in leaving.answers)
    staying.submit(1, [6], max_tokens=20)
    leaving.socket.close()
    gate.release(1000)
    assert staying.read_until_finished(1) == continuation([6], 20, ENDLESS)
    stats = staying.next_stats(lambda stats: stats.running == 0)
    assert stats.free_blocks + stats.cached_blocks == stats.total_blocks


def frame(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<II", len(header), len(payload)) + header + payload


def submit_frame(**changes: Any) -> bytes:
    """A well-formed frame of a submission whose header differs as given."""
    good = encode(Submit(1, "salt", "t", 1, 8, ENDLESS), pack_token_ids([5]))
    header = orjson.loads(good[8:-4])
    return frame(orjson.dumps({**header, **changes}), good[-4:])


BROKEN = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge": b"\xff" * 64,
    "no type": frame(b"{}"),
    "no object": frame(b"[]"),
    "no fields": frame(b'{"t":"submit"}'),
    "unknown type": frame(b'{"t":"nonsense"}'),
    "no json": frame(b"\x00\x01\x02"),
    "abort of a list": frame(b'{"t":"abort","request":[1]}'),
    "abort of a text": frame(b'{"t":"abort","request":"1","choice":null}'),
    "abort of half a choice": frame(b'{"t":"abort","request":1,"choice":1.5}'),
    "the engine's message": encode(Admitted(1)),
    "purge of a number": frame(b'{"t":"purge","purge":1,"cache_salts":[5],"tags":null}'),
    "purge of everything": frame(b'{"t":"purge","purge":1,"cache_salts":null,"tags":null}'),
    "cut token ids": encode(Submit(1, "salt", "t", 1, 8, ENDLESS), b"\x01\x02\x03"),
    "request is text": submit_frame(request="1"),
    "request is a truth value": submit_frame(request=True),
    "request is a list": submit_frame(request=[1]),
    "tenant is a number": submit_frame(tenant=123),
    "salt is missing": submit_frame(cache_salt=None),
    "sampling is missing": submit_frame(sampling=None),
    "one field too many": submit_frame(extra=1),
    "logit_bias is text": submit_frame(sampling={"logit_bias": "ab", "stop_token_ids": []}),
    "number in use": submit_frame() + submit_frame(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_close_their_own_connection_only(start: Start, name: str) -> None:
    running = start()
    innocent, guilty = running.connect(), running.connect()
    innocent.submit(1, [5, 6])
    guilty.socket.sendall(BROKEN[name])
    assert guilty.is_cut_off()
    assert innocent.read_until_finished(1) == continuation([5, 6], 8, ENDLESS)
    innocent.submit(2, [6])
    assert innocent.read_until_finished(2) == continuation([6], 8, ENDLESS)


def test_half_a_frame_is_waited_for_and_delays_nobody(start: Start) -> None:
    running = start()
    slow, other = running.connect(), running.connect()
    data = encode(Submit(1, "salt", "t", 1, 8, ENDLESS), pack_token_ids([5, 6]))
    slow.socket.sendall(data[:50])
    other.submit(1, [9])
    other.read_until_finished(1)
    slow.socket.sendall(data[50:])
    assert slow.read_until_finished(1) == continuation([5, 6], 8, ENDLESS)


def test_gateway_that_does_not_read_is_cut_off_and_its_requests_end(start: Start) -> None:
    running = start(FakeRunner(num_blocks=600, max_model_tokens=2000), max_unsent_bytes=20_000)
    deaf, other = running.connect(), running.connect()
    deaf.submit(1, [5], max_tokens=1900)
    stats = other.next_stats(lambda stats: stats.running == 1)
    stats = other.next_stats(lambda stats: stats.running == 0)
    assert stats.step < 1900, "the request ran to its end unread"
    assert stats.free_blocks + stats.cached_blocks == stats.total_blocks
    assert deaf.is_cut_off()


def test_end_of_the_parent_ends_the_loop_even_with_work_left(start: Start) -> None:
    runner, gate = held_runner()
    running = start(runner)
    gateway = running.connect()
    gateway.submit(1, [5], max_tokens=3000)
    gateway.read_until(lambda: 1 in gateway.answers)
    os.close(running.parent)
    running.parent = -1
    gate.release(10)
    running.stop()
    assert running.errors == []
    assert len(runner.batches) <= 2


def test_purge_is_answered_when_the_cache_holds_nothing_of_the_tenant(start: Start) -> None:
    running = start()
    gateway = running.connect()
    gateway.submit(1, list(range(9)))
    gateway.read_until_finished(1)
    answer = gateway.purge(7)
    assert (answer.num_blocks >= 3, answer.num_blocks_in_use) == (True, 0)
    assert running.runner.writers() == []
    assert gateway.purge(8) == Purged(8, 0, 0)


def test_requests_that_are_aborted_before_a_purge_do_not_outlive_it(start: Start) -> None:
    gate = threading.Semaphore(3)

    def wait(_: int) -> None:
        assert gate.acquire(timeout=DEADLINE_S)

    running = start(FakeRunner(before_step=wait))
    gateway = running.connect()
    gateway.submit(1, list(range(9)), max_tokens=100)
    gateway.read_until(lambda: (1, 0) in gateway.tokens)
    gateway.socket.sendall(encode(Abort(1)))
    gate.release(100)
    assert gateway.purge(2).num_blocks_in_use == 0
    assert running.runner.writers() == []


def test_failing_step_ends_the_loop_with_its_error(start: Start) -> None:
    def explode(_: int) -> None:
        raise RuntimeError("device lost")

    running = start(FakeRunner(before_step=explode))
    gateway = running.connect()
    gateway.submit(1, [5])
    running.thread.join(DEADLINE_S)
    assert [str(error) for error in running.errors] == ["device lost"]
    assert gateway.is_cut_off()


def test_leaked_block_is_noticed_when_the_engine_goes_idle(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anzoth.scheduler.kv_cache import KVCache

    monkeypatch.setattr(KVCache, "release", lambda *_: None)
    running = start()
    running.connect().submit(1, [5])
    running.thread.join(DEADLINE_S)
    assert [type(error) for error in running.errors] == [IntegrityError]


def test_socket_belongs_to_the_user_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    unix_socket.listen(str(path)).close()
    assert path.exists()
    with unix_socket.listen(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_file_in_the_sockets_place_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        unix_socket.listen(str(path))
    assert path.read_text() == "precious"


# --- grammars -------------------------------------------------------------------------------------


class SlowCompiler(GrammarCompiler):
    """Waits before each compilation until the test lets it go on."""

    def __init__(self, directory: Path) -> None:
        grammar_kit.compiler(directory)
        super().__init__(directory / "tokenizer.json", grammar_kit.VOCAB_SIZE, (0,))
        self.gate = threading.Semaphore(0)

    def compile(self, grammar: str) -> Constraint:
        assert self.gate.acquire(timeout=DEADLINE_S)
        return super().compile(grammar)


XYZ = SamplingParams(grammar=grammar_kit.lark_grammar('start: "xyz"'))


def text_of(gateway: Gateway, number: int) -> str:
    return grammar_kit.text_of(gateway.tokens[number, 0])


def test_a_deadline_ends_a_request_and_its_number_is_free_again(start: Start) -> None:
    gateway = start().connect()  # whose clock advances by a second each time it is read
    gateway.submit(1, [5], max_tokens=100, timeout_ms=30_000)
    assert 2 < len(gateway.read_until_finished(1)) < 100
    assert gateway.finish.pop((1, 0)) == "deadline"
    gateway.submit(1, [6])
    gateway.read_until_finished(1)
    assert gateway.finish[1, 0] == "length"


def test_a_grammar_is_compiled_while_others_are_served(start: Start, tmp_path: Path) -> None:
    compiler = SlowCompiler(tmp_path)
    gateway = start(grammar_kit.LogitsRunner(), compiler=compiler).connect()
    gateway.submit(1, [5], sampling=XYZ)
    for number in (2, 3):
        gateway.submit(number, [6])
        gateway.read_until_finished(number)
    assert 1 not in gateway.answers
    compiler.gate.release()
    gateway.read_until_finished(1)
    assert gateway.answers[1] == Admitted(1)
    assert text_of(gateway, 1) == "xyz"
    assert gateway.finish[1, 0] == "stop"


def test_an_unusable_grammar_refuses_its_own_request(start: Start, tmp_path: Path) -> None:
    compiler = SlowCompiler(tmp_path)
    compiler.gate.release(10)
    gateway = start(grammar_kit.LogitsRunner(), compiler=compiler).connect()
    unsupported = grammar_kit.schema_grammar({"uniqueItems": True})
    gateway.submit(1, [5], sampling=SamplingParams(grammar=unsupported))
    gateway.submit(2, [5], sampling=SamplingParams(grammar="x" * (MAX_GRAMMAR_BYTES + 1)))
    gateway.submit(3, [5], max_tokens=10**6, sampling=XYZ)
    gateway.submit(4, [5], sampling=XYZ)
    gateway.read_until_finished(4)
    gateway.read_until(lambda: len(gateway.answers) == 4)
    refusals = [answer for n in (1, 2, 3) if isinstance(answer := gateway.answers[n], Refused)]
    assert [refusal.code for refusal in refusals] == ["invalid", "invalid", "too_long"]
    assert "uniqueItems" in refusals[0].message
    assert "grammar" in refusals[1].message
    assert text_of(gateway, 4) == "xyz"


def test_a_number_is_in_use_while_its_grammar_is_compiled(start: Start, tmp_path: Path) -> None:
    compiler = SlowCompiler(tmp_path)
    running = start(grammar_kit.LogitsRunner(), compiler=compiler)
    gateway = running.connect()
    gateway.submit(1, [5], sampling=XYZ)
    gateway.submit(1, [5])
    assert gateway.is_cut_off()
    # Its grammar, when it is ready, has nobody to go to; others do not notice.
    compiler.gate.release(2)
    other = running.connect()
    other.submit(1, [5], sampling=XYZ)
    other.read_until_finished(1)
    assert text_of(other, 1) == "xyz"


def test_the_time_in_which_its_grammar_is_compiled_is_a_requests_own(
    start: Start, tmp_path: Path
) -> None:
    compiler = SlowCompiler(tmp_path)
    gateway = start(grammar_kit.LogitsRunner(), compiler=compiler).connect()
    gateway.submit(1, [5], sampling=XYZ, timeout_ms=1)
    heartbeat = len(gateway.steps)
    gateway.read_until(lambda: len(gateway.steps) > heartbeat + 1)  # more than a millisecond
    compiler.gate.release()
    gateway.read_until(lambda: 1 in gateway.answers)
    refused = gateway.answers[1]
    assert isinstance(refused, Refused)
    assert refused.code == "late"


def test_an_abort_reaches_a_request_whose_grammar_is_not_ready(
    start: Start, tmp_path: Path
) -> None:
    compiler = SlowCompiler(tmp_path)
    gateway = start(grammar_kit.LogitsRunner(), compiler=compiler).connect()
    gateway.submit(1, [5], sampling=XYZ)
    gateway.socket.sendall(encode(Abort(1)))
    gateway.submit(1, [6])  # its number is free again
    gateway.read_until_finished(1)
    first = gateway.tokens.pop((1, 0))
    compiler.gate.release(2)
    gateway.submit(2, [5], sampling=XYZ)
    gateway.read_until_finished(2)
    assert len(first) == 8
    assert set(gateway.answers) == {1, 2}
    assert (1, 0) not in gateway.tokens


def test_a_request_whose_grammar_is_compiled_during_a_purge_does_not_undo_it(
    start: Start, tmp_path: Path
) -> None:
    compiler = SlowCompiler(tmp_path)
    running = start(grammar_kit.LogitsRunner(), compiler=compiler)
    gateway = running.connect()
    gateway.submit(1, [5] * 9, sampling=XYZ, tags=("document",))
    gateway.submit(2, [6] * 9)
    gateway.read_until_finished(2)
    assert gateway.purge(3, "document") == Purged(3, 0, 0)
    compiler.gate.release(2)
    gateway.read_until_finished(1)
    assert text_of(gateway, 1) == "xyz"
    assert {writer.tags for writer in running.runner.writers()} == {frozenset()}
    # Afterwards the document may come again.
    gateway.submit(4, [5] * 9, sampling=XYZ, tags=("document",))
    gateway.read_until_finished(4)
    assert {writer.tags for writer in running.runner.writers()} > {frozenset()}


def test_an_engine_without_a_compiler_refuses_grammars_and_serves_the_rest(start: Start) -> None:
    gateway = start(FakeRunner(spec=FakeSpec())).connect()
    gateway.submit(1, [5], sampling=XYZ)
    gateway.submit(2, [5])
    gateway.read_until_finished(2)
    refused = gateway.answers[1]
    assert isinstance(refused, Refused)
    assert refused.code == "invalid"
