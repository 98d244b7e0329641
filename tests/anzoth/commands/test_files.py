"""Does an operator store, see and delete a tenant's files?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anzoth.cli import build
from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows
from anzoth.file_config import FilesConfig
from anzoth.gateway import directory, keys, tenant_crypt
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.files import FileOwner, Files
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import TenantKeys

pytestmark = pytest.mark.slow

Anzoth = Callable[..., Result]


@pytest.fixture
def anzoth(dsn: str, tmp_path: Path) -> Anzoth:
    where = ["--database-url", dsn, "--data-dir", str(tmp_path / "data")]

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(build(), [*arguments, *where])

    return run


def test_files_are_stored_listed_and_deleted(dsn: str, tmp_path: Path, anzoth: Anzoth) -> None:
    for name in ("acme", "other"):
        anzoth("tenants", "create", name)
    first, second = tmp_path / "[bold]a.txt", tmp_path / "b.bin"
    first.write_bytes(b"hello")
    second.write_bytes(bytes(3 << 20))
    added = json.loads(
        anzoth("files", "add", str(first), str(second), "--tenant", "acme", "--json").stdout
    )
    assert [(file["filename"], file["bytes"]) for file in added] == [
        ("[bold]a.txt", 5),
        ("b.bin", 3 << 20),
    ]
    listed = anzoth("files", "list", "--tenant", "acme", "--json").stdout
    assert json.loads(listed) == added
    table = anzoth("files", "list", "--tenant", "acme").stdout
    assert "[bold]a.txt" in table
    assert "3,145,728" in table
    assert json.loads(anzoth("files", "list", "--tenant", "other", "--json").stdout) == []
    id = added[1]["id"]
    assert anzoth("files", "delete", id, "--tenant", "other").exit_code == 1
    assert anzoth("files", "delete", id, "--tenant", "acme").stdout == f"Deleted {id}.\n"
    assert json.loads(anzoth("files", "list", "--tenant", "acme", "--json").stdout) == added[:1]

    async def look() -> None:
        async with pool.operator(dsn) as connection:
            assert await connection.fetchval("SELECT count(*) FROM anzoth.file_parts") == 1
            rows = [row async for row in audit_rows.all_events(connection, None)]
        mine = [row for row in rows if row.type.startswith("file.")]
        assert [row.type for row in mine] == ["file.created", "file.created", "file.deleted"]
        assert {row.actor_kind for row in mine} == {"operator"}

    asyncio.run(look())


def test_a_gateway_with_the_same_data_directory_reads_what_was_added(
    dsn: str, tmp_path: Path, anzoth: Anzoth
) -> None:
    anzoth("tenants", "create", "acme")
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    (added,) = json.loads(anzoth("files", "add", str(path), "--tenant", "acme", "--json").stdout)

    async def read() -> bytes:
        pepper = keys.load_pepper(tmp_path / "data")
        created = await directory.create_key(dsn, pepper, KeyRequest("acme", "k"))
        handle = TenantHandle(created.tenant_id, "acme", "salt")
        database = await Database.open(dsn)
        master = tenant_crypt.load_master_key(tmp_path / "data")
        files = Files(database, TenantKeys(database, dsn, master), FilesConfig())
        owner = FileOwner(handle, created.project_id, directory.audit.operator())
        _, pieces = await files.content(owner, added["id"])
        content = b"".join([piece async for piece in pieces])
        await database.close()
        return content

    assert asyncio.run(read()) == b"hello"


def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, anzoth: Anzoth) -> None:
    anzoth("tenants", "create", "acme")
    empty = tmp_path / "empty.txt"
    empty.touch()
    for arguments, why in (
        (("list", "--tenant", "ghost"), "no tenant named 'ghost'"),
        (("list", "--tenant", "acme", "--project", "ghost"), "no project named 'ghost'"),
        (("delete", "file-0", "--tenant", "acme"), "There is no such file"),
        (("add", str(empty), "--tenant", "acme"), "The file is empty"),
        (("add", str(empty), "--tenant", "acme", "--purpose", "fun"), "the purpose can be"),
    ):
        refused = anzoth("files", *arguments)
        assert refused.exit_code == 1
        assert why in refused.stderr
        assert refused.stderr.count("\n") == 1
