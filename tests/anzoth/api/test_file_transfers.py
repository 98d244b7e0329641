"""Files while they come and go: clients that leave, read slowly, or find that the file has gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import openai
import pytest
from api_harness import until
from files_kit import NOTES, FileServer, owner_of, random_bytes

from anzoth.errors import AnzothError, KeyRevoked
from anzoth.gateway import directory
from anzoth.gateway.file_pieces import PIECE_BYTES
from anzoth.gateway.files import FileRequest

pytestmark = pytest.mark.slow


def test_transfers_are_bounded_per_tenant(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        async with uploading(server) as (_, send):
            await send(PIECE_BYTES)
            await until(lambda: len(server.files.transfers) == 1)
            with pytest.raises(openai.RateLimitError) as raised:
                await server.sdk().files.create(file=NOTES, purpose="user_data")
            assert raised.value.response.headers["retry-after-ms"] == "1000"
            await server.sdk("foreign").files.create(file=NOTES, purpose="user_data")
        await until(lambda: len(server.files.transfers) == 0)
        await server.sdk().files.create(file=NOTES, purpose="user_data")

    run_files(scenario, tenant_transfers=1)


@contextlib.asynccontextmanager
async def uploading(
    server: FileServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, Callable[[int], Any]]]:
    """A client that announced a file of 100 MiB and sends as much of it as it is told to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 104857600\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    )

    async def send(num_bytes: int) -> None:
        writer.write(bytes(num_bytes))
        await writer.drain()

    try:
        yield reader, send
    finally:
        writer.transport.abort()


def test_a_client_that_leaves_within_its_upload_leaves_nothing(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        async with uploading(server) as (_, send):
            await send(3 * PIECE_BYTES)
            await until_async(lambda: server.num_pieces(), 2)
            # Nobody sees any of it.
            assert [file async for file in server.sdk().files.list()] == []
        await until(lambda: server.http.num_active == 0)
        assert len(server.files.transfers) == 0
        await server.files.cleanup.sweep()
        assert await server.num_pieces() == 0
        assert await server.stored() == (0, 0)

    run_files(scenario)


async def until_async(count: Callable[[], Any], least: int) -> None:
    async with asyncio.timeout(10):
        while await count() < least:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)


def test_an_upload_that_is_ended_with_its_tenant_stores_nothing(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        incoming = await server.files.begin(owner_of(server.one))
        await incoming.write(random_bytes(PIECE_BYTES))
        await directory.delete_tenant(server.dsn, "one")
        with pytest.raises(AnzothError):
            await incoming.complete(FileRequest("a.txt", "assistants", None))
        fresh = await server.files.begin(owner_of(server.one))  # its key is still in memory here
        with pytest.raises(KeyRevoked):
            await fresh.write(random_bytes(PIECE_BYTES))
        await server.files.cleanup.sweep()
        assert await server.num_pieces() == 0
        assert await server.stored() == (0, 0)

    run_files(scenario)


def test_a_slow_or_leaving_reader_holds_nothing(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        content = random_bytes(8 * PIECE_BYTES)
        made = await server.sdk().files.create(file=("x", content), purpose="user_data")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        writer.write(
            f"GET /v1/files/{made.id}/content HTTP/1.1\r\nHost: x\r\n"
            "Authorization: Bearer good\r\n\r\n".encode()
        )
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await until(lambda: len(server.files.transfers) == 1)

        def unread_bytes() -> int:
            return max(c._transport.get_write_buffer_size() for c in server.http._connections)

        await until(lambda: unread_bytes() > 0)
        assert unread_bytes() < PIECE_BYTES
        writer.transport.abort()
        await until(lambda: len(server.files.transfers) == 0)
        await until(lambda: server.http.num_active == 0)

    run_files(scenario)


def test_a_file_that_goes_while_it_is_read_is_cut_off(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        content = random_bytes(16 * PIECE_BYTES)
        made = await server.sdk().files.create(file=("x", content), purpose="user_data")
        got = b""
        async with (
            server.client() as client,
            client.stream("GET", f"/files/{made.id}/content") as answer,
        ):
            assert answer.status_code == 200
            with pytest.raises(httpx2.RemoteProtocolError):  # noqa: PT012  # somewhere in the loop
                async for data in answer.aiter_bytes():
                    if not got:
                        await server.sdk().files.delete(made.id)
                        await server.files.cleanup.sweep()
                    got += data
        assert content.startswith(got)
        assert len(got) < len(content)
        assert len(server.files.transfers) == 0

    run_files(scenario)
