"""/v1/conversations: lists of items that the server remembers; responses read one and add to it.

OpenAI's shapes. Items are those of responses (see `response_items`).

Does not know: how a conversation is stored (see `gateway.conversations`), or how a response in one
is made (`responses`).
"""

from __future__ import annotations

from typing import Any

from anzoth.api import item_references
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, parse
from anzoth.api.files import answer, owner_of
from anzoth.api.pages import cursor_page, list_request
from anzoth.api.query import Query
from anzoth.api.requests import METADATA
from anzoth.api.response_items import added_items
from anzoth.api.response_requests import INCLUDABLE
from anzoth.errors import UnsupportedParameter
from anzoth.gateway.conversations import ConversationView, NewItems
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge.listing import Page

CREATE_FIELDS = (
    Field("items", added_items(at_least=0), default=()),
    Field("metadata", METADATA, default={}),
)
MODIFY_FIELDS = (Field("metadata", METADATA, default={}),)
ADD_FIELDS = (Field("items", added_items(at_least=1), required=True),)


async def create(call: Call) -> Answer:
    conversations = call.services.conversations
    if not conversations.keeps_any:
        raise UnsupportedParameter("This server keeps no conversations.")
    values = parse(CREATE_FIELDS, call.body)
    new = NewItems(*await item_references.resolved(call, values["items"], set(), "items"))
    made = await conversations.create(owner_of(call), values["metadata"], new)
    return answer(call, _describe(made))


async def retrieve(call: Call) -> Answer:
    return answer(call, _describe(await call.services.conversations.get(*_meant(call))))


async def modify(call: Call) -> Answer:
    metadata = parse(MODIFY_FIELDS, call.body)["metadata"]
    conversations = call.services.conversations
    return answer(call, _describe(await conversations.set_metadata(*_meant(call), metadata)))


async def delete(call: Call) -> Answer:
    owner, id, granted = _meant(call)
    await call.services.conversations.delete(owner, id, granted)
    return answer(call, {"id": id, "object": "conversation.deleted", "deleted": True})


async def add_items(call: Call) -> Answer:
    """Their list, as they are kept."""
    _include(Query(call.request.query))
    items = parse(ADD_FIELDS, call.body)["items"]
    new = NewItems(*await item_references.resolved(call, items, set(), "items"))
    await call.services.conversations.add(*_meant(call), new)
    return answer(call, cursor_page(Page(new.items, False), dict))


async def list_items(call: Call) -> Answer:
    """The newest first unless `order` says otherwise."""
    query = Query(call.request.query)
    asked = list_request(query)
    _include(query)
    found = await call.services.conversations.list_items(*_meant(call), asked)
    return answer(call, cursor_page(found, dict))


async def retrieve_item(call: Call) -> Answer:
    _include(Query(call.request.query))
    found = await call.services.conversations.get_item(*_meant(call), _item_id(call))
    return answer(call, dict(found))


async def delete_item(call: Call) -> Answer:
    changed = await call.services.conversations.delete_item(*_meant(call), _item_id(call))
    return answer(call, _describe(changed))


def _meant(call: Call) -> tuple[FileOwner, str, frozenset[str] | None]:
    """Who asks for which conversation, and what is granted."""
    granted = call.principal.granted_knowledge_bases
    return owner_of(call), call.request.path_params["conversation_id"], granted


def _item_id(call: Call) -> str:
    return call.request.path_params["item_id"]


def _include(query: Query) -> None:
    """What was included when an item was made is in it."""
    query.several_of("include", INCLUDABLE)
    query.done()


def _describe(conversation: ConversationView) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": conversation.metadata,
    }
