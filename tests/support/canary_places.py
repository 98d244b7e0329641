"""Where could a secret of a running installation be? All of it, as bytes to be searched."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.db import pool

SECRET_FILES = {
    "pepper": frozenset({"pepper", "pepper, as bytes"}),
    "master_key": frozenset({"master key"}),
    "audit_key": frozenset({"audit key", "audit key, as bytes"}),
}
"""Files of the data directory whose purpose is to hold a secret: which one."""
FIRST_SECRETS = frozenset({"first key", "bootstrap token"})
"""What a first start prints, because nothing can show it again."""
STORED = frozenset({"end user", "metadata", "alias prompt", "tool description"})
"""What usage rows, aliases and tools hold because the tenant said so."""
OPERATORS_OWN = frozenset({"database password", "backend key"})
"""What the operator put into the environment of `anzoth serve`, and of no other process."""


@dataclass(frozen=True, slots=True)
class Place:
    """One thing that somebody can read. `may_hold`: names of secrets that belong there."""

    kind: str
    name: str
    content: bytes = field(repr=False)
    may_hold: frozenset[str] = frozenset()


def files(folder: Path) -> Iterator[Place]:
    """Every file below, the database's own included, as it is on the disk now."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_symlink() or not stat.S_ISREG(path.lstat().st_mode):
                continue
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # a database removes some while we look
        parts = path.relative_to(folder).parts
        may_hold = STORED if parts[0] in ("postgres", "journal") else frozenset()
        if len(parts) == 1 and parts[0] in SECRET_FILES:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            may_hold = SECRET_FILES[parts[0]]
        if parts == ("serve.log",):
            yield Place("log", "serve.log", content, FIRST_SECRETS)
        elif parts == ("postgres", "log"):
            yield Place("log", "postgres/log", content)
        else:
            yield Place("file", "/".join(parts), content, may_hold)


def processes(pids: set[int], supervisor: int) -> Iterator[Place]:
    """Command lines and environments, as `ps` shows them."""
    for pid in sorted(pids):
        for name in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{name}").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue  # Postgres' processes come and go
            is_told = pid == supervisor and name == "environ"
            may_hold = OPERATORS_OWN if is_told else frozenset()
            yield Place("process", f"{name} of {pid}", content, may_hold)


def database(dsn: str) -> list[Place]:
    """Every row of every table, as a dump shows them."""

    async def dump() -> list[Place]:
        found = []
        async with pool.operator(dsn) as connection:
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'anzoth' ORDER BY 1"
            )
            for (table,) in tables:
                if table == "migrations":
                    continue  # numbers
                rows = await connection.fetch(f'SELECT t::text FROM anzoth."{table}" AS t')
                content = "\n".join(row[0] for row in rows).encode()
                found.append(Place("database", table, content, STORED))
        return found

    return asyncio.run(dump())
