"""/v1/responses: conversations that the server remembers, answered as chats are.

A response is what chat completions make (see `generating`) in another shape, with what it goes on
from. With `previous_response_id` that is all that the earlier response read and said, but for its
instructions: they are said anew each time, as at OpenAI.

A response that could not be kept says so: its `store` is false.

Does not know: limits, the engine, what a valid field is (`response_requests`), or how a response is
kept (`gateway.stored_responses`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from anzoth.api import generating, item_references, through_alias
from anzoth.api.call import Answer, Call
from anzoth.api.fields import unsupported, wrong_value
from anzoth.api.files import answer, owner_of
from anzoth.api.governed import govern
from anzoth.api.pages import cursor_page, list_request
from anzoth.api.query import Query
from anzoth.api.response_answer import Remembered, ResponseAnswer
from anzoth.api.response_approvals import answered_calls
from anzoth.api.response_items import Item
from anzoth.api.response_messages import messages_of
from anzoth.api.response_requests import INCLUDABLE, Asked, parse_count, parse_response
from anzoth.api.server_calls import ServerCall
from anzoth.errors import (
    BadRequest,
    InvalidValue,
    ModelUnavailable,
    PreviousResponseNotFound,
)
from anzoth.gateway.aliases import Alias, Target
from anzoth.gateway.backends import Backend
from anzoth.gateway.conversations import Reading
from anzoth.gateway.knowledge.grounding import Retrieved
from anzoth.gateway.knowledge.listing import ListRequest, Page
from anzoth.gateway.models import ServedModel
from anzoth.gateway.stored_responses import StoredResponse


async def create(call: Call) -> Answer:
    with _input_is_named():
        alias = await through_alias.alias_of(call)
        body = call.body if alias is None else through_alias.body_of_response(alias, call.body)
        request = parse_response(body)
        if request.is_background and call.is_of_batch:
            raise unsupported("background", "is not for batches: leave it out")
        call.describe(request.options)
        remembered = await _remembered(call, request.asked)
        answered = answered_calls(remembered.context, remembered.input)
        chat = request.chat(_messages(remembered, request.asked, alias, answered))
        governed = await govern(call, alias, chat)
        if governed is not None:
            chat = governed.request
        elif answered:
            _check_answers(answered)
            chat = request.chat(_messages(remembered, request.asked, alias))
        made = ResponseAnswer(call, request, chat, remembered)

        async def local(model: ServedModel, retrieved: Retrieved | None) -> Answer:
            if governed is not None:
                return await made.called(governed, model, retrieved, answered)
            return await made.generated(model, retrieved)

        endpoint = generating.Endpoint(local, _ask_chats, made.without_answer)
        return await generating.answer(call, alias, chat, body.get("prompt_cache_key"), endpoint)


async def count_input(call: Call) -> Answer:
    """What a model would read, without what is found in knowledge bases."""
    with _input_is_named():
        alias = await through_alias.alias_of(call)
        body = call.body if alias is None else through_alias.body_of_response(alias, call.body)
        request = parse_count(body)
        model = call.model(request.options.model) if alias is None else _first_here(call, alias)
        remembered = await _remembered(call, request.asked)
        chat = request.chat(_messages(remembered, request.asked, alias))
        if (governed := await govern(call, alias, chat)) is not None:
            chat = governed.request
        count = await generating.count_prompt(call, chat, model)
    return answer(call, {"object": "response.input_tokens", "input_tokens": count})


async def retrieve(call: Call) -> Answer:
    query = Query(call.request.query)
    query.several_of("include", INCLUDABLE)  # what was included when it was made is in it
    query.done()
    found = await call.services.responses.get(
        owner_of(call), call.request.path_params["response_id"], _granted(call)
    )
    return answer(call, dict(found.response))


async def cancel(call: Call) -> Answer:
    """Of one in the background. What has ended stays as it is."""
    id = call.request.path_params["response_id"]
    found = await call.services.responses.cancel(owner_of(call), id, _granted(call))
    call.services.background.stop(id)
    return answer(call, dict(found.response))


async def delete(call: Call) -> Answer:
    id = call.request.path_params["response_id"]
    await call.services.responses.delete(owner_of(call), id, _granted(call))
    call.services.background.stop(id)
    return answer(call, {"id": id, "object": "response.deleted", "deleted": True})


async def list_input_items(call: Call) -> Answer:
    """All that was read for it, the newest first unless `order` says otherwise."""
    query = Query(call.request.query)
    asked = list_request(query)
    query.several_of("include", INCLUDABLE)
    query.done()
    found = await call.services.responses.get(
        owner_of(call), call.request.path_params["response_id"], _granted(call)
    )
    items = [*(await _context_of(call, found) or ()), *found.input]
    return answer(call, cursor_page(_page(items, asked), dict))


# --- what went before -----------------------------------------------------------------------------


async def _remembered(call: Call, asked: Asked) -> Remembered:
    """Raises ConversationNotFound or PreviousResponseNotFound, and NotFound for an item."""
    context: list[Item] = []
    knowledge_bases: list[str] = []
    reading: Reading | None = None
    if asked.conversation_id is not None:
        reading = await call.services.conversations.read(
            owner_of(call), asked.conversation_id, _granted(call)
        )
        context = [dict(item) for item in reading.items]
        knowledge_bases += reading.knowledge_bases
    elif asked.previous_id is not None:
        previous = await _previous(call, asked.previous_id)
        context = [dict(item) for item in previous.conversation]
        knowledge_bases += previous.knowledge_bases
    known = {item["id"] for item in context}
    items, of_items = await item_references.resolved(call, asked.items, known, "input")
    knowledge_bases += of_items
    return Remembered(context, items, tuple(dict.fromkeys(knowledge_bases)), reading)


async def _previous(call: Call, id: str) -> StoredResponse:
    """Raises PreviousResponseNotFound, also for one whose conversation was deleted."""
    found = await call.services.responses.previous(owner_of(call), id, _granted(call))
    context = await _context_of(call, found)
    if context is None:
        raise PreviousResponseNotFound()
    return replace(found, context=context)


async def _context_of(call: Call, found: StoredResponse) -> Sequence[Mapping[str, Any]] | None:
    """What was read for it before its own input; None: its conversation was deleted."""
    if found.conversation_id is None:
        return found.context
    return await call.services.conversations.read_again(
        owner_of(call), found.conversation_id, found.last_position
    )


def _messages(
    remembered: Remembered, asked: Asked, alias: Alias | None, pending: Sequence[ServerCall] = ()
) -> list[Item]:
    """Without the calls that are `pending`. Raises InvalidValue where there is nothing to read."""
    prompt = None if alias is None else alias.system_prompt
    conversation = messages_of(
        [*remembered.context, *remembered.input],
        (prompt, asked.instructions),
        {call.approval_id for call in pending if call.approval_id is not None},
    )
    if not any(message["role"] != "system" for message in conversation):
        raise wrong_value("input", "something that a model can read")
    return conversation


def _check_answers(answered: Sequence[ServerCall]) -> None:
    """Of a request that names no tool of a server. Raises InvalidValue."""
    if any(call.is_approved for call in answered):
        raise wrong_value("tools", "the tool server whose call is approved")


def _granted(call: Call) -> frozenset[str] | None:
    return call.principal.granted_knowledge_bases


def _page(items: Sequence[Mapping[str, Any]], asked: ListRequest) -> Page[Mapping[str, Any]]:
    ordered = list(items) if asked.is_ascending else list(reversed(items))
    places = {item["id"]: index for index, item in enumerate(ordered)}
    low, high = 0, len(ordered)
    for name, cursor in (("after", asked.after), ("before", asked.before)):
        if cursor is None:
            continue
        if cursor not in places:
            raise InvalidValue(f"'{name}' must be the id of an entry of this list.", param=name)
        if name == "after":
            low = places[cursor] + 1
        else:
            high = places[cursor]
    between = ordered[low:high]
    if asked.before is not None and asked.after is None:
        return Page(between[-asked.limit :], len(between) > asked.limit)
    return Page(between[: asked.limit], len(between) > asked.limit)


# --- the model ------------------------------------------------------------------------------------


def _first_here(call: Call, alias: Alias) -> ServedModel:
    """The first of its targets that is served here. Raises ModelNotAllowed or ModelUnavailable."""
    call.principal.require_model(alias.name)
    for target in alias.targets:
        if target.backend is None and (model := call.services.models.find(target.model)):
            return model
    raise ModelUnavailable()


async def _ask_chats(_backend: Backend, target: Target, _retrieved: Retrieved | None) -> Answer:
    """Of a model of another server. Raises UnsupportedParameter."""
    raise unsupported(
        "model",
        f"leads to '{target.name}' of another server, which is asked through /v1/chat/completions "
        "only",
    )


@contextmanager
def _input_is_named() -> Iterator[None]:
    """Where chat completions have `messages`, there is the input here."""
    try:
        yield
    except BadRequest as error:
        if error.param == "messages":
            error.param = "input"
        raise
