"""What became of a request that is over, and of the calls of tools that were made for it?

Does not know: how it is shown, or what was said in it (that is nowhere kept).
"""

from __future__ import annotations

from collections.abc import Sequence

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows, usage_rows
from anzoth.db.store.usage_rows import RequestRow
from anzoth.errors import DatabaseUnavailable, NotFound
from anzoth.gateway.principal import Principal
from anzoth.gateway.tools.past_calls import PastCall, past_calls

TENANT_SCOPE = "usage:read"
"""What a key needs to ask about the requests of other keys of its tenant."""
_MAX_ID = 256
_UNAVAILABLE = "The request cannot be looked up because the database is unavailable. Please retry."


class PastRequests:
    """One per gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, request_id: str) -> RequestRow:
        """Raises NotFound, the same for what is unknown and what is another's, and
        DatabaseUnavailable.
        """
        row = None
        can_ask = principal.key_id is not None or principal.has_scope(TENANT_SCOPE)
        if can_ask and len(request_id) <= _MAX_ID and request_id.isprintable():
            row = await self._find(principal, request_id)
        if row is None:
            raise NotFound(
                "There is no such request of yours. A request is found here within a second or "
                "two after its end; its id is in the header x-request-id of its answer."
            )
        return row

    async def calls_of(self, principal: Principal, request: RequestRow) -> Sequence[PastCall]:
        """Of tools on this side, in the order in which they were begun. `request` is of `get`.
        Raises DatabaseUnavailable."""
        tenant = principal.tenant
        try:
            async with self._database.tenant(tenant) as connection:
                events = await audit_rows.tool_calls_of_request(
                    connection, tenant.id, request.request_id, request.key_id, request.started_at
                )
        except DatabaseDown:
            raise DatabaseUnavailable(_UNAVAILABLE) from None
        return past_calls(events)

    async def _find(self, principal: Principal, request_id: str) -> RequestRow | None:
        tenant = principal.tenant
        key_id = None if principal.has_scope(TENANT_SCOPE) else principal.key_id
        try:
            async with self._database.tenant(tenant) as connection:
                return await usage_rows.find_request(connection, tenant.id, request_id, key_id)
        except DatabaseDown:
            raise DatabaseUnavailable(_UNAVAILABLE) from None
