"""Can an operator list, export and verify the log, and does tampering end with status 1?"""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from anzoth.cli import build
from anzoth.db import pool
from anzoth.gateway import directory

pytestmark = pytest.mark.slow


class Commands:
    """`anzoth audit` on one database and one data directory."""

    def __init__(self, dsn: str, data_dir: Path) -> None:
        self.where = ("--database-url", dsn, "--data-dir", str(data_dir))

    def run(self, *arguments: str, where: bool = True) -> Result:
        return CliRunner().invoke(build(), ["audit", *arguments, *(self.where if where else ())])

    def json(self, *arguments: str, status: int = 0, where: bool = True) -> Any:
        done = self.run(*arguments, "--json", where=where)
        assert done.exit_code == status, done.stderr
        return json.loads(done.stdout)


async def prepare(dsn: str) -> None:
    for name in ("acme", "other"):
        await directory.create_tenant(dsn, name)
    await directory.delete_tenant(dsn, "other")


async def tamper(dsn: str, *statements: str) -> None:
    """What the owner of the database can do."""
    connection = await asyncpg.connect(dsn)
    try:
        for table in ("audit_log", "audit_heads"):
            await connection.execute(f"ALTER TABLE anzoth.{table} NO FORCE ROW LEVEL SECURITY")
            await connection.execute(f"ALTER TABLE anzoth.{table} DISABLE TRIGGER append_only")
        for statement in statements:
            assert not (await connection.execute(statement)).endswith(" 0")
    finally:
        await connection.close()


def test_an_export_is_verified_offline_and_a_changed_one_is_not(dsn: str, tmp_path: Path) -> None:
    asyncio.run(prepare(dsn))
    commands = Commands(dsn, tmp_path / "data")
    assert len(commands.json("sign")) == 3
    assert commands.json("sign") == []
    public_key = commands.json("key", "--data-dir", str(tmp_path / "data"), where=False)[
        "public_key"
    ]
    assert stat.S_IMODE((tmp_path / "data" / "audit_key").stat().st_mode) == 0o600
    file = tmp_path / "audit.jsonl"
    exported = commands.json("export", str(file))
    assert (exported["num_events"], exported["public_key"]) == (6, public_key)
    report = commands.json("verify", str(file), "--public-key", public_key, where=False)
    assert (report["num_events"], report["num_chains"], report["num_heads"]) == (6, 3, 3)
    assert (report["problems"], report["num_after_heads"]) == ([], 0)
    other = commands.json("verify", str(file), "--public-key", "0" * 64, where=False, status=1)
    assert "not trusted" in other["problems"][0]["reason"]

    lines = file.read_bytes().splitlines(keepends=True)
    bad = tmp_path / "bad.jsonl"
    third = next(n for n, line in enumerate(lines) if b'"event"' in line and b'"seq":3' in line)
    bad.write_bytes(b"".join(lines).replace(b'"name":"acme"', b'"name":"acne"', 1))
    (problem,) = commands.json("verify", str(bad), where=False, status=1)["problems"]
    assert (problem["tenant_id"], problem["seq"]) == (None, 1)
    done = commands.run("verify", str(bad), where=False)
    assert done.exit_code == 1
    assert "BAD  installation, event 1" in done.stdout
    bad.write_bytes(b"".join(lines[:third] + lines[third + 1 :]))
    (problem,) = commands.json("verify", str(bad), where=False, status=1)["problems"]
    assert (problem["seq"], "head" in problem["reason"]) == (3, True)
    bad.write_bytes(b"".join([*lines[:-1], b" " + lines[-1]]))
    assert f"line {len(lines)} is neither" in commands.run("verify", str(bad), where=False).stdout
    bad.write_text("nonsense\n")
    done = commands.run("verify", str(bad), where=False)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert commands.run("export", str(file)).exit_code == 1  # nothing is overwritten


def test_the_database_itself_is_verified_against_this_installation_s_key(
    dsn: str, tmp_path: Path
) -> None:
    asyncio.run(prepare(dsn))
    commands = Commands(dsn, tmp_path / "data")
    commands.json("sign")
    earlier = tmp_path / "earlier.jsonl"
    commands.json("export", str(earlier))
    assert commands.json("verify")["problems"] == []
    assert "The log is whole" in commands.run("verify").stdout
    # The end of the installation's chain and everybody's heads are gone: an earlier export tells.
    statements = (
        "DELETE FROM anzoth.audit_heads",
        "DELETE FROM anzoth.audit_log WHERE tenant_id IS NULL AND seq = 3",
    )
    asyncio.run(tamper(dsn, *statements))
    assert commands.json("verify")["problems"] == []
    (problem,) = commands.json("verify", "--earlier", str(earlier), status=1)["problems"]
    assert (problem["tenant_id"], problem["seq"]) == (None, 3)
    change = "UPDATE anzoth.audit_log SET actor_id = 'x' WHERE tenant_id IS NOT NULL AND seq = 1"
    asyncio.run(tamper(dsn, change))
    problems = commands.json("verify", status=1)["problems"]
    assert [(p["seq"], p["reason"]) for p in problems] == [
        (1, "its content is not what was hashed")
    ] * 2
    (problem,) = commands.json("verify", "--tenant", "acme", status=1)["problems"]
    assert problem["tenant_id"] is not None
    assert commands.json("verify", "--tenant", "-")["num_chains"] == 1


def test_the_list_shows_what_was_asked_for(dsn: str, tmp_path: Path) -> None:
    asyncio.run(prepare(dsn))
    commands = Commands(dsn, tmp_path / "data")
    listed = commands.json("list")
    assert [event["type"] for event in listed].count("tenant.created") == 4
    assert len(commands.json("list", "--tenant", "acme")) == 1
    assert len(commands.json("list", "--type", "tenant.deleted")) == 2
    assert commands.json("list", "--since", "2999-01-01") == []
    assert len(commands.json("list", "--limit", "2")) == 2
    printed = commands.run("list").stdout
    assert "tenant.deleted" in printed
    assert "acme" in printed
    assert "no event 'x'" in commands.run("list", "--type", "x").stderr
    assert "no tenant named" in commands.run("list", "--tenant", "x").stderr


def test_heads_are_signed_again_only_when_a_chain_grew(dsn: str, tmp_path: Path) -> None:
    asyncio.run(prepare(dsn))
    commands = Commands(dsn, tmp_path / "data")
    assert sorted(head["seq"] for head in commands.json("sign")) == [1, 2, 3]

    async def grow() -> int:
        await directory.create_tenant(dsn, "third")
        async with pool.operator(dsn) as connection:
            return await connection.fetchval("SELECT count(*) FROM anzoth.audit_heads")

    assert asyncio.run(grow()) == 3
    assert sorted(head["seq"] for head in commands.json("sign")) == [1, 4]
