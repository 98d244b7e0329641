"""Where does a request go that names an alias of its tenant?

The alias' own prompt and parameters enter the body before it is checked, so they obey the same
rules as the caller's. Then its targets are tried in order until one begins to answer: a target that
is away, full or failing passes the request on, and anything else (a bad field, a limit) ends it.
Once a byte of an answer was sent there is no other target.

Does not know: what an endpoint does, locally or elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from anzoth.api.call import Answer, Call
from anzoth.api.fields import unsupported
from anzoth.errors import AnzothError, CapacityUnavailable, InvalidValue, ModelUnavailable
from anzoth.gateway.aliases import Alias, Target
from anzoth.gateway.backend_errors import TargetPaused
from anzoth.gateway.backends import Backend
from anzoth.gateway.models import ServedModel
from anzoth.gateway.routes_of_models import in_order, prefix_key

Local = Callable[[ServedModel], Awaitable[Answer]]
Remote = Callable[[Backend, Target], Awaitable[Answer]]

_LIMITS_OF_OUTPUT = ("max_completion_tokens", "max_tokens")
_PASSES_ON = (ModelUnavailable, CapacityUnavailable)


async def alias_of(call: Call) -> Alias | None:
    """What the request's model means to its tenant alone. None: what it means to everybody.

    Raises DatabaseUnavailable.
    """
    aliases = await call.services.aliases.of(call.principal.tenant)
    if not aliases:
        return None
    name = call.body.get("model")
    return aliases.get(name) if isinstance(name, str) else None


def body_of_chat(alias: Alias, body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` as the alias has it."""
    applied = _with_parameters(alias, body)
    messages = body.get("messages")
    if alias.system_prompt is not None and isinstance(messages, list):
        instruction = {"role": "system", "content": alias.system_prompt}
        applied["messages"] = [instruction, *messages]
    return applied


def body_of_response(alias: Alias, body: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the Responses API, where the longest output has another name; the alias' prompt
    is not in it: what the caller said and nothing else stands in a response."""

    def renamed(parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "max_output_tokens" if name in _LIMITS_OF_OUTPUT else name: value
            for name, value in parameters.items()
        }

    own = replace(alias, forced=renamed(alias.forced), defaults=renamed(alias.defaults))
    return _with_parameters(own, body)


def body_without_chat(alias: Alias, body: Mapping[str, Any]) -> dict[str, Any]:
    """The same for an endpoint that has no messages. Raises InvalidValue if the alias needs some:
    what it promises must not be left out silently.
    """
    promises = {
        "a system prompt": alias.system_prompt is not None,
        "knowledge bases": alias.knowledge_bases,
        "tools": alias.tools,
    }
    if what := next((name for name, is_given in promises.items() if is_given), None):
        raise InvalidValue(
            f"The model '{alias.name}' has {what}: use /v1/chat/completions.", param="model"
        )
    return _with_parameters(alias, body)


def _with_parameters(alias: Alias, body: Mapping[str, Any]) -> dict[str, Any]:
    applied = dict(body)
    for name, value in alias.forced.items():
        for meant in _same_meaning(name):
            applied.pop(meant, None)
        applied[name] = value
    for name, value in alias.defaults.items():
        if all(applied.get(meant) is None for meant in _same_meaning(name)):
            applied[name] = value
    return applied


def _same_meaning(name: str) -> tuple[str, ...]:
    return _LIMITS_OF_OUTPUT if name in _LIMITS_OF_OUTPUT else (name,)


async def answer(
    call: Call, alias: Alias, beginning: str | None, local: Local, remote: Remote | None
) -> Answer:
    """The answer of the first target that gives one.

    `beginning`: what requests that begin alike share; None: nothing. `remote=None`: no other server
    can be asked. Raises what the last target did that was tried.
    """
    call.principal.require_model(alias.name)
    if alias.sticky and beginning is not None:
        key = prefix_key(call.principal.tenant, beginning)
    else:
        key = call.request.request_id.encode()
    attempts: list[str] = []
    headers = list(call.headers)
    failure: AnzothError = ModelUnavailable()
    for target in in_order(alias.targets, key):
        outcome = "ok"
        call.record.target = target.name
        call.headers, call.reservation = list(headers), None  # of the target before
        try:
            return await _ask(call, alias, target, local, remote)
        except AnzothError as error:
            failure = error
            outcome = "paused" if isinstance(error, TargetPaused) else error.code or "error"
            if not isinstance(error, _PASSES_ON) or error.is_final or _has_used(call):
                raise
        except BaseException:
            outcome = "abandoned"
            raise
        finally:
            attempts.append(f"{target.name} {outcome}")
            call.record.attempts = tuple(attempts)
    raise failure


async def _ask(
    call: Call, alias: Alias, target: Target, local: Local, remote: Remote | None
) -> Answer:
    if target.backend is None:
        model = call.services.models.find(target.model)
        if model is None:
            raise ModelUnavailable()  # it was unloaded, or is not loaded yet
        call.record.price = model.price
        return await local(replace(model, name=alias.name, target=target.name))
    call.record.price = None
    if remote is None:
        raise unsupported(
            "model", f"'{alias.name}' leads to a server that this endpoint cannot ask"
        )
    backend = call.services.backends.get(target.backend)
    if backend is None or not backend.serves(target.model, call.principal.tenant.name):
        raise ModelUnavailable(rule="backend.misconfigured")
    call.record.price = backend.config.prices.get(target.model)
    return await remote(backend, target)


def _has_used(call: Call) -> bool:
    """An engine took it and gave it up: what it computed counts, and nothing may count twice."""
    return call.record.prompt_tokens + call.record.completion_tokens > 0
