"""Who sent this request?

The one place that every route passes, after it was matched and before anything else: by the route's
own line in the table a request needs an API key, a user's session, or nothing. Where a key will do
and none was sent, a session's cookie does too, with the scopes of the user's role; never for
inference. A request with a key is not a browser's, and is not asked for a CSRF token.

Does not know: how keys and sessions are checked, or what a scope opens.
"""

from __future__ import annotations

from uuid import UUID

from anzoth.api import cookies
from anzoth.api.call import Call, Route
from anzoth.errors import InvalidValue, NotSignedIn
from anzoth.gateway.accounts.sessions import Session

TENANT_HEADER = "openai-organization"
"""Which of the user's tenants a request is about; OpenAI's SDKs send it as `organization`."""


async def identify(call: Call, route: Route) -> None:
    """Fills in `identity` and `session`. Raises NotSignedIn, ForgedRequest, Forbidden, or as
    `Authenticator.authenticate` does."""
    if route.session:
        call.session = await _session(call, _required_token(call))
    elif route.scope is not None:
        authorization = call.request.headers.get("authorization")
        token = None if authorization is not None or route.inference else _token(call)
        if token is None:
            call.identity = await call.services.authenticator.authenticate(
                authorization, call.address
            )
        else:
            call.session = await _session(call, token)
            call.identity = await call.services.accounts.sessions.principal(
                call.session, _wanted_tenant(call)
            )


async def _session(call: Call, token: str) -> Session:
    accounts = call.services.accounts
    cookies.require_own_origin(call.request, accounts.config)
    session = await accounts.sessions.find(token)
    cookies.require_csrf_token(call.request, session.csrf_token)
    return session


def _token(call: Call) -> str | None:
    return cookies.read(call.request, cookies.SESSION, call.services.accounts.config)


def _required_token(call: Call) -> str:
    token = _token(call)
    if token is None:
        raise NotSignedIn()
    return token


def _wanted_tenant(call: Call) -> UUID | None:
    header = call.request.headers.get(TENANT_HEADER)
    if header is None:
        return None
    try:
        return UUID(header)
    except ValueError:
        raise InvalidValue(
            f"Invalid value for the header '{TENANT_HEADER}': expected an organization's id."
        ) from None
