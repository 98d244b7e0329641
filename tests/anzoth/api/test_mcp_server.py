"""POST /mcp with the official client, in both eras of the protocol; what is refused, and how."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import mcp
import orjson
import pytest
from api_harness import MODEL, Api, Scenario
from api_stand_ins import Reply
from knowledge_kit import Knowledge, run_knowledge
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, CallToolResult, TextContent
from principals import make_principal

from anzoth.api import mcp_server, mcp_tools
from anzoth.api.json_rpc import INVALID_REQUEST, PARSE_ERROR, REFUSED
from anzoth.api.mcp_server import HEADER_MISMATCH, UNSUPPORTED_VERSION
from anzoth.gateway.principal import Principal

Run = Callable[[Scenario], None]
RunKnowledge = Callable[[Callable[[Knowledge], Any]], None]
MODES = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}
UNKNOWN = f"vs_{'0' * 32}:file-{'0' * 32}"
SECRET = "canary music"


@pytest.fixture
def run_documents(dsn: str, tmp_path: Path) -> RunKnowledge:
    return lambda scenario: run_knowledge(dsn, tmp_path, scenario)


@contextlib.asynccontextmanager
async def connected(it: Knowledge, mode: str, key: str = "good") -> AsyncIterator[mcp.Client]:
    """The official client."""
    url = it.server.url.removesuffix("/v1") + "/mcp"
    async with (
        it.server.client(key) as http,
        mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def said(result: CallToolResult) -> dict[str, Any]:
    """What a tool answers: the same as text and as structured content."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    assert orjson.loads(content.text) == result.structured_content
    return orjson.loads(content.text)


def refused(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert (result.is_error, result.structured_content) == (True, None)
    return content.text


def key_of(of: Principal, **fields: Any) -> Principal:
    return dataclasses.replace(of, key_id=uuid.uuid4(), **fields)


def limited(of: Principal) -> Principal:
    """A key that may ask once a minute."""
    id = uuid.uuid4()
    return dataclasses.replace(of, key_id=id, limits=make_principal(rpm=1, key_id=id).limits)


# --- the official client --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_official_client_lists_searches_and_fetches_in_both_eras(
    run_documents: RunKnowledge,
) -> None:
    async def scenario(it: Knowledge) -> None:
        zoo, music = await it.add_store(), await it.add_store()
        file = await it.add_file(zoo, "red fox", "green hen", filename="zoo.md", lang="en", n=3)
        linked = await it.add_file(music, "fox piano", url="https://example.com/p", filename="p")
        for mode, version in MODES.items():
            async with connected(it, mode) as client:
                assert client.protocol_version == version
                if mode != version:  # otherwise nothing is asked before the first call
                    assert client.server_info is not None
                    assert client.server_info.name == "anzoth"
                    assert client.instructions is not None
                listed = (await client.list_tools()).tools
                assert [tool.name for tool in listed] == ["search", "fetch"]
                assert all(t.annotations and t.annotations.read_only_hint for t in listed)
                found = said(await client.call_tool("search", {"query": "red fox"}))["results"]
                own = f"{it.server.url}/vector_stores/{zoo}/files/{file}/content"
                assert found[0] == {
                    "id": f"{zoo}:{file}", "title": "zoo.md", "url": own,
                    "text": "red fox\n\ngreen hen",
                }  # fmt: skip
                assert found[1]["id"] == f"{music}:{linked}"
                document = said(await client.call_tool("fetch", {"id": found[0]["id"]}))
                assert document == {
                    "id": found[0]["id"], "title": "zoo.md", "url": own,
                    "text": "red fox\n\ngreen hen",
                    "metadata": {
                        "lang": "en", "n": 3, "vector_store_id": zoo, "file_id": file,
                    },
                }  # fmt: skip
                document = said(await client.call_tool("fetch", {"id": found[1]["id"]}))
                assert document["url"] == "https://example.com/p"
        async with it.server.client() as http:  # what is given out as the URL leads to the text
            assert (await http.get(own)).json()["data"][0]["text"] == "red fox\n\ngreen hen"

    run_documents(scenario)


@pytest.mark.slow
def test_what_a_model_can_mend_it_reads(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        await it.add_file(store, "red fox")
        for mode in ("legacy", "auto"):
            async with connected(it, mode) as client:
                for tool, arguments, told in (
                    ("search", {}, "Missing required parameter: 'query'."),
                    ("search", None, "Missing required parameter: 'query'."),
                    ("search", {"query": " "}, "A query must not be empty."),
                    ("search", {"query": 3}, "expected a string, but got an integer"),
                    ("search", {"query": "x" * 20_000}, "at most 16384 characters"),
                    ("search", {"query": "fox", "n": SECRET}, "takes 'query' and nothing else"),
                    ("fetch", {"id": UNKNOWN}, "There is no such document."),
                    ("fetch", {"id": f"{store}:{SECRET}"}, "There is no such document."),
                    ("fetch", {"id": "\0"}, "There is no such document."),
                ):
                    told_by_it = refused(await client.call_tool(tool, arguments))
                    assert told in told_by_it
                    assert SECRET not in told_by_it
                for tool, arguments in (("delete", {}), ("", {})):
                    with pytest.raises(MCPError, match="There are: search, fetch") as raised:
                        await client.call_tool(tool, arguments)
                    assert raised.value.code == INVALID_PARAMS
                with pytest.raises(MCPError, match="No such method") as raised:
                    await client.list_prompts()
                assert raised.value.code == METHOD_NOT_FOUND
        records = it.server.api.ledger.records
        assert {record.endpoint for record in records} == {"/mcp"}
        statuses = [record.status for record in records]
        assert statuses == 2 * [400, 400, 400, 400, 400, 400, 404, 404, 404, 400, 400]

    run_documents(scenario)


@pytest.mark.slow
def test_who_may_not_is_told_why_by_the_official_client(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        known = it.server.api.keys.principals
        known["chats"] = key_of(it.one, scopes=frozenset({"chat"}))
        known["manages"] = key_of(it.one, scopes=frozenset({"all", "keys:write"}))
        known["elsewhere"] = key_of(it.one, endpoints=("/v1/*",))
        for mode in ("legacy", "auto"):
            for key, told in (
                ("nobody's", "Invalid API key"),
                ("chats", "lacks the scope 'vector_stores:search'"),
                ("manages", "manages keys"),
                ("elsewhere", "not allowed to use this endpoint"),
            ):
                with pytest.raises((MCPError, ExceptionGroup)) as raised:
                    async with connected(it, mode, key):
                        raise AssertionError("it was let in")
                assert told in repr(raised.value)

    run_documents(scenario)


# --- tenants and grants ---------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_of_others_is_found_or_fetched(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        known = it.server.api.keys.principals
        other_project = await it.server.add_project()
        mine, kept, foreign, elsewhere = (
            await it.add_store(),
            await it.add_store(),
            await it.add_store(it.two),
            await it.add_store(known[other_project]),
        )
        files = {
            mine: await it.add_file(mine, "red fox"),
            kept: await it.add_file(kept, f"red fox {SECRET}", filename=SECRET),
            foreign: await it.add_file(foreign, f"red fox {SECRET}", principal=it.two),
            elsewhere: await it.add_file(
                elsewhere, f"red fox {SECRET}", principal=known[other_project]
            ),
        }
        known["one store"] = key_of(it.one, knowledge_bases=frozenset({mine, foreign}))
        known["none"] = key_of(it.one, knowledge_bases=frozenset())
        api = it.server.api

        async def call(key: str, tool: str, **arguments: str) -> Reply:
            params = {"name": tool, "arguments": arguments}
            return await api.call("POST", "/mcp", rpc("tools/call", params), key=key)

        for key, seen in (
            ("good", {mine, kept}), ("one store", {mine}), ("none", set()),
            ("foreign", {foreign}), (other_project, {elsewhere}),
        ):  # fmt: skip
            reply = await call(key, "search", query="red fox canary music")
            results = reply.json["result"]["structuredContent"]["results"]
            assert {result["id"] for result in results} == {f"{s}:{files[s]}" for s in seen}
            assert (SECRET in reply.body.decode()) == bool(seen - {mine})
            answers = set()
            for store in files.keys() - seen:
                for id in (f"{store}:{files[store]}", f"{mine}:{files[store]}", UNKNOWN):
                    answers.add((await call(key, "fetch", id=id)).body)
            (answer,) = answers  # foreign, not granted, in no such store, unknown: the same
            assert b"There is no such document." in answer
            assert b"isError" in answer
        refusals = {r.rule for r in api.ledger.records if r.principal is known["one store"]}
        assert refusals == {"key.knowledge_base", "request.not_found", None}

    run_documents(scenario)


@pytest.mark.slow
def test_what_is_gone_is_neither_found_nor_fetched(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        store, expired, empty = [await it.add_store() for _ in range(3)]
        gone, deleted = await it.add_file(store, "red fox"), await it.add_file(store, "blue fox")
        inside = await it.add_file(expired, "green fox")
        await it.take_out(store, gone)
        await it.server.sdk().files.delete(deleted)
        await it.set_store(expired, "expires_at = now()")
        async with connected(it, "auto") as client:
            assert said(await client.call_tool("search", {"query": "fox"})) == {"results": []}
            for id in (
                f"{store}:{gone}", f"{store}:{deleted}", f"{expired}:{inside}", f"{empty}:{gone}",
            ):  # fmt: skip
                told = refused(await client.call_tool("fetch", {"id": id}))
                assert "There is no such document." in told

    run_documents(scenario)


@pytest.mark.slow
def test_more_stores_than_one_search_goes_through_are_not_left_out_silently(
    run_documents: RunKnowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_tools, "MAX_STORES", 1)

    async def scenario(it: Knowledge) -> None:
        stores = [await it.add_store() for _ in range(2)]
        await it.add_file(stores[0], "red fox")
        async with connected(it, "auto") as client:
            assert said(await client.call_tool("search", {"query": "fox"}))["results"]
            await it.add_file(stores[1], "red fox")
            told = refused(await client.call_tool("search", {"query": "fox"}))
        assert "(1)" in told
        assert "anzoth keys create --kb" in told

    run_documents(scenario)


# --- documents ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_document_is_fetched_in_parts_that_make_up_the_whole(
    run_documents: RunKnowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        texts = [f"red fox {n}" for n in range(40)]
        file = await it.add_file(store, *texts)
        async with connected(it, "auto") as client:
            for most in (7, 11, 10_000, 13 * 40):
                monkeypatch.setattr(mcp_tools, "MAX_CHARACTERS", most)
                whole, id = "", f"{store}:{file}"
                while id is not None:
                    document = said(await client.call_tool("fetch", {"id": id}))
                    assert 0 < len(document["text"]) <= most
                    whole += document["text"]
                    id = document["metadata"].get("next_id")
                assert whole == "\n\n".join(texts)
            for start in (len(whole), 999_999_999):
                beyond = await client.call_tool("fetch", {"id": f"{store}:{file}:{start}"})
                assert "There is no such document." in refused(beyond)

    run_documents(scenario)


# --- limits and usage -----------------------------------------------------------------------------


@pytest.mark.slow
def test_calls_are_counted_and_nothing_else_is(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        file = await it.add_file(store, "red fox")
        for mode in ("legacy", "auto"):
            async with connected(it, mode) as client:
                await client.list_tools()
                await client.call_tool("search", {"query": "red fox"})
                await client.call_tool("fetch", {"id": f"{store}:{file}"})
        counted = [
            (r.endpoint, r.model, r.prompt_tokens, r.status, r.finish_reason)
            for r in it.server.api.ledger.records
        ]
        assert counted == 2 * [
            ("/mcp", MODEL, 4, 200, "stop"),
            ("/mcp", None, 0, 200, "stop"),
        ]
        kept = [record.retrieval is not None for record in it.server.api.ledger.records]
        assert kept == [True, False, True, False]

    run_documents(scenario)


@pytest.mark.slow
def test_a_limit_says_when_to_come_back(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        file = await it.add_file(store, "red fox")
        known = it.server.api.keys.principals
        for tool, arguments in (("search", {"query": "fox"}), ("fetch", {"id": f"{store}:{file}"})):
            known["slow"] = limited(it.one)
            async with connected(it, "auto", "slow") as client:
                said(await client.call_tool(tool, arguments))
                with pytest.raises(MCPError, match=r"\(limit\.key\.rpm\)") as raised:
                    await client.call_tool(tool, arguments)
            assert raised.value.code == REFUSED
            assert raised.value.error.data["code"] == "rate_limit_exceeded"
            body = rpc("tools/call", {"name": tool, "arguments": arguments})
            reply = await it.server.api.call("POST", "/mcp", body, key="slow")
            assert reply.status == 429
            assert int(reply.headers["retry-after-ms"]) > 0

    run_documents(scenario)


@pytest.mark.slow
def test_stores_of_two_models_are_one_request_with_a_row_each(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        known, records = it.server.api.keys.principals, it.server.api.ledger.records
        for number, (model, rows) in enumerate(
            (
                ("was-served-once", [("req_test", "was-served-once", 0)]),
                (MODEL, [("req_test", MODEL, 4)]),
                ("another", [("req_test.2", MODEL, 4), ("req_test", "another", 0)]),
            ),
            1,
        ):
            await it.add_file(await it.add_store(model=model), f"red fox {number}")
            known["once"] = limited(it.one)
            body = rpc("tools/call", {"name": "search", "arguments": {"query": "red fox"}})
            reply = await it.server.api.call("POST", "/mcp", body, key="once")
            assert len(reply.json["result"]["structuredContent"]["results"]) == number
            assert [(r.request_id, r.model, r.prompt_tokens) for r in records] == rows
            records.clear()

    run_documents(scenario)


# --- hostile messages -----------------------------------------------------------------------------


def rpc(method: str, params: object = None, id: object = 1) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return message if params is None else {**message, "params": params}


MODERN = {"mcp-protocol-version": "2026-07-28"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(
    ("body", "status", "code", "id"),
    [
        (b"{", 400, PARSE_ERROR, None),
        (b"\xff", 400, PARSE_ERROR, None),
        (b'{"id": ' + b"[" * 5000, 400, PARSE_ERROR, None),
        (b'{"jsonrpc": "2.0", "id": 1e999, "method": "ping"}', 400, PARSE_ERROR, None),
        ([], 400, INVALID_REQUEST, None),
        ([rpc("ping"), rpc("ping", id=2)], 400, INVALID_REQUEST, None),
        ("ping", 400, INVALID_REQUEST, None),
        ({}, 400, INVALID_REQUEST, None),
        ({"id": 1, "method": "ping"}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": 2.0, "id": 1, "method": "ping"}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": "2.0", "id": 1}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, 400, INVALID_REQUEST, 1),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": 1}}, 400, INVALID_REQUEST, 1),
        (rpc("ping", id=None), 400, INVALID_REQUEST, None),
        (rpc("ping", id=True), 400, INVALID_REQUEST, None),
        (rpc("ping", id=1.5), 400, INVALID_REQUEST, None),
        (rpc("ping", id={}), 400, INVALID_REQUEST, None),
        (rpc("ping", id="x" * 257), 400, INVALID_REQUEST, None),
        (
            b'{"jsonrpc": "2.0", "id": 123456789012345678901234567890, "method": "ping"}',
            400, INVALID_REQUEST, None,
        ),
        (rpc("ping", params=[1]), 400, INVALID_REQUEST, 1),
        (rpc("ping", params="x"), 400, INVALID_REQUEST, 1),
        (rpc("x" * 129), 400, INVALID_REQUEST, 1),
        (rpc(""), 400, INVALID_REQUEST, 1),
        ({**rpc("ping"), "method": 3}, 400, INVALID_REQUEST, 1),
        (rpc("__class__"), 200, METHOD_NOT_FOUND, 1),
        (rpc("server/discover"), 200, METHOD_NOT_FOUND, 1),
        (rpc("resources/list", id="a"), 200, METHOD_NOT_FOUND, "a"),
        (rpc("initialize"), 200, INVALID_PARAMS, 1),
        (rpc("initialize", {"protocolVersion": 3}), 200, INVALID_PARAMS, 1),
        (rpc("tools/list", {"cursor": "x"}), 200, INVALID_PARAMS, 1),
        (rpc("tools/call"), 200, INVALID_PARAMS, 1),
        (rpc("tools/call", {"name": ["search"]}), 200, INVALID_PARAMS, 1),
        (rpc("tools/call", {"name": "__class__"}), 200, INVALID_PARAMS, 1),
        (rpc("tools/list", {"_meta": META}), 400, HEADER_MISMATCH, 1),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_no_request_of_the_first_era_is_refused(
    body: object, status: int, code: int, id: object, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.call("POST", "/mcp", body)
        assert (reply.status, reply.error["code"], reply.json["id"]) == (status, code, id)
        assert reply.json["jsonrpc"] == "2.0"
        assert isinstance(reply.error["message"], str)

    run(scenario)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, rpc("tools/list"), 400, INVALID_PARAMS),
        ({}, rpc("tools/list", {"_meta": 3}), 400, INVALID_PARAMS),
        ({}, rpc("tools/list", {"_meta": {**META, next(iter(META)): 3}}), 400, HEADER_MISMATCH),
        ({}, rpc("tools/list", {"_meta": META}), 400, HEADER_MISMATCH),
        ({"mcp-method": "ping"}, rpc("tools/list", {"_meta": META}), 400, HEADER_MISMATCH),
        ({"mcp-method": "ping"}, rpc("ping", {"_meta": META}), 404, METHOD_NOT_FOUND),
        ({"mcp-method": "initialize"}, rpc("initialize", {"_meta": META}), 404, METHOD_NOT_FOUND),
        (
            {"mcp-method": "tools/call"},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "fetch"},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "=?base64?!?="},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "=?base64?/w==?="},
            rpc("tools/call", {"name": "search", "_meta": META}), 400, HEADER_MISMATCH,
        ),
        (
            {"mcp-method": "tools/call", "mcp-name": "=?base64?ZMO8?="},
            rpc("tools/call", {"name": "dü", "_meta": META}), 400, INVALID_PARAMS,
        ),
        (
            {"mcp-method": "tools/call"},
            rpc("tools/call", {"name": {}, "_meta": META}), 400, HEADER_MISMATCH,
        ),
        ({"mcp-protocol-version": "2027-01-01"}, rpc("ping"), 400, UNSUPPORTED_VERSION),
        ({"mcp-protocol-version": ""}, rpc("ping"), 400, UNSUPPORTED_VERSION),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_says_one_thing_in_headers_and_another_in_the_body_is_refused(
    headers: dict[str, str], body: dict[str, Any], status: int, code: int, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.call("POST", "/mcp", body, headers={**MODERN, **headers})
        assert (reply.status, reply.error["code"], reply.json["id"]) == (status, code, 1)
        if code == UNSUPPORTED_VERSION:
            versions = mcp_server.HANDSHAKE_VERSIONS + mcp_server.MODERN_VERSIONS
            assert reply.error["data"]["supported"] == list(versions)

    run(scenario)


def test_a_routing_header_that_is_there_twice_is_refused(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for name in ("mcp-protocol-version", "mcp-method", "mcp-name"):
            fields = {"mcp-method": "tools/call", "mcp-name": "search", **MODERN}
            body = rpc("tools/call", {"name": "search", "_meta": META})
            request = api.request("POST", "/mcp", body, headers=fields)
            request.headers._items.append((name.encode(), fields[name].encode()))
            answer = await api.app(request)
            assert answer.status == 400
            assert b"more than once" in answer.body  # type: ignore[union-attr]  # it is whole

    run(scenario)


def test_notifications_are_taken_and_nobody_is_asked(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for method in ("notifications/initialized", "notifications/cancelled", "tools/call", "x"):
            for headers in ({}, MODERN):
                body = {"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}}
                reply = await api.call("POST", "/mcp", body, headers=headers)
                assert (reply.status, reply.body) == (202, b"")
        assert not api.ledger.records

    run(scenario)


def test_the_version_is_the_clients_or_the_newest_with_a_handshake(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for asked, agreed in (
            ("2025-03-26", "2025-03-26"), ("2025-11-25", "2025-11-25"),
            ("2026-07-28", "2025-11-25"), ("x", "2025-11-25"),
        ):  # fmt: skip
            params = {"protocolVersion": asked, "capabilities": {}, "clientInfo": {}}
            reply = await api.call("POST", "/mcp", rpc("initialize", params))
            assert reply.json["result"]["protocolVersion"] == agreed
            assert "mcp-session-id" not in reply.headers

    run(scenario)


def test_only_posts_of_json_from_programs_and_own_pages_are_answered(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for method in ("GET", "DELETE"):
            reply = await api.call(method, "/mcp")
            assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST")
        for headers, status in (
            ({"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"}, 200),
            ({"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:9000"}, 403),
            ({"origin": "https://evil.test", "host": "evil.test"}, 403),
            ({"origin": "http://evil.test", "host": "evil.test"}, 403),  # DNS rebinding
            ({"origin": "null"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({}, 200),
            ({"content-type": "text/plain"}, 415),
        ):
            reply = await api.call("POST", "/mcp", rpc("ping"), headers=headers, peer="127.0.0.1")
            assert reply.status == status, headers
            if status == 403:
                assert reply.error["data"]["code"] == "origin_not_allowed"
        for key in (None, "wrong"):
            reply = await api.call("POST", "/mcp", rpc("ping"), key=key)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert (reply.error["code"], reply.json["id"]) == (REFUSED, None)

    run(scenario)


@pytest.mark.slow
def test_a_body_is_no_longer_than_a_question_needs(run_documents: RunKnowledge) -> None:
    async def scenario(it: Knowledge) -> None:
        url = it.server.url.removesuffix("/v1") + "/mcp"
        async with it.server.client() as http:
            reply = await http.post(url, json=rpc("x" * mcp_server.MAX_BODY_BYTES))
            assert isinstance(reply, httpx2.Response)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, REFUSED)

    run_documents(scenario)
