"""Does the audit log tell what became of a request's calls, to nobody but who may ask?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tools_policy_kit import World, make_tool, world

from anzoth.db.store.usage_rows import RequestRow
from anzoth.gateway import directory
from anzoth.gateway.past_requests import PastRequests
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tools.definitions import GovernedTool, ToolFailure, ToolResult
from anzoth.gateway.tools.past_calls import PastCall

pytestmark = pytest.mark.slow

FIND = make_tool("crm__find", is_read_only=True)
SEND = make_tool("mail__send", id=UUID(int=22))


def request_of(made: World, **changed: Any) -> RequestRow:
    fields: dict[str, Any] = dict.fromkeys(RequestRow.__slots__)
    key_id, now = made.principal.key_id, datetime.now(UTC)
    return RequestRow(
        **{**fields, "request_id": "req_1", "key_id": key_id, "started_at": now, **changed}
    )


async def answer_by_number(tool: GovernedTool, arguments: Mapping[str, Any]) -> ToolResult:
    if arguments.get("fail"):
        raise ToolFailure("too_large", "The result is too large.")
    return ToolResult("found", num_bytes=7)


def test_each_call_is_told_once_with_its_end(dsn: str) -> None:
    async def main() -> None:
        async with world(dsn, FIND, SEND) as made:
            made.answer = answer_by_number
            caller, turn = made.caller(), made.turn()
            for id, name, arguments in (
                ("call_1", "crm__find", "{}"),
                ("call_2", "mail__send", "{}"),
                ("call_3", "crm__find", '{"fail": true}'),
                ("call_3", "crm__find", "{}"),
                ("call_4", "no such name", "{}"),
            ):
                await caller.call(turn, id, name, arguments)
            found = await PastRequests(made.database).calls_of(made.principal, request_of(made))
            assert [
                (call.id, call.name, call.decision, call.rule, call.outcome, call.num_bytes)
                for call in found
            ] == [
                ("call_1", "crm__find", "allowed", "tool.granted", "ok", 7),
                ("call_2", "mail__send", "needs_approval", "tool.approval", None, None),
                ("call_3", "crm__find", "allowed", "tool.granted", "too_large", 0),
                ("call_3", "crm__find", "allowed", "tool.granted", "ok", 7),
                ("call_4", None, "denied", "key.tool", None, None),
            ]
            assert found[0].server_id == str(FIND.server.id)
            assert found[0].digest == FIND.definition.digest.hex()

    asyncio.run(main())


def test_a_call_whose_end_is_not_written_has_none(dsn: str) -> None:
    async def main() -> None:
        async with world(dsn, FIND) as made:
            made.database.is_away = lambda: bool(made.calls)
            await made.caller().call(made.turn(), "call_1", "crm__find", "{}")
            made.database.is_away = lambda: False
            (call,) = await PastRequests(made.database).calls_of(made.principal, request_of(made))
            assert (call.decision, call.outcome, call.latency_ms) == ("allowed", None, None)

    asyncio.run(main())


def test_calls_of_other_requests_keys_and_tenants_are_not_told(dsn: str) -> None:
    async def main() -> None:
        async with world(dsn, FIND) as made:
            await made.caller().call(made.turn(), "call_1", "crm__find", "{}")
            past = PastRequests(made.database)

            async def told(**changed: Any) -> list[PastCall]:
                return list(await past.calls_of(made.principal, request_of(made, **changed)))

            assert len(await told()) == 1
            assert await told(request_id="req_2") == []
            assert await told(key_id=UUID(int=77)) == []
            later = datetime.now(UTC) + timedelta(minutes=10)
            assert await told(started_at=later) == []
            other = await directory.create_tenant(dsn, "other")
            tenant = TenantHandle(other.id, "other", "salt")
            foreign = replace(made.principal, tenant=tenant)
            assert list(await past.calls_of(foreign, request_of(made))) == []

    asyncio.run(main())
