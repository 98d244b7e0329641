"""What tests of conversations put into them, and what they read of them."""

from __future__ import annotations

from typing import Any

from files_kit import FileServer
from remembering_kit import strict

from anzoth.api.response_items import new_item, output_text
from anzoth.gateway.conversations import NewItems

UNKNOWN = "conv_" + "0" * 32


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


def turn(text: str) -> NewItems:
    part = [output_text(text)]
    return NewItems([new_item("message", role="assistant", status="completed", content=part)])


async def texts(server: FileServer, id: str, **query: Any) -> list[str]:
    """All that is in it, the oldest first unless `query` says otherwise."""
    listed = strict(server).conversations.items.list(id, **{"order": "asc", **query})
    return [item.content[0].text async for item in listed]


async def check_bytes(server: FileServer) -> None:
    """What a conversation is said to take is what is in it; and so for the tenant."""
    async with server.database.tenant(server.one.tenant) as connection:
        rows = await connection.fetch(
            "SELECT c.bytes, 256 * (1 + count(i.id)) + length(c.metadata) + "
            "coalesce(sum(length(i.content)), 0)::bigint AS counted FROM anzoth.conversations AS c "
            "LEFT JOIN anzoth.conversation_items AS i ON i.conversation_id = c.id GROUP BY c.id, "
            "c.bytes, c.metadata"
        )
        responses = await connection.fetchval(
            "SELECT coalesce(sum(bytes), 0)::bigint FROM anzoth.responses"
        )
        kept = await connection.fetchval("SELECT num_bytes FROM anzoth.response_sums")
    assert [row["bytes"] for row in rows] == [row["counted"] for row in rows]
    assert kept == responses + sum(row["bytes"] for row in rows)
