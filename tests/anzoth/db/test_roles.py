"""What does a database user need who may not create roles, and what is he told?"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from anzoth.db import cluster, embedded, migrate
from anzoth.db.errors import DatabaseUnusable
from anzoth.db.pool import Database

pytestmark = pytest.mark.slow


@dataclass
class Server:
    """A Postgres as an administrator would hand it out, with users of different rights."""

    data_dir: Path
    prepared: cluster.Cluster

    def as_superuser(self, *statements: str) -> None:
        """In single-user mode: over the socket nobody is a superuser."""
        self.prepared.programs.check(
            ["postgres", "--single", "-D", str(self.prepared.data), "anzoth"],
            self.prepared.folder,
            "".join(f"{statement};\n" for statement in statements),
        )

    def dsn(self, user: str) -> str:
        folder = quote(str(cluster.socket_folder_of(self.prepared.folder)), safe="")
        return f"postgresql://{user}@/anzoth?host={folder}&port=5432"


@pytest.fixture
def server(data_dir: Path) -> Server:
    prepared = cluster.prepare(data_dir)
    cluster.initialise(prepared)
    made = Server(data_dir, prepared)
    made.as_superuser("CREATE ROLE plain LOGIN", "GRANT CREATE ON DATABASE anzoth TO plain")
    return made


def run(server: Server, scenario) -> None:
    """With Postgres running, and its access rules letting us in as any of its users."""

    async def main() -> None:
        async with embedded.running(server.data_dir):
            me = pwd.getpwuid(os.geteuid()).pw_name
            ident = server.prepared.folder / "ident.conf"
            ident.write_text(ident.read_text() + f'anzoth "{me}" plain\n')
            hba = server.prepared.folder / "hba.conf"
            hba.write_text("local all all peer map=anzoth\n")
            postmaster = (server.prepared.data / "postmaster.pid").read_text().split()[0]
            os.kill(int(postmaster), signal.SIGHUP)
            for _ in range(500):
                if await embedded.can_connect(server.dsn("plain")):
                    break
                await asyncio.sleep(0.01)
            await scenario()

    asyncio.run(main())


def test_who_may_not_create_roles_is_told_what_to_run(server: Server) -> None:
    async def scenario() -> None:
        with pytest.raises(DatabaseUnusable, match="as a superuser run: CREATE ROLE anzoth_app;"):
            await migrate.migrate(server.dsn("plain"))

    run(server, scenario)


def test_who_may_not_act_as_an_existing_role_is_told_what_to_run(server: Server) -> None:
    server.as_superuser("CREATE ROLE anzoth_app", "CREATE ROLE anzoth_operator")

    async def scenario() -> None:
        with pytest.raises(DatabaseUnusable, match=r'GRANT anzoth_app, .* TO "plain"'):
            await migrate.migrate(server.dsn("plain"))

    run(server, scenario)


def test_prepared_roles_are_enough(server: Server) -> None:
    server.as_superuser(
        "CREATE ROLE anzoth_app",
        "CREATE ROLE anzoth_operator",
        "GRANT anzoth_app, anzoth_operator TO plain",
    )

    async def scenario() -> None:
        await migrate.migrate(server.dsn("plain"))
        database = await Database.open(server.dsn("plain"))
        await database.ping()
        await database.close()

    run(server, scenario)


def test_a_role_that_is_above_row_level_security_is_refused(server: Server) -> None:
    server.as_superuser("CREATE ROLE anzoth_app BYPASSRLS")

    async def scenario() -> None:
        with pytest.raises(DatabaseUnusable, match="NOBYPASSRLS"):
            await migrate.migrate(server.dsn("anzoth"))

    run(server, scenario)
