"""What is written down of a call, whatever breaks off meanwhile, and what is nowhere."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import pytest
from calls_kit import only_refused, run
from tools_policy_kit import World

from anzoth.errors import DatabaseUnavailable
from anzoth.gateway import keys
from anzoth.gateway.tools import call_audit
from anzoth.gateway.tools.definitions import GovernedTool, ToolResult

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "a fault of ours"])
def test_a_call_that_is_broken_off_is_written_down(dsn: str, is_cancelled: bool) -> None:
    async def scenario(made: World) -> None:
        reached, ended = asyncio.Event(), asyncio.Event()

        async def answer(tool: GovernedTool, arguments: Mapping[str, Any]) -> ToolResult:
            reached.set()
            try:
                if not is_cancelled:
                    raise KeyError
                return await asyncio.Future()
            finally:
                ended.set()

        made.answer = answer
        task = asyncio.ensure_future(made.caller().call(made.turn(), "call_1", "crm__find", "{}"))
        await reached.wait()
        if is_cancelled:
            task.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else KeyError):
            await task
        assert ended.is_set()
        _, completed = await made.events()
        assert completed.details["outcome"] == ("cancelled" if is_cancelled else "broken")

    run(dsn, scenario)


@pytest.mark.parametrize("is_called", [True, False], ids=["after the call", "before it"])
def test_a_client_that_leaves_while_it_is_written_down_leaves_nothing_open(
    dsn: str, is_called: bool
) -> None:
    async def scenario(made: World) -> None:
        is_writing, go = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            if bool(made.calls) is is_called:
                is_writing.set()
                await go.wait()

        made.database.wait = wait
        task = asyncio.ensure_future(made.caller().call(made.turn(), "call_1", "crm__find", "{}"))
        await is_writing.wait()
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bool(made.calls) is is_called
        called, completed = await made.events()
        assert (called.type, completed.type) == ("tool.called", "tool.completed")
        assert completed.details["outcome"] == ("ok" if is_called else "cancelled")

    run(dsn, scenario)


def test_a_call_that_cannot_be_written_down_is_not_made(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(made: World) -> None:
        made.database.is_away = lambda: True
        outcome = await made.caller().call(made.turn(), "call_1", "crm__find", "{}")
        assert (outcome.decision, outcome.rule) == ("denied", "server.audit")
        assert made.calls == []
        refused = await made.caller().call(made.turn(), "call_2", "mail__send", "{}")
        assert refused.decision == "needs_approval"
        made.database.is_away = lambda: False
        assert await made.events() == []
        made.error = DatabaseUnavailable()
        outcome = await made.caller().call(made.turn(), "call_3", "crm__find", "{}")
        await only_refused(made, outcome, "server.database")

    run(dsn, scenario)
    assert "cannot be written to the audit log" in caplog.text


def test_a_result_is_not_lost_with_the_database(dsn: str) -> None:
    async def scenario(made: World) -> None:
        made.database.is_away = lambda: bool(made.calls)
        outcome = await made.caller().call(made.turn(), "call_1", "crm__find", "{}")
        assert (outcome.decision, outcome.text) == ("allowed", "crm__find was here")
        made.database.is_away = lambda: False
        assert [event.type for event in await made.events()] == ["tool.called"]

    run(dsn, scenario)


def test_arguments_are_kept_sealed_where_the_operator_wants_them(dsn: str) -> None:
    secret = "x" * 20_000

    async def scenario(made: World) -> None:
        caller, turn = made.caller(keeps_arguments=True), made.turn()
        await caller.call(turn, "call_1", "crm__find", '{"number": 5}')
        await caller.call(made.turn(), "call_2", "crm__delete_account", f'{{"a": "{secret}"}}')
        first, _, second, _ = await made.events()
        cipher = await made.tenant_keys.cipher(made.principal.tenant)

        def opened(event: Any, call_id: str) -> bytes:
            sealed = base64.b64decode(event.details["arguments"])
            return cipher.open(sealed, call_audit.arguments_label("req_1", call_id))

        assert opened(first, "call_1") == b'{"number":5}'
        cut = opened(second, "call_2")
        assert cut == f'{{"a":"{secret}"}}'.encode()[: len(cut)]
        assert second.details["arguments_bytes"] > len(cut) > 1000

    run(dsn, scenario)


def test_no_secret_and_no_words_of_the_call_are_in_the_log(dsn: str) -> None:
    key = keys.mint().text

    async def scenario(made: World) -> None:
        turn = made.turn(end_user=f"me {key}", model=key, reads=["passage"])
        caller = made.caller()
        for name, arguments in (
            ("crm__find", '{"number": 31337}'),
            ("crm__find", f'{{"number": "{key}"}}'),
            (f"give me {key}", "{}"),
            (key, "{}"),
        ):
            await caller.call(turn, f"call {key}", name, arguments)
        events = await made.events()
        assert [event.type for event in events] == [
            *("tool.called", "tool.completed", "tool.refused", "tool.refused", "tool.refused")
        ]
        for event in events:
            said = f"{event.target} {event.details}"
            assert key[20:] not in said
            assert "31337" not in said
            assert "was here" not in said
            assert "give me" not in said

    run(dsn, scenario)


def test_no_argument_is_in_a_repr() -> None:
    call = call_audit.Call(
        *("id", "name", {"a": "secret"}, None, "req", None, None, "m", ())  # type: ignore[arg-type]
    )
    assert "secret" not in repr(call)
