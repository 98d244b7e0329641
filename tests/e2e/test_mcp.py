"""The official client of the Model Context Protocol reads a knowledge base of the whole server."""

from __future__ import annotations

import asyncio

import mcp_client_kit
import openai
import pytest

from installation import Installation

pytestmark = pytest.mark.slow

TEXT = "The owner of the boat is Mara Velten.\n\nThe harbour closes at 21:40."


def test_a_document_is_found_and_read_in_both_eras(whole_server: Installation) -> None:
    url, key = f"{whole_server.url}/v1", whole_server.create_key("assistant")
    with openai.OpenAI(base_url=url, api_key=key) as client:
        store = client.vector_stores.create(name="town")
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("boats.md", TEXT.encode())
        )
        assert file.status == "completed"
        only = whole_server.create_key("only", "--kb", store.id)

        async def read(mode: str) -> None:
            async with mcp_client_kit.connected(url, mode, only) as reader:
                found = await reader.call_tool("search", {"query": "Who owns the boat?"})
                (best,) = mcp_client_kit.said(found)["results"]
                assert (best["title"], best["id"]) == ("boats.md", f"{store.id}:{file.id}")
                assert "Mara Velten" in best["text"]
                whole = mcp_client_kit.said(await reader.call_tool("fetch", {"id": best["id"]}))
                assert whole["text"] == TEXT
                assert "next_id" not in whole["metadata"]

        for mode in mcp_client_kit.VERSIONS:
            asyncio.run(read(mode))
        client.files.delete(file.id)
        client.vector_stores.delete(store.id)
