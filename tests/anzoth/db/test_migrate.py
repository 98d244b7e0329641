"""Do migrations reach the schema that `schema.sql` shows, once, and refuse a history not ours?"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from anzoth.db import migrate, programs
from anzoth.db.errors import DatabaseDown, DatabaseUnusable

pytestmark = pytest.mark.slow


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def dump(dsn: str) -> str:
    """The schema as pg_dump prints it, without the table that records migrations."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    pg_dump = programs.find(owner_of=Path(host)).folder / "pg_dump"
    return subprocess.run(
        [pg_dump, "--schema-only", "--restrict-key=none", "--exclude-table=anzoth.migrations"]
        + [f"--host={host}", "--username=anzoth", f"--dbname={parts.path[1:]}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PGPORT": "5432"},
    ).stdout


def test_all_migrations_together_are_the_schema(empty_dsn: str, dsn: str) -> None:
    schema = resources.files("anzoth.db").joinpath("schema.sql").read_text()
    asyncio.run(execute(empty_dsn, schema))
    assert dump(empty_dsn) == dump(dsn)
    assert "FORCE ROW LEVEL SECURITY" in dump(dsn)


def test_a_difference_between_schema_and_migrations_would_show(empty_dsn: str, dsn: str) -> None:
    schema = resources.files("anzoth.db").joinpath("schema.sql").read_text()
    weakened = re.sub(r"ALTER TABLE anzoth\.usage FORCE ROW LEVEL SECURITY;", "", schema)
    asyncio.run(execute(empty_dsn, weakened))
    assert dump(empty_dsn) != dump(dsn)


def test_names_and_numbers_of_migrations_leave_no_gap() -> None:
    folder = resources.files("anzoth.db").joinpath("migrations")
    files = [file.name for file in folder.iterdir() if file.name.endswith(".sql")]
    migrations = migrate.available()
    assert sorted(files) == [migration.name for migration in migrations]
    assert [m.version for m in migrations] == list(range(1, len(migrations) + 1))


def test_migrating_again_does_nothing(empty_dsn: str) -> None:
    async def scenario() -> None:
        with pytest.raises(DatabaseUnusable, match="anzoth migrate"):
            await migrate.require_current(empty_dsn)
        assert await migrate.migrate(empty_dsn) == [m.name for m in migrate.available()]
        assert await migrate.migrate(empty_dsn) == []
        await migrate.require_current(empty_dsn)

    asyncio.run(scenario())


def test_two_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    async def scenario() -> None:
        applied = await asyncio.gather(*(migrate.migrate(empty_dsn) for _ in range(3)))
        assert sorted(map(len, applied)) == [0, 0, len(migrate.available())]

    asyncio.run(scenario())


def test_a_failing_migration_leaves_nothing_behind(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = migrate.available()
    bad = migrate.Migration(len(good) + 1, "9999_pre_bad.sql", "CREATE TABLE half (); SELECT 1/0")
    monkeypatch.setattr(migrate, "available", lambda: [*good, bad])

    async def scenario() -> None:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate.migrate(empty_dsn)
        monkeypatch.setattr(migrate, "available", lambda: good)
        assert await migrate.migrate(empty_dsn) == [m.name for m in good]

    asyncio.run(scenario())


def test_edited_and_unknown_migrations_are_refused(dsn: str) -> None:
    async def scenario() -> None:
        await execute(dsn, "UPDATE anzoth.migrations SET checksum = 'other' WHERE version = 1")
        with pytest.raises(DatabaseUnusable, match="never edited"):
            await migrate.migrate(dsn)
        newer = "SET version = 900, name = '0900_pre_new.sql' WHERE version = 1"
        await execute(dsn, f"UPDATE anzoth.migrations {newer}")
        with pytest.raises(DatabaseUnusable, match="newer"):
            await migrate.require_current(dsn)

    asyncio.run(scenario())


def test_no_message_quotes_the_password() -> None:
    async def scenario() -> None:
        for url, kind in (
            ("postgresql://u:canary@127.0.0.1:1/db", DatabaseDown),
            ("postgresql://u:canary@h:port/db", DatabaseUnusable),
            ("mysql://u:canary@h/db", DatabaseUnusable),
        ):
            with pytest.raises(kind) as caught:
                await migrate.migrate(url)
            assert "canary" not in str(caught.value)

    asyncio.run(scenario())
