"""Which items does a client mean that it refers to by their ids?

Does not know: what is done with them, or how responses are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anzoth.api.call import Call
from anzoth.api.fields import wrong_value
from anzoth.api.files import owner_of
from anzoth.api.response_items import REFERENCE, Item
from anzoth.errors import NotFound


async def resolved(
    call: Call, items: Sequence[Item], known: set[str], param: str
) -> tuple[list[Item], Sequence[str]]:
    """`items` with those that are referred to, and the knowledge bases from which there is
    something in these. `known`: the ids of what went before; it grows.

    Raises NotFound, and InvalidValue for one that is in the conversation twice.
    """
    wanted = {item["id"] for item in items if item["type"] == REFERENCE}
    found: Mapping[str, Mapping[str, Any]] = {}
    knowledge_bases: Sequence[str] = ()
    if wanted:
        granted = call.principal.granted_knowledge_bases
        responses = call.services.responses
        found, knowledge_bases = await responses.items(owner_of(call), wanted, granted)
    made: list[Item] = []
    for index, item in enumerate(items):
        named = f"{param}[{index}].id"
        if item["type"] == REFERENCE:
            if item["id"] not in found:
                raise NotFound(
                    "There is no such item. Items are kept with the response in which they came "
                    "into being, where that is stored.",
                    param=named,
                )
            item = dict(found[item["id"]])
        if item["id"] in known:
            raise wrong_value(named, "an item that is not in the conversation yet")
        known.add(item["id"])
        made.append(item)
    return made, knowledge_bases
