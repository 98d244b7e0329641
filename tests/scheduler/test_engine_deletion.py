"""What is deleted is found by nobody and zeroed, and whoever still runs is not disturbed.

The fake runner keeps who wrote each slot, so "zeroed" is looked up and not believed.
"""

from __future__ import annotations

from typing import Any

import pytest

from anzoth.frames import Row, SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.origin import Deletion
from fake_runner import FakeRunner, continuation

ENDLESS = SamplingParams(ignore_eos=True)


class Bench:
    """An engine, its fake model and what came out of it."""

    def __init__(self, **settings: Any) -> None:
        self.runner = FakeRunner()
        config = EngineConfig(max_batch_tokens=16, **settings)
        self.engine = Engine(self.runner, config, lambda: 0.0)
        self.rows: list[Row] = []

    def submit(
        self, prompt: list[int], max_tokens: int = 6, salt: str = "ours", *tags: str, n: int = 1
    ) -> int:
        submit = Submit(0, salt, salt, n, max_tokens, ENDLESS, tags=tags)
        request = self.engine.submit(submit, prompt)
        assert isinstance(request, int), request
        return request

    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.rows += self.engine.step()
            self.engine.check_integrity()

    def finish(self) -> None:
        while self.engine.has_work:
            self.step(1)
        self.engine.check_idle()

    def tokens(self, request: int, choice: int = 0) -> list[int | None]:
        return [row.token for row in self.rows if (row.request, row.choice) == (request, choice)]

    def cached_tokens(self, request: int) -> int | None:
        return next(row.cached_tokens for row in self.rows if row.request == request)

    def salts(self) -> set[str]:
        """Of all that is written anywhere."""
        return {writer.cache_salt for writer in self.runner.writers()}


def deletion(salt: str, *tags: str) -> Deletion:
    return Deletion(frozenset({salt}), frozenset(tags) if tags else None)


PROMPT = list(range(20, 33))


def test_nothing_of_a_deleted_tenant_is_written_anywhere() -> None:
    bench = Bench()
    for prompt in (PROMPT, [*PROMPT, 3, 4], [7]):
        bench.submit(prompt)
        bench.submit(prompt, salt="theirs")
    bench.finish()
    assert bench.salts() == {"ours", "theirs"}
    num_blocks, num_in_use = bench.engine.delete(deletion("ours"))
    assert num_blocks > 6
    assert num_in_use == 0
    assert bench.salts() == {"theirs"}
    again, theirs = bench.submit(PROMPT), bench.submit(PROMPT, salt="theirs")
    bench.finish()
    assert (bench.cached_tokens(again), bench.cached_tokens(theirs)) == (0, 12)


def test_tokens_of_running_requests_do_not_change_and_their_blocks_go_with_them() -> None:
    bench = Bench()
    ours, theirs = bench.submit(PROMPT, 9, n=2), bench.submit(PROMPT, 30, "theirs")
    bench.step(4)
    assert bench.engine.delete(deletion("ours"))[1] > 0
    later = bench.submit(PROMPT)
    while bench.engine.has_request(ours):
        bench.step(1)
    for choice in (0, 1):
        assert bench.tokens(ours, choice) == continuation(PROMPT, 9, ENDLESS, choice)
    assert {w.request for w in bench.runner.writers() if w.cache_salt == "ours"} <= {later}
    bench.finish()
    assert bench.cached_tokens(later) == 0
    assert bench.tokens(theirs) == continuation(PROMPT, 30, ENDLESS)


def test_aborted_request_of_a_deleted_tenant_is_zeroed_without_another_step() -> None:
    bench = Bench()
    request = bench.submit(PROMPT, 40)
    bench.step(3)
    bench.engine.delete(deletion("ours"))
    assert bench.salts() == {"ours"}
    bench.engine.abort(request)
    assert bench.salts() == set()


def test_request_that_waits_at_the_deletion_is_answered_and_leaves_nothing() -> None:
    bench = Bench(max_running_sequences=1)
    bench.submit(PROMPT, 3, "theirs")
    waiting = bench.submit(PROMPT, 5, "ours", "document")
    bench.step(1)
    assert bench.engine.delete(deletion("ours", "document")) == (0, 0)
    bench.finish()
    assert bench.tokens(waiting) == continuation(PROMPT, 5, ENDLESS)
    assert bench.salts() == {"theirs"}


@pytest.mark.parametrize("is_tagged", [True, False])
def test_only_prompts_with_the_document_are_deleted(is_tagged: bool) -> None:
    bench = Bench()
    bench.submit(PROMPT, 6, "ours", *(("document",) if is_tagged else ("other",)))
    bench.finish()
    bench.engine.delete(deletion("ours", "document"))
    assert bench.salts() == (set() if is_tagged else {"ours"})
    again = bench.submit(PROMPT)
    bench.finish()
    assert bench.cached_tokens(again) == (0 if is_tagged else 12)


def test_document_that_comes_again_after_its_deletion_is_cached_again() -> None:
    bench = Bench()
    bench.submit(PROMPT, 6, "ours", "document")
    bench.finish()
    bench.engine.delete(deletion("ours", "document"))
    found = []
    for _ in range(2):
        request = bench.submit(PROMPT, 6, "ours", "document")
        bench.finish()
        found.append(bench.cached_tokens(request))
    assert found == [0, 12]


def test_preempted_sequences_of_a_deleted_tenant_leave_nothing() -> None:
    """Too few blocks for all: they are preempted and computed again after the deletion, too."""
    bench = Bench()
    requests = [bench.submit([80 + i, *PROMPT], 40) for i in range(8)]
    while not bench.engine.stats().preemptions:
        bench.step(1)
    bench.engine.delete(deletion("ours"))
    bench.finish()
    for i, request in enumerate(requests):
        assert bench.tokens(request) == continuation([80 + i, *PROMPT], 40, ENDLESS)
    assert bench.salts() == set()
