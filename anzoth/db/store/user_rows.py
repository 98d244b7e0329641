"""What does Anzoth read and write of users, and of how they prove who they are?

Does not know: what a password or a code is.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class UserRow:
    """A user, as the user's own transactions see them."""

    id: uuid.UUID
    email: str
    name: str
    password_hash: str | None = field(repr=False)
    created_at: datetime
    email_verified_at: datetime | None
    last_sign_in_at: datetime | None
    disabled_at: datetime | None
    totp_secret: bytes | None = field(repr=False)
    totp_confirmed_at: datetime | None
    totp_last_step: int | None = field(repr=False)
    is_operator: bool

    @property
    def has_second_factor(self) -> bool:
        return self.totp_confirmed_at is not None


@dataclass(slots=True, frozen=True)
class UserListing:
    """A user as an operator's list shows them."""

    id: uuid.UUID
    email: str
    name: str
    created_at: datetime
    last_sign_in_at: datetime | None
    disabled_at: datetime | None
    has_second_factor: bool
    is_operator: bool
    roles: list[str]
    """TENANT:ROLE."""


async def find_user(connection: Connection, id: uuid.UUID) -> UserRow | None:
    row = await connection.fetchrow(statements.load()["find_user"], id)
    return None if row is None else UserRow(**row)


async def find_user_id(connection: Connection, email: str) -> uuid.UUID | None:
    return await connection.fetchval(statements.load()["find_user_id"], email)


async def try_insert_user(
    connection: Connection,
    id: uuid.UUID,
    email: str,
    name: str,
    password_hash: str | None,
    *,
    is_verified: bool,
) -> bool:
    """False when the email is taken."""
    statement = statements.load()["insert_user"]
    made = await connection.fetchval(statement, id, email, name, password_hash, is_verified)
    return made is not None


async def insert_operator(connection: Connection, user_id: uuid.UUID) -> None:
    """As the gateway: only with a bootstrap token that works, says the database."""
    await connection.execute(statements.load()["insert_operator"], user_id)


async def has_any_operator(connection: Connection) -> bool:
    return await connection.fetchval(statements.load()["any_operator"])


async def set_password_hash(connection: Connection, id: uuid.UUID, password_hash: str) -> None:
    await connection.execute(statements.load()["set_password_hash"], id, password_hash)


async def verify_email(connection: Connection, id: uuid.UUID) -> None:
    await connection.execute(statements.load()["verify_email"], id)


async def touch_user(connection: Connection, id: uuid.UUID) -> None:
    await connection.execute(statements.load()["touch_user"], id)


async def set_user_disabled(connection: Connection, id: uuid.UUID, disabled: bool) -> None:
    await connection.execute(statements.load()["set_user_disabled"], id, disabled)


async def list_users(connection: Connection, tenant: str | None) -> list[UserListing]:
    rows = await connection.fetch(statements.load()["list_users"], tenant)
    return [UserListing(**row) for row in rows]


# --- second factors ---------------------------------------------------------------------------


async def set_totp_secret(connection: Connection, id: uuid.UUID, sealed: bytes | None) -> None:
    """None: there is no second factor any more."""
    await connection.execute(statements.load()["set_totp_secret"], id, sealed)


async def try_use_totp_step(connection: Connection, id: uuid.UUID, step: int) -> bool:
    """False when this step's code, or a later one, was used before. The first use confirms."""
    return await connection.fetchval(statements.load()["use_totp_step"], id, step) is not None


async def replace_recovery_codes(
    connection: Connection, user_id: uuid.UUID, digests: Sequence[bytes]
) -> None:
    await connection.execute(statements.load()["delete_recovery_codes"], user_id)
    await connection.execute(statements.load()["insert_recovery_codes"], user_id, list(digests))


async def try_use_recovery_code(connection: Connection, user_id: uuid.UUID, digest: bytes) -> bool:
    statement = statements.load()["use_recovery_code"]
    return await connection.fetchval(statement, user_id, digest) is not None


# --- identities at providers ------------------------------------------------------------------


async def find_identity(connection: Connection, issuer: str, subject: str) -> uuid.UUID | None:
    return await connection.fetchval(statements.load()["find_identity"], issuer, subject)


async def try_insert_identity(
    connection: Connection, issuer: str, subject: str, user_id: uuid.UUID
) -> bool:
    """False when it is somebody's already."""
    statement = statements.load()["insert_identity"]
    return await connection.fetchval(statement, issuer, subject, user_id) is not None
