"""How does whoever runs the installation handle the files of a tenant?

These are the functions behind `anzoth files`. The operator finds the tenant; what is done then is
done as the gateway does it for that tenant, behind the same policies of the database.

Does not know: what a file is, or how a command looks.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.file_config import FilesConfig
from anzoth.gateway import audit, directory
from anzoth.gateway.files import FileOwner, Files
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys


@contextlib.asynccontextmanager
async def files_of(
    dsn: str,
    pepper: Pepper,
    master: MasterKey,
    config: FilesConfig,
    tenant: str,
    project: str | None,
) -> AsyncIterator[tuple[Files, FileOwner]]:
    """The files of a project (by name; None: the default one), for the operator.

    What was deleted or broke off meanwhile leaves the database at the end. Raises DirectoryError
    and DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        found = await directory.find_tenant(connection, tenant)
        project_id = (await directory.find_project(connection, found, project)).id
    handle = TenantHandle(found.id, found.name, pepper.cache_salt(found.id))
    database = await Database.open(dsn)
    try:
        files = Files(database, TenantKeys(database, dsn, master), config)
        try:
            yield files, FileOwner(handle, project_id, audit.operator())
        finally:
            await files.cleanup.sweep()
    finally:
        await database.close()
