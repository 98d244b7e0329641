"""Vector stores come and go: what they are called, what is said about their files and what these
say is shown to their project only, and stands nowhere in clear."""

from __future__ import annotations

import time

import httpx2
from canary_drive import Keys
from canary_files import form
from canary_world import World, invented

_KINDS = ("store name", "store description", "store metadata", "file attribute", "chunk")


def stores_come_and_go(world: World, known: Keys) -> None:
    key = known.infers.text
    name, description, metadata, attribute, text = (
        world.plant(kind, invented(f"The {kind} is")) for kind in _KINDS
    )

    def ask(method: str, path: str, body: object = None, *shows: str) -> httpx2.Response:
        reply = world.ask(method, path, body, key=key, shows=shows)
        assert reply.status_code == 200, reply.text
        return reply

    of_store, of_file = _KINDS[:3], _KINDS[3:4]
    sent = form("file", text.encode(), "a.txt")
    kind = "multipart/form-data; boundary=b"
    file = world.ask("POST", "/v1/files", content=sent, content_type=kind, key=key).json()["id"]
    stores = "/v1/vector_stores"
    said = {"name": name, "description": description, "metadata": {"team": metadata}}
    store = ask("POST", stores, said, *of_store).json()["id"]
    path = f"{stores}/{store}"
    ask("GET", stores, None, *of_store)
    ask("GET", path, None, *of_store)
    ask("POST", path, {"metadata": {"team": metadata, "more": "x"}}, *of_store)
    attributes = {"attributes": {"about": attribute}}
    ask("POST", f"{path}/files", {"file_id": file, **attributes}, *of_file)
    deadline_s = time.monotonic() + 60
    while ask("GET", f"{path}/files/{file}", None, *of_file).json()["status"] != "completed":
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    ask("GET", f"{path}/files", None, *of_file)
    ask("POST", f"{path}/files/{file}", attributes, *of_file)
    shown = ask("GET", f"{path}/files/{file}/content", None, "chunk").json()
    assert shown["data"] == [{"type": "text", "text": text}]
    query = world.plant("search query", invented("The search query is"))
    about = {"type": "eq", "key": "about", "value": attribute}
    asked = {"query": [query, text], "filters": about, "rewrite_query": True}
    found = ask("POST", f"{path}/search", asked, "search query", "chunk", *of_file).json()
    assert {result["file_id"] for result in found["data"]} == {file}
    for wrong in (
        {"query": query, "filters": {"type": text, "key": attribute}},
        {"query": query, "filters": {**about, "value": {text: attribute}}},
        {"query": [query] * 99},
        {"query": {query: text}},
        {"query": query, "ranking_options": {"fusion": text}},
    ):
        assert world.ask("POST", f"{path}/search", wrong, key=key).status_code == 400
    tools_are_called(world, key, f"{store}:{file}")
    batch = ask("POST", f"{path}/file_batches", {"file_ids": [file]}).json()["id"]
    ask("GET", f"{path}/file_batches/{batch}")
    ask("GET", f"{path}/file_batches/{batch}/files", None, *of_file)
    ask("POST", f"{path}/file_batches/{batch}/cancel")
    for wrong in (
        {"name": [name]},
        {"metadata": {text: metadata * 99}},
        {"file_ids": [text]},
        {"chunking_strategy": {"type": text}},
        {"embedding_model": known.infers.text},
    ):
        assert world.ask("POST", stores, wrong, key=key).status_code in (400, 404)
    for wrong in ({text: [attribute]}, {"about": {text: attribute}}, {"about": text * 9}):
        body = {"file_id": file, "attributes": wrong}
        assert world.ask("POST", f"{path}/files", body, key=key).status_code == 400
    for query in (f"after={text[:40]}", f"filter={attribute[:40]}"):
        assert world.ask("GET", f"{path}/files?{query}", key=key).status_code == 400
    ask("DELETE", f"{path}/files/{file}")
    ask("DELETE", path)


def tools_are_called(world: World, key: str, document: str) -> None:
    """Those of /mcp: as they should be, and with secrets wherever something can stand."""
    text, query, attribute = (
        world.canaries.secrets[name].decode()
        for name in ("chunk", "search query", "file attribute")
    )

    def ask(params: object, *shows: str, **message: object) -> httpx2.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **message}
        return world.ask("POST", "/mcp", body, key=key, shows=shows)

    found = ask({"name": "search", "arguments": {"query": text}}, "chunk").json()["result"]
    assert document in {each["id"] for each in found["structuredContent"]["results"]}
    read = ask({"name": "fetch", "arguments": {"id": document}}, "chunk", "file attribute").json()
    assert read["result"]["structuredContent"]["text"] == text
    for arguments in (
        {"query": {query: text}}, {"query": query, text: attribute}, {"query": query.ljust(16_385)},
        [query, text], query,
    ):  # fmt: skip
        assert ask({"name": "search", "arguments": arguments}).json()["result"]["isError"]
    for id in (f"{document}{text}", key, query):
        assert ask({"name": "fetch", "arguments": {"id": id}}).json()["result"]["isError"]
    for params, message in (
        ({"name": query}, {}), ({"name": [key]}, {}), ([text], {}), ({"cursor": query}, {}),
        ({}, {"method": query}), ({}, {"method": {text: key}}), ({}, {"id": [key]}),
        ({}, {"jsonrpc": query}),
    ):  # fmt: skip
        assert "error" in ask(params, **message).json()
