"""/v1/organization/model_aliases: the names that a tenant gives to models.

`parse_alias` is the contract; `anzoth aliases` uses it too. Parameters are checked by the tables of
the endpoints that they will enter, so that no request fails because of its alias.

Does not know: who may name what (see `gateway.alias_directory`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from anzoth.api.call import Answer, Call
from anzoth.api.fields import (
    Field,
    Policy,
    array,
    boolean,
    harmless,
    integer,
    json_object,
    nested,
    parse,
    string,
    unsupported,
    wrong_value,
)
from anzoth.api.file_search import MAX_STORES
from anzoth.api.requests import CHAT_FIELDS, MAX_MODEL_NAME
from anzoth.errors import InvalidValue
from anzoth.gateway.alias_directory import AliasRequest, AliasView, Caller
from anzoth.gateway.aliases import Target
from anzoth.gateway.tools.pins import MAX_TOOL_NAME
from anzoth.http.messages import Response

MAX_TARGETS = 16
MAX_WEIGHT = 1000
MAX_SYSTEM_PROMPT = 32_768
MAX_TOOLS = 64
_PARAMETERS = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "logit_bias", "service_tier"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "reasoning_effort"),
    *("max_tokens", "max_completion_tokens", "chat_template_kwargs", "verbosity"),
)
_CHECKS = {field.name: field.check for field in CHAT_FIELDS if field.name in _PARAMETERS}


_TOOL = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*(__[A-Za-z0-9_-]+)?")


def _name(value: Any, param: str) -> str:
    name = string(MAX_MODEL_NAME, min_characters=1)(value, param)
    if not name.isprintable() or name != name.strip():
        raise wrong_value(param, "printable characters")
    return name


def _prompt(value: Any, param: str) -> str:
    text = string(MAX_SYSTEM_PROMPT, min_characters=1)(value, param)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise wrong_value(param, "valid Unicode") from None
    if "\0" in text:
        raise wrong_value(param, "text without NUL")
    return text


_TARGET = nested(
    Field("model", _name, required=True),
    Field("backend", string(64, min_characters=1)),
    Field("weight", integer(0, MAX_WEIGHT), default=1),
)


def _target(value: Any, param: str) -> Target:
    return Target(**_TARGET(value, param))


def _parameters(value: Any, param: str) -> dict[str, Any]:
    for name, given in json_object(value, param).items():
        if name not in _CHECKS:
            raise unsupported(f"{param}", f"can hold: {', '.join(_CHECKS)}")
        _CHECKS[name](given, f"{param}.{name}")
    if "max_tokens" in value and "max_completion_tokens" in value:
        raise wrong_value(param, "'max_tokens' or 'max_completion_tokens', not both")
    return value


def _tool(value: Any, param: str) -> str:
    """What a key is granted, too: a server's label, or one of its tools. They need not be there."""
    grant = string(MAX_TOOL_NAME, min_characters=1)(value, param)
    if _TOOL.fullmatch(grant) is None:
        raise wrong_value(param, "the label of a tool server, or label__tool")
    return grant


_FIELDS = (
    Field("name", _name, required=True),
    Field("targets", array(_target, MAX_TARGETS, min_items=1), required=True),
    Field("system_prompt", _prompt),
    Field("defaults", _parameters, default={}),
    Field("forced", _parameters, default={}),
    Field("sticky", boolean, default=False),
    Field("knowledge_bases", array(_name, MAX_STORES), default=()),
    Field("tools", array(_tool, MAX_TOOLS), default=()),
    # A name that aliases will have; until then nothing of the kind is promised.
    Field("guard_rules", harmless([]), Policy.REFUSED),
)
_NAMES = tuple(field.name for field in _FIELDS)


def parse_alias(body: Mapping[str, Any]) -> AliasRequest:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter. A field that is misspelt is an
    error here: whoever makes an alias has to know what it will do.
    """
    if any(name not in _NAMES for name in body):
        raise InvalidValue(f"An alias has only these fields: {', '.join(_NAMES)}.")
    values = parse(_FIELDS, body)
    targets = values["targets"]
    if len({target.name for target in targets}) < len(targets):
        raise wrong_value("targets", "each model once")
    if values["tools"] and any(target.backend is not None for target in targets):
        raise wrong_value("tools", "none where a target is a model of another server")
    return AliasRequest(
        values["name"],
        targets,
        values["system_prompt"],
        values["defaults"],
        values["forced"],
        values["sticky"],
        values["knowledge_bases"],
        values["tools"],
    )


def describe(alias: AliasView) -> dict[str, Any]:
    """An alias as this API and `anzoth aliases --json` show it."""
    return {
        "id": str(alias.id),
        "object": "organization.model_alias",
        "name": alias.name,
        "targets": list(alias.targets),
        "system_prompt": alias.system_prompt,
        "defaults": alias.defaults,
        "forced": alias.forced,
        "sticky": alias.sticky,
        "knowledge_bases": list(alias.knowledge_bases),
        "tools": list(alias.tools),
        "created_at": int(alias.created_at.timestamp()),
        "updated_at": int(alias.updated_at.timestamp()),
    }


async def list_all(call: Call) -> Answer:
    """All on one page: there is a bound on how many there can be."""
    aliases = [describe(row) for row in await call.services.alias_directory.list(call.principal)]
    ids = [alias["id"] for alias in aliases]
    page = {
        "object": "list",
        "data": aliases,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": False,
    }
    return _answer(call, page)


async def create(call: Call) -> Answer:
    request = parse_alias(call.body)
    created = await call.services.alias_directory.create(_caller(call), request)
    return _answer(call, describe(created))


async def retrieve(call: Call) -> Answer:
    found = await call.services.alias_directory.get(call.principal, _id(call))
    return _answer(call, describe(found))


async def update(call: Call) -> Answer:
    """Fields that are not given stay as they are."""
    directory, principal, id = call.services.alias_directory, call.principal, _id(call)
    before = describe(await directory.get(principal, id))
    merged = {name: before[name] for name in _NAMES if name in before} | call.body
    return _answer(call, describe(await directory.update(_caller(call), id, parse_alias(merged))))


async def delete(call: Call) -> Answer:
    deleted = await call.services.alias_directory.delete(_caller(call), _id(call))
    return _answer(
        call,
        {"id": str(deleted), "object": "organization.model_alias.deleted", "deleted": True},
    )


def _caller(call: Call) -> Caller:
    return Caller(call.principal, call.request.peer, call.request.request_id)


def _id(call: Call) -> str:
    return call.request.path_params["id"]


def _answer(call: Call, body: dict[str, Any]) -> Response:
    return Response(200, orjson.dumps(body), headers=[*call.headers, ("cache-control", "no-store")])
