"""What can a tenant have, and how does it come to have one of each?

A table of steps, over the API as any customer takes them. Each makes things of a kind, with the
tenant's canary in them; a step whose route this server does not have is left out.

Does not know: who tries to see it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from anzoth.isolation.canaries import Canaries
from anzoth.isolation.client import EMPTY, AsksServer, Content, Credentials
from anzoth.isolation.comparing import Answer
from anzoth.isolation.tenants import Party, email_of


class Kind(StrEnum):
    """What an id is the id of."""

    TENANT = "tenant"
    PROJECT = "project"
    OTHER_PROJECT = "second project"
    PROJECT_NAME = "project name"
    KEY = "API key"
    ADMIN_KEY = "admin key"
    SERVICE_ACCOUNT = "service account"
    USER = "user"
    EMAIL = "email"
    SESSION = "session"
    INVITE = "invitation"
    ALIAS = "alias"
    ALIAS_NAME = "alias name"
    RATE_LIMIT = "rate limit"
    EVENT = "audit event"
    REQUEST = "request"
    FILE = "file"
    OTHER_FILE = "second file"
    UPLOAD = "upload"
    PART = "upload part"
    STORE = "vector store"
    BATCH = "file batch"
    RESPONSE = "response"
    ITEM = "response item"
    TOOL_SERVER = "tool server"
    REQUEST_BATCH = "batch"
    CONVERSATION = "conversation"
    CONVERSATION_ITEM = "conversation item"


OF_PROJECTS = frozenset(
    (
        *(Kind.FILE, Kind.OTHER_FILE, Kind.UPLOAD, Kind.PART, Kind.STORE, Kind.BATCH),
        *(Kind.RESPONSE, Kind.ITEM, Kind.CONVERSATION, Kind.CONVERSATION_ITEM),
        Kind.REQUEST_BATCH,
    )
)
"""What a project has for itself, and keys of the tenant's other projects do not see."""


class CannotPlant(Exception):
    """The server refuses what any tenant may do: a sentence that says what."""


@dataclass(slots=True)
class Owner:
    """A tenant, how it asks, and what it has."""

    party: Party
    infers: Credentials = field(repr=False)
    manages: Credentials = field(repr=False)
    browser: Credentials = field(repr=False)
    canaries: Canaries = field(default_factory=Canaries, repr=False)
    ids: dict[Kind, str] = field(default_factory=dict)
    absent: dict[Kind, str] = field(default_factory=dict)
    """Kinds of which this installation can have nothing, and why."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    model: str | None = None
    """One that generates; None: none is served."""

    @property
    def project(self) -> str:
        return f"/v1/organization/projects/{self.ids[Kind.PROJECT]}"

    @property
    def store(self) -> str:
        return f"/v1/vector_stores/{self.ids[Kind.STORE]}"


@dataclass(slots=True, frozen=True)
class Step:
    """One line of the table."""

    makes: tuple[Kind, ...]
    route: tuple[str, str]
    """That it needs: method and pattern."""
    plant: Callable[[Planter, Owner], Awaitable[None]]
    needs: Kind | None = None


_PATIENCE_S = 120.0
"""For a document to be read, and for a request to be found."""
_POLL_S = 0.1
_TRIES = 10
_BUSY = frozenset({429, 502, 503})
_MODELS_TRIED = 16


@dataclass(slots=True)
class Planter:
    """Makes what the table says, on one server."""

    server: AsksServer
    routes: frozenset[tuple[str, str]]
    """Method and pattern of each that there is."""

    async def plant(self, owner: Owner) -> None:
        """One of everything. Raises CannotPlant and NotReached."""
        party = owner.party
        owner.ids |= {
            Kind.TENANT: str(party.id),
            Kind.PROJECT: str(party.project_id),
            Kind.USER: str(party.session.user_id),
            Kind.EMAIL: email_of(party.name),
            Kind.SESSION: str(party.session.id),
        }
        owner.secrets |= party.secrets
        for step in STEPS:
            reason = None if step.needs is None else owner.absent.get(step.needs)
            if step.route not in self.routes:
                reason = f"there is no {' '.join(step.route)} here"
            if reason is None:
                await step.plant(self, owner)
            else:
                owner.absent |= dict.fromkeys(step.makes, reason)

    async def make(
        self, who: Credentials, method: str, path: str, content: Content = EMPTY
    ) -> dict[str, Any]:
        """What has to succeed. Raises CannotPlant."""
        answer = await self._patiently(who, method, path, content)
        if not answer.is_success:
            raise CannotPlant(f"{method} {path} was refused: {message_of(answer)}")
        return orjson.loads(answer.body)

    async def until(
        self, who: Credentials, path: str, is_done: Callable[[Answer], bool], what: str
    ) -> dict[str, Any]:
        """Asks again and again. Raises CannotPlant after `_PATIENCE_S`."""
        give_up_at_s = time.monotonic() + _PATIENCE_S
        while True:
            answer = await self.server.ask(who, "GET", path)
            if is_done(answer):
                return orjson.loads(answer.body)
            if time.monotonic() > give_up_at_s:
                raise CannotPlant(f"{what} within {_PATIENCE_S:.0f} s: {message_of(answer)}")
            await asyncio.sleep(_POLL_S)

    async def converse(self, owner: Owner, prompt: str) -> dict[str, Any]:
        """A chat completion of one token. Its id as a request is among what the owner has."""
        body = {
            "model": owner.model or "isolation-none",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
        }
        path = "/v1/chat/completions"
        answer = await self._patiently(owner.infers, "POST", path, Content(body))
        if owner.model is not None and not answer.is_success:
            raise CannotPlant(f"POST {path} was refused: {message_of(answer)}")
        owner.ids[Kind.REQUEST] = answer.request_id
        seen = f"/v1/requests/{answer.request_id}"
        await self.until(owner.infers, seen, lambda a: a.is_success, "a request was not found")
        return orjson.loads(answer.body)

    async def _patiently(
        self, who: Credentials, method: str, path: str, content: Content
    ) -> Answer:
        num_tries = 1
        while (
            answer := await self.server.ask(who, method, path, content)
        ).status in _BUSY and num_tries < _TRIES:
            num_tries += 1
            await asyncio.sleep(1)
        return answer

    async def find_model(self, owner: Owner) -> str | None:
        """The first that generates."""
        listed = await self.make(owner.infers, "GET", "/v1/models")
        for model in listed["data"][:_MODELS_TRIED]:
            body = {
                "model": model["id"],
                "messages": [{"role": "user", "content": "?"}],
                "max_tokens": 1,
            }
            path = "/v1/chat/completions"
            answer = await self._patiently(owner.infers, "POST", path, Content(body))
            if answer.is_success:
                return model["id"]
        return None


def message_of(answer: Answer) -> str:
    """The status, and the server's own sentence."""
    try:
        return f"{answer.status}, {orjson.loads(answer.body)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return str(answer.status)


# --- the steps --------------------------------------------------------------------------------


async def _project(planter: Planter, owner: Owner) -> None:
    owner.ids[Kind.PROJECT_NAME] = name = f"project {owner.canaries.label}"
    content = Content({"name": name})
    made = await planter.make(owner.manages, "POST", "/v1/organization/projects", content)
    owner.ids[Kind.OTHER_PROJECT] = made["id"]


async def _key(planter: Planter, owner: Owner) -> None:
    body = {"name": f"key {owner.canaries.label}", "scopes": ["chat"]}
    made = await planter.make(owner.manages, "POST", f"{owner.project}/api_keys", Content(body))
    owner.ids[Kind.KEY] = made["id"]
    owner.secrets["a key made over the API"] = made["value"].partition("_")[2]


async def _admin_key(planter: Planter, owner: Owner) -> None:
    body = {"name": f"admin {owner.canaries.label}", "expires_in_seconds": 3600}
    path = "/v1/organization/admin_api_keys"
    made = await planter.make(owner.manages, "POST", path, Content(body))
    owner.ids[Kind.ADMIN_KEY] = made["id"]
    owner.secrets["an admin key made over the API"] = made["value"].partition("_")[2]


async def _service_account(planter: Planter, owner: Owner) -> None:
    body = {"name": f"robot {owner.canaries.label}", "scopes": ["chat"]}
    path = f"{owner.project}/service_accounts"
    made = await planter.make(owner.manages, "POST", path, Content(body))
    owner.ids[Kind.SERVICE_ACCOUNT] = made["id"]
    owner.secrets["a service account's key"] = made["api_key"]["value"].partition("_")[2]


async def _member(planter: Planter, owner: Owner) -> None:
    body = {"user_id": owner.ids[Kind.USER], "role": "member"}
    await planter.make(owner.manages, "POST", f"{owner.project}/users", Content(body))


async def _invite(planter: Planter, owner: Owner) -> None:
    body = {"email": f"{owner.canaries.label}@anzoth.invalid", "role": "viewer"}
    made = await planter.make(owner.manages, "POST", "/v1/organization/invites", Content(body))
    owner.ids[Kind.INVITE] = made["id"]
    owner.secrets["an invitation's token"] = made["token"]


async def _alias(planter: Planter, owner: Owner) -> None:
    if owner.model is None:
        reason = "no model is served that generates"
        owner.absent |= dict.fromkeys((Kind.ALIAS, Kind.ALIAS_NAME), reason)
        return
    name = f"alias-{owner.canaries.label}"
    body = {
        "name": name,
        "targets": [{"model": owner.model}],
        "system_prompt": f"You are {owner.canaries.label}.",
    }
    path = "/v1/organization/model_aliases"
    made = await planter.make(owner.manages, "POST", path, Content(body))
    owner.ids |= {Kind.ALIAS: made["id"], Kind.ALIAS_NAME: name}


async def _rate_limit(planter: Planter, owner: Owner) -> None:
    owner.ids[Kind.RATE_LIMIT] = id = f"rl-{owner.ids[Kind.ALIAS_NAME]}"
    body = {"max_requests_per_1_minute": 100_000}
    await planter.make(owner.manages, "POST", f"{owner.project}/rate_limits/{id}", Content(body))


async def _files(planter: Planter, owner: Owner) -> None:
    for kind in (Kind.FILE, Kind.OTHER_FILE):
        text = f"# Secrets\n\n{owner.canaries.text(kind.value)}\n".encode()
        name = f"{kind.value} {owner.canaries.document}.md"
        content = Content(file=("file", name, text), form={"purpose": "assistants"})
        made = await planter.make(owner.infers, "POST", "/v1/files", content)
        owner.ids[kind] = made["id"]


async def _upload(planter: Planter, owner: Owner) -> None:
    text = owner.canaries.text("upload").encode()
    body = {
        "bytes": len(text),
        "filename": f"upload {owner.canaries.document}.txt",
        "mime_type": "text/plain",
        "purpose": "user_data",
    }
    made = await planter.make(owner.infers, "POST", "/v1/uploads", Content(body))
    owner.ids[Kind.UPLOAD] = made["id"]
    content = Content(file=("data", "part", text))
    path = f"/v1/uploads/{made['id']}/parts"
    owner.ids[Kind.PART] = (await planter.make(owner.infers, "POST", path, content))["id"]


async def _store(planter: Planter, owner: Owner) -> None:
    body = {
        "name": f"store {owner.canaries.document}",
        "metadata": {"about": owner.canaries.document},
    }
    answer = await planter.server.ask(owner.infers, "POST", "/v1/vector_stores", Content(body))
    if answer.status == 400 and b'"param":"embedding_model"' in answer.body:
        # The one refusal that is foreseen: such an installation has no stores at all.
        owner.absent[Kind.STORE] = message_of(answer)
        return
    if not answer.is_success:
        raise CannotPlant(f"POST /v1/vector_stores was refused: {message_of(answer)}")
    owner.ids[Kind.STORE] = orjson.loads(answer.body)["id"]


async def _store_file(planter: Planter, owner: Owner) -> None:
    file = owner.ids[Kind.FILE]
    attributes = {"about": owner.canaries.document}
    content = Content({"file_id": file, "attributes": attributes})
    await planter.make(owner.infers, "POST", f"{owner.store}/files", content)
    await planter.until(
        *(owner.infers, f"{owner.store}/files/{file}", _is_completed),
        "a document could not be searched",
    )


async def _batch(planter: Planter, owner: Owner) -> None:
    content = Content({"file_ids": [owner.ids[Kind.OTHER_FILE]]})
    made = await planter.make(owner.infers, "POST", f"{owner.store}/file_batches", content)
    owner.ids[Kind.BATCH] = made["id"]
    await planter.until(
        *(owner.infers, f"{owner.store}/file_batches/{made['id']}", _is_completed),
        "a batch of documents could not be searched",
    )


async def _response(planter: Planter, owner: Owner) -> None:
    if owner.model is None:
        reason = "no model is served that generates"
        owner.absent |= dict.fromkeys((Kind.RESPONSE, Kind.ITEM), reason)
        return
    body = {
        "model": owner.model,
        "input": f"What about {owner.canaries.document}?",
        "instructions": f"You are {owner.canaries.document}.",
        "max_output_tokens": 1,
    }
    made = await planter.make(owner.infers, "POST", "/v1/responses", Content(body))
    if not made["store"]:
        reason = "this server keeps no responses"
        owner.absent |= dict.fromkeys((Kind.RESPONSE, Kind.ITEM), reason)
        return
    owner.ids[Kind.RESPONSE] = made["id"]
    listed = await planter.make(owner.infers, "GET", f"/v1/responses/{made['id']}/input_items")
    owner.ids[Kind.ITEM] = listed["data"][0]["id"]


async def _tool_server(planter: Planter, owner: Owner) -> None:
    """A plain HTTP tool: it is not spoken to until it is called."""
    owner.secrets["a tool server's credentials"] = secret = secrets.token_hex(20)
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    body = {
        "label": "isolation",
        "kind": "http",
        "url": f"https://{owner.canaries.label}.anzoth.invalid/{{id}}",
        "tool": {
            "name": "get",
            "description": f"What {owner.canaries.label} has.",
            "input_schema": schema,
        },
        "credentials": {"headers": {"authorization": f"Bearer {secret}"}},
    }
    made = await planter.make(owner.manages, "POST", "/v1/tool_servers", Content(body))
    owner.ids[Kind.TOOL_SERVER] = made["id"]


async def _request_batch(planter: Planter, owner: Owner) -> None:
    """Of one request that no model answers: so it ends wherever nothing is served."""
    line = {
        "custom_id": owner.canaries.document,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "of nobody", "input": owner.canaries.document},
    }
    form = {"purpose": "batch"}
    file = Content(file=("file", "batch.jsonl", orjson.dumps(line)), form=form)
    body = {
        "input_file_id": (await planter.make(owner.infers, "POST", "/v1/files", file))["id"],
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        "metadata": {"about": owner.canaries.document},
    }
    made = await planter.make(owner.infers, "POST", "/v1/batches", Content(body))
    owner.ids[Kind.REQUEST_BATCH] = made["id"]
    await planter.until(
        *(owner.infers, f"/v1/batches/{made['id']}", _is_completed),
        "a batch of requests was not answered",
    )


async def _conversation(planter: Planter, owner: Owner) -> None:
    said = f"What about {owner.canaries.document}?"
    body = {
        "items": [{"role": "user", "content": said}],
        "metadata": {"about": owner.canaries.label},
    }
    path = "/v1/conversations"
    answer = await planter.server.ask(owner.infers, "POST", path, Content(body))
    if answer.status == 400 and b'"code":"unsupported_parameter"' in answer.body:
        # The one refusal that is foreseen: such an installation keeps none.
        reason = message_of(answer)
        owner.absent |= dict.fromkeys((Kind.CONVERSATION, Kind.CONVERSATION_ITEM), reason)
        return
    if not answer.is_success:
        raise CannotPlant(f"POST {path} was refused: {message_of(answer)}")
    id = owner.ids[Kind.CONVERSATION] = orjson.loads(answer.body)["id"]
    listed = await planter.make(owner.infers, "GET", f"{path}/{id}/items")
    owner.ids[Kind.CONVERSATION_ITEM] = listed["data"][0]["id"]


async def _event(planter: Planter, owner: Owner) -> None:
    listed = await planter.make(owner.manages, "GET", "/v1/organization/audit_logs")
    owner.ids[Kind.EVENT] = listed["data"][0]["id"]


def _is_completed(answer: Answer) -> bool:
    """Raises CannotPlant for what will never be."""
    status: Mapping[str, Any] = orjson.loads(answer.body) if answer.is_success else {}
    if status.get("status") in ("failed", "cancelled") or answer.status == 404:
        raise CannotPlant(f"it did not come to its end: {answer.body.decode()[:300]}")
    return status.get("status") == "completed"


_ORGANIZATION = "/v1/organization"
_PROJECT = f"{_ORGANIZATION}/projects/{{project_id}}"
_STORE = "/v1/vector_stores/{vector_store_id}"

STEPS = (
    Step((Kind.OTHER_PROJECT, Kind.PROJECT_NAME), ("POST", f"{_ORGANIZATION}/projects"), _project),
    Step((Kind.KEY,), ("POST", f"{_PROJECT}/api_keys"), _key),
    Step((Kind.ADMIN_KEY,), ("POST", f"{_ORGANIZATION}/admin_api_keys"), _admin_key),
    Step((Kind.SERVICE_ACCOUNT,), ("POST", f"{_PROJECT}/service_accounts"), _service_account),
    Step((), ("POST", f"{_PROJECT}/users"), _member),
    Step((Kind.INVITE,), ("POST", f"{_ORGANIZATION}/invites"), _invite),
    Step((Kind.ALIAS, Kind.ALIAS_NAME), ("POST", f"{_ORGANIZATION}/model_aliases"), _alias),
    Step(
        (Kind.RATE_LIMIT,),
        ("POST", f"{_PROJECT}/rate_limits/{{rate_limit_id:path}}"),
        _rate_limit,
        needs=Kind.ALIAS_NAME,
    ),
    Step((Kind.FILE, Kind.OTHER_FILE), ("POST", "/v1/files"), _files),
    Step((Kind.UPLOAD, Kind.PART), ("POST", "/v1/uploads"), _upload),
    Step((Kind.STORE,), ("POST", "/v1/vector_stores"), _store),
    Step((), ("POST", f"{_STORE}/files"), _store_file, needs=Kind.STORE),
    Step((Kind.BATCH,), ("POST", f"{_STORE}/file_batches"), _batch, needs=Kind.STORE),
    Step((Kind.RESPONSE, Kind.ITEM), ("POST", "/v1/responses"), _response),
    Step((Kind.TOOL_SERVER,), ("POST", "/v1/tool_servers"), _tool_server),
    Step((Kind.REQUEST_BATCH,), ("POST", "/v1/batches"), _request_batch),
    Step(
        (Kind.CONVERSATION, Kind.CONVERSATION_ITEM),
        ("POST", "/v1/conversations"),
        _conversation,
    ),
    Step((Kind.EVENT,), ("GET", f"{_ORGANIZATION}/audit_logs"), _event),
)
