"""Files in OpenAI's shapes, over real HTTP and a real database: one project's alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from typing import Any

import openai
import pytest
from files_kit import NOTES, FileServer, as_owner, owner_of, random_bytes, read

from anzoth.db import pool
from anzoth.db.store import audit_rows
from anzoth.errors import AnzothError
from anzoth.gateway import file_cleanup
from anzoth.gateway.file_pieces import PIECE_BYTES
from anzoth.gateway.files import FileRequest
from anzoth.gateway.tenant_crypt import CannotOpen

pytestmark = pytest.mark.slow


def test_the_sdk_stores_lists_reads_and_deletes(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = await client.files.create(file=NOTES, purpose="assistants")
        assert made.id.startswith("file-")
        assert (made.object, made.filename, made.purpose) == ("file", "notes.txt", "assistants")
        assert (made.bytes, made.status, made.expires_at) == (11, "processed", None)
        assert await client.files.retrieve(made.id) == made
        assert [file async for file in client.files.list()] == [made]
        assert (await client.files.content(made.id)).read() == b"hello there"
        assert (await client.files.wait_for_processing(made.id)) == made
        deleted = await client.files.delete(made.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "file", True)
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(made.id)
        assert [file async for file in client.files.list()] == []

    run_files(scenario)


@pytest.mark.parametrize("num_bytes", [1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 7])
def test_a_file_of_any_length_comes_back_as_it_was(run_files, num_bytes: int) -> None:
    async def scenario(server: FileServer) -> None:
        client, content = server.sdk(), random_bytes(num_bytes)
        made = await client.files.create(file=("x.bin", content), purpose="user_data")
        assert made.bytes == num_bytes
        assert (await client.files.content(made.id)).read() == content
        assert await server.stored() == (num_bytes, 1)
        assert await server.num_pieces() == -(-num_bytes // PIECE_BYTES)

    run_files(scenario)


def test_fields_may_stand_behind_the_file(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        async with server.client() as client:
            body = (
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="../a\\b.md"\r\n\r\n'
                b'# hi\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
                b'--b\r\nContent-Disposition: form-data; name="unheard_of"\r\n\r\nx\r\n--b--\r\n'
            )
            made = await client.post(
                "/files",
                content=body,
                headers={"content-type": "multipart/form-data; boundary=b"},
            )
            assert made.status_code == 200
            assert (made.json()["filename"], made.json()["purpose"]) == ("b.md", "vision")

    run_files(scenario)


def test_expiry_is_as_asked_and_batches_do_not_stay(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        short = await client.files.create(
            file=NOTES,
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert short.expires_at == short.created_at + 3600
        batch = await client.files.create(file=NOTES, purpose="batch")
        assert batch.expires_at == batch.created_at + 30 * 86400

    run_files(scenario)


def test_what_is_impossible_is_refused_and_leaves_nothing(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        async with server.client() as client:

            async def refused(status: int, param: str | None, **form: Any) -> None:
                answer = await client.post("/files", **form)
                assert answer.status_code == status, answer.text
                assert answer.json()["error"]["param"] == param

            file, good = {"file": NOTES}, {"purpose": "assistants"}
            await refused(400, "purpose", files=file)
            await refused(400, "purpose", files=file, data={"purpose": "fun"})
            await refused(400, "purpose", files=file, data={"purpose": ["batch", "batch"]})
            await refused(400, "file", files={"other": (None, b"x")}, data=good)
            await refused(400, "file", files={"file": ("empty.txt", b"")}, data=good)
            await refused(400, "file", files=[("file", NOTES), ("file", NOTES)], data=good)
            await refused(400, None, files={**file, "other": NOTES}, data=good)
            await refused(400, "filename", files={"file": ("..", b"x")}, data=good)
            await refused(400, "filename", files={"file": ("x" * 256, b"x")}, data=good)
            for name, value in (("anchor", "now"), ("seconds", "60"), ("seconds", "1.5")):
                expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
                expiry[f"expires_after[{name}]"] = value
                await refused(400, f"expires_after.{name}", files=file, data={**good, **expiry})
            await refused(400, "purpose", files=file, data={"purpose": "x" * 5000})
            await refused(415, None, json={"purpose": "assistants"})
            assert await server.stored() == (0, 0)

    run_files(scenario)


def test_lists_are_filtered_ordered_and_paged(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        ids = []
        for number in range(5):
            purpose: Any = "batch" if number % 2 else "vision"
            made = await client.files.create(file=(f"{number}", b"x"), purpose=purpose)
            ids.append(made.id)
        assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in client.files.list(order="asc", limit=2)] == ids
        assert [f.id async for f in client.files.list(order="asc", purpose="batch")] == ids[1::2]
        page = await client.files.list(limit=2, after=ids[3])
        assert [file.id for file in page.data] == [ids[2], ids[1]]
        assert page.has_more
        async for file in client.files.list(limit=2):  # the next page begins behind a deleted one
            await client.files.delete(file.id)
        assert await server.stored() == (0, 0)
        for query in ("limit=0", "limit=10001", "order=up", "purpose=fun", "after=x", "after=%00"):
            async with server.client() as plain:
                assert (await plain.get(f"/files?{query}")).status_code == 400

    run_files(scenario)


def test_another_tenant_and_another_project_find_nothing(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        made = await server.sdk().files.create(file=NOTES, purpose="assistants")
        unknown = f"file-{uuid.uuid4().hex}"
        for key in ("foreign", await server.add_project()):
            async with server.client(key) as client:
                assert (await client.get("/files")).json()["data"] == []
                for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
                    answers = [
                        await client.request(method, f"/files/{id}{path}")
                        for id in (made.id, unknown)
                    ]
                    assert [answer.status_code for answer in answers] == [404, 404]
                    assert answers[0].content == answers[1].content
                after = [await client.get(f"/files?after={id}") for id in (made.id, unknown)]
                assert [answer.status_code for answer in after] == [400, 400]
                assert after[0].content == after[1].content
        assert (await server.sdk().files.content(made.id)).read() == b"hello there"

    run_files(scenario)


def test_scopes_tell_readers_from_writers(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        made = await server.sdk().files.create(file=NOTES, purpose="assistants")
        server.api.keys.principals |= {
            "reader": dataclasses.replace(server.one, scopes=frozenset({"files:read"})),
            "chatter": dataclasses.replace(server.one, scopes=frozenset({"chat"})),
        }
        reader, chatter = server.sdk("reader"), server.sdk("chatter")
        assert (await reader.files.retrieve(made.id)).id == made.id
        for refused in (
            reader.files.delete(made.id),
            reader.files.create(file=NOTES, purpose="assistants"),
            chatter.files.retrieve(made.id),
        ):
            with pytest.raises(openai.PermissionDeniedError):
                await refused

    run_files(scenario)


@pytest.mark.parametrize("name", ["naïve 🙂.html", 'a"b%.txt', "plain.svg"])
def test_a_download_is_an_attachment_and_never_a_page(run_files, name: str) -> None:
    async def scenario(server: FileServer) -> None:
        content = b"<script>alert(1)</script>"
        made = await server.sdk().files.create(file=(name, content), purpose="user_data")
        assert made.filename == name
        async with server.client() as client:
            answer = await client.get(f"/files/{made.id}/content")
            assert answer.content == content
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment; filename=")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]
            head = await client.head(f"/files/{made.id}/content")
            assert (head.status_code, head.content) == (200, b"")
            assert len(server.files.transfers) == 0

    run_files(scenario)


def test_a_quota_holds_between_uploads_at_the_same_time(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        file = ("x.bin", random_bytes(3 * PIECE_BYTES // 2))
        outcomes = await asyncio.gather(
            *(client.files.create(file=file, purpose="user_data") for _ in range(4)),
            return_exceptions=True,
        )
        stored = [made for made in outcomes if not isinstance(made, BaseException)]
        refused = [error for error in outcomes if isinstance(error, openai.RateLimitError)]
        assert len(stored) + len(refused) == 4
        assert 1 <= len(stored) <= 2  # of 4 MiB; more than one may have been half there
        for error in refused:
            assert error.code == "insufficient_quota"
            assert error.response.headers["x-should-retry"] == "false"
        await server.files.cleanup.sweep()
        assert await server.stored() == (len(stored) * len(file[1]), len(stored))
        await client.files.delete(stored[0].id)
        await client.files.create(file=file, purpose="user_data")  # the room is free at once

    run_files(scenario, tenant_mib=4)


def test_files_are_counted_and_sizes_limited(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        for _ in range(2):
            await client.files.create(file=NOTES, purpose="user_data")
        with pytest.raises(openai.RateLimitError, match="no more are allowed"):
            await client.files.create(file=NOTES, purpose="user_data")
        await server.sdk("foreign").files.create(file=NOTES, purpose="user_data")
        for content in (random_bytes(PIECE_BYTES + 1), random_bytes(2 * PIECE_BYTES)):
            with pytest.raises(openai.APIStatusError) as raised:
                await client.files.create(file=("x", content), purpose="user_data")
            assert raised.value.status_code == 413
        await server.files.cleanup.sweep()
        assert await server.stored() == (22, 2)

    run_files(scenario, max_file_mib=1, tenant_files=2)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE anzoth.file_parts SET content = set_byte(content, 30, get_byte(content, 30) # 1)",
        "UPDATE anzoth.file_parts SET piece = piece - 9; "
        "UPDATE anzoth.file_parts SET piece = -8 - piece",
        "UPDATE anzoth.file_parts SET content = '\\x01' WHERE piece = 0",
        "UPDATE anzoth.files SET layout = filename",
    ],
)
def test_damaged_and_exchanged_pieces_are_refused(run_files, harm: str) -> None:
    async def scenario(server: FileServer) -> None:
        content = random_bytes(PIECE_BYTES + 5)
        made = await server.sdk().files.create(file=("x", content), purpose="user_data")
        await as_owner(server.dsn, harm)
        with pytest.raises(openai.InternalServerError):
            await server.sdk().files.content(made.id)
        with pytest.raises(CannotOpen):
            await read(server, made.id)

    run_files(scenario)


def test_what_expires_is_gone_at_once_and_deleted_soon(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        made = await client.files.create(
            file=NOTES,
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        kept = await client.files.create(file=NOTES, purpose="user_data")
        await as_owner(
            server.dsn, f"UPDATE anzoth.files SET expires_at = now() WHERE id = '{made.id}'"
        )
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(made.id)
        assert [file.id async for file in client.files.list()] == [kept.id]
        await server.files.cleanup.sweep()
        assert await server.num_pieces() == 1
        assert await server.stored() == (11, 1)
        # Its row stays for a while: a list may be there.
        page = await client.files.list(after=made.id, order="asc")
        assert [file.id for file in page.data] == [kept.id]
        await as_owner(
            server.dsn,
            "UPDATE anzoth.files SET deleted_at = deleted_at - interval "
            f"'{file_cleanup.REMEMBERED_S + 1} s'",
        )
        await server.files.cleanup.sweep()
        assert await server.count("files") == 1
        assert await events(server) == [
            ("file.created", made.id, {"bytes": 11, "purpose": "user_data"}, "api_key"),
            ("file.created", kept.id, {"bytes": 11, "purpose": "user_data"}, "api_key"),
            ("file.deleted", made.id, {"reason": "expired"}, "system"),
        ]

    run_files(scenario)


async def events(server: FileServer) -> list[tuple[str, str, Any, str]]:
    async with pool.operator(server.dsn) as connection:
        rows = [row async for row in audit_rows.all_events(connection, server.one.tenant.id)]
    return [
        (row.type, row.target["id"], row.details, row.actor_kind)
        for row in rows
        if row.type.startswith("file.")
    ]


def test_what_a_crash_left_behind_is_deleted_when_its_time_is_over(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        incoming = await server.files.begin(owner_of(server.one))
        await incoming.write(random_bytes(2 * PIECE_BYTES))
        # The process dies here: nobody abandons it.
        await server.files.cleanup.sweep()
        assert await server.num_pieces() == 2
        await as_owner(server.dsn, "UPDATE anzoth.files SET expires_at = now()")
        await server.files.cleanup.sweep()
        assert await server.num_pieces() == 0
        assert await server.stored() == (0, 0)
        with pytest.raises(AnzothError, match="does not come in any more"):
            await incoming.complete(FileRequest("a.txt", "assistants", None))

    run_files(scenario)


def test_two_gateways_clean_up_at_the_same_time(run_files) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        for _ in range(5):
            made = await client.files.create(file=("x", random_bytes(9)), purpose="user_data")
            await client.files.delete(made.id)
        other = file_cleanup.FileCleanup(server.database)
        await asyncio.gather(server.files.cleanup.sweep(), other.sweep())
        assert await server.num_pieces() == 0

    run_files(scenario)


def test_content_and_names_are_nowhere_in_clear(run_files, postgres) -> None:
    async def scenario(server: FileServer) -> None:
        client = server.sdk()
        await client.files.create(file=("canaryname.txt", b"canarytext" * 50), purpose="user_data")
        upload = await client.uploads.create(
            bytes=10, filename="canaryname2", mime_type="text/plain", purpose="user_data"
        )
        await client.uploads.parts.create(upload.id, data=b"canarytext")
        # What is committed is in the write-ahead log: this shows that it would be found there.
        await as_owner(
            server.dsn,
            "CREATE TABLE anzoth.control (text text); "
            "INSERT INTO anzoth.control VALUES ('controlcanary')",
        )
        secrets = (b"canaryname", b"canarytext", "canaryname".encode("utf-16-le"))
        found = set()
        for path in postgres.data_dir.rglob("*"):
            with contextlib.suppress(OSError):  # Postgres may be removing it
                content = path.read_bytes()
                found |= {words for words in (b"controlcanary", *secrets) if words in content}
        assert found == {b"controlcanary"}

    run_files(scenario)
