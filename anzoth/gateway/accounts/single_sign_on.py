"""Which account is it that a provider vouches for?

    start ─▶ provider ─▶ callback ─▶ identity ─┬─ linked before ─────────────▶ that user
                                               ├─ a user with this email ────▶ linked, that user
                                               └─ nobody, and a tenant is set ▶ a new user of it

A provider counts for verified addresses of the domains that it is configured for, and for nothing
else. An account is linked only if somebody vouched for its address before: otherwise whoever signed
up with another person's address would share an account with them.

Between start and callback the browser keeps what is needed, sealed; the server keeps nothing.

Does not know: the protocol (see `oidc`), or cookies.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anzoth.account_config import AccountsConfig, OidcConfig
from anzoth.db.pool import (
    Connection,
    Database,
    act_as_user,
    act_in_tenant,
    see_tenant,
    try_become,
)
from anzoth.db.store import membership_rows, project_rows, tenant_rows, user_rows
from anzoth.db.store.user_rows import UserRow
from anzoth.errors import AnzothError, Conflict, Forbidden, NotFound, SignInFailed
from anzoth.gateway import audit
from anzoth.gateway.accounts import emails, events, tokens
from anzoth.gateway.accounts.oidc import Identity, Provider
from anzoth.gateway.accounts.sessions import Client, Sessions, StartedSession
from anzoth.gateway.accounts.tokens import Vault

_PURPOSE = "sign-on"
LIFETIME_S = 600
"""From start to callback."""
_MAX_NAME_CHARS = 200


@dataclass(slots=True, frozen=True)
class SignOnStart:
    """Where the browser goes, and what it keeps until it comes back."""

    url: str
    kept: str = field(repr=False)


@dataclass(slots=True, frozen=True)
class SignOnEnd:
    session: StartedSession
    return_to: str | None


class SingleSignOn:
    """One per gateway."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        sessions: Sessions,
        accounts: AccountsConfig,
        providers: Sequence[OidcConfig],
        *,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._vault = vault
        self._sessions = sessions
        self._public_url = accounts.public_url
        self._providers = {config.name: Provider(config) for config in providers}
        self._unix_s = unix_s

    @property
    def names(self) -> list[str]:
        return list(self._providers)

    async def start(self, name: str, return_to: str | None) -> SignOnStart:
        """`return_to`: a path of ours. Raises NotFound, ProviderUnavailable."""
        provider = self._provider(name)
        kept = {
            "provider": name,
            "state": tokens.mint(),
            "nonce": tokens.mint(),
            "verifier": tokens.mint(),
            "return_to": return_to,
            "expires_at": self._unix_s() + LIFETIME_S,
        }
        url = await provider.authorization_url(
            self._redirect_uri(name),
            state=kept["state"],
            nonce=kept["nonce"],
            verifier=kept["verifier"],
        )
        sealed = self._vault.seal(_PURPOSE, orjson.dumps(kept))
        return SignOnStart(url, base64.urlsafe_b64encode(sealed).rstrip(b"=").decode())

    async def finish(
        self, name: str, answered: Mapping[str, str], kept: str | None, client: Client
    ) -> SignOnEnd:
        """`answered`: the callback's query. Raises SignInFailed, Forbidden, Conflict, NotFound,
        ProviderUnavailable."""
        provider = self._provider(name)
        begun = self._opened(kept)
        state = answered.get("state", "")
        if begun["provider"] != name or not hmac.compare_digest(
            state.encode(), begun["state"].encode()
        ):
            raise _not_begun_here()
        if "code" not in answered:
            raise SignInFailed("Signing in at the provider was not finished.")
        identity = await provider.identity(
            answered["code"],
            answered.get("iss"),
            self._redirect_uri(name),
            nonce=begun["nonce"],
            verifier=begun["verifier"],
        )
        session = await self._sign_in(provider.config, identity, client)
        return SignOnEnd(session, begun["return_to"])

    # --- accounts -------------------------------------------------------------------------------

    async def _sign_in(
        self, provider: OidcConfig, identity: Identity, client: Client
    ) -> StartedSession:
        email = _vouched_email(provider, identity)
        async with self._database.vouched_for(identity.issuer, identity.subject) as connection:
            user_id = await user_rows.find_identity(connection, identity.issuer, identity.subject)
            if user_id is None:
                user_id = await _link(connection, provider, identity, email, client)
        # A transaction of its own: the one before may have acted in the provider's tenant.
        async with self._database.vouched_for(identity.issuer, identity.subject) as connection:
            await act_as_user(connection, user_id)
            user = await user_rows.find_user(connection, user_id)
            if user is None or user.disabled_at is not None:
                raise SignInFailed("This account cannot sign in.")
            method = f"single sign-on ({provider.name})"
            started = await self._sessions.begin(
                connection, user, method, client, awaits_second_factor=user.has_second_factor
            )
            if not started.awaits_second_factor:
                await audit.record(connection, events.login_succeeded(started, method, client))
            return started

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound("There is no such single sign-on provider.")
        return provider

    def _redirect_uri(self, name: str) -> str:
        return f"{self._public_url}/v1/auth/oidc/{name}/callback"

    def _opened(self, kept: str | None) -> dict[str, Any]:
        """Raises SignInFailed."""
        try:
            sealed = base64.urlsafe_b64decode(f"{kept or ''}===")
        except (binascii.Error, ValueError):
            raise _not_begun_here() from None
        opened = self._vault.open(_PURPOSE, sealed)
        if opened is None:
            raise _not_begun_here()
        begun = orjson.loads(opened)
        if self._unix_s() >= begun["expires_at"]:
            raise SignInFailed("Signing in took too long. Start again.")
        return begun


def _vouched_email(provider: OidcConfig, identity: Identity) -> str:
    """Raises Forbidden unless the provider counts for the address."""
    if identity.email is None or not identity.is_email_verified:
        raise Forbidden(
            "The provider did not say that it verified your email address.",
            code="email_not_verified",
        )
    try:
        email = emails.normalised(identity.email)
    except AnzothError:
        raise Forbidden(
            "The provider's email address is none.", code="email_not_verified"
        ) from None
    if emails.domain_of(email) not in provider.domains:
        raise Forbidden(
            "This provider is not configured for the domain of your email address.",
            code="domain_not_allowed",
        )
    return email


async def _link(
    connection: Connection,
    provider: OidcConfig,
    identity: Identity,
    email: str,
    client: Client,
) -> uuid.UUID:
    """The user with this email, who is this identity from now on, or a new one. `connection` acts
    as them. Raises Forbidden, Conflict."""
    user_id = await try_become(connection, email)
    if user_id is None:
        user_id = await _new_user(connection, provider, identity, email)
    else:
        await _require_vouched(connection, user_id)
    if not await user_rows.try_insert_identity(
        connection, identity.issuer, identity.subject, user_id
    ):
        raise Conflict("Somebody signed in with this identity at the same moment. Try again.")
    if provider.tenant is not None:
        await _join(connection, provider, provider.tenant, user_id, client)
    return user_id


async def _require_vouched(connection: Connection, user_id: uuid.UUID) -> None:
    user: UserRow | None = await user_rows.find_user(connection, user_id)
    if user is None or user.email_verified_at is None:
        raise Conflict(
            "There is an account with your email address that nobody has verified. Accept an "
            "invitation with it, or ask the operator."
        )


async def _new_user(
    connection: Connection, provider: OidcConfig, identity: Identity, email: str
) -> uuid.UUID:
    if provider.tenant is None:
        raise Forbidden("You have no account here. Ask for an invitation.", code="no_account")
    user_id = uuid.uuid4()
    await act_as_user(connection, user_id)
    name = "".join(c for c in identity.name if c.isprintable())[:_MAX_NAME_CHARS]
    if not await user_rows.try_insert_user(
        connection, user_id, email, name, None, is_verified=True
    ):
        raise Conflict("Somebody signed up with your address at the same moment. Try again.")
    return user_id


async def _join(
    connection: Connection,
    provider: OidcConfig,
    tenant_name: str,
    user_id: uuid.UUID,
    client: Client,
) -> None:
    """Once, when the identity is linked: who is removed from the tenant later stays removed."""
    await see_tenant(connection, tenant_name)
    tenant = await tenant_rows.find_tenant(connection, tenant_name)
    if tenant is None or tenant.deleted_at is not None:
        return  # the account is there; an administrator can invite it elsewhere
    await act_in_tenant(connection, tenant.id)
    if await membership_rows.try_insert_membership(connection, tenant.id, user_id, provider.role):
        project = await project_rows.find_project(connection, tenant.id, None)
        assert project is not None, "every tenant has a default project"
        await membership_rows.insert_project_members(
            connection, tenant.id, user_id, {project.id: "member"}
        )
        actor = events.by_user(user_id, client)
        await audit.record(connection, events.user_added(actor, tenant.id, user_id, provider.role))


def _not_begun_here() -> SignInFailed:
    return SignInFailed("This sign-in was not begun in this browser. Start again.")
