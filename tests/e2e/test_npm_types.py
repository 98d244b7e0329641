"""What this server sends is of the types of the `openai` package for Node (see `npm_bodies`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from npm_bodies import Bodies

from client_drivers import BOAT
from installation import Installation

pytestmark = pytest.mark.slow

COMMON = {"model": "anzoth-default", "temperature": 0}
PARAMETERS = {
    "type": "object",
    "properties": {"tank": {"enum": ["north", "south"]}},
    "required": ["tank"],
    "additionalProperties": False,
}
FUNCTION = {"name": "read_level", "parameters": PARAMETERS, "strict": True}
FORM = {"type": "json_schema", "name": "tank", "schema": PARAMETERS, "strict": True}
QUESTION = "Who is the owner of the boat?"
_CONVERSATION = "OpenAI.Conversations.Conversation"


@pytest.fixture
def bodies(whole_server: Installation) -> Iterator[Bodies]:
    with whole_server.client(whole_server.create_key("types")) as client:
        yield Bodies(client)


@pytest.fixture(scope="module")
def store(whole_server: Installation) -> Iterator[str]:
    """A vector store with a file."""
    with whole_server.client(whole_server.create_key("stores of types")) as client:
        made = client.post("/v1/vector_stores", json={"name": "boats"}).json()
        path = f"/v1/vector_stores/{made['id']}"
        data = {"purpose": "assistants"}
        file = client.post("/v1/files", files={"file": ("boat.txt", BOAT.encode())}, data=data)
        added = client.post(f"{path}/files", json={"file_id": file.json()["id"]}).json()
        while added["status"] == "in_progress":
            added = client.get(f"{path}/files/{added['id']}").json()
        assert added["status"] == "completed"
        yield made["id"]
        client.delete(path)
        client.delete(f"/v1/files/{added['id']}")


def test_a_wrong_body_is_noticed(bodies: Bodies, tmp_path: Path) -> None:
    """The check that the others rely on."""
    body = {"id": "a", "object": "text_completion", "created": 1, "model": "m"}
    choice = {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
    bodies.add_each(
        "OpenAI.Completion",
        [
            {**body, "choices": [choice]},
            {**body, "choices": [choice | {"finish_reason": "tired"}]},
            {**body, "choices": [{**choice, "mood": 1}]},
            {**body, "choices": [{**choice, "index": None}]},
            {**body},
        ],
    )
    noticed = bodies.errors(tmp_path)
    assert len(noticed) == 4
    for error, part in zip(noticed, ('"tired"', "'\"mood\"'", "'null'", "'choices'"), strict=True):
        assert part in error


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 8, "logprobs": True, "top_logprobs": 2},
        {"max_tokens": 8, "n": 2, "service_tier": "auto", "user": "me"},
        {
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
        {"documents": [{"text": BOAT}], "max_tokens": 40},
    ],
    ids=["log probabilities", "choices", "calls", "documents"],
)
def test_chats(fields: dict[str, Any], bodies: Bodies, tmp_path: Path) -> None:
    asked = {**COMMON, "messages": [{"role": "user", "content": QUESTION}], **fields}
    bodies.post("OpenAI.Chat.ChatCompletion", "/v1/chat/completions", asked)
    asked["stream_options"] = {"include_usage": True}
    bodies.stream("OpenAI.Chat.ChatCompletionChunk", "/v1/chat/completions", asked)
    assert bodies.errors(tmp_path) == []


def test_completions(bodies: Bodies, tmp_path: Path) -> None:
    asked = {**COMMON, "prompt": "Anzoth", "max_tokens": 4, "logprobs": 2, "echo": True}
    bodies.post("Completion", "/v1/completions", asked)
    bodies.stream("CompletionChunk", "/v1/completions", asked)
    assert bodies.errors(tmp_path) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"max_output_tokens": 8},
        {
            "max_output_tokens": 8,
            "instructions": "Be brief.",
            "include": ["message.output_text.logprobs"],
            "top_logprobs": 2,
            "metadata": {"team": "a"},
            "reasoning": {"effort": "low"},
            "user": "me",
        },
        {
            "tools": [{"type": "function", **FUNCTION}],
            "tool_choice": {"type": "function", "name": "read_level"},
        },
        {"text": {"format": FORM}, "store": False},
    ],
    ids=["cut", "log probabilities", "calls", "form"],
)
def test_responses(fields: dict[str, Any], bodies: Bodies, tmp_path: Path) -> None:
    asked = {**COMMON, "input": QUESTION, **fields}
    bodies.post("Response", "/v1/responses", asked)
    bodies.stream("ResponseEvent", "/v1/responses", asked)
    assert bodies.errors(tmp_path) == []


def test_responses_from_knowledge_bases(store: str, bodies: Bodies, tmp_path: Path) -> None:
    tool = {"type": "file_search", "vector_store_ids": [store]}
    # One mark that cites and one that does not, whatever the model would like to say.
    cites = {"structured_outputs": {"regex": r"It is Mara Velten \[1\]\[9\]"}}
    asked = {**COMMON, "input": QUESTION, "tools": [tool], **cites}
    whole = bodies.post("Response", "/v1/responses", asked)
    (part,) = whole["output"][-1]["content"]
    assert (len(part["annotations"]), len(part["x_anzoth"]["unknown_citations"])) == (1, 1)
    asked["include"] = ["file_search_call.results"]
    bodies.post("Response", "/v1/responses", asked)
    bodies.stream("ResponseEvent", "/v1/responses", asked)
    messages = [{"role": "user", "content": QUESTION}]
    chat = {**COMMON, "messages": messages, "tools": [tool], **cites}
    bodies.post("OpenAI.Chat.ChatCompletion", "/v1/chat/completions", chat)
    bodies.stream("OpenAI.Chat.ChatCompletionChunk", "/v1/chat/completions", chat)
    assert bodies.errors(tmp_path) == []


def test_what_is_kept_of_responses(bodies: Bodies, tmp_path: Path) -> None:
    asked = {**COMMON, "max_output_tokens": 8}
    first = bodies.post("Response", "/v1/responses", {**asked, "input": QUESTION})
    more = {**asked, "input": "And now?", "previous_response_id": first["id"]}
    second = bodies.post("Response", "/v1/responses", more)
    bodies.get("Response", f"/v1/responses/{second['id']}")
    listed = bodies.get(
        "OpenAI.Responses.ResponseItemList", f"/v1/responses/{second['id']}/input_items"
    )
    assert len(listed["data"]) == 3
    bodies.post("OpenAI.Responses.InputTokenCountResponse", "/v1/responses/input_tokens", more)
    assert bodies.errors(tmp_path) == []


def test_conversations(bodies: Bodies, tmp_path: Path) -> None:
    message = {"type": "message", "role": "user", "content": QUESTION}
    path = "/v1/conversations"
    made = bodies.post(_CONVERSATION, path, {"items": [message], "metadata": {"team": "a"}})
    path = f"{path}/{made['id']}"
    asked = {**COMMON, "max_output_tokens": 8, "input": "And now?", "conversation": made["id"]}
    bodies.post("Response", "/v1/responses", asked)
    bodies.stream("ResponseEvent", "/v1/responses", asked)
    listed = bodies.get("OpenAI.Conversations.ConversationItemList", f"{path}/items")
    assert len(listed["data"]) == 5
    bodies.post(_CONVERSATION, path, {"metadata": {"team": "b"}})
    last = listed["data"][0]["id"]
    bodies.get("OpenAI.Conversations.ConversationItem", f"{path}/items/{last}")
    bodies.delete(_CONVERSATION, f"{path}/items/{last}")
    bodies.delete("OpenAI.Conversations.ConversationDeletedResource", path)
    assert bodies.errors(tmp_path) == []


def test_responses_in_the_background(bodies: Bodies, tmp_path: Path) -> None:
    asked = {**COMMON, "max_output_tokens": 8, "input": QUESTION, "background": True}
    path = f"/v1/responses/{bodies.post('Response', '/v1/responses', asked)['id']}"
    while bodies.get("Response", path)["status"] in ("queued", "in_progress"):
        pass
    bodies.post("Response", f"{path}/cancel")
    assert bodies.errors(tmp_path) == []


def test_files_and_vector_stores(bodies: Bodies, tmp_path: Path) -> None:
    stores, files = "/v1/vector_stores", "/v1/files"
    expiry = {"anchor": "last_active_at", "days": 1}
    expiring = bodies.post("OpenAI.VectorStore", stores, {"expires_after": expiry})
    store = bodies.post("OpenAI.VectorStore", stores, {})
    content = {"file": ("boat.txt", BOAT.encode())}
    file = bodies.post("OpenAI.FileObject", files, files=content, data={"purpose": "assistants"})
    other = bodies.post("OpenAI.FileObject", files, files=content, data={"purpose": "batch"})
    of_file = "OpenAI.VectorStores.VectorStoreFile"
    path = f"{stores}/{store['id']}"
    bodies.post(of_file, f"{path}/files", {"file_id": file["id"]})
    bodies.when("completed", f"{path}/files/{file['id']}")
    bodies.get(of_file, f"{path}/files/{file['id']}")
    batch = {"file_ids": [file["id"]]}
    bodies.post("OpenAI.VectorStores.VectorStoreFileBatch", f"{path}/file_batches", batch)
    found = bodies.post("object", f"{path}/search", {"query": QUESTION})
    bodies.add_each("OpenAI.VectorStoreSearchResponse", found["data"])
    bodies.add_each("OpenAI.FileObject", bodies.get("object", files)["data"])
    bodies.add_each("OpenAI.VectorStore", bodies.get("object", stores)["data"])
    bodies.delete("OpenAI.VectorStores.VectorStoreFileDeleted", f"{path}/files/{file['id']}")
    for made in (store, expiring):
        bodies.delete("OpenAI.VectorStoreDeleted", f"{stores}/{made['id']}")
    for made in (file, other):
        bodies.delete("OpenAI.FileDeleted", f"{files}/{made['id']}")
    upload = {"filename": "a.txt", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
    begun = bodies.post("OpenAI.Upload", "/v1/uploads", upload)
    bodies.post("OpenAI.Upload", f"/v1/uploads/{begun['id']}/cancel")
    assert bodies.errors(tmp_path) == []


def test_batches(bodies: Bodies, tmp_path: Path) -> None:
    body = {"model": "anzoth-embed", "input": BOAT}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
    content = {"file": ("lines.jsonl", json.dumps(line).encode())}
    file = bodies.post("OpenAI.FileObject", "/v1/files", files=content, data={"purpose": "batch"})
    asked = {"endpoint": line["url"], "input_file_id": file["id"], "completion_window": "24h"}
    path = f"/v1/batches/{bodies.post('OpenAI.Batch', '/v1/batches', asked)['id']}"
    bodies.when("completed", path)
    batch = bodies.get("OpenAI.Batch", path)
    bodies.get("OpenAI.FileObject", f"/v1/files/{batch['output_file_id']}")
    for made in (batch["output_file_id"], file["id"]):
        bodies.delete("OpenAI.FileDeleted", f"/v1/files/{made}")
    assert bodies.errors(tmp_path) == []


def test_models_and_embeddings(bodies: Bodies, tmp_path: Path) -> None:
    bodies.add_each("OpenAI.Model", bodies.get("object", "/v1/models")["data"])
    bodies.get("OpenAI.Model", "/v1/models/anzoth-default")
    asked = {"model": "anzoth-embed", "input": [BOAT, QUESTION]}
    bodies.post("OpenAI.CreateEmbeddingResponse", "/v1/embeddings", asked)
    assert bodies.errors(tmp_path) == []
