"""The whole way: a host, its zygote, a process per file."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import documents
import pytest
import uvloop
from documents import damage
from tokenizers import Tokenizer, models, pre_tokenizers

from anzoth.ingest.chunker import chunk
from anzoth.ingest.chunks import Structural
from anzoth.ingest.host import ParserHost
from anzoth.ingest.limits import Limits, UnreadableFile
from anzoth.ingest.parse import parse
from anzoth.ingest.wire import Job, Parsed

pytestmark = pytest.mark.slow

EACH = documents.one_of_each()
EVERYTHING = Limits()
LARGE = b"x" * (2 << 20)
"""More than sockets hold."""


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer that makes a token of every word, and would cut at eight of them."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # so in its docs
    made.enable_truncation(8)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return str(path)


def with_host(test: object, tokenizers: dict[str, str] | None = None) -> None:
    async def run() -> None:
        host = ParserHost(tokenizers or {})
        try:
            async with asyncio.timeout(120):
                await test(host)  # type: ignore[operator]  # a coroutine function of one argument
        finally:
            await host.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the gateway's
        runner.run(run())


async def read(
    host: ParserHost, name: str, data: bytes, limits: Limits = EVERYTHING, **more: object
) -> Parsed:
    return await host.read(Job(name, limits, **more), data, len(data))  # type: ignore[arg-type]


async def error_of(
    host: ParserHost, name: str, data: bytes, limits: Limits = EVERYTHING
) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        await read(host, name, data, limits)
    return caught.value


async def code_of(host: ParserHost, name: str, data: bytes) -> str | None:
    """Of the error, if there is one."""
    try:
        parsed = await read(host, name, data, Limits(cpu_s=5))
    except UnreadableFile as error:
        return error.code
    assert parsed.document.text.strip()
    return None


def is_there(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_child_reads_every_kind_as_this_process_does() -> None:
    async def test(host: ParserHost) -> None:
        for name, data in EACH.values():
            assert (await read(host, name, data)).document == parse(data, name)

    with_host(test)


def test_a_child_reads_encodings_that_need_tables() -> None:
    async def test(host: ParserHost) -> None:
        text = "Музей открыт каждый день с девяти часов утра до шести часов вечера. " * 5
        for encoding in ("cp1251", "koi8-r", "utf-16"):
            parsed = await read(host, "a.txt", text.encode(encoding))
            assert parsed.document.text == text.strip()
        japanese = "美術館は毎日午前九時から午後六時まで開いています。" * 10
        assert (await read(host, "a.txt", japanese.encode("cp932"))).document.text == japanese

    with_host(test)


def test_a_child_cuts_chunks_with_the_tokenizer_it_is_told(tokenizer_path: str) -> None:
    async def test(host: ParserHost) -> None:
        data = ("One sentence of six words here. " * 200).encode()
        rules = Structural(60)
        parsed = await read(host, "a.txt", data, chunking=rules, tokenizer="words", title="a")
        words = Tokenizer.from_file(tokenizer_path)
        words.no_truncation()
        count = lambda text: len(words.encode(text).ids)  # noqa: E731
        assert list(parsed.chunks) == chunk(parse(data, "a.txt"), rules, count, "a")
        assert len(parsed.chunks) > 20

    with_host(test, {"words": tokenizer_path})


def test_a_file_may_come_in_pieces() -> None:
    async def test(host: ParserHost) -> None:
        data = b"word " * 1_000_000

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 1 << 20):
                yield data[start : start + (1 << 20)]

        parsed = await host.read(Job("a.txt", EVERYTHING), pieces(), len(data))
        assert parsed.document.text == data.decode().strip()

    with_host(test)


def test_too_much_memory_is_one_clear_error() -> None:
    async def test(host: ParserHost) -> None:
        limits = Limits(memory_bytes=40 << 20)
        data = b"<!doctype html>" + b"<p>a" * 2_000_000
        error = await error_of(host, "a.html", data, limits)
        assert error.code == "invalid_file"
        assert (await read(host, *EACH["txt"], limits)).document.kind == "txt"

    with_host(test)


def test_too_much_computing_is_one_clear_error() -> None:
    async def test(host: ParserHost) -> None:
        error = await error_of(host, "a.md", b"[" * 2_000_000, Limits(cpu_s=1))
        assert "1 s of computing" in error.message

    with_host(test)


def test_too_much_time_is_one_clear_error() -> None:
    async def test(host: ParserHost) -> None:
        async def never() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        with pytest.raises(UnreadableFile, match=r"longer than 0\.2 s"):
            await host.read(Job("a.txt", Limits(wall_s=0.2)), never(), 10)
        assert (await read(host, *EACH["txt"])).document.kind == "txt"

    with_host(test)


def test_an_answer_beyond_its_limit_is_refused() -> None:
    async def test(host: ParserHost) -> None:
        limits = Limits(max_answer_bytes=1_000_000)
        error = await error_of(host, "a.txt", b"word " * 1_000_000, limits)
        assert error.code == "invalid_file"
        assert (await read(host, *EACH["txt"])).document.kind == "txt"

    with_host(test)


def test_a_failure_of_whoever_sends_the_file_is_theirs() -> None:
    async def test(host: ParserHost) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x"
            raise ConnectionError("the database is away")

        with pytest.raises(ConnectionError, match="away"):
            await host.read(Job("a.txt", EVERYTHING), broken(), 10)
        assert (await read(host, *EACH["txt"])).document.kind == "txt"

    with_host(test)


def test_a_file_that_is_too_large_starts_nothing() -> None:
    async def test(host: ParserHost) -> None:
        error = await error_of(host, "a.txt", b"x" * 2_000_000, Limits(max_file_bytes=1 << 20))
        assert error.message == "The file is larger than 1 MB."
        assert host.pid is None

    with_host(test)


def children(pid: int | None) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def environment(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_a_cancelled_read_leaves_no_process() -> None:
    async def test(host: ParserHost) -> None:
        await read(host, *EACH["txt"])
        begun = asyncio.Event()

        async def never() -> AsyncIterator[bytes]:
            yield LARGE  # all of it is sent only when somebody reads
            begun.set()
            await asyncio.Event().wait()

        job = Job("a.txt", EVERYTHING)
        reading = asyncio.create_task(host.read(job, never(), 2 * len(LARGE)))
        await begun.wait()
        assert len(children(host.pid)) == 1
        reading.cancel()
        await asyncio.wait({reading})
        assert reading.cancelled()
        while children(host.pid):
            await read(host, *EACH["txt"])

    with_host(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")
def test_a_reader_is_not_root() -> None:
    async def test(host: ParserHost) -> None:
        owners: list[int] = []

        async def looking() -> AsyncIterator[bytes]:
            yield LARGE
            owners.extend(os.stat(f"/proc/{pid}").st_uid for pid in children(host.pid))
            yield LARGE

        await host.read(Job("a.txt", EVERYTHING), looking(), 2 * len(LARGE))
        assert owners == [65534]

    with_host(test)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_reader_that_dies_fails_its_own_file_only(number: signal.Signals) -> None:
    async def test(host: ParserHost) -> None:
        await read(host, *EACH["txt"])

        async def deadly() -> AsyncIterator[bytes]:
            yield LARGE
            os.kill(int(children(host.pid)[0]), number)
            yield LARGE

        with pytest.raises(UnreadableFile) as caught:
            await host.read(Job("a.txt", EVERYTHING), deadly(), 2 * len(LARGE))
        is_ours = number == signal.SIGKILL
        assert caught.value.code == ("server_error" if is_ours else "invalid_file")
        assert (await read(host, *EACH["pdf"])).document.kind == "pdf"

    with_host(test)


def test_a_dead_zygote_is_replaced() -> None:
    async def test(host: ParserHost) -> None:
        await read(host, *EACH["txt"])
        first = host.pid
        assert first is not None

        async def deadly() -> AsyncIterator[bytes]:
            os.kill(first, signal.SIGKILL)
            yield b"x" * 10

        with pytest.raises(UnreadableFile, match="Retry"):
            await host.read(Job("a.txt", EVERYTHING), deadly(), 10)
        assert (await read(host, *EACH["txt"])).document.kind == "txt"
        assert host.pid != first

    with_host(test)


def test_a_tokenizer_that_comes_later_is_loaded_without_harm_to_who_reads(
    tokenizer_path: str,
) -> None:
    async def test(host: ParserHost) -> None:
        await read(host, *EACH["txt"])
        first = host.pid
        cut = {"chunking": Structural(16), "tokenizer": "words"}

        async def slow() -> AsyncIterator[bytes]:
            yield LARGE
            host.tokenizers = {"words": tokenizer_path}
            assert (await read(host, *EACH["txt"], **cut)).chunks
            assert host.pid != first
            assert is_there(first)
            yield LARGE

        await host.read(Job("a.txt", EVERYTHING), slow(), 2 * len(LARGE))
        assert not is_there(first)
        second = host.pid
        assert (await read(host, *EACH["txt"], **cut)).chunks
        assert host.pid == second

    with_host(test)


def test_files_are_read_side_by_side_within_the_slots() -> None:
    async def test(host: ParserHost) -> None:
        jobs = [read(host, *EACH[kind]) for kind in EACH for _ in range(3)]
        kinds = {parsed.document.kind for parsed in await asyncio.gather(*jobs)}
        assert kinds == EACH.keys()
        assert children(host.pid) == [] or len(children(host.pid)) <= host.max_running

    with_host(test)


def test_the_zygote_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANZOTH_SECRET", "canary")

    async def test(host: ParserHost) -> None:
        await read(host, *EACH["txt"])
        assert b"canary" not in environment(host.pid)

    with_host(test)


def test_a_damaged_pdf_is_text_or_a_clear_error() -> None:
    name, data = EACH["pdf"]

    async def test(host: ParserHost) -> None:
        for seed in range(100):
            code = await code_of(host, name, damage(data, seed))
            assert code in (None, "invalid_file", "unsupported_file")

    with_host(test)
