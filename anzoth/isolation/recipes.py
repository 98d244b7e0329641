"""How is each route asked for what is another tenant's?

Tables. A route of the server that is in none of them makes a verification fail: what is added to
the API enters here as well, by a line.

    PARAMETERS      what the id in a path is the id of
    BODIES          what a route needs besides, so that it comes to look for the id
    REFERENCES      where else a request can name something: in bodies, in queries
    LISTS           what a route without an id needs to show anything
    NOT_A_TENANTS   routes that name nothing of a tenant, and why

Does not know: how it is asked, or what the answer should be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anzoth.isolation.belongings import Kind, Owner
from anzoth.isolation.client import EMPTY, Content
from anzoth.isolation.comparing import Answer

Key = tuple[str, str]
"""Method and pattern."""

_ORGANIZATION = "/v1/organization"
_ALIASES = f"{_ORGANIZATION}/model_aliases"
_PROJECT = f"{_ORGANIZATION}/projects/{{project_id}}"
_USERS = f"{_ORGANIZATION}/users/{{user_id}}"
_KEY = f"{_PROJECT}/api_keys/{{api_key_id}}"
_ACCOUNT = f"{_PROJECT}/service_accounts/{{service_account_id}}"
_LIMIT = f"{_PROJECT}/rate_limits/{{rate_limit_id:path}}"
_UPLOAD = "/v1/uploads/{upload_id}"
_STORE = "/v1/vector_stores/{vector_store_id}"
_TOOL_SERVER = "/v1/tool_servers/{tool_server_id}"
_CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_RESPONSES = "/v1/responses"
_COUNT = f"{_RESPONSES}/input_tokens"
_ITEMS = f"{_RESPONSES}/{{response_id}}/input_items"
_CONVERSATIONS = "/v1/conversations"
_CONVERSATION = f"{_CONVERSATIONS}/{{conversation_id}}"
_IN_CONVERSATION = f"{_CONVERSATION}/items"
MCP: Key = ("POST", "/mcp")
_HOUR_S = 3600

PARAMETERS: Mapping[str, Kind] = {
    "file_id": Kind.FILE,
    "upload_id": Kind.UPLOAD,
    "user_id": Kind.USER,
    "invite_id": Kind.INVITE,
    "project_id": Kind.PROJECT,
    "api_key_id": Kind.KEY,
    "service_account_id": Kind.SERVICE_ACCOUNT,
    "rate_limit_id": Kind.RATE_LIMIT,
    "key_id": Kind.ADMIN_KEY,
    "vector_store_id": Kind.STORE,
    "batch_id": Kind.BATCH,
    "response_id": Kind.RESPONSE,
    "tool_server_id": Kind.TOOL_SERVER,
    "conversation_id": Kind.CONVERSATION,
    "item_id": Kind.CONVERSATION_ITEM,
}
NAMED_ID: Mapping[str, Kind] = {
    "/v1/models/{id:path}": Kind.ALIAS_NAME,
    "/v1/auth/sessions/{id}": Kind.SESSION,
    "/v1/requests/{id}": Kind.REQUEST,
    f"{_ALIASES}/{{id}}": Kind.ALIAS,
    "/v1/batches/{id}": Kind.REQUEST_BATCH,
    "/v1/batches/{id}/cancel": Kind.REQUEST_BATCH,
}
"""Of parameters that are called `id`, by the route's pattern."""

_SIGN_IN = "it is about who signs in, before there is a tenant"
_PROVIDERS = "it names a provider of the operator's configuration"
_OWN_ACCOUNT = "it is about the account of the session, and takes no id"

NOT_A_TENANTS: Mapping[Key, str] = {
    ("GET", "/v1/auth/oidc/{provider}"): _PROVIDERS,
    ("GET", "/v1/auth/oidc/{provider}/callback"): _PROVIDERS,
    ("GET", f"{_ORGANIZATION}/usage/{{kind}}"): "its parameter is a word of this API",
    **{
        ("POST", f"/v1/auth/{path}"): _SIGN_IN
        for path in (
            *("bootstrap", "sign-up", "sign-in", "second-factor", "password/reset"),
            *("invitations/show", "invitations/accept"),
        )
    },
    **{
        ("POST", f"/v1/auth/{path}"): _OWN_ACCOUNT
        for path in (
            *("sign-out", "password", "totp", "totp/confirm", "totp/disable", "recovery-codes"),
        )
    },
    ("DELETE", "/v1/auth/sessions"): _OWN_ACCOUNT,
    ("POST", "/v1/files"): "it takes content and no id",
    ("POST", "/v1/uploads"): "it takes a description and no id",
    ("POST", f"{_ORGANIZATION}/admin_api_keys"): "it takes a name and no id",
    ("POST", "/v1/tool_servers"): "it takes a description and no id",
}
"""That are asked nothing."""

BODIES: Mapping[Key, Callable[[Owner], Content]] = {
    ("POST", f"{_UPLOAD}/parts"): lambda own: Content(file=("data", "part", b"of mine")),
    ("POST", f"{_UPLOAD}/complete"): lambda own: Content({"part_ids": [own.ids[Kind.PART]]}),
    ("POST", _USERS): lambda own: Content({"role": "viewer"}),
    ("POST", f"{_PROJECT}/users"): lambda own: Content(
        {"user_id": own.ids[Kind.USER], "role": "member"}
    ),
    ("POST", f"{_PROJECT}/users/{{user_id}}"): lambda own: Content({"role": "member"}),
    ("POST", _PROJECT): lambda own: Content({"name": "mine now"}),
    ("POST", f"{_PROJECT}/api_keys"): lambda own: Content({"name": "mine"}),
    ("POST", _KEY): lambda own: Content({"name": "mine now"}),
    ("POST", f"{_KEY}/rotate"): lambda own: Content({}),
    ("POST", f"{_PROJECT}/service_accounts"): lambda own: Content({"name": "mine"}),
    ("POST", _ACCOUNT): lambda own: Content({"name": "mine now"}),
    ("POST", f"{_ACCOUNT}/api_keys"): lambda own: Content({"name": "mine"}),
    ("POST", _LIMIT): lambda own: Content({"max_requests_per_1_minute": 7}),
    ("POST", f"{_ALIASES}/{{id}}"): lambda own: Content({"sticky": True}),
    ("POST", _STORE): lambda own: Content({"name": "mine now"}),
    ("POST", f"{_STORE}/files"): lambda own: Content({"file_id": own.ids[Kind.FILE]}),
    ("POST", f"{_STORE}/files/{{file_id}}"): lambda own: Content({"attributes": {"a": "mine"}}),
    ("POST", f"{_STORE}/file_batches"): lambda own: Content({"file_ids": [own.ids[Kind.FILE]]}),
    ("POST", _CONVERSATION): lambda own: Content({"metadata": {"a": "mine"}}),
    ("POST", _IN_CONVERSATION): lambda own: Content({"items": [{"role": "user", "content": "?"}]}),
    ("POST", f"{_STORE}/search"): lambda own: Content({"query": "What does it say?"}),
    ("POST", _TOOL_SERVER): lambda own: Content({"approval": "never"}),
    ("POST", f"{_TOOL_SERVER}/approve"): lambda own: Content(
        {"tools": [{"name": "get", "digest": "00" * 32}]}
    ),
    ("POST", f"{_TOOL_SERVER}/withdraw"): lambda own: Content({"tools": ["get"]}),
}


def without_body(method: str, pattern: str) -> bool:
    """Whether a route that changes something needs nothing but its path."""
    return method == "DELETE" or (method, pattern) in _BARE


_BARE = frozenset(
    {
        ("POST", f"{_UPLOAD}/cancel"),
        ("POST", f"{_RESPONSES}/{{response_id}}/cancel"),
        ("POST", f"{_PROJECT}/archive"),
        ("POST", "/v1/batches/{id}/cancel"),
        ("POST", f"{_STORE}/file_batches/{{batch_id}}/cancel"),
        ("POST", f"{_TOOL_SERVER}/refresh"),
    }
)


@dataclass(slots=True, frozen=True)
class List:
    """A route without an id that shows what the tenant has."""

    query: Callable[[], Mapping[str, Any]] = dict
    may_be_empty: bool = False
    """It need not show anything of a tenant: its answer is searched, and nothing else."""
    of: Kind | None = None
    """What it shows, where that may be absent."""
    also: tuple[Mapping[str, Any], ...] = ()
    """Further queries: what another order shows is read by another statement."""


_UP = ({"order": "asc"},)

LISTS: Mapping[Key, List] = {
    ("GET", f"{_ORGANIZATION}/costs"): List(
        lambda: {"start_time": int(time.time()) - _HOUR_S, "group_by": "api_key_id"},
        may_be_empty=True,  # where no model has a price
    ),
    ("GET", "/v1/models"): List(of=Kind.ALIAS_NAME),
    ("GET", _ALIASES): List(of=Kind.ALIAS),
    ("GET", "/v1/files"): List(also=_UP),
    ("GET", "/v1/vector_stores"): List(of=Kind.STORE, also=_UP),
    ("GET", "/v1/batches"): List(of=Kind.REQUEST_BATCH),
    ("GET", f"{_STORE}/files"): List(also=_UP),
    ("GET", _ITEMS): List(also=_UP),
    ("GET", _IN_CONVERSATION): List(also=_UP),
    ("GET", f"{_STORE}/file_batches/{{batch_id}}/files"): List(also=_UP),
    ("GET", f"{_ORGANIZATION}/admin_api_keys"): List(also=({"order": "desc"},)),
    ("GET", "/v1/usage"): List(may_be_empty=True),
    ("GET", "/v1/auth/oidc"): List(may_be_empty=True),
    **{("GET", path): List(may_be_empty=True) for path in ("/healthz", "/readyz", "/metrics")},
}
"""Only those that are more than a GET."""


def is_success(answer: Answer) -> bool:
    return answer.is_success


def is_tool_success(answer: Answer) -> bool:
    """Of /mcp, where what a tool does not find is a result as well."""
    return answer.is_success and b'"structuredContent"' in answer.body


@dataclass(slots=True, frozen=True)
class Reference:
    """A place in a request that can name something. The route must be there, or it is no place."""

    route: Key
    kind: Kind
    content: Callable[[Owner, str], Content]
    """With the id in the place."""
    makes: bool = False
    """It succeeds whatever the id, and answers with something new. Times are not compared."""
    is_known_to_look: bool = False
    """An own id is not asked for, because that would end what asks."""
    is_found: Callable[[Answer], bool] = is_success
    """Whether an answer says that what an own id names was found."""

    @property
    def asks_own(self) -> bool:
        """Whether the same is asked about an own id, which shows that it is looked up at all."""
        return not (self.makes or self.is_known_to_look)

    @property
    def name(self) -> str:
        method, pattern = self.route
        return f"{method} {pattern}"


def _of_body(**body: Any) -> Callable[[Owner, str], Content]:
    """`ID` in it becomes the id."""
    return lambda own, id: Content(_filled(body, id))


def _of_query(name: str, **more: Any) -> Callable[[Owner, str], Content]:
    return lambda own, id: Content(query={name: id, **more})


_ID = "{id}"


def _filled(value: Any, id: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, id) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, id) for item in value]
    return id if value == _ID else value


def _of_usage(name: str) -> Callable[[Owner, str], Content]:
    return lambda own, id: Content(query={name: id, "start_time": int(time.time()) - _HOUR_S})


_MESSAGES = [{"role": "user", "content": "?"}]
_SEARCHES = [{"type": "file_search", "vector_store_ids": [_ID]}]


def _chat(**more: Any) -> Callable[[Owner, str], Content]:
    def content(own: Owner, id: str) -> Content:
        body = {"model": own.model, "messages": _MESSAGES, "max_tokens": 1, **more}
        return Content(_filled(body, id))

    return content


def _respond(**more: Any) -> Callable[[Owner, str], Content]:
    return lambda own, id: Content(_filled({"model": own.model, **more}, id))


def tool_call(name: str, **arguments: str) -> Content:
    params = {"name": name, "arguments": arguments}
    return Content({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


_BACKWARDS = frozenset({Kind.STORE, Kind.ITEM, Kind.CONVERSATION_ITEM, Kind.EVENT, Kind.RATE_LIMIT})
"""What lists can also be read backwards of."""
_REFERS = [{"type": "item_reference", "id": _ID}]

REFERENCES = (
    # Cursors of lists.
    *(
        Reference(("GET", pattern), kind, _of_query(name))
        for pattern, kind in (
            ("/v1/files", Kind.FILE),
            ("/v1/vector_stores", Kind.STORE),
            (f"{_STORE}/files", Kind.FILE),
            ("/v1/batches", Kind.REQUEST_BATCH),
            (_ITEMS, Kind.ITEM),
            (_IN_CONVERSATION, Kind.CONVERSATION_ITEM),
            (f"{_STORE}/file_batches/{{batch_id}}/files", Kind.OTHER_FILE),
            (f"{_ORGANIZATION}/users", Kind.USER),
            (f"{_ORGANIZATION}/invites", Kind.INVITE),
            (f"{_ORGANIZATION}/projects", Kind.OTHER_PROJECT),
            (f"{_ORGANIZATION}/admin_api_keys", Kind.ADMIN_KEY),
            (f"{_ORGANIZATION}/audit_logs", Kind.EVENT),
            (f"{_PROJECT}/users", Kind.USER),
            (f"{_PROJECT}/api_keys", Kind.KEY),
            (f"{_PROJECT}/service_accounts", Kind.SERVICE_ACCOUNT),
            (f"{_PROJECT}/rate_limits", Kind.RATE_LIMIT),
        )
        for name in ("after", "before")
        if name == "after" or kind in _BACKWARDS
    ),
    # Filters.
    Reference(("GET", f"{_ORGANIZATION}/users"), Kind.EMAIL, _of_query("emails[]")),
    *(
        Reference(("GET", f"{_ORGANIZATION}/audit_logs"), kind, _of_query(f"{name}[]"))
        for name, kind in (
            ("project_ids", Kind.PROJECT),
            ("actor_ids", Kind.KEY),
            ("resource_ids", Kind.KEY),
        )
    ),
    *(
        Reference(("GET", pattern), kind, _of_usage(f"{name}[]"))
        for pattern in (f"{_ORGANIZATION}/usage/{{kind}}", f"{_ORGANIZATION}/costs")
        for name, kind in (
            ("project_ids", Kind.PROJECT),
            ("user_ids", Kind.USER),
            ("api_key_ids", Kind.KEY),
        )
    ),
    # What a request is about, or made of.
    Reference(("POST", f"{_UPLOAD}/complete"), Kind.PART, _of_body(part_ids=[_ID])),
    Reference(
        ("POST", "/v1/auth/session"),
        Kind.TENANT,
        _of_body(organization_id=_ID),
        is_known_to_look=True,  # the session would get another secret
    ),
    Reference(("POST", f"{_PROJECT}/users"), Kind.USER, _of_body(user_id=_ID, role="member")),
    Reference(
        ("POST", f"{_ORGANIZATION}/invites"),
        Kind.PROJECT,
        _of_body(
            email="nobody@anzoth.invalid",
            role="viewer",
            projects=[{"id": _ID, "role": "member"}],
        ),
    ),
    Reference(
        ("POST", f"{_ORGANIZATION}/invites"),
        Kind.EMAIL,
        _of_body(email=_ID, role="viewer"),
        makes=True,
    ),
    Reference(
        ("POST", _ALIASES),
        Kind.ALIAS_NAME,
        _of_body(name="a name of mine", targets=[{"model": _ID}]),
    ),
    *(
        Reference(("POST", pattern), Kind.ALIAS_NAME, content)
        for pattern, content in (
            (_CHAT, _of_body(model=_ID, messages=_MESSAGES, max_tokens=1)),
            (_COMPLETIONS, _of_body(model=_ID, prompt="?", max_tokens=1)),
            (_RESPONSES, _of_body(model=_ID, input="?", max_output_tokens=1)),
            (_COUNT, _of_body(model=_ID, input="?")),
            ("/v1/embeddings", _of_body(model=_ID, input="?")),
            ("/v1/rerank", _of_body(model=_ID, query="?", documents=["?"])),
        )
    ),
    Reference(("POST", "/v1/vector_stores"), Kind.FILE, _of_body(file_ids=[_ID])),
    Reference(
        ("POST", "/v1/batches"),
        Kind.FILE,
        _of_body(input_file_id=_ID, endpoint="/v1/embeddings", completion_window="24h"),
    ),
    Reference(("POST", f"{_STORE}/files"), Kind.FILE, _of_body(file_id=_ID)),
    Reference(("POST", f"{_STORE}/file_batches"), Kind.FILE, _of_body(file_ids=[_ID])),
    Reference(("POST", f"{_STORE}/file_batches"), Kind.FILE, _of_body(files=[{"file_id": _ID}])),
    Reference(("POST", _CHAT), Kind.STORE, _chat(tools=_SEARCHES)),
    Reference(
        ("POST", _RESPONSES), Kind.STORE, _respond(input="?", tools=_SEARCHES, max_output_tokens=1)
    ),
    Reference(
        MCP,
        Kind.STORE,
        lambda own, id: tool_call("fetch", id=f"{id}:{own.ids[Kind.FILE]}"),
        is_found=is_tool_success,
    ),
    Reference(
        MCP,
        Kind.FILE,
        lambda own, id: tool_call("fetch", id=f"{own.ids.get(Kind.STORE, 'vs_none')}:{id}"),
        is_found=is_tool_success,
    ),
    *(
        Reference(("POST", pattern), kind, content)
        for pattern, more in ((_RESPONSES, {"max_output_tokens": 1}), (_COUNT, {}))
        for kind, content in (
            (Kind.RESPONSE, _respond(input="?", previous_response_id=_ID, **more)),
            (Kind.CONVERSATION, _respond(input="?", conversation=_ID, **more)),
            (Kind.ITEM, _respond(input=_REFERS, **more)),
        )
    ),
    Reference(("POST", _CONVERSATIONS), Kind.ITEM, _of_body(items=_REFERS)),
    # Names: whether another tenant has one must not be told either.
    Reference(
        ("POST", f"{_ORGANIZATION}/projects"),
        Kind.PROJECT_NAME,
        _of_body(name=_ID),
        makes=True,
    ),
    Reference(
        ("POST", f"{_PROJECT}/api_keys"),
        Kind.STORE,
        _of_body(name="mine", knowledge_bases=[_ID]),
        makes=True,
    ),
)

OF_PROJECTS = (
    *("/v1/files", "/v1/uploads", "/v1/vector_stores", "/mcp"),
    *(_RESPONSES, _CONVERSATIONS),
)
"""How the routes begin that are about what a project has for itself."""

WORDS: Mapping[str, str] = {"kind": "completions"}
"""Parameters that are words of the API, filled with one of them."""


def kind_of(pattern: str, parameter: str) -> Kind | None:
    """None: nobody has said."""
    return NAMED_ID.get(pattern) if parameter == "id" else PARAMETERS.get(parameter)


def content_of(method: str, pattern: str, own: Owner) -> Content | None:
    """What the route is asked with; None: nobody has said."""
    if (make := BODIES.get((method, pattern))) is not None:
        return make(own)
    return EMPTY if method == "GET" or without_body(method, pattern) else None
