"""/v1/auth/oidc: signing in at a provider, and coming back.

    GET /v1/auth/oidc                       which providers there are
    GET /v1/auth/oidc/{provider}            302 to the provider;  ?return_to=/path
    GET /v1/auth/oidc/{provider}/callback   303 to that path, or the session as JSON

What must survive the way there and back is in a sealed cookie of this browser.

Does not know: the protocol, or which account an identity is (see `gateway.accounts`).
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import orjson

from anzoth.api import auth, cookies
from anzoth.api.auth import NO_STORE
from anzoth.api.call import Answer, Call
from anzoth.api.query import Query
from anzoth.errors import InvalidValue, SignInFailed
from anzoth.gateway.accounts import single_sign_on
from anzoth.http.messages import HeaderList, Response

_MAX_PATH_CHARS = 1000
_MAX_FIELDS = 100


async def list_all(call: Call) -> Answer:
    data = [
        {"id": name, "object": "oidc.provider"}
        for name in call.services.accounts.single_sign_on.names
    ]
    return Response(200, orjson.dumps({"object": "list", "data": data}), headers=[NO_STORE])


async def start(call: Call) -> Answer:
    accounts = call.services.accounts
    cookies.require_safe_transport(call.request, accounts.config)
    query = Query(call.request.query)
    wanted = query.text("return_to")
    query.done()
    if wanted is not None and not _is_own_path(wanted):
        raise InvalidValue(
            "Invalid value for 'return_to': expected a path of this server.", param="return_to"
        )
    started = await accounts.single_sign_on.start(call.request.path_params["provider"], wanted)
    kept = cookies.setting(
        cookies.SIGN_ON, started.kept, accounts.config, single_sign_on.LIFETIME_S
    )
    return Response(302, headers=[NO_STORE, ("location", started.url), *kept])


async def callback(call: Call) -> Answer:
    accounts = call.services.accounts
    cookies.require_safe_transport(call.request, accounts.config)
    call.headers += cookies.setting(cookies.SIGN_ON, "", accounts.config, 0)  # also of a refusal
    client = auth.client_of(call)
    accounts.sign_in.count_address(client)
    try:  # a provider may say more than we know
        answered = dict(parse_qsl(call.request.query, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise SignInFailed() from None
    ended = await accounts.single_sign_on.finish(
        call.request.path_params["provider"],
        answered,
        cookies.read(call.request, cookies.SIGN_ON, accounts.config),
        client,
    )
    answer = await auth.begun(call, ended.session)
    if ended.return_to is None:
        return answer
    headers: HeaderList = [("location", ended.return_to), *answer.headers]
    return Response(303, headers=headers)


def _is_own_path(text: str) -> bool:
    """`//host` and `/\\host` are other hosts to a browser."""
    return (
        text.startswith("/")
        and not text.startswith(("//", "/\\"))
        and len(text) <= _MAX_PATH_CHARS
        and text.isascii()
        and text.isprintable()
        and "\\" not in text
    )
