"""/v1/auth: how do people make accounts, sign in and out, and guard their account?

    POST bootstrap, sign-up, invitations/accept      make an account, or join with one
    POST sign-in, second-factor, sign-out            begin and end a session
    GET  session, POST session                       who am I, about which organization
    GET  sessions, DELETE sessions[/{id}]            where else am I signed in
    POST password, password/reset                    change it, or set it by a link
    POST totp, totp/confirm, totp/disable, recovery-codes

JSON, with the session in a cookie (see `cookies`). What begins or changes a session answers with
the user, the organizations, and the `csrf_token` that further requests must send.

Does not know: how anything is checked (see `gateway.accounts`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from anzoth.api import cookies
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, parse, string, wrong_value
from anzoth.errors import InvalidValue, NotFound, NotSignedIn
from anzoth.gateway.accounts import devices, emails, tokens
from anzoth.gateway.accounts.service import Accounts
from anzoth.gateway.accounts.sessions import Client, Session, SessionRow, StartedSession
from anzoth.http.client_address import client_address, parse_networks
from anzoth.http.messages import HeaderList, Response

NO_STORE = ("cache-control", "no-store")
_THIS_MACHINE = parse_networks(("127.0.0.0/8", "::1"))
_MAX_SECRET_CHARS = 1024
_MAX_NAME_CHARS = 200


# --- fields -----------------------------------------------------------------------------------


def email(value: Any, param: str) -> str:
    return emails.normalised(string(254)(value, param), param)


def printable(value: Any, param: str) -> str:
    text = string(_MAX_NAME_CHARS)(value, param).strip()
    if not (text.isprintable() or text == ""):
        raise wrong_value(param, "printable characters")
    return text


def identifier(value: Any, param: str) -> UUID:
    try:
        return UUID(string(36)(value, param))
    except ValueError:
        raise InvalidValue(f"Invalid value for '{param}': expected an id.", param=param) from None


_SECRET = string(_MAX_SECRET_CHARS, min_characters=1)
_TOKEN = string(tokens.MAX_CHARS, min_characters=1)
_EMAIL = Field("email", email, required=True)
_NAME = Field("name", printable, default="")
_PASSWORD = Field("password", _SECRET, required=True)
_CODE = Field("code", string(40, min_characters=1), required=True)


# --- accounts ---------------------------------------------------------------------------------


async def bootstrap(call: Call) -> Answer:
    accounts, client = _anonymous(call)
    given = _parse(call, Field("token", _TOKEN, required=True), _EMAIL, _NAME, _PASSWORD)
    return await begun(
        call,
        await accounts.sign_up.bootstrap(
            given["token"], given["email"], given["name"], given["password"], client
        ),
    )


async def sign_up(call: Call) -> Answer:
    accounts, client = _anonymous(call)
    given = _parse(call, _EMAIL, _NAME, _PASSWORD, Field("organization", printable, required=True))
    if not given["organization"]:
        raise wrong_value("organization", "a name")
    return await begun(
        call,
        await accounts.sign_up.open(
            given["email"], given["name"], given["password"], given["organization"], client
        ),
    )


async def accept_invitation(call: Call) -> Answer:
    """With the session of who was invited; without one, a new account with a password."""
    accounts, client = _anonymous(call)
    token = cookies.read(call.request, cookies.SESSION, accounts.config)
    session = None if token is None else await accounts.sessions.try_find(token)
    if session is not None:
        cookies.require_csrf_token(call.request, session.csrf_token)
        given = _parse(call, Field("token", _TOKEN, required=True))
        accounts.sign_in.count_address(client)
        return await begun(call, await accounts.sign_up.accept_as(session, given["token"], client))
    given = _parse(call, Field("token", _TOKEN, required=True), _NAME, _PASSWORD)
    return await begun(
        call,
        await accounts.sign_up.accept_as_new(
            given["token"], given["name"], given["password"], client
        ),
    )


async def show_invitation(call: Call) -> Answer:
    """What a token invites to; by POST, so that no log of URLs holds the token."""
    accounts, client = _anonymous(call)
    given = _parse(call, Field("token", _TOKEN, required=True))
    invitation = await accounts.sign_up.invited(given["token"], client)
    return _answer(
        call,
        {
            "object": "invitation",
            "email": invitation.email,
            "role": invitation.role,
            "organization_id": str(invitation.tenant_id),
            "expires_at": seconds(invitation.expires_at),
        },
    )


# --- signing in and out -----------------------------------------------------------------------


async def sign_in(call: Call) -> Answer:
    """The user, or `second_factor_required`."""
    accounts, client = _anonymous(call)
    given = _parse(call, _EMAIL, _PASSWORD)
    return await begun(
        call, await accounts.sign_in.with_password(given["email"], given["password"], client)
    )


async def second_factor(call: Call) -> Answer:
    """`code`: of the authenticator, or a recovery code."""
    accounts, client = _anonymous(call)
    given = _parse(call, _CODE)
    token = cookies.read(call.request, cookies.SESSION, accounts.config)
    if token is None:
        raise NotSignedIn()
    return await begun(call, await accounts.sign_in.finish(token, given["code"].strip(), client))


async def sign_out(call: Call) -> Answer:
    await call.services.accounts.sign_in.sign_out(call.signed_in, client_of(call))
    return _answer(call, {"object": "session", "deleted": True}, _forgotten(call))


async def show_session(call: Call) -> Answer:
    session = call.signed_in
    return _answer(call, await _describe(call, session, session.csrf_token))


async def choose_organization(call: Call) -> Answer:
    given = _parse(call, Field("organization_id", identifier, required=True))
    started = await call.services.accounts.sessions.choose_tenant(
        call.signed_in, given["organization_id"]
    )
    return await begun(call, started)


async def list_sessions(call: Call) -> Answer:
    rows = await call.services.accounts.sessions.list_all(call.signed_in)
    listed = [_session(row, is_current=row.id == call.signed_in.id) for row in rows]
    return _answer(call, {"object": "list", "data": listed})


async def end_session(call: Call) -> Answer:
    try:
        wanted = UUID(call.request.path_params["id"])
    except ValueError:
        raise NotFound() from None
    client = client_of(call)
    await call.services.accounts.sign_in.sign_out(call.signed_in, client, wanted)
    headers = _forgotten(call) if wanted == call.signed_in.id else []
    return _answer(call, {"id": str(wanted), "object": "session", "deleted": True}, headers)


async def end_other_sessions(call: Call) -> Answer:
    count = await call.services.accounts.sign_in.sign_out_elsewhere(call.signed_in, client_of(call))
    return _answer(call, {"object": "session", "deleted": True, "count": count})


# --- guarding an account ----------------------------------------------------------------------


async def change_password(call: Call) -> Answer:
    given = _parse(
        call,
        Field("current_password", _SECRET, required=True),
        Field("new_password", _SECRET, required=True),
    )
    started = await call.services.accounts.sign_in.change_password(
        call.signed_in, given["current_password"], given["new_password"], client_of(call)
    )
    return await begun(call, started)


async def reset_password(call: Call) -> Answer:
    accounts, client = _anonymous(call)
    given = _parse(
        call,
        Field("token", _TOKEN, required=True),
        Field("new_password", _SECRET, required=True),
    )
    await accounts.sign_in.reset_password(given["token"], given["new_password"], client)
    return _answer(call, {"object": "password", "changed": True})


async def enrol_totp(call: Call) -> Answer:
    given = _parse(call, _PASSWORD)
    secret, uri = await call.services.accounts.sign_in.enrol(call.signed_in, given["password"])
    return _answer(call, {"object": "totp", "secret": secret, "uri": uri})


async def confirm_totp(call: Call) -> Answer:
    given = _parse(call, _CODE)
    started, codes = await call.services.accounts.sign_in.confirm_enrolment(
        call.signed_in, given["code"].strip(), client_of(call)
    )
    return await begun(call, started, recovery_codes=codes)


async def disable_totp(call: Call) -> Answer:
    given = _parse(call, _PASSWORD)
    started = await call.services.accounts.sign_in.disable_second_factor(
        call.signed_in, given["password"], client_of(call)
    )
    return await begun(call, started)


async def replace_recovery_codes(call: Call) -> Answer:
    given = _parse(call, _PASSWORD)
    codes = await call.services.accounts.sign_in.replace_recovery_codes(
        call.signed_in, given["password"]
    )
    return _answer(call, {"object": "recovery_codes", "recovery_codes": codes})


# --- answers ----------------------------------------------------------------------------------


def seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def client_of(call: Call) -> Client:
    """Where browsers come through a proxy (there is a `public_url`), one on this machine need not
    be named to be believed: otherwise one guesser would slow down everybody."""
    request, address = call.request, call.address
    is_behind_proxy = call.services.accounts.config.public_url is not None
    if is_behind_proxy and address is not None and address.is_loopback:
        address = client_address(request, _THIS_MACHINE)
    peer = request.peer if address is None else str(address)
    device = cookies.read(request, cookies.DEVICE, call.services.accounts.config)
    return Client(peer, request.headers.get("user-agent") or "", device)


def _anonymous(call: Call) -> tuple[Accounts, Client]:
    """For routes that anybody may call: at least not through another site's page, nor in the
    clear."""
    accounts = call.services.accounts
    cookies.require_own_origin(call.request, accounts.config)
    cookies.require_safe_transport(call.request, accounts.config)
    return accounts, client_of(call)


def _parse(call: Call, *fields: Field) -> dict[str, Any]:
    return parse(fields, call.body)


async def begun(call: Call, started: StartedSession, **more: object) -> Answer:
    """A session began, or its secret changed."""
    accounts = call.services.accounts
    max_age_s = int(accounts.config.session_lifetime_s)
    headers = cookies.setting(cookies.SESSION, started.token, accounts.config, max_age_s)
    if started.awaits_second_factor:
        body: dict[str, Any] = {"object": "session", "second_factor_required": True}
    else:
        session = await accounts.sessions.find(started.token)
        body = await _describe(call, session, started.csrf_token)
        headers += _device(call, session.user.email)
    return _answer(call, {**body, **more}, headers)


def _device(call: Call, email: str) -> HeaderList:
    """The browser is known from now on to be this user's."""
    accounts = call.services.accounts
    known = cookies.read(call.request, cookies.DEVICE, accounts.config)
    if accounts.devices.try_recognise(known, email) is not None:
        return []
    minted = accounts.devices.mint(email)
    return cookies.setting(cookies.DEVICE, minted, accounts.config, devices.LIFETIME_S)


async def _describe(call: Call, session: Session, csrf_token: str) -> dict[str, Any]:
    user = session.user
    tenants = await call.services.accounts.sessions.tenants(session)
    chosen = session.row.tenant_id
    return {
        "object": "session",
        "id": str(session.id),
        "second_factor_required": False,
        "csrf_token": csrf_token,
        "expires_at": seconds(session.row.expires_at),
        "organization_id": None if chosen is None else str(chosen),
        "user": {
            "id": str(user.id),
            "object": "user",
            "email": user.email,
            "name": user.name,
            "is_operator": user.is_operator,
            "has_password": user.password_hash is not None,
            "has_second_factor": user.has_second_factor,
            "created_at": seconds(user.created_at),
        },
        "organizations": [
            {"id": str(tenant.id), "name": tenant.name, "role": tenant.role} for tenant in tenants
        ],
    }


def _session(row: SessionRow, *, is_current: bool) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "object": "session",
        "is_current": is_current,
        "method": row.method,
        "ip_address": row.peer,
        "user_agent": row.user_agent,
        "created_at": seconds(row.created_at),
        "last_seen_at": seconds(row.last_seen_at),
        "expires_at": seconds(row.expires_at),
    }


def _answer(call: Call, body: dict[str, Any], headers: HeaderList | None = None) -> Answer:
    return Response(200, orjson.dumps(body), headers=[*call.headers, NO_STORE, *(headers or [])])


def _forgotten(call: Call) -> HeaderList:
    return cookies.setting(cookies.SESSION, "", call.services.accounts.config, 0)
