"""What does a verification of isolation read of the database?

Every row of a tenant, as text, in whatever table: a verification must not know which ones there
are.

Does not know: what is looked for.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

from anzoth.db import statements
from anzoth.db.pool import Connection


async def try_lock(connection: Connection) -> bool:
    """False while another connection holds it."""
    return await connection.fetchval(statements.load()["try_lock_isolation"])


async def tables_of_tenants(connection: Connection) -> list[str]:
    """Those with a column `tenant_id` that the role may read."""
    rows = await connection.fetch(statements.load()["tables_of_tenants"])
    return [row["table_name"] for row in rows]


async def rows_of(connection: Connection, table: str, tenant_id: uuid.UUID) -> AsyncIterator[str]:
    """Each of the tenant's rows as the database itself writes it; bytes as hexadecimal digits.

    `table`: one of `tables_of_tenants`.
    """
    quoted = '"' + table.replace('"', '""') + '"'
    statement = f"SELECT t::text FROM anzoth.{quoted} AS t WHERE tenant_id = $1"
    async for row in connection.cursor(statement, tenant_id):
        yield row[0]
