"""The engine client: what is said to the engine, and that nothing waits on a lost or hung one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from engine_peer import HELLO, EnginePeer, Said, stats

from anzoth.errors import AnzothError, CapacityUnavailable, ModelUnavailable, Unauthorized
from anzoth.frames import Abort, Admitted, PromptRow, Row, SamplingParams, Step, Submit
from anzoth.gateway import engine_client
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.principal import TenantHandle
from anzoth.telemetry import Metrics

TENANT = TenantHandle(UUID(int=7), "acme", "5a17")


class Heard:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.prompt_rows: list[PromptRow] = []
        self.error: AnzothError | None = None

    def row(self, row: Row, now_s: float) -> None:
        self.rows.append(row)

    def prompt_row(self, row: PromptRow) -> None:
        self.prompt_rows.append(row)

    def lost(self, error: AnzothError) -> None:
        self.error = error


def count_up(submit: Submit, prompt: list[int], choice: int) -> list[Said]:
    *tokens, last = range(submit.max_tokens)
    return [*(Said(token) for token in tokens), Said(last, "length")]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.001)


@asynccontextmanager
async def connected(
    path: Path, *, ready: bool = True, stall_timeout_s: float = 60.0
) -> AsyncIterator[tuple[EngineClient, EnginePeer]]:
    peer = EnginePeer(path, count_up)
    await peer.start()
    client = EngineClient("m", path, Metrics(), stall_timeout_s=stall_timeout_s)
    task = asyncio.create_task(client.run())
    try:
        if ready:
            await until(lambda: client.healthy)
        yield client, peer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await peer.stop()


async def submit(
    client: EngineClient,
    heard: Heard,
    choices: int = 1,
    tokens: int = 3,
    tenant: TenantHandle = TENANT,
    tags: tuple[str, ...] = (),
) -> int:
    return await client.submit(
        heard,
        [5, 6, 7],
        num_choices=choices,
        max_tokens=tokens,
        sampling=SamplingParams(seed=1),
        tenant=tenant,
        tags=tags,
    )


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]  # an async function's result is a coroutine


def test_rows_reach_their_listener_until_every_choice_has_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            heard = [Heard(), Heard()]
            await asyncio.gather(*(submit(client, h, choices=2) for h in heard))
            await until(lambda: client.num_live_requests == 0)
            for h in heard:
                tokens = [[r.token for r in h.rows if r.choice == c] for c in (0, 1)]
                assert tokens == [[0, 1, 2], [0, 1, 2]]
                assert len({row.request for row in h.rows}) == 1
            (message, prompt), _ = peer.submits
            assert (message.cache_salt, message.tenant) == ("5a17", str(TENANT.id))
            assert prompt == [5, 6, 7]
            assert len({message.request for message, _ in peer.submits}) == 2

    run(main)


def test_without_an_engine_a_request_is_refused_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        client = EngineClient("m", tmp_path / "nobody", Metrics())
        assert client.state == "connecting"
        with pytest.raises(ModelUnavailable):
            await submit(client, Heard())

    run(main)


def test_an_engine_that_has_not_said_hello_is_warming(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s", ready=False) as (client, peer):
            peer.greets = False
            await until(lambda: client.state == "warming" and peer.num_accepted == 1)
            with pytest.raises(ModelUnavailable):
                await submit(client, Heard())
            peer.send(HELLO)
            await until(lambda: client.state == "ready")
            assert client.hello == HELLO

    run(main)


def test_a_client_finds_an_engine_that_starts_later_and_one_that_starts_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        client = EngineClient("m", tmp_path / "s", Metrics())
        task = asyncio.create_task(client.run())
        peer = EnginePeer(tmp_path / "s", count_up)
        for _ in range(2):
            await asyncio.sleep(0)
            await peer.start()
            await until(lambda: client.healthy)
            await submit(client, Heard())
            await peer.stop()
            await until(lambda: client.state == "connecting")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)


def test_when_the_engine_dies_every_listener_is_told_and_waiting_admissions_fail(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.pause_after = 1
            heard = Heard()
            await submit(client, heard)
            peer.admits = False
            waiting = asyncio.create_task(submit(client, Heard()))
            await peer.until(lambda: len(peer.submits) == 2)
            await peer.stop()
            with pytest.raises(ModelUnavailable):
                await waiting
            await until(lambda: isinstance(heard.error, ModelUnavailable))
            assert client.num_live_requests == 0

    run(main)


def test_an_abort_stops_rows_at_once_and_reaches_the_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.pause_after = 1
            heard = Heard()
            request = await submit(client, heard, choices=2)
            await until(lambda: len(heard.rows) == 2)
            client.abort(request, 0)
            client.abort(request, 0)
            await peer.until(lambda: len(peer.aborts) == 1)
            peer.go_on()
            await until(lambda: client.num_live_requests == 0)
            assert [row.choice for row in heard.rows] == [0, 1, 1, 1]
            client.abort(request)  # over: nothing to say
            assert peer.aborts == [Abort(request, 0)]

    run(main)


def test_aborting_the_last_choice_aborts_the_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.pause_after = 1
            request = await submit(client, Heard(), choices=2)
            client.abort(request, 0)
            client.abort(request, 1)
            await peer.until(lambda: len(peer.aborts) == 2)
            assert peer.aborts == [Abort(request, 0), Abort(request, None)]
            assert client.num_live_requests == 0

    run(main)


def test_a_cancelled_submit_is_aborted(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.admits = False
            task = asyncio.create_task(submit(client, Heard()))
            await peer.until(lambda: len(peer.submits) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await peer.until(lambda: len(peer.aborts) == 1)
            assert client.num_live_requests == 0
            peer.send(Admitted(1))  # crossed with the abort
            peer.send(Step(stats(1), (Row(1, 0, 5, None, None, None, None),)))
            await until(lambda: client.last_stats is not None)

    run(main)


def test_an_admission_that_never_comes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "ADMISSION_TIMEOUT_S", 0.01)

    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.admits = False
            with pytest.raises(ModelUnavailable):
                await submit(client, Heard())
            await peer.until(lambda: len(peer.aborts) == 1)

    run(main)


def test_a_silent_engine_with_work_is_cut_off_and_reported_as_stalled(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s", stall_timeout_s=0.1) as (client, peer):
            peer.pause_after = 1
            heard = Heard()
            peer.greets = False  # a hung engine's socket still accepts
            await submit(client, heard)
            await until(lambda: heard.error is not None)
            assert isinstance(heard.error, ModelUnavailable)
            assert client.stalled
            assert not client.healthy
            await until(lambda: client.state == "warming" and peer.num_accepted == 2)
            assert client.stalled
            peer.send(HELLO)
            await until(lambda: client.healthy)
            assert not client.stalled

    run(main)


def test_silence_without_work_and_steps_with_work_are_no_stall(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s", stall_timeout_s=5.0) as (client, peer):
            client.check_progress(1e12)
            assert client.healthy
            peer.pause_after = 1
            heard = Heard()
            await submit(client, heard)
            await until(lambda: len(heard.rows) == 1)
            now_s = asyncio.get_running_loop().time()
            client.check_progress(now_s + 4.9)
            assert client.healthy
            client.check_progress(now_s + 6)
            assert client.stalled

    run(main)


@pytest.mark.parametrize(
    "data", [b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\x05\0\0\0\0\0\0\0[1,2]"]
)
def test_a_peer_that_speaks_no_frames_is_left(data: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.pause_after = 1
            heard = Heard()
            await submit(client, heard)
            for writer in peer._writers:
                writer.write(data)
            await until(lambda: heard.error is not None)
            await until(lambda: client.healthy)  # connected anew

    run(main)


def test_a_message_before_hello_or_of_the_wrong_direction_is_a_broken_peer(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s", ready=False) as (client, peer):
            peer.greets = False
            await until(lambda: client.state == "warming" and peer.num_accepted == 1)
            peer.send(Admitted(1))
            await until(lambda: client.state == "connecting")
            peer.greets = True
            await until(lambda: client.healthy)
            peer.send(HELLO)
            await until(lambda: client.state == "connecting")

    run(main)


def test_a_purge_is_over_when_the_engine_says_so_and_lost_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            answer = await client.purge(["5a17"], ["document"])
            assert (answer.num_blocks, answer.num_blocks_in_use) == (3, 0)
            (message,) = peer.purges
            assert (message.cache_salts, message.tags) == (("5a17",), ("document",))
            await client.purge(["5a17"])
            assert peer.purges[-1].tags is None
            peer.answers_purges = False
            task = asyncio.create_task(client.purge(["5a17"]))
            await peer.until(lambda: len(peer.purges) == 3)
            await peer.stop()
            with pytest.raises(ModelUnavailable):
                await task
            with pytest.raises(ModelUnavailable):
                await client.purge(["5a17"])

    run(main)


def test_a_prompt_with_a_document_that_has_just_been_purged_is_purged_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            await client.purge(["5a17"], ["gone"])
            await submit(client, Heard(), tags=("there", "other"))
            number = await submit(client, Heard(), tags=("there", "gone"))
            await peer.until(lambda: len(peer.purges) == 2)
            again = peer.purges[-1]
            assert again.purge > number  # in this order on one connection
            assert (again.cache_salts, again.tags) == ((TENANT.cache_salt,), ("gone",))
            assert len(peer.submits) == 2

    run(main)


def test_requests_of_an_ended_tenant_end_and_no_more_are_taken(tmp_path: Path) -> None:
    other = TenantHandle(UUID(int=8), "other", "ee")

    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.pause_after = 1
            ours, theirs = Heard(), Heard()
            number = await submit(client, ours)
            await submit(client, theirs, tenant=other)
            peer.admits = False
            waiting = asyncio.create_task(submit(client, Heard()))
            embedding = asyncio.create_task(client.embed([[5]], dimensions=None, tenant=TENANT))
            await peer.until(lambda: bool(len(peer.submits) == 3 and peer.embeds))
            client.end_owners({TENANT.id})
            assert isinstance(ours.error, Unauthorized)
            for task in (waiting, embedding):
                with pytest.raises(Unauthorized):
                    await task
            # The engine hears of the aborts before it hears of a purge.
            await client.purge([TENANT.cache_salt])
            assert number in {abort.request for abort in peer.aborts}
            assert len({abort.request for abort in peer.aborts}) == 3
            with pytest.raises(Unauthorized):
                await submit(client, Heard())
            peer.go_on()
            await until(lambda: client.num_live_requests == 0)
            assert theirs.error is None
            assert len(theirs.rows) == 3

    run(main)


def test_a_congested_engine_gets_no_more_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, _):
            assert client._connection is not None
            client._connection.pause_writing()
            with pytest.raises(CapacityUnavailable):
                await submit(client, Heard())
            client._connection.resume_writing()
            await submit(client, Heard())

    run(main)


def test_a_listener_that_fails_ends_its_request_and_no_other(tmp_path: Path) -> None:
    class Broken(Heard):
        def row(self, row: Row, now_s: float) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            broken, well = Broken(), Heard()
            await asyncio.gather(submit(client, broken), submit(client, well))
            await until(lambda: len(well.rows) == 3)
            assert broken.error is not None
            assert broken.error.status == 500
            await peer.until(lambda: len(peer.aborts) == 1)

    run(main)


def test_all_requests_can_be_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "s") as (client, peer):
            peer.pause_after = 1
            heard = Heard()
            await submit(client, heard)
            error = CapacityUnavailable("stopping")
            client.end_all(error)
            assert heard.error is error
            await peer.until(lambda: len(peer.aborts) == 1)
            assert client.num_live_requests == 0

    run(main)
