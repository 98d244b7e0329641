"""Commands that are MCP servers: real processes, which do their worst."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp_kit import RAW_SERVER, connecting, limits, server_of, tool_named

from anzoth.gateway.tools.connections import ToolConnections
from anzoth.gateway.tools.definitions import (
    NO_CREDENTIALS,
    Credentials,
    GovernedTool,
    ToolDefinition,
    ToolFailure,
    ToolServer,
)
from anzoth.gateway.tools.mcp_process import check_environment

SECRET = "canary-secret"
WITH_SECRET = Credentials(environment={"SECRET": SECRET})
pytestmark = pytest.mark.slow


class Calling:
    """The tools of one server of a command."""

    def __init__(
        self, connections: ToolConnections, server: ToolServer, listed: Sequence[ToolDefinition]
    ) -> None:
        self.connections, self.server, self.listed = connections, server, listed

    async def call(self, name: str, **arguments: Any) -> str:
        tool = tool_named(self.server, self.listed, name)
        return (await self.connections.call(tool, arguments, WITH_SECRET)).text

    async def failure(self, name: str, **arguments: Any) -> ToolFailure:
        with pytest.raises(ToolFailure) as raised:
            await self.call(name, **arguments)
        assert SECRET not in str(raised.value)
        return raised.value


def run(body: Callable[[Calling], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        server = server_of(limits=limits(**more.pop("limits", {})))
        async with asyncio.timeout(60), connecting(**more) as (connections, _):
            listed = await connections.list_tools(server, WITH_SECRET)
            await body(Calling(connections, server, listed))

    asyncio.run(main())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def gone(pid: int) -> None:
    """Waits until it is."""
    async with asyncio.timeout(10):
        while is_running(pid):  # noqa: ASYNC110  # no event says it
            await asyncio.sleep(0.01)


def test_one_process_answers_many_calls_and_knows_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANZOTH_DATABASE_URL", "canary-of-the-gateway")

    async def body(server: Calling) -> None:
        assert await asyncio.gather(*(server.call("say", x=str(n)) for n in range(20))) == [
            str(n) for n in range(20)
        ]
        told = json.loads(await server.call("tell"))
        assert set(told["env"]) - {"LC_CTYPE"} == {"PATH", "HOME", "TMPDIR", "LANG", "SECRET"}
        assert told["env"]["SECRET"] == SECRET
        assert told["env"]["HOME"] == told["cwd"]
        folders.append(told["cwd"])
        memory, files, core = json.loads(await server.call("limits"))
        assert (memory, files, core) == (256 << 20, 256, 0)

    folders: list[str] = []
    run(body, command_memory_mib=256)
    assert not Path(folders[0]).exists()


def test_a_process_that_dies_floods_or_swells_is_contained() -> None:
    async def body(server: Calling) -> None:
        died = await server.failure("die")
        assert died.kind == "unreachable"
        assert await server.call("say", x="again") == "again"
        for flood in ("flood", "ask"):
            assert (await server.failure(flood)).kind == "too_large"
            assert await server.call("say", x="again") == "again"
        assert await server.call("swell") == "no memory"

    run(body, command_memory_mib=256)


def test_a_process_that_hangs_is_replaced() -> None:
    async def body(server: Calling) -> None:
        assert (await server.failure("hang")).kind == "timeout"
        assert await server.call("say", x="again") == "again"

    run(body, limits={"timeout_s": 2.0})


def test_all_that_a_process_started_ends_with_it() -> None:
    started: list[int] = []

    async def body(server: Calling) -> None:
        started.append(int(await server.call("fork")))
        assert is_running(started[0])
        await server.connections.close()
        await gone(started[0])

    run(body)


def test_a_process_that_does_not_read_is_ended() -> None:
    async def body(server: Calling) -> None:
        first, second = await asyncio.gather(
            *(server.failure("deaf", x="y" * 1_000_000) for _ in range(2))
        )
        assert (first.kind, second.kind) == ("timeout", "timeout")
        assert await server.call("say", x="again") == "again"

    run(body, limits={"timeout_s": 2.0})


def test_a_tool_that_changed_is_not_called() -> None:
    async def body(server: Calling) -> None:
        assert await server.call("change") == "changed"
        assert (await server.failure("say")).kind == "changed"
        assert await server.call("tell")

    run(body)


def test_a_process_ends_with_a_gateway_that_is_killed() -> None:
    """The kernel does it: nobody is there any more who could."""
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[3] / "support")!r})
from mcp_kit import connecting, server_of, tool_named
from anzoth.gateway.tools.definitions import NO_CREDENTIALS
async def main():
    async with connecting() as (connections, _):
        server = server_of()
        listed = await connections.list_tools(server, NO_CREDENTIALS)
        told = await connections.call(tool_named(server, listed, "tell"), {{}}, NO_CREDENTIALS)
        print(told.text, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    gateway = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    told = json.loads(gateway.stdout.readline())
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    asyncio.run(gone(told["pid"]))
    Path(told["cwd"]).rmdir()  # nobody was there to do that either


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
def test_a_command_of_a_server_that_is_root_s_is_nobody_s() -> None:
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no Python that everybody may run")

    async def body(server: Calling) -> None:
        told = json.loads(await server.call("tell"))
        assert told["uid"] == pwd.getpwnam("nobody").pw_uid
        assert os.stat(told["cwd"]).st_uid == told["uid"]

    program = (python, "-c", Path(RAW_SERVER[-1]).read_text())
    run(body, commands={"raw": program}, command_user="nobody")


def test_what_is_no_command_of_the_operator_s_is_not_started() -> None:
    async def body() -> None:
        commands = {"raw": RAW_SERVER, "gone": ("/nonexistent/program",)}
        async with connecting(commands=commands) as (connections, _):
            for name, kind in (("sh", "egress_refused"), ("gone", "unreachable")):
                with pytest.raises(ToolFailure) as raised:
                    await connections.list_tools(server_of(name), NO_CREDENTIALS)
                assert raised.value.kind == kind
            steering = Credentials(environment={"LD_PRELOAD": "/tmp/x.so"})
            with pytest.raises(ToolFailure, match="LD_PRELOAD cannot be set"):
                await connections.list_tools(server_of(), steering)

    asyncio.run(body())


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "BASH_ENV"]
    + ["PATH", "HOME", "IFS", "GIT_SSH_COMMAND", "HTTPS_PROXY", "JAVA_TOOL_OPTIONS", "PERL5OPT"]
    + ["RUBYOPT", "ENV", "SSL_CERT_FILE", "ANZOTH_MODELS", "a", "", "A=B", "BASH_FUNC_x%%"],
)
def test_a_variable_that_would_make_a_program_another_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="variable") as raised:
        check_environment({name: SECRET})
    assert SECRET not in str(raised.value)


def test_a_variable_that_is_a_secret_is_not() -> None:
    check_environment({"GITHUB_TOKEN": SECRET, "API_KEY": "a b", "NOTION_KEY_2": ""})
    for value in ("a\nb", "a\0b", "x" * 40_000):
        with pytest.raises(ValueError, match="API_KEY"):
            check_environment({"API_KEY": value})


def test_the_limits_do_not_touch_the_gateway() -> None:
    before = [resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]

    async def body(server: Calling) -> None:
        await server.call("say")

    run(body)
    after = [resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
    assert before == after


def test_the_sdk_s_own_server_speaks_the_newer_era_over_stdio() -> None:
    program = (
        "from mcp.server.mcpserver import MCPServer\n"
        "server = MCPServer('own')\n"
        "@server.tool()\n"
        "def add(a: int, b: int) -> int:\n    return a + b\n"
        "server.run()\n"
    )

    async def body() -> None:
        commands = {"own": (sys.executable, "-c", program)}
        async with connecting(commands=commands) as (connections, _):
            server = server_of("own", limits=limits(timeout_s=60.0))
            (add,) = await connections.list_tools(server, NO_CREDENTIALS)
            result = await connections.call(
                GovernedTool(server, add), {"a": 2, "b": 3}, NO_CREDENTIALS
            )
            assert result.text == "5"

    asyncio.run(body())
