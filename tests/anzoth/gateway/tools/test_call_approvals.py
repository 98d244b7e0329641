"""A person's approval makes the call that it was asked for, and makes it once."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import asyncpg
import pytest
from calls_kit import ASKING, only_refused, run
from tools_policy_kit import World

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.store import approval_rows
from anzoth.gateway import audit, directory
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tools.calling import ToolTurn
from anzoth.gateway.tools.grants import GrantedTool

pytestmark = pytest.mark.slow


def test_a_call_that_needs_approval_is_made_once_a_person_approved_it(dsn: str) -> None:
    async def scenario(made: World) -> None:
        caller = made.caller()
        outcome = await caller.call(made.turn(), "call_1", "mail__send", "{}")
        await only_refused(made, outcome, "tool.approval", "needs_approval")
        turn = made.turn(rejected=frozenset({"call_1"}))
        outcome = await caller.call(turn, "call_1", "mail__send", "{}")
        await only_refused(made, outcome, "tool.rejected", "rejected")
        turn = made.turn(reads=["send it"], approved={"call_1": "mcpr_1"})
        outcome = await caller.call(turn, "call_1", "mail__send", "{}")
        assert (outcome.decision, outcome.rule) == ("allowed", "tool.approved")
        outcome = await caller.call(turn, "call_2", "mail__send", "{}")
        assert outcome.decision == "needs_approval"
        assert len(made.calls) == 1

    run(dsn, scenario)


def approving(made: World, approval_id: str = "mcpr_1") -> tuple[ToolTurn, str, str, str]:
    """What a request brings that says yes: its call has an id of its own."""
    call_id = f"call_{uuid.uuid4()}"
    return made.turn(approved={call_id: approval_id}), call_id, "mail__send", "{}"


def test_an_approval_that_is_sent_again_makes_no_second_call(dsn: str) -> None:
    async def scenario(made: World) -> None:
        first = await made.caller().call(*approving(made))
        assert (first.decision, first.rule) == ("allowed", "tool.approved")
        made.calls.clear()
        again = await made.caller().call(*approving(made))
        await only_refused(made, again, "tool.approval_used")
        assert "used already, so it is not made again" in again.text
        assert (await made.caller().call(*approving(made, "mcpr_2"))).decision == "allowed"

    run(dsn, scenario)


def test_an_approval_that_is_sent_twice_at_once_makes_one_call(dsn: str) -> None:
    """Both are in their transactions before either is committed."""

    async def scenario(made: World) -> None:
        try_use, num_looking, both_look = approval_rows.try_use, itertools.count(1), asyncio.Event()

        async def wait_for_the_other(*of: Any) -> bool:
            if next(num_looking) == 2:
                both_look.set()
                return await try_use(*of)
            is_first = await try_use(*of)
            await both_look.wait()
            return is_first

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(approval_rows, "try_use", wait_for_the_other)
            outcomes = await asyncio.gather(
                *(made.caller().call(*approving(made)) for _ in range(2))
            )
        assert sorted(outcome.rule for outcome in outcomes) == [
            *("tool.approval_used", "tool.approved")
        ]
        assert len(made.calls) == 1

    run(dsn, scenario)


def test_an_approval_of_which_no_call_began_can_still_be_used(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(made: World) -> None:
        caller = made.caller()

        async def refused_by() -> str:
            outcome = await caller.call(*approving(made))
            assert made.calls == []
            return outcome.rule

        async def fail(*_of: Any) -> None:
            raise DatabaseDown("the database is unavailable (as a test wants it)")

        with monkeypatch.context() as patch:  # in the transaction that had used it
            patch.setattr(audit, "record", fail)
            assert await refused_by() == "server.audit"
        turn = made.turn(approved={"call_1": "mcpr_1"})
        assert (await caller.call(turn, "call_1", "mail__send", "[]")).rule == "tool.arguments"
        async with pool.operator(made.dsn) as connection:
            await connection.execute("UPDATE anzoth.api_keys SET tools = $1", ["crm"])
        assert await refused_by() == "key.tool"
        async with pool.operator(made.dsn) as connection:
            await connection.execute("UPDATE anzoth.api_keys SET tools = $1", ["mail"])
        del made.tools["mail__send"]
        turn = made.turn(
            approved={"call_1": "mcpr_1"}, granted={ASKING.name: GrantedTool(ASKING, "never")}
        )
        assert (await caller.call(turn, "call_1", "mail__send", "{}")).rule == "tool.changed"
        made.tools["mail__send"] = ASKING
        assert (await caller.call(*approving(made))).decision == "allowed"

    run(dsn, scenario)


def test_an_approval_of_another_tenant_with_the_same_id_is_another(dsn: str) -> None:
    async def scenario(made: World) -> None:
        other = await directory.create_tenant(made.dsn, "umbrella")
        async with made.database.tenant(TenantHandle(other.id, "umbrella", "")) as connection:
            assert await approval_rows.try_use(connection, other.id, "mcpr_1")
            assert not await approval_rows.try_use(connection, other.id, "mcpr_1")
        assert (await made.caller().call(*approving(made))).decision == "allowed"
        async with made.database.tenant(made.principal.tenant) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await approval_rows.try_use(connection, other.id, "mcpr_2")

    run(dsn, scenario)
