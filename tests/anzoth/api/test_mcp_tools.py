"""The tools of /mcp by the official client: what is found, by whom, and what that costs."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import mcp
import mcp_client_kit
import pytest
from api_harness import MODEL
from api_stand_ins import Reply
from knowledge_kit import Knowledge, Scenario, run_knowledge
from mcp.shared.exceptions import MCPError
from mcp_client_kit import VERSIONS, refused, rpc, said
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND
from principals import make_principal

from anzoth.api import mcp_server, mcp_tools
from anzoth.api.json_rpc import REFUSED
from anzoth.gateway.knowledge.searching import Searcher
from anzoth.gateway.principal import Principal

pytestmark = pytest.mark.slow

Run = Callable[[Scenario], None]
UNKNOWN = f"vs_{'0' * 32}:file-{'0' * 32}"
SECRET = "canary music"


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    return lambda scenario: run_knowledge(dsn, tmp_path, scenario)


def connected(
    it: Knowledge, mode: str, key: str = "good"
) -> AbstractAsyncContextManager[mcp.Client]:
    return mcp_client_kit.connected(it.server.url, mode, key)


def key_of(of: Principal, **fields: Any) -> Principal:
    return dataclasses.replace(of, key_id=uuid.uuid4(), **fields)


def limited(of: Principal) -> Principal:
    """A key that may ask once a minute."""
    id = uuid.uuid4()
    return dataclasses.replace(of, key_id=id, limits=make_principal(rpm=1, key_id=id).limits)


# --- the official client --------------------------------------------------------------------------


def test_the_official_client_lists_searches_and_fetches_in_both_eras(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        zoo, music = await it.add_store(), await it.add_store()
        file = await it.add_file(zoo, "red fox", "green hen", filename="zoo.md", lang="en", n=3)
        linked = await it.add_file(music, "fox piano", url="https://example.com/p", filename="p")
        own = f"{it.server.url}/vector_stores/{zoo}/files/{file}/content"
        for mode, version in VERSIONS.items():
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

    run(scenario)


def test_what_a_model_can_mend_it_reads(run: Run) -> None:
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

    run(scenario)


def test_who_may_not_is_told_why_by_the_official_client(run: Run) -> None:
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

    run(scenario)


def test_a_key_that_only_searches_is_not_shown_how_to_read(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        store, known = await it.add_store(), it.server.api.keys.principals
        file = await it.add_file(store, "red fox")
        only = key_of(it.one, scopes=frozenset({"vector_stores:search"}))
        known["searches"] = only
        known["watched"] = dataclasses.replace(only, shadow_rules=("key.scope",))
        for mode in ("legacy", "auto"):
            async with connected(it, mode, "searches") as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == ["search"]
                (found,) = said(await client.call_tool("search", {"query": "fox"}))["results"]
                with pytest.raises(MCPError, match="'vector_stores:read'") as raised:
                    await client.call_tool("fetch", {"id": found["id"]})
                assert raised.value.error.data["code"] == "insufficient_scope"
        assert [r.status for r in it.server.api.ledger.records] == [200, 403, 200, 403]
        async with connected(it, "auto", "watched") as client:
            assert len((await client.list_tools()).tools) == 2
            assert said(await client.call_tool("fetch", {"id": f"{store}:{file}"}))["text"]

    run(scenario)


def test_a_deadline_holds_for_a_document_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(it: Knowledge) -> None:
        store = await it.add_store()
        file = await it.add_file(store, "red fox")

        async def never(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(Searcher, "part", never)
        body = rpc("tools/call", {"name": "fetch", "arguments": {"id": f"{store}:{file}"}})
        headers = {"x-request-timeout-ms": "20"}
        reply = await it.server.api.call("POST", "/mcp", body, headers=headers)
        assert (reply.status, reply.error["data"]["code"]) == (504, "deadline_exceeded")

    run(scenario)


# --- tenants and grants ---------------------------------------------------------------------------


def test_nothing_of_others_is_found_or_fetched(run: Run) -> None:
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

    run(scenario)


def test_what_is_gone_is_neither_found_nor_fetched(run: Run) -> None:
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

    run(scenario)


def test_more_stores_than_one_search_goes_through_are_not_left_out_silently(
    run: Run, monkeypatch: pytest.MonkeyPatch
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

    run(scenario)


# --- documents ------------------------------------------------------------------------------------


def test_a_long_document_is_fetched_in_parts_that_make_up_the_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch
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

    run(scenario)


# --- limits and usage -----------------------------------------------------------------------------


def test_calls_are_counted_and_nothing_else_is(run: Run) -> None:
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

    run(scenario)


def test_a_limit_says_when_to_come_back(run: Run) -> None:
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

    run(scenario)


def test_stores_of_two_models_are_one_request_with_a_row_each(run: Run) -> None:
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

    run(scenario)


# --- bodies --------------------------------------------------------------------------------------


def test_a_body_is_no_longer_than_a_question_needs(run: Run) -> None:
    async def scenario(it: Knowledge) -> None:
        url = it.server.url.removesuffix("/v1") + "/mcp"
        async with it.server.client() as http:
            reply = await http.post(url, json=rpc("x" * mcp_server.MAX_BODY_BYTES))
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, REFUSED)

    run(scenario)
