"""Whoever was refused learns by which rule; whoever is only watched is served all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import pytest
from api_harness import MODEL, Api, Scenario
from api_stand_ins import PRINCIPAL, ListedRequests
from principals import make_principal

from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.tools.past_calls import PastCall

Run = Callable[[Scenario], None]

REFUSALS = {
    "key.scope": ({"scopes": frozenset({"embeddings"})}, 403),
    "key.model": ({"models": ("other",)}, 403),
    "key.endpoint": ({"endpoints": ("/v1/embeddings",)}, 403),
    "key.ip": ({"networks": ()}, 403),
    "limit.key.rpm": ({"rpm": 1}, 429),
    "limit.key.tpm": ({"tpm": 1}, 429),
    "limit.key.output_tpm": ({"output_tpm": 1}, 429),
    "limit.key.tokens_per_day": ({"tokens_per_day": 1}, 429),
}


def limited(rule: str, **more: object) -> Principal:
    return make_principal(key_id=UUID(int=7), **REFUSALS[rule][0], **more)


@pytest.mark.parametrize("rule", REFUSALS)
def test_a_refused_request_is_explained_by_its_rule(run: Run, rule: str) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["bad"] = limited(rule)
        if rule == "limit.key.rpm":
            await api.chat(key="bad")
        refused = await api.chat(key="bad", max_tokens=4)
        assert refused.status == REFUSALS[rule][1]
        explained = (await api.call("GET", "/v1/requests/req_test")).json
        assert explained["refused_by"]["rule"] == rule
        assert explained["refused_by"]["what_to_do"]
        assert explained["error"] == {
            "code": refused.error["code"],
            "message": refused.error["message"],
        }
        assert (explained["status"], explained["would_have_been_refused_by"]) == (
            refused.status,
            [],
        )
        assert f'anzoth_refused_requests_total{{mode="enforced",rule="{rule}"}} 1.0'.encode() in (
            api.metrics.render()
        )

    run(scenario)


@pytest.mark.parametrize("rule", REFUSALS)
def test_a_rule_that_is_only_watched_serves_the_request_and_is_noted(run: Run, rule: str) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["bad"] = limited(rule, shadow_rules=(rule,))
        if rule == "limit.key.rpm":
            await api.chat(key="bad", max_tokens=20)
        plain = await api.chat(max_tokens=20)
        for stream in (False, True):
            served = await api.chat(key="bad", max_tokens=20, stream=stream)
            assert served.status == 200
            explained = (await api.call("GET", "/v1/requests/req_test")).json
            assert [entry["rule"] for entry in explained["would_have_been_refused_by"]] == [rule]
            assert explained["refused_by"] is None
            # The same answer as without any limit, not one that was cut to fit.
            assert explained["usage"] == {
                "prompt_tokens": plain.json["usage"]["prompt_tokens"],
                "cached_tokens": 0,
                "completion_tokens": plain.json["usage"]["completion_tokens"],
            }
        assert f'anzoth_refused_requests_total{{mode="shadow",rule="{rule}"}} 2.0'.encode() in (
            api.metrics.render()
        )

    run(scenario)


def test_a_watched_limit_does_not_lift_the_others(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["bad"] = make_principal(
            rpm=1, tpm=2000, shadow_rules=("limit.key.tpm",)
        )
        assert (await api.chat(key="bad", max_tokens=1)).status == 200
        assert (await api.chat(key="bad", max_tokens=1)).status == 429
        assert api.ledger.records[-1].rule == "limit.key.rpm"

    run(scenario)


def test_a_request_that_went_well_has_no_rule(run: Run) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.chat(metadata={"secret": "words"}, user="somebody")
        explained = (await api.call("GET", "/v1/requests/req_test")).json
        assert explained["model"] == MODEL
        assert (explained["error"], explained["refused_by"]) == (None, None)
        assert explained["would_have_been_refused_by"] == []
        assert (
            explained["usage"]["completion_tokens"] == (answer.json["usage"]["completion_tokens"])
        )
        assert "words" not in str(explained)
        assert "somebody" not in str(explained)

    run(scenario)


def test_another_tenants_request_looks_like_one_that_never_was(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["foreign"] = replace(
            PRINCIPAL, tenant=TenantHandle(UUID(int=9), "other", "salt"), key_id=UUID(int=8)
        )
        await api.chat()
        unknown = await api.call("GET", "/v1/requests/req_nothing")
        foreign = await api.call("GET", "/v1/requests/req_test", key="foreign")
        assert (
            (unknown.status, unknown.body) == (foreign.status, foreign.body) == (404, foreign.body)
        )
        assert "within a second" in unknown.error["message"]

    run(scenario)


def test_a_key_sees_its_own_requests_and_with_the_scope_its_tenants(run: Run) -> None:
    async def scenario(api: Api) -> None:
        colleague = replace(PRINCIPAL, key_id=UUID(int=8), scopes=frozenset({"chat"}))
        api.keys.principals["colleague"] = colleague
        api.keys.principals["auditor"] = replace(colleague, scopes=frozenset({"usage:read"}))
        await api.chat()
        seen = {
            key: (await api.call("GET", "/v1/requests/req_test", key=key)).status
            for key in ("good", "colleague", "auditor")
        }
        assert seen == {"good": 200, "colleague": 404, "auditor": 200}
        await api.chat(key="colleague")
        assert (await api.call("GET", "/v1/requests/req_test", key="colleague")).status == 200
        assert (await api.call("GET", "/v1/requests/req_test", key=None)).status == 401

    run(scenario)


def test_calls_of_tools_are_shown_with_what_became_of_them(run: Run) -> None:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    made = PastCall(
        *("call_1", "crm__find", "server", "d1", at, "allowed", "tool.granted", "ok", 25, 1200)
    )
    refused = PastCall("call_2", None, None, None, at, "needs_approval", "tool.taint")

    async def scenario(api: Api) -> None:
        await api.chat()
        assert (await api.call("GET", "/v1/requests/req_test")).json["tool_calls"] == []
        cast(ListedRequests, api.services.past_requests).calls = [made, refused]
        first, second = (await api.call("GET", "/v1/requests/req_test")).json["tool_calls"]
        assert first == {
            "id": "call_1",
            "name": "crm__find",
            "tool_server_id": "server",
            "definition_sha256": "d1",
            "created": int(at.timestamp()),
            "decision": "allowed",
            "refused_by": None,
            "outcome": "ok",
            "duration_ms": 25,
            "bytes": 1200,
        }
        assert (second["decision"], second["outcome"]) == ("needs_approval", None)
        assert second["refused_by"]["rule"] == "tool.taint"
        assert second["refused_by"]["what_to_do"]

    run(scenario)
