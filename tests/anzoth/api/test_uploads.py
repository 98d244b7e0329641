"""Uploads in OpenAI's shapes, over real HTTP and a real database: files that come in parts."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any

import openai
import pytest
from files_kit import FileServer, as_owner, owner_of, random_bytes

from anzoth.gateway.file_pieces import PIECE_BYTES

pytestmark = pytest.mark.slow


def test_the_sdk_uploads_in_parts(run_files, tmp_path: Path) -> None:
    async def scenario(server: FileServer) -> None:
        client, content = server.sdk(), random_bytes(3 * PIECE_BYTES + 11)
        upload = await client.uploads.upload_file_chunked(
            file=content,
            filename="big.bin",
            bytes=len(content),
            mime_type="application/octet-stream",
            purpose="user_data",
            part_size=PIECE_BYTES + 100,
            md5=hashlib.md5(content).hexdigest(),
        )
        assert upload.status == "completed"
        assert upload.file is not None
        assert (upload.file.bytes, upload.file.filename) == (len(content), "big.bin")
        assert (await client.files.content(upload.file.id)).read() == content
        assert await server.stored() == (len(content), 1)

    run_files(scenario)


def test_parts_come_in_any_order_at_the_same_time_and_unnamed_ones_go(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        upload = await client.uploads.create(
            bytes=9,
            filename="x",
            mime_type="text/plain",
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 7200},
        )
        assert (upload.status, upload.bytes, upload.expires_at) == (
            *("pending", 9),
            upload.created_at + 3600,
        )
        assert [file async for file in client.files.list()] == []
        parts = await asyncio.gather(
            *(
                client.uploads.parts.create(upload.id, data=t)
                for t in (b"ddd", b"abc", b"xx", b"fff")
            )
        )
        assert {part.upload_id for part in parts} == {upload.id}
        ids = [parts[1].id, parts[0].id, parts[3].id]
        done = await client.uploads.complete(upload.id, part_ids=ids)
        assert done.file is not None
        assert (await client.files.content(done.file.id)).read() == b"abcdddfff"
        assert done.file.expires_at == done.file.created_at + 7200
        assert await server.stored() == (9, 1)
        assert await server.num_pieces() == 3
        again = await client.uploads.complete(upload.id, part_ids=ids)  # the answer may get lost
        assert again == done
        for refused in (
            client.uploads.complete(upload.id, part_ids=ids[::-1]),
            client.uploads.cancel(upload.id),
            client.uploads.parts.create(upload.id, data=b"more"),
        ):
            with pytest.raises(openai.BadRequestError, match="completed"):
                await refused

    run_files(scenario)


def test_an_upload_that_does_not_fit_what_was_announced_is_refused(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        upload = await client.uploads.create(
            bytes=4, filename="x", mime_type="text/plain", purpose="user_data"
        )
        part = await client.uploads.parts.create(upload.id, data=b"abc")
        other = await client.uploads.create(
            bytes=1, filename="y", mime_type="text/plain", purpose="user_data"
        )
        elsewhere = await client.uploads.parts.create(other.id, data=b"d")

        async def refused(match: str, **given: Any) -> None:
            with pytest.raises(openai.BadRequestError, match=match):
                await client.uploads.complete(upload.id, **given)

        await refused("3 bytes together, and 4 were announced", part_ids=[part.id])
        await refused("not a part of this upload", part_ids=[part.id, elsewhere.id])
        await refused("named twice", part_ids=[part.id, part.id])
        await refused("1 to 10000 items", part_ids=[])
        last = await client.uploads.parts.create(upload.id, data=b"d")
        ids = [part.id, last.id]
        await refused("32 hexadecimal digits", part_ids=ids, md5="x")
        await refused("MD5", part_ids=ids, md5=hashlib.md5(b"abcx").hexdigest())
        with pytest.raises(openai.BadRequestError, match="empty"):
            await client.uploads.parts.create(upload.id, data=b"")
        done = await client.uploads.complete(
            upload.id, part_ids=ids, md5=hashlib.md5(b"abcd").hexdigest().upper()
        )
        assert done.status == "completed"
        for wrong in ({"bytes": 0}, {"bytes": (8 << 30) + 1}, {"filename": ""}, {"purpose": "x"}):
            given: Any = {"bytes": 1, "filename": "x", "mime_type": "t", "purpose": "batch"}
            with pytest.raises(openai.BadRequestError):
                await client.uploads.create(**given | wrong)
        with pytest.raises(openai.RateLimitError):
            await client.uploads.create(**given | {"bytes": 11 << 20})

    run_files(scenario, tenant_mib=10)


def test_a_cancelled_and_an_expired_upload_take_no_more_and_leave_nothing(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        kind: Any = {"bytes": 3, "filename": "x", "mime_type": "t", "purpose": "user_data"}
        first, second = [await client.uploads.create(**kind) for _ in range(2)]
        parts = [await client.uploads.parts.create(u.id, data=b"abc") for u in (first, second)]
        cancelled = await client.uploads.cancel(first.id)
        assert (cancelled.status, cancelled.filename) == ("cancelled", "x")
        await as_owner(
            server.dsn,
            "UPDATE anzoth.files SET expires_at = now(); "
            f"UPDATE anzoth.uploads SET expires_at = now() WHERE id = '{second.id}'",
        )
        for upload, part, status in zip(
            (first, second), parts, ("cancelled", "expired"), strict=True
        ):
            for refused in (
                client.uploads.complete(upload.id, part_ids=[part.id]),
                client.uploads.cancel(upload.id),
                client.uploads.parts.create(upload.id, data=b"abc"),
            ):
                with pytest.raises(openai.BadRequestError, match=status):
                    await refused
        await server.files.cleanup.sweep()
        assert await server.num_pieces() == 0
        assert await server.stored() == (0, 0)

    run_files(scenario)


def test_another_s_upload_is_an_unknown_one(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        kind: Any = {"bytes": 3, "filename": "x", "mime_type": "t", "purpose": "user_data"}
        upload = await server.sdk().uploads.create(**kind)
        part = await server.sdk().uploads.parts.create(upload.id, data=b"abc")
        async with server.client("foreign") as client:
            forms: list[tuple[str, dict[str, Any]]] = [
                ("/cancel", {}),
                ("/complete", {"json": {"part_ids": [part.id]}}),
                ("/parts", {"files": {"data": b"abc"}}),
            ]
            for path, form in forms:
                answers = [
                    await client.post(f"/uploads/{id}{path}", **form)
                    for id in (upload.id, f"upload_{uuid.uuid4().hex}")
                ]
                assert [answer.status_code for answer in answers] == [404, 404]
                assert answers[0].content == answers[1].content
        done = await server.sdk().uploads.complete(upload.id, part_ids=[part.id])
        assert done.status == "completed"

    run_files(scenario)


def test_a_part_that_breaks_off_is_dropped_and_can_be_sent_again(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        kind: Any = {"bytes": 3, "filename": "x", "mime_type": "t", "purpose": "user_data"}
        client = server.sdk()
        upload = await client.uploads.create(**kind)
        incoming = await server.api.services.uploads.begin_part(owner_of(server.one), upload.id)
        await incoming.write(random_bytes(2 * PIECE_BYTES))
        assert await server.stored() == (2 * PIECE_BYTES, 1)
        incoming.abandon()
        await server.files.cleanup.sweep()
        assert await server.stored() == (0, 1)
        assert await server.num_pieces() == 0
        part = await client.uploads.parts.create(upload.id, data=b"abc")
        assert (await client.uploads.complete(upload.id, part_ids=[part.id])).status == "completed"

    run_files(scenario)
