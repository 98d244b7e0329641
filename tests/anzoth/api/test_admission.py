"""Does every route pass the same gate: key, address, endpoint, scope and, if it infers, limits?

Routes are taken from the table itself, so that a new one is tested by being there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario, running_api
from checkpoints import write_checkpoint, write_embedding_checkpoint, write_rerank_checkpoint
from engine_peer import EMBEDDING_HELLO, HELLO, RERANK_HELLO
from principals import make_principal

from anzoth.api.app import App
from anzoth.api.call import ANY_KEY, Answer, Call, Route
from anzoth.api.routes import ROUTES
from anzoth.gateway.scopes import is_inference
from anzoth.http.client_address import parse_networks
from anzoth.http.messages import Response

Run = Callable[[Scenario], None]

GUARDED = [route for route in ROUTES if route.scope is not None]
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
# A request that each inference route answers with 200, and for which kind of model.
GOOD_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("chat", CHAT),
    "/v1/responses": ("chat", {"model": MODEL, "input": "hi", "max_output_tokens": 5}),
    "/v1/completions": ("chat", {"model": MODEL, "prompt": "hi", "max_tokens": 5}),
    "/v1/embeddings": ("embedding", {"model": MODEL, "input": "hi"}),
    "/v1/rerank": ("rerank", {"model": MODEL, "query": "hi", "documents": ["hi", "hello"]}),
}
KINDS = {
    "chat": (write_checkpoint, HELLO),
    "embedding": (write_embedding_checkpoint, EMBEDDING_HELLO),
    "rerank": (write_rerank_checkpoint, RERANK_HELLO),
}


def named(route: Route) -> str:
    return f"{route.method} {route.pattern}"


def path_of(route: Route) -> str:
    return route.pattern.replace("{id:path}", MODEL)


@pytest.mark.parametrize("route", GUARDED, ids=named)
def test_no_route_avoids_the_key_its_addresses_its_endpoints_or_its_scopes(
    route: Route, run: Run
) -> None:
    assert route.scope is not None
    others = frozenset({"all", "admin"} - {"all" if is_inference(route.scope) else "admin"})
    refused = {
        "address": (make_principal(networks=(ip_network("10.0.0.0/8"),)), "key.ip"),
        "endpoint": (make_principal(endpoints=("/v1/elsewhere",)), "key.endpoint"),
        "scope": (make_principal(scopes=frozenset({"unrelated:read"})), "key.scope"),
        "kind": (make_principal(scopes=others), None),
    }
    if route.scope == ANY_KEY:
        del refused["scope"], refused["kind"]  # it is about the key's own

    async def scenario(api: Api) -> None:
        api.keys.principals |= {name: principal for name, (principal, _) in refused.items()}
        for key in (None, "wrong"):
            assert (await api.call(route.method, path_of(route), {}, key=key)).status == 401
        for name in refused:
            reply = await api.call(route.method, path_of(route), {}, key=name, peer="192.0.2.1")
            assert reply.status == 403, name
        if route.inference:
            assert len(api.ledger.records) == len(refused)

    run(scenario)


@pytest.mark.parametrize("route", GUARDED, ids=named)
def test_a_key_passes_from_its_addresses_and_to_its_endpoints(route: Route, run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["near"] = make_principal(
            networks=(ip_network("192.0.2.0/24"),),
            endpoints=(route.pattern,),
            scopes=frozenset({str(route.scope)}),
        )
        reply = await api.call(route.method, path_of(route), {}, key="near", peer="192.0.2.1")
        assert reply.status not in (401, 403)  # what reads the database has none here

    run(scenario)


def test_every_inference_route_is_tested_against_the_limits() -> None:
    inference = {route.pattern for route in ROUTES if route.inference}
    # A search needs a store: `test_vector_store_search` and `test_mcp_server` have its limits.
    assert inference - {"/v1/vector_stores/{vector_store_id}/search", "/mcp"} == set(GOOD_REQUESTS)


@pytest.mark.parametrize("pattern", GOOD_REQUESTS)
def test_no_inference_route_avoids_the_limits(pattern: str, tmp_path: Path) -> None:
    kind, body = GOOD_REQUESTS[pattern]
    write, hello = KINDS[kind]

    async def main() -> None:
        async with running_api(write(tmp_path / "m"), tmp_path / "s", hello=hello) as api:
            api.keys.principals |= {
                "rpm": make_principal(rpm=1),
                "tpm": make_principal(tpm=1),
                "day": make_principal(tokens_per_day=1),
            }
            assert (await api.call("POST", pattern, body, key="rpm")).status == 200
            for key in ("rpm", "tpm", "day"):
                reply = await api.call("POST", pattern, body, key=key)
                assert reply.status == 429, key
                assert "(limit.key." in reply.error["message"]

    asyncio.run(main())


def test_an_inference_route_that_forgets_the_limits_does_not_answer(run: Run) -> None:
    async def forgetful(call: Call) -> Answer:
        return Response(200, b"{}")

    async def scenario(api: Api) -> None:
        route = Route("GET", "/v1/forgetful", "chat", forgetful, inference=True)
        api.app = App(api.app._services, 1 << 20, [route])
        reply = await api.call("GET", "/v1/forgetful")
        assert (reply.status, reply.error["code"]) == (500, "internal_error")

    run(scenario)


def test_only_a_trusted_proxy_says_where_a_request_comes_from(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.app = App(api.app._services, 1 << 20, trusted_proxies=parse_networks(["192.0.2.1"]))
        api.keys.principals["near"] = make_principal(networks=(ip_network("10.0.0.0/8"),))
        for peer, forwarded, status in (
            ("192.0.2.1", "10.1.2.3", 200),
            ("192.0.2.1", "10.1.2.3, 203.0.113.9", 403),
            ("192.0.2.2", "10.1.2.3", 403),
        ):
            headers = {"x-forwarded-for": forwarded}
            reply = await api.call("GET", "/v1/models", key="near", peer=peer, headers=headers)
            assert reply.status == status

    run(scenario)


def test_a_key_that_is_used_by_its_old_secret_is_told_until_when(run: Run) -> None:
    async def scenario(api: Api) -> None:
        until = datetime(2026, 12, 24, 18, 30, tzinfo=UTC)
        api.keys.principals["old"] = make_principal(rotating_until=until)
        replies = [
            await api.chat(key="old"),
            await api.chat(key="old", stream=True),
            await api.chat(key="old", temperature=9),
            await api.call("GET", "/v1/models", key="old"),
        ]
        assert [reply.status for reply in replies] == [200, 200, 400, 200]
        for reply in replies:
            assert reply.headers["x-anzoth-key-rotating"] == "2026-12-24T18:30:00Z"
        assert "x-anzoth-key-rotating" not in (await api.chat()).headers

    run(scenario)
