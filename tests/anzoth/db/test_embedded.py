"""Does the embedded Postgres start, keep its data, and end with whoever started it?"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from anzoth.db import cluster, embedded, programs
from anzoth.db.embedded import Warden
from anzoth.db.errors import DatabaseDown, DatabaseUnusable

pytestmark = pytest.mark.slow


async def query(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def postgres_processes(data_dir: Path) -> set[int]:
    """Processes that run in the cluster's data folder: the postmaster and all its children."""
    data = os.path.realpath(data_dir / "postgres" / "data")
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == data:
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def test_data_survives_a_stop_and_a_start(data_dir: Path) -> None:
    async def scenario() -> None:
        async with embedded.running(data_dir) as dsn:
            await query(dsn, "CREATE TABLE kept (value int)")
            await query(dsn, "INSERT INTO kept VALUES (7)")
            assert postgres_processes(data_dir)
        assert not postgres_processes(data_dir)
        async with embedded.running(data_dir) as dsn:
            assert await query(dsn, "SELECT value FROM kept") == 7

    asyncio.run(scenario())


def test_the_session_user_is_no_superuser_and_nothing_listens_on_tcp(postgres) -> None:
    async def scenario() -> None:
        dsn = postgres.dsn()
        assert await query(dsn, "SELECT session_user::text") == "anzoth"
        above = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user"
        assert await query(dsn, above) is False
        assert await query(dsn, "SHOW listen_addresses") == ""
        assert await query(dsn, "SHOW fsync") == "on"

    asyncio.run(scenario())
    folder = cluster.socket_folder_of(postgres.data_dir / "postgres")
    assert folder.stat().st_mode & 0o077 == 0


def test_commands_that_overlap_share_one_postgres(data_dir: Path) -> None:
    async def visit(hold_s: float) -> object:
        async with embedded.running(data_dir) as dsn:
            started = await query(dsn, "SELECT pg_postmaster_start_time()")
            await asyncio.sleep(hold_s)
            assert await query(dsn, "SELECT pg_postmaster_start_time()") == started
            return started

    async def scenario() -> None:
        # The first one starts Postgres and is done first; the others must not lose it.
        first = asyncio.create_task(visit(0.3))
        for _ in range(2000):
            if cluster.has_socket(data_dir):
                break
            await asyncio.sleep(0.01)
        seen = {await first, *(await asyncio.gather(*(visit(0.1) for _ in range(3))))}
        assert len(seen) <= 2

    asyncio.run(scenario())
    assert not postgres_processes(data_dir)


def test_killed_supervisor_leaves_no_process(data_dir: Path) -> None:
    code = (
        "import asyncio, pathlib\n"
        "from anzoth.db.embedded import Warden\n"
        "async def main():\n"
        f"    warden = await Warden.start(pathlib.Path({str(data_dir)!r}))\n"
        "    await warden.wait_ready()\n"
        "    print(warden.process.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        warden = int(supervisor.stdout.readline())
        assert postgres_processes(data_dir)
        supervisor.kill()
        supervisor.wait()
    until(lambda: not postgres_processes(data_dir), "Postgres is gone")
    until(lambda: not Path(f"/proc/{warden}/environ").exists(), "the warden is gone")


def test_killed_warden_takes_postgres_with_it_and_the_next_one_waits(data_dir: Path) -> None:
    async def scenario() -> None:
        first = await Warden.start(data_dir)
        await first.wait_ready()
        await query(first.dsn, "CREATE TABLE kept ()")
        first.process.kill()
        # At once, while the orphaned Postgres is still writing its checkpoint.
        second = await Warden.start(data_dir)
        await second.wait_ready()
        assert await query(second.dsn, "SELECT count(*) FROM kept") == 0
        await first.stop()
        await second.stop()
        assert second.process.returncode == 0

    asyncio.run(scenario())
    assert not postgres_processes(data_dir)


def test_killed_postgres_ends_the_warden_and_can_be_started_again(data_dir: Path) -> None:
    async def scenario() -> None:
        warden = await Warden.start(data_dir, log_level="critical")
        await warden.wait_ready()
        await query(warden.dsn, "CREATE TABLE kept ()")
        postmaster = int((data_dir / "postgres/data/postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert await warden.process.wait() == 1
        again = await Warden.start(data_dir)
        await again.wait_ready()
        assert await query(again.dsn, "SELECT count(*) FROM kept") == 0
        await again.stop()
        await warden.stop()

    asyncio.run(scenario())


def test_a_second_warden_gives_up_in_one_sentence(postgres) -> None:
    async def scenario() -> None:
        second = await Warden.start(postgres.data_dir, lock_timeout_s=0.1)
        with pytest.raises(DatabaseDown, match="still using this data directory"):
            await second.wait_ready()
        await second.stop()

    asyncio.run(scenario())


def test_a_warden_that_waits_for_the_lock_can_be_stopped(postgres) -> None:
    async def scenario() -> None:
        waiting = await Warden.start(postgres.data_dir, lock_timeout_s=600)
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            await waiting.stop()

    asyncio.run(scenario())


def test_half_a_first_start_does_not_count(data_dir: Path) -> None:
    (data_dir / "postgres" / "data.new").mkdir(parents=True)
    (data_dir / "postgres" / "data.new" / "PG_VERSION").write_text("18\n")

    async def scenario() -> None:
        async with embedded.running(data_dir) as dsn:
            assert await query(dsn, "SELECT 1") == 1

    if os.geteuid() == 0:
        cluster.prepare(data_dir)  # hands the folder over to Postgres' user
    asyncio.run(scenario())


def test_data_of_another_version_is_refused(data_dir: Path) -> None:
    prepared = cluster.prepare(data_dir)
    prepared.data.mkdir()
    (prepared.data / "PG_VERSION").write_text("15\n")

    async def scenario() -> None:
        with pytest.raises(DatabaseUnusable, match=r"PostgreSQL 15.*--database-url"):
            async with embedded.running(data_dir):
                pass

    asyncio.run(scenario())


def test_a_long_path_moves_the_socket_but_not_the_data(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    for path in (deep, deep.parent):
        path.chmod(0o711)

    async def scenario() -> None:
        async with embedded.running(deep) as dsn:
            assert await query(dsn, "SELECT 1") == 1

    asyncio.run(scenario())
    assert (deep / "postgres" / "data" / "PG_VERSION").exists()
    sockets = cluster.socket_folder_of(deep / "postgres")
    assert sockets.parent != deep / "postgres"
    sockets.rmdir()


def test_a_socket_folder_made_by_a_stranger_is_not_trusted(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = data_dir / ("d" * 110)
    deep.mkdir()
    elsewhere = data_dir / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    planted = cluster.socket_folder_of(deep / "postgres")
    planted.symlink_to(data_dir)
    with pytest.raises(DatabaseUnusable):
        cluster.prepare(deep)
    assert not cluster.has_socket(deep)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_a_data_dir_that_postgres_may_not_enter_is_placed_elsewhere(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = data_dir / "home"
    closed.mkdir(mode=0o700)
    base = data_dir / "shared"
    monkeypatch.setattr("anzoth.db.programs.SHARED_BASE", base)
    data_dir.chmod(0o755)
    prepared = cluster.prepare(closed / "anzoth")
    assert prepared.folder.parent == base
    assert cluster.folder_of(closed / "anzoth") == prepared.folder
    cluster.initialise(prepared)
    assert cluster.prepare(closed / "anzoth") == prepared
    # A data dir that is made anew does not find what an earlier one left there.
    (closed / "anzoth" / "postgres.location").unlink()
    assert cluster.prepare(closed / "anzoth").folder != prepared.folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_programs_that_postgres_user_may_not_read_are_copied(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = programs.find(owner_of=data_dir).folder.parents[1]
    closed = data_dir / "venv"
    closed.mkdir(mode=0o700)
    for folder in (f"{wheel.name}/pginstall18", f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / folder, closed / folder)
    monkeypatch.setattr("anzoth.db.programs.SHARED_BASE", data_dir / "shared")
    monkeypatch.syspath_prepend(closed)
    (closed / wheel.name / "__init__.py").write_text("raise AssertionError('imported')\n")
    found = programs.find(owner_of=data_dir)
    assert found.folder.is_relative_to(data_dir / "shared")
    assert found.can_run_in(Path("/"))
    assert programs.find(owner_of=data_dir) == found


def test_a_data_dir_that_cannot_be_made_is_one_sentence(data_dir: Path) -> None:
    (data_dir / "file").write_text("")

    async def scenario() -> None:
        with pytest.raises(DatabaseUnusable, match="data directory"):
            async with embedded.running(data_dir / "file" / "inside"):
                pass

    asyncio.run(scenario())


def test_the_warden_reports_its_failure_to_whoever_started_it(data_dir: Path) -> None:
    (data_dir / "file").write_text("")
    settings = {"data_dir": str(data_dir / "file" / "inside"), "report": True}
    done = subprocess.run(
        [sys.executable, "-m", "anzoth.db.warden"],
        input=json.dumps(settings) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--database-url" in json.loads(done.stdout)["error"]
    assert (done.returncode, done.stderr) == (78, "")
