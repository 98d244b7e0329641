"""How do this gateway's shares of limits follow the table in the database?

About once a second, and soon after a request found no room or another gateway announced something,
one exchange: under a lock the table is read, `share_table` decides, and what changed is written. No
request ever waits for that. While the database is away everybody goes on with what he has (see
`limit_lease`).

Does not know: who gets which share, or how long it may be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.pool import Connection, Database
from anzoth.db.store import share_rows
from anzoth.db.store.share_rows import CountRow, GatewayRow, ShareRow
from anzoth.gateway import share_table
from anzoth.gateway.limit_lease import TIMEOUT_S, Lease
from anzoth.gateway.limit_shares import Shares
from anzoth.gateway.share_table import Counted, Held, Member, Reply, Report, RuleShares, Table
from anzoth.gateway.shared_counts import SharedCounts

CHANNEL = "anzoth_shares"
_INTERVAL_S = 1.0
_RETRY_S = 0.3
_GAP_S = 0.03
"""Between two exchanges, however much there is to tell."""
_JOIN_ATTEMPTS = 20
_LEAVE_TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)


class Leases:
    """One per gateway. `run` must be running, or the shares can soon not be used any more."""

    def __init__(
        self,
        database: Database,
        dsn: str,
        gateway: uuid.UUID,
        shares: Shares,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`gateway`: no two that run have the same, and one that starts again has the one it had.

        From here on the shares admit nothing until the first exchange.
        """
        self._database = database
        self._dsn = dsn
        self._gateway = gateway
        self._shares = shares
        self._lease = Lease(shares, now_ns)
        self._counts = SharedCounts(shares, gateway)
        self._wanted = asyncio.Event()
        self._is_failing = False
        shares.on_hunger = self._wanted.set

    @property
    def num_gateways(self) -> int:
        """That share the limits, this one included."""
        return self._shares.num_gateways

    async def join(self) -> None:
        """Gets this gateway its shares, if the database and the others are quick."""
        for _ in range(_JOIN_ATTEMPTS):
            report = self._lease.ask()
            reply = await self._try_exchange(report)
            if reply is None:
                self._lease.failed()
                return
            if not self._lease.answered(report, reply) and self._shares.even.share:
                return
            await asyncio.sleep(_GAP_S)

    async def run(self) -> None:
        """Exchanges until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(self._dsn, CHANNEL, self._heard, self._wanted.set))
            attempt: asyncio.Task[Reply | None] | None = None
            while True:
                report, reply = self._lease.ask(), None
                # One that hangs beyond its time-out says enough: no other connection is tried.
                if attempt is None or attempt.done():
                    attempt = group.create_task(self._try_exchange(report))
                    await asyncio.wait({attempt}, timeout=TIMEOUT_S + _GAP_S)
                    if attempt.done():
                        reply = attempt.result()
                    else:
                        attempt.cancel()
                if reply is None:
                    self._lease.failed()
                    await asyncio.sleep(_RETRY_S)
                    continue
                hurries = self._lease.answered(report, reply)
                await asyncio.sleep(_GAP_S)
                if not hurries:
                    await self._wait()
                self._wanted.clear()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL_S):
                await self._wanted.wait()

    async def close(self) -> None:
        """Leaves what it has to the others. Nothing is admitted afterwards."""
        self._lease.end()
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S), self._database.sharing() as connection:
                table = await self._read(connection)
                rows = await share_rows.find_shares(connection, table.version, (), [self._gateway])
                table.rules = {(row.subject, row.model): _rule(row) for row in rows}
                share_table.leave(table, self._gateway)
                await self._write(connection, table, {self._gateway})
        except (TimeoutError, DatabaseDown, asyncpg.PostgresError) as error:
            _log.info("the other gateways must find out that this one is gone: %s", error)

    def _heard(self, gateway: str) -> None:
        if gateway != str(self._gateway):
            self._wanted.set()

    async def _try_exchange(self, report: Report) -> Reply | None:
        """None: nobody knows whether it happened."""
        counts, seen_until = self._counts.to_tell(), self._shares.version
        try:
            async with asyncio.timeout(TIMEOUT_S), self._database.sharing() as connection:
                table = await self._read(connection)
                before = set(table.members)
                changed_after, names, dead = share_table.must_know(
                    table.members, self._gateway, report
                )
                rows = await share_rows.find_shares(connection, changed_after, names, dead)
                table.rules = {(row.subject, row.model): _rule(row) for row in rows}
                reply = share_table.exchange(table, self._gateway, report)
                await self._write(connection, table, before)
                heard = await share_rows.find_counts(connection, seen_until)
                await share_rows.write_counts(connection, map(_count_row, counts), table.version)
        except (TimeoutError, DatabaseDown, asyncpg.PostgresError) as error:
            log = _log.debug if self._is_failing else _log.warning
            log("limits are shared as they were: %s", error or type(error).__name__)
            self._is_failing = True
            return None
        self._is_failing = False
        self._counts.heard(map(_counted, heard))
        self._counts.told(counts, reply.joined)
        return reply

    async def _read(self, connection: Connection) -> Table:
        """Locked, without rules."""
        version, turn = await share_rows.lock(connection)
        gateways = await share_rows.list_gateways(connection)
        return Table(version, {row.id: _member(row) for row in gateways}, turn=turn)

    async def _write(self, connection: Connection, table: Table, before: set[uuid.UUID]) -> None:
        member = table.members.get(self._gateway)
        await share_rows.write(
            connection,
            None if member is None else _gateway_row(self._gateway, member),
            before - table.members.keys(),
            [_share_row(name, table.rules[name]) for name in table.changed],
        )
        if table.is_news:
            await share_rows.announce(connection, self._gateway)


def _counted(row: CountRow) -> Counted:
    name = row.subject, row.model
    return Counted(name, row.quota, row.gateway, row.began, row.begin_ns, row.used)


def _count_row(counted: Counted) -> CountRow:
    return CountRow(
        *counted.name,
        counted.quota,
        counted.gateway,
        counted.began,
        counted.begin_ns,
        counted.used,
    )


def _member(row: GatewayRow) -> Member:
    return Member(row.beat, row.share, row.version, row.joined)


def _gateway_row(gateway: uuid.UUID, member: Member) -> GatewayRow:
    return GatewayRow(gateway, member.beat, member.share, member.version, member.joined)


def _rule(row: ShareRow) -> RuleShares:
    held = zip(row.holders, row.shares, row.needs, row.leasts, strict=True)
    return RuleShares(row.version, row.credit, {g: Held(*numbers) for g, *numbers in held})


def _share_row(name: share_table.Name, rule: RuleShares) -> ShareRow:
    held = rule.held.values()
    return ShareRow(
        *name,
        rule.version,
        rule.credit,
        list(rule.held),
        [one.share for one in held],
        [one.need for one in held],
        [one.least for one in held],
    )
