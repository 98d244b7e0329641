"""A batch is worked on by one gateway at a time, whoever dies on the way, and each of its lines is
reported once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import batches_kit as kit
import files_kit
import pytest
from checkpoints import write_checkpoint
from files_kit import FileServer, as_owner

from anzoth.errors import AnzothError
from anzoth.gateway import claimed_work, directory
from anzoth.gateway.batches import patience, running, worker
from anzoth.gateway.batches.answers import Answer
from anzoth.gateway.batches.claims import BatchClaims
from anzoth.gateway.principal import Address, Principal

pytestmark = pytest.mark.slow

Run = Callable[..., None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def run(dsn: str, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(worker, "_FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(worker, "_NO_ROOM_PAUSE_S", 0.05)
    monkeypatch.setattr(worker, "_POLL_S", 0.05)

    def run_scenario(scenario: kit.Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with files_kit.serving(dsn, tmp_path, checkpoint, **settings) as server:
                kit.grant_all(server)
                await scenario(server)

        asyncio.run(main())

    return run_scenario


class Asked:
    """What is asked, in place of the application; by `custom_id`, which each body repeats."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self.holds = False
        self.failures: list[AnzothError] = []
        self._go_on = asyncio.Event()
        self._num_running = 0

    async def __call__(
        self,
        principal: Principal,
        endpoint: str,
        body: Mapping[str, Any],
        address: Address | None,
    ) -> Answer:
        self.asked[body["n"]] += 1
        self._num_running += 1
        self.most_at_once = max(self.most_at_once, self._num_running)
        try:
            if self.holds:
                await self._go_on.wait()
            await asyncio.sleep(0)
            if self.failures:
                failure = self.failures.pop()
                return Answer("req_1", failure.status, b"{}", failure)
            return Answer("req_1", 200, b'{"said":1}', None, False, 3, 1, 2, 1)
        finally:
            self._num_running -= 1

    def go_on(self) -> None:
        self._go_on.set()


def lines(count: int, prefix: str = "") -> list[dict[str, Any]]:
    names = [f"{prefix}{number}" for number in range(count)]
    return [kit.line(name, {"n": name}) for name in names]


async def assert_whole(server: FileServer, id: str, count: int, key: str = "good") -> None:
    """Every line has its answer, in the order of the input, and is counted once."""
    batch = await kit.ended(server, id, key)
    assert batch.status == "completed"
    output = await kit.read_file(server, batch.output_file_id, key)
    assert [one["custom_id"].lstrip("abc") for one in output] == [str(n) for n in range(count)]
    assert batch.request_counts is not None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (count, count, 0)
    assert batch.usage is not None
    usage = batch.usage
    assert (usage.input_tokens, usage.output_tokens) == (3 * count, 2 * count)
    assert usage.input_tokens_details.cached_tokens == count


@pytest.mark.parametrize("is_same_gateway", [True, False], ids=["started again", "another"])
def test_a_batch_goes_on_where_a_killed_gateway_left_it(is_same_gateway: bool, run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made, ask = await kit.create(server, lines(60)), Asked()

        async def slows_down(*of: Any) -> Answer:
            ask.holds = ask.asked.total() >= 25
            return await ask(*of)

        async with kit.working(server, kit.FIRST, slows_down, dies=True):
            await kit.until_num_answered(server, made.id, 20)
        num_before = ask.asked.total()
        ask.holds = False
        gateway = kit.FIRST if is_same_gateway else kit.other_gateway()
        if not is_same_gateway:  # that would have to wait until the claim has passed
            await as_owner(server.dsn, "UPDATE anzoth.batches SET next_attempt_at = now()")
        async with kit.working(server, gateway, ask):
            await assert_whole(server, made.id, 60)
        # What was running was asked again, and nothing else.
        again = [name for name, count in ask.asked.items() if count > 1]
        assert len(again) <= 8
        assert num_before + 60 - 20 >= ask.asked.total()

    run(scenario)


def test_another_gateway_waits_until_a_claim_has_passed(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made, ask = await kit.create(server, lines(3)), Asked()
        ask.holds = True
        async with kit.working(server, kit.FIRST, ask, dies=True):
            await kit.until(lambda: bool(ask.asked))
        assert await kit.make_worker(server, kit.other_gateway(), ask)._try_claim() is None
        assert await kit.make_worker(server, kit.FIRST, ask)._try_claim() is not None
        assert (await kit.row(server, made.id))["attempts"] == 0

    run(scenario)


def test_several_gateways_share_batches_and_ask_each_line_once(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        ask = Asked()
        made = [await kit.create(server, lines(12, name)) for name in "abc"]
        other = await kit.create(server, lines(12, "abc"), key="foreign")
        async with (
            kit.working(server, kit.FIRST, ask),
            kit.working(server, kit.other_gateway(), ask),
            kit.working(server, kit.other_gateway(), ask),
        ):
            for batch in made:
                await assert_whole(server, batch.id, 12)
            await assert_whole(server, other.id, 12, "foreign")
        assert ask.asked.total() == 48
        assert set(ask.asked.values()) == {1}

    run(scenario)


def test_who_has_lost_a_claim_writes_nothing_any_more(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made, ask, new = await kit.create(server, lines(4)), Asked(), Asked()
        ask.holds = True
        async with kit.working(server, kit.FIRST, ask) as first:
            await kit.until(lambda: ask.asked.total() == 4)
            await as_owner(
                server.dsn,
                "UPDATE anzoth.batches SET claimed_by = NULL, next_attempt_at = now()",
            )
            async with kit.working(server, kit.other_gateway(), new):
                await kit.until_status(server, made.id, "completed", "finalizing")
                ask.go_on()
                await kit.until(lambda: not first._running)
                await assert_whole(server, made.id, 4)
        assert new.asked.total() == 4

    run(scenario)


def test_a_claim_is_renewed_while_its_batch_is_worked_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimed_work, "RENEW_S", 0.01)

    async def scenario(server: FileServer) -> None:
        made, ask = await kit.create(server, lines(1)), Asked()
        ask.holds = True
        async with kit.working(server, kit.FIRST, ask):
            await kit.until(lambda: bool(ask.asked))
            before = (await kit.row(server, made.id))["next_attempt_at"]

            async def is_renewed() -> bool:
                return (await kit.row(server, made.id))["next_attempt_at"] > before

            await kit.until(is_renewed)
            ask.go_on()
            await assert_whole(server, made.id, 1)

    run(scenario)


def test_a_gateway_that_ends_leaves_its_batches_to_others_at_once(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made, ask = await kit.create(server, lines(5)), Asked()
        ask.holds = True
        async with kit.working(server, kit.FIRST, ask):
            await kit.until(lambda: bool(ask.asked))
        ask.holds = False
        async with kit.working(server, kit.other_gateway(), ask):
            await assert_whole(server, made.id, 5)

    run(scenario)


def test_all_batches_together_run_as_many_requests_as_a_gateway_has_places(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        ask = Asked()
        made = [await kit.create(server, lines(10, name)) for name in "ab"]
        async with kit.working(server, kit.FIRST, ask, concurrency=3):
            for batch in made:
                await assert_whole(server, batch.id, 10)
        assert ask.most_at_once == 3

    run(scenario)


def test_a_long_batch_of_one_tenant_does_not_hold_up_another_tenants(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        ask = Asked()
        for name in "abc":
            await kit.create(server, lines(400, name))
        short = await kit.create(server, lines(5, "abc"), key="foreign")
        async with kit.working(server, kit.FIRST, ask, concurrency=2):
            await assert_whole(server, short.id, 5, "foreign")
            assert ask.asked.total() < 300

    run(scenario)


def test_a_gateway_that_dies_between_the_two_files_writes_neither_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    async def scenario(server: FileServer) -> None:
        made, ask = await kit.create(server, lines(4)), Asked()
        ask.failures = [AnzothError()]
        write = running.BatchRun._write_file

        async def dies(self: running.BatchRun, *, is_of_errors: bool) -> None:
            if is_of_errors:
                raise Died
            await write(self, is_of_errors=is_of_errors)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(running.BatchRun, "_write_file", dies)
            alone = kit.make_worker(server, kit.FIRST, ask)
            claim = await alone._try_claim()
            assert claim is not None
            with pytest.raises(Died):
                await running.BatchRun(alone._parts, claim, asyncio.Semaphore(4)).run()
        first = (await server.sdk().batches.retrieve(made.id)).output_file_id
        assert first is not None
        async with kit.working(server, kit.FIRST, ask):
            batch = await kit.ended(server, made.id)
        assert batch.output_file_id == first
        output, errors = await kit.results(server, batch)
        assert (len(output), len(errors), ask.asked.total()) == (3, 1, 4)
        assert await server.count("files", "purpose = 'batch_output'") == 2

    run(scenario)


def test_a_batch_waits_for_room_for_its_files(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = await kit.create(server, lines(4))
        filler = await client.files.create(file=files_kit.NOTES, purpose="user_data")
        async with kit.working(server, kit.FIRST, Asked()):
            await kit.until_status(server, made.id, "finalizing")
            await client.files.delete(filler.id)
            await assert_whole(server, made.id, 4)

    run(scenario, tenant_files=2)


def test_a_batch_that_finds_no_room_in_its_window_fails_and_says_so(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, lines(4))
        async with kit.working(server, kit.FIRST, Asked()):
            await kit.until_status(server, made.id, "finalizing")
            await as_owner(server.dsn, "UPDATE anzoth.batches SET expires_at = now()")
            batch = await kit.ended(server, made.id)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert [error.code for error in batch.errors.data or ()] == ["storage_full"]

    run(scenario, tenant_files=1)


def test_a_fault_of_ours_is_tried_again_and_then_said(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(self: running.BatchRun) -> str:
        raise ValueError("a secret")

    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, lines(1))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(running.BatchRun, "_check_input", breaks)
            async with kit.working(server, kit.FIRST, Asked()):
                batch = await kit.ended(server, made.id)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert [error.code for error in batch.errors.data or ()] == ["server_error"]
        assert (await kit.row(server, made.id))["attempts"] == worker.MAX_ATTEMPTS - 1

    run(scenario)


def test_of_a_deleted_tenant_nothing_more_is_asked_and_nothing_stays(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made, ask = await kit.create(server, lines(8), metadata={"a": "b"}), Asked()

        async def holds_at_four(*of: Any) -> Answer:
            ask.holds = ask.asked.total() >= 4
            return await ask(*of)

        async with kit.working(server, kit.FIRST, holds_at_four, dies=True):
            await kit.until_num_answered(server, made.id, 4)
        num_asked = ask.asked.total()
        await directory.delete_tenant(server.dsn, "one")
        async with kit.working(server, kit.FIRST, ask):

            async def is_closed() -> bool:
                return (await kit.row(server, made.id))["closed_at"] is not None

            await kit.until(is_closed)
        row = await kit.row(server, made.id)
        assert (row["metadata"], row["status"]) == (None, "cancelled")
        assert await server.count("batch_answers") == 0
        assert ask.asked.total() == num_asked

    run(scenario)


def test_a_claim_names_the_tenant_of_its_row(run: Run) -> None:
    async def scenario(server: FileServer) -> None:
        made = await kit.create(server, lines(1), key="foreign")
        claims: BatchClaims = kit.make_worker(server)._parts.claims
        claim = await claims.try_next(())
        assert claim is not None
        handle = claims.handle_of(claim)
        assert (claim.id, handle.id, handle.name) == (made.id, server.two.tenant.id, "two")
        assert await claims.try_next(()) is None

    run(scenario)
