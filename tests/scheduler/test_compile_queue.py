"""Grammars are compiled beside the loop, and what goes wrong with one stays with it."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grammar_kit import compiler, lark_grammar

from anzoth.scheduler import compile_queue
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.compile_queue import COMPILE_TIMEOUT_S, CompileQueue, Job, Result
from anzoth.scheduler.constraint import Constraint, GrammarCompiler, GrammarError

DEADLINE_S = 20.0


class HeldCompiler(GrammarCompiler):
    """Compiles a grammar when the test says so; "broken" and "bug" fail in two ways."""

    __slots__ = ("_gates", "started", "threads")

    def __init__(self, path: Path) -> None:
        super().__init__(path, 320, (0,))
        self._gates: dict[str, threading.Event] = {}
        self.started: list[str] = []
        self.threads: set[int] = set()

    def let(self, grammar: str) -> None:
        self._gates.setdefault(grammar, threading.Event()).set()

    def compile(self, grammar: str) -> Constraint:
        self.started.append(grammar)
        self.threads.add(threading.get_ident())
        assert self._gates.setdefault(grammar, threading.Event()).wait(DEADLINE_S)
        if grammar == "broken":
            raise GrammarError("it is broken")
        if grammar == "bug":
            raise ZeroDivisionError(grammar)
        return super().compile(lark_grammar('start: "x"'))


@dataclass
class Fixture:
    queue: CompileQueue
    compiler: HeldCompiler
    now_s: list[float]
    results: dict[str, Result] = field(default_factory=dict)

    def add(self, grammar: str) -> Job:
        def deliver(result: Result) -> None:
            assert threading.current_thread() is threading.main_thread()
            assert grammar not in self.results
            self.results[grammar] = result

        job = self.queue.add(grammar, deliver)
        assert isinstance(job, Job)
        return job

    def poll_until(self, *grammars: str) -> None:
        """Waits as the engine's loop does."""
        while not set(grammars) <= self.results.keys():
            readable, _, _ = select.select([self.queue], [], [], DEADLINE_S)
            assert readable, "nothing woke the loop"
            self.queue.clear_wake_ups()
            self.queue.poll()

    def refusal(self, grammar: str) -> Refusal:
        result = self.results[grammar]
        assert isinstance(result, Refusal)
        return result


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fixture]:
    compiler(tmp_path)
    held = HeldCompiler(tmp_path / "tokenizer.json")
    now_s = [0.0]
    queue = CompileQueue(held, lambda: now_s[0])
    fixture = Fixture(queue, held, now_s)
    yield fixture
    for grammar in [*held.started, "a", "b", "c", "d"]:
        held.let(grammar)
    queue.close()


def test_a_result_wakes_the_loop_and_is_delivered_on_it(made: Fixture) -> None:
    made.add("a")
    made.queue.poll()
    assert not made.results
    made.compiler.let("a")
    made.poll_until("a")
    assert isinstance(made.results["a"], Constraint)
    assert threading.get_ident() not in made.compiler.threads


def test_two_are_compiled_at_once_and_the_others_wait_their_turn(made: Fixture) -> None:
    for grammar in "abcd":
        made.add(grammar)
    made.compiler.let("b")
    made.poll_until("b")
    made.compiler.let("c")
    made.poll_until("c")
    for grammar in "ad":
        made.compiler.let(grammar)
    made.poll_until("a", "d")
    assert made.compiler.started[2:] == ["c", "d"]


def test_what_goes_wrong_with_one_grammar_stays_with_it(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    for grammar in ("broken", "bug", "a"):
        made.add(grammar)
        made.compiler.let(grammar)
    made.poll_until("broken", "bug", "a")
    assert made.refusal("broken") == Refusal("invalid", "it is broken")
    assert made.refusal("bug").code == "invalid"
    assert isinstance(made.results["a"], Constraint)
    assert "ZeroDivisionError" in caplog.text
    assert "bug" not in caplog.text  # a grammar may say anything


def test_one_that_takes_too_long_is_given_up_and_does_not_hold_up_others(made: Fixture) -> None:
    made.add("a")
    made.add("b")
    made.now_s[0] = 1.0
    made.add("c")
    made.now_s[0] = COMPILE_TIMEOUT_S
    made.queue.poll()
    assert made.refusal("a").code == made.refusal("b").code == "invalid"
    made.compiler.let("c")
    made.poll_until("c")
    assert isinstance(made.results["c"], Constraint)
    for grammar in "ab":  # their results come after all, and go nowhere
        made.compiler.let(grammar)
    made.compiler.let("d")
    made.add("d")
    made.poll_until("d")


def test_one_that_waits_too_long_may_come_again(made: Fixture) -> None:
    for grammar in "abc":
        made.add(grammar)
    made.now_s[0] = COMPILE_TIMEOUT_S
    made.queue.poll()
    assert made.refusal("c").code == "capacity"
    assert made.refusal("c").retry_after_ms


def test_a_cancelled_one_is_not_delivered(made: Fixture) -> None:
    jobs = [made.add(grammar) for grammar in "abc"]
    made.queue.cancel(jobs[0])
    made.queue.cancel(jobs[2])
    for grammar in "abd":
        made.compiler.let(grammar)
    made.add("d")
    made.poll_until("b", "d")
    assert set(made.results) == {"b", "d"}
    assert "c" not in made.compiler.started


def test_a_delivery_may_cancel_others_that_are_due(made: Fixture) -> None:
    """A connection that is lost while it gets its first answer takes its other jobs with it."""
    jobs: list[Job] = []

    def deliver(_: Result) -> None:
        assert not made.results
        made.results["one"] = Refusal("invalid", "")
        for job in jobs:
            made.queue.cancel(job)

    for grammar in "ab":
        job = made.queue.add(grammar, deliver)
        assert isinstance(job, Job)
        jobs.append(job)
    made.now_s[0] = COMPILE_TIMEOUT_S
    made.queue.poll()
    assert made.results


def test_the_queue_is_bounded(made: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_queue, "MAX_WAITING", 1)
    for grammar in "abc":
        made.add(grammar)
    refused = made.queue.add("d", lambda _: None)
    assert isinstance(refused, Refusal)
    assert refused.code == "capacity"


def test_without_room_for_a_thread_the_request_may_come_again(
    made: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    made.add("a")
    made.poll_until("a")
    assert made.refusal("a").code == "capacity"
    monkeypatch.undo()
    made.compiler.let("b")
    made.add("b")
    made.poll_until("b")
    assert isinstance(made.results["b"], Constraint)


def test_threads_that_were_given_up_are_not_replaced_for_ever(made: Fixture) -> None:
    for number in range(12):
        made.add(f"stuck {number}")
        made.queue.poll()
        made.now_s[0] += COMPILE_TIMEOUT_S
        made.queue.poll()
    assert len(made.compiler.started) == 8
    assert made.refusal("stuck 11").code == "capacity"
