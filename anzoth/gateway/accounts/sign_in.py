"""Did this person prove who they are?

    email + password ─▶ session                                  no second factor
                     └▶ session that awaits ─▶ code ─▶ session   with one

Whoever is refused learns the same, after the same work, whether the user is unknown, disabled or
has another password. Attempts are throttled by address and by account; those of a browser in which
the user has signed in before apart from all others, so that no stranger can keep a user out there.
Passwords are verified outside of transactions: argon2 takes longer than a pooled connection should
be held.

Does not know: how accounts come into being (see `sign_up`), or sign-in at a provider
(see `single_sign_on`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from anzoth.db.pool import Connection, Database, act_as_user
from anzoth.db.store import membership_rows, session_rows, user_rows
from anzoth.db.store.user_rows import UserRow
from anzoth.errors import (
    Conflict,
    InvalidValue,
    NotFound,
    NotSignedIn,
    SignInFailed,
    WrongCode,
)
from anzoth.gateway import audit
from anzoth.gateway.accounts import events, passwords, tokens, totp
from anzoth.gateway.accounts.devices import Devices
from anzoth.gateway.accounts.passwords import Passwords
from anzoth.gateway.accounts.sessions import Client, Session, Sessions, StartedSession
from anzoth.gateway.accounts.throttle import Throttle, network_of
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.audit import AuditEvent

_TOTP = "totp"
"""What secrets are sealed for."""
_ISSUER = "Anzoth"


class SignIn:
    """One per gateway."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        sessions: Sessions,
        devices: Devices,
        hasher: Passwords,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._vault = vault
        self._sessions = sessions
        self._devices = devices
        self._passwords = hasher
        self._unix_s = unix_s
        self._accounts = Throttle(num_free=5, clock=clock)
        self._addresses = Throttle(num_free=30, clock=clock)

    # --- passwords ------------------------------------------------------------------------------

    async def with_password(self, email: str, password: str, client: Client) -> StartedSession:
        """`email` is normalised. Raises SignInFailed, TooManyAttempts, CapacityUnavailable."""
        self._count_attempt(email, client)
        async with self._database.signing_in(email) as connection:
            user = await _find(connection, email)
        known = None if user is None or user.disabled_at is not None else user
        is_right = await self._passwords.verify(known and known.password_hash, password)
        if known is None or not is_right:
            await self._record_failure(email, "password", client)
            raise SignInFailed()
        self._count_success(email, client)
        fresh_hash = await self._rehash(known, password)
        async with self._database.signing_in(email) as connection:
            user = await _find(connection, email)
            if user is None or user.disabled_at is not None:
                raise SignInFailed()
            if user.password_hash != known.password_hash:
                raise SignInFailed()  # it was changed meanwhile
            if fresh_hash is not None:
                await user_rows.set_password_hash(connection, user.id, fresh_hash)
            started = await self._sessions.begin(
                connection, user, "password", client, awaits_second_factor=user.has_second_factor
            )
            if not started.awaits_second_factor:
                await audit.record(connection, events.login_succeeded(started, "password", client))
            return started

    async def sign_out(self, session: Session, client: Client, id: uuid.UUID | None = None) -> None:
        """Ends this session, or another of the same user. Raises NotFound."""
        async with self._sessions.resumed(session.token) as (connection, current):
            ended = id or session.id
            if not await session_rows.try_delete_session(connection, current.user.id, ended):
                raise NotFound()
            await audit.record(connection, events.logout_succeeded(current, ended, client))

    async def sign_out_elsewhere(self, session: Session, client: Client) -> int:
        """Ends the user's other sessions. How many there were."""
        async with self._sessions.resumed(session.token) as (connection, current):
            ended = await session_rows.delete_sessions(connection, current.user.id, but=session.id)
            await audit.record(
                connection, *(events.logout_succeeded(current, id, client) for id in ended)
            )
            return len(ended)

    async def change_password(
        self, session: Session, old: str, new: str, client: Client
    ) -> StartedSession:
        """Ends every other session. Raises SignInFailed, InvalidValue, TooManyAttempts."""
        require_good(new, "new_password")
        await self.confirm(session, old)
        fresh_hash = await self._passwords.hash(new)
        async with self._sessions.resumed(session.token) as (connection, current):
            await user_rows.set_password_hash(connection, current.user.id, fresh_hash)
            await session_rows.delete_sessions(connection, current.user.id, but=session.id)
            started = await self._sessions.rotate(connection, session)
            event = events.account_changed("password.changed", current, client)
            await audit.record(connection, event)
            return started

    async def reset_password(self, token: str, new: str, client: Client) -> None:
        """With the one-time token that an administrator handed out. Ends every session; the second
        factor stays. Raises NotSignedIn when the token is unknown, used or too old."""
        require_good(new, "new_password")
        self.count_address(client)
        fresh_hash = await self._passwords.hash(new)
        digest = self._vault.digest(tokens.PASSWORD_RESET, token)
        async with self._database.holding(digest) as connection:
            found = await session_rows.find_one_time_token(
                connection, digest, tokens.PASSWORD_RESET
            )
            user_id = None if found is None else found.user_id
            if user_id is None:
                raise NotSignedIn("This link does not work, or does not work any more.")
            await act_as_user(connection, user_id)
            user = await user_rows.find_user(connection, user_id)
            if user is None or user.disabled_at is not None:
                raise NotSignedIn("This link does not work, or does not work any more.")
            await session_rows.use_one_time_token(connection, digest)
            await user_rows.set_password_hash(connection, user_id, fresh_hash)
            await session_rows.delete_sessions(connection, user_id)
            actor = events.by_user(user_id, client)
            await audit.record(
                connection, AuditEvent("password.changed", actor, None, target={"id": user_id})
            )
        self._accounts.forget(user.email)

    async def confirm(self, session: Session, password: str) -> None:
        """Before something that a stolen session must not do. Raises SignInFailed,
        TooManyAttempts, and Conflict where there is no password."""
        if session.user.password_hash is None:
            raise Conflict("This account has no password: it signs in at a provider.")
        subject = f"confirmation of {session.user.id}"  # which nobody without a session delays
        self._accounts.attempt(subject)
        if not await self._passwords.verify(session.user.password_hash, password):
            raise SignInFailed("The password is wrong.")
        self._accounts.forget(subject)

    async def _rehash(self, user: UserRow, password: str) -> str | None:
        """None: the hash is as new ones are."""
        if user.password_hash is None or not self._passwords.needs_rehash(user.password_hash):
            return None
        return await self._passwords.hash(password)

    # --- second factors -------------------------------------------------------------------------

    async def finish(self, token: str, code: str, client: Client) -> StartedSession:
        """The second step, with a code or a recovery code; `token` is of the session that awaits
        it, which ends. Raises NotSignedIn, WrongCode, TooManyAttempts."""
        self.count_address(client)
        async with self._sessions.resumed(token, awaiting_second_factor=True) as (connection, it):
            if not it.row.awaits_second_factor:
                raise NotSignedIn()
            subject = self._subject(_second_factor_of(it.user.id), it.user.email, client)
            self._accounts.attempt(subject)
            is_right = await self._is_right_code(connection, it.user, code)
            if not is_right:
                event = events.login_failed(it.user.id, it.row.tenant_id, "second factor", client)
                await audit.record(connection, event)
        if not is_right:  # not before what was recorded is committed
            raise WrongCode()
        async with self._sessions.resumed(token, awaiting_second_factor=True) as (connection, it):
            if not await session_rows.try_delete_session(connection, it.user.id, it.id):
                raise NotSignedIn()  # another code was faster
            method = f"{it.row.method}, second factor"
            started = await self._sessions.begin(connection, it.user, method, client)
            await audit.record(connection, events.login_succeeded(started, method, client))
        self._accounts.forget(subject)
        self._addresses.take_back(network_of(client.peer))
        return started

    async def enrol(self, session: Session, password: str) -> tuple[str, str]:
        """A new secret: as text, and as the URI that a QR code holds. Not in force before
        `confirm_enrolment`. Raises Conflict while a second factor is in force."""
        await self.confirm(session, password)
        secret = totp.mint_secret()
        async with self._sessions.resumed(session.token) as (connection, current):
            if current.user.has_second_factor:
                raise Conflict("A second factor is in force; disable it first.")
            sealed = self._vault.seal(_sealed_for(current.user.id), secret)
            await user_rows.set_totp_secret(connection, current.user.id, sealed)
        return totp.as_text(secret), totp.uri(secret, session.user.email, _ISSUER)

    async def confirm_enrolment(
        self, session: Session, code: str, client: Client
    ) -> tuple[StartedSession, list[str]]:
        """From now on signing in takes a code. The recovery codes are shown this once; every other
        session ends. Raises WrongCode, Conflict, TooManyAttempts."""
        subject = _second_factor_of(session.user.id)
        self._accounts.attempt(subject)
        codes = totp.mint_recovery_codes()
        async with self._sessions.resumed(session.token) as (connection, current):
            user = current.user
            if user.has_second_factor:
                raise Conflict("A second factor is in force already.")
            if not await self._is_right_totp(connection, user, code):
                raise WrongCode()
            await user_rows.replace_recovery_codes(
                connection, user.id, [self._recovery_digest(user.id, code) for code in codes]
            )
            await session_rows.delete_sessions(connection, user.id, but=session.id)
            started = await self._sessions.rotate(connection, session)
            event = events.account_changed("second_factor.enabled", current, client)
            await audit.record(connection, event)
        self._accounts.forget(subject)
        return started, codes

    async def disable_second_factor(
        self, session: Session, password: str, client: Client
    ) -> StartedSession:
        """Raises SignInFailed, TooManyAttempts."""
        await self.confirm(session, password)
        async with self._sessions.resumed(session.token) as (connection, current):
            await user_rows.set_totp_secret(connection, current.user.id, None)
            await user_rows.replace_recovery_codes(connection, current.user.id, [])
            started = await self._sessions.rotate(connection, session)
            event = events.account_changed("second_factor.disabled", current, client)
            await audit.record(connection, event)
            return started

    async def replace_recovery_codes(self, session: Session, password: str) -> list[str]:
        """Those before work no more. Raises SignInFailed, Conflict, TooManyAttempts."""
        await self.confirm(session, password)
        codes = totp.mint_recovery_codes()
        async with self._sessions.resumed(session.token) as (connection, current):
            user = current.user
            if not user.has_second_factor:
                raise Conflict("There is no second factor to recover from.")
            await user_rows.replace_recovery_codes(
                connection, user.id, [self._recovery_digest(user.id, code) for code in codes]
            )
        return codes

    async def _is_right_code(self, connection: Connection, user: UserRow, code: str) -> bool:
        if await self._is_right_totp(connection, user, code):
            return True
        return await user_rows.try_use_recovery_code(
            connection, user.id, self._recovery_digest(user.id, code)
        )

    async def _is_right_totp(self, connection: Connection, user: UserRow, code: str) -> bool:
        if user.totp_secret is None:
            return False
        secret = self._vault.open(_sealed_for(user.id), user.totp_secret)
        if secret is None:
            return False
        step = totp.matching_step(secret, code, self._unix_s())
        return step is not None and await user_rows.try_use_totp_step(connection, user.id, step)

    def _recovery_digest(self, user_id: uuid.UUID, code: str) -> bytes:
        normalised = totp.normalised_recovery_code(code)
        return self._vault.digest(tokens.RECOVERY_CODE, f"{user_id}:{normalised}")

    async def _record_failure(self, email: str, reason: str, client: Client) -> None:
        """With the same statements whether there is such a user or not."""
        async with self._database.signing_in(email) as connection:
            user = await _find(connection, email)
            tenants = await membership_rows.list_tenants_of_user(
                connection, uuid.uuid4() if user is None else user.id
            )
            event = events.login_failed(
                None if user is None else user.id,
                tenants[0].id if tenants else None,
                reason,
                client,
            )
            await audit.record(connection, event)

    # --- throttling -----------------------------------------------------------------------------

    def _count_attempt(self, email: str, client: Client) -> None:
        self.count_address(client)
        self._accounts.attempt(self._subject(email, email, client))

    def count_address(self, client: Client) -> None:
        """One attempt at a secret from this address. Raises TooManyAttempts."""
        self._addresses.attempt(network_of(client.peer))

    def _count_success(self, email: str, client: Client) -> None:
        self._accounts.forget(self._subject(email, email, client))
        self._addresses.take_back(network_of(client.peer))

    def _subject(self, what: str, email: str, client: Client) -> str:
        """Whose attempts at `what` are counted together: of a browser that is known, its own."""
        device = self._devices.try_recognise(client.device, email)
        return what if device is None else f"{what} {device}"


def require_good(password: str, param: str = "password") -> None:
    """Raises InvalidValue."""
    if not passwords.MIN_CHARS <= len(password) <= passwords.MAX_CHARS:
        raise InvalidValue(
            f"Invalid value for '{param}': expected {passwords.MIN_CHARS} to "
            f"{passwords.MAX_CHARS} characters, but got {len(password)}.",
            param=param,
        )


async def _find(connection: Connection, email: str) -> UserRow | None:
    """With the user's own rows opened; by the same statements for who does not exist."""
    user_id = await user_rows.find_user_id(connection, email) or uuid.uuid4()
    await act_as_user(connection, user_id)
    return await user_rows.find_user(connection, user_id)


def _second_factor_of(user_id: uuid.UUID) -> str:
    return f"second factor of {user_id}"


def _sealed_for(user_id: uuid.UUID) -> str:
    """A secret that is moved to another user's row opens nothing."""
    return f"{_TOTP}:{user_id}"
