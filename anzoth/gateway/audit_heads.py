"""Who vouches for the end of an audit chain, and when?

Once a day whoever runs the installation signs where each chain has got to, with an Ed25519 key from
DATA_DIR/audit_key, which is not in the database. Several servers on one database share that file,
as they share the pepper.

Does not know: what a signature proves (see `audit_chain`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anzoth.db import pool
from anzoth.db.errors import DatabaseError
from anzoth.db.store import audit_rows
from anzoth.db.store.audit_rows import AuditHead
from anzoth.gateway import audit_chain, secret_file

_CHECK_INTERVAL_S = 600.0

_log = logging.getLogger(__name__)


class SigningKey:
    """The installation's; its repr shows only the public half."""

    def __init__(self, secret: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()})"

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def load_key(data_dir: Path) -> SigningKey:
    """Reads DATA_DIR/audit_key, which is made (readable by its owner only) when there is none.

    Raises OSError, and ValueError when the file is not a key.
    """
    return SigningKey(secret_file.load(data_dir / "audit_key"))


async def sign(dsn: str, key: SigningKey, signed_before: datetime) -> list[AuditHead]:
    """Signs every chain that grew since its last head, where that is older than `signed_before`.

    Returns the heads. Raises DatabaseError.
    """
    async with pool.operator(dsn) as connection:
        heads = []
        for end in await audit_rows.unsigned_heads(connection, signed_before):
            now = datetime.now(UTC)
            content = audit_chain.head_content(end.tenant_id, end.seq, end.hash, now)
            signature = key.sign(audit_chain.canonical(content))
            heads.append(AuditHead(end.tenant_id, end.seq, end.hash, now, key.public, signature))
        await audit_rows.insert_heads(connection, heads)
    return heads


async def sign_daily(
    dsn: str, key: SigningKey, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """The first time that a day (in UTC) allows it, for ever. An outage puts it off."""
    while True:
        midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            await sign(dsn, key, midnight)
        except (DatabaseError, asyncpg.PostgresError) as error:
            _log.warning("the audit log's heads are not signed: %s", error)
        await asyncio.sleep(_CHECK_INTERVAL_S)
