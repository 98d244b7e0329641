"""Is what counts as within another key's grants really within them?

Whatever random key is made of another one: each request that it may make, the other one might have
made (or handed on), too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from principals import make_principal

from anzoth.errors import AddressNotAllowed, EndpointNotAllowed, NotFound
from anzoth.gateway.grants import Grants, excess
from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits
from anzoth.gateway.scopes import SCOPES, covers

START = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = ("llama", "llama-3", "llama-3-8b", "qwen", "q", "")
MODEL_PATTERNS = ("*", "llama*", "llama-3*", "llama-3", "llama-[23]*", "l*3", "q?en", "qwen", "?")
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/embeddings")
ENDPOINT_PATTERNS = ("/v1/*", "/v1/chat/*", "*completions", "/v1/models", "*")
ADDRESSES = tuple(map(ip_address, ("10.0.0.1", "10.1.2.3", "11.0.0.1", "2001:db8::1", "::1")))
NETWORKS = tuple(
    map(ip_network, ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0"))
)
STORES = ("a", "b", "c")
TOOLS = ("x__get", "x__put", "x_y__get", "z__get")
GRANTED_TOOLS = (*TOOLS, "x", "x_y", "z")
small = st.one_of(st.none(), st.integers(1, 3))
LIMITS = st.builds(Limits, rpm=small, tpm=small, concurrency=small, tokens_per_day=small)


def some(values: tuple) -> st.SearchStrategy[list]:
    return st.lists(st.sampled_from(values), max_size=3, unique=True)


GRANTS = st.builds(
    Grants,
    some(SCOPES),
    st.one_of(st.none(), some(MODEL_PATTERNS)),
    st.one_of(st.none(), some(ENDPOINT_PATTERNS)),
    st.one_of(st.none(), some(NETWORKS)),
    st.one_of(st.none(), some(STORES)),
    some(GRANTED_TOOLS),
    st.one_of(st.none(), st.integers(0, 3).map(lambda days: START + timedelta(days=days))),
    st.dictionaries(st.sampled_from([None, "llama"]), LIMITS, max_size=2),
)

FIELDS = [field.name for field in dataclasses.fields(Grants)]


def allows(grants: Grants) -> dict[str, set]:
    """What it may do, of everything that is tried."""
    who = make_principal(
        models=None if grants.models is None else tuple(grants.models),
        endpoints=None if grants.endpoints is None else tuple(grants.endpoints),
        networks=None if grants.networks is None else tuple(grants.networks),
        knowledge_bases=None
        if grants.knowledge_bases is None
        else frozenset(grants.knowledge_bases),
    )

    def is_fine(check, value) -> bool:
        try:
            check(value)
        except (AddressNotAllowed, EndpointNotAllowed, NotFound):
            return False
        return True

    return {
        "scopes": {scope for scope in (*SCOPES, "usage:read") if covers(grants.scopes, scope)},
        "models": {model for model in MODELS if who.may_use_model(model)},
        "endpoints": {e for e in ENDPOINTS if is_fine(who.require_endpoint, e)},
        "networks": {a for a in ADDRESSES if is_fine(who.require_address, a)},
        "knowledge_bases": {
            store for store in STORES if is_fine(who.require_knowledge_base, store)
        },
        "tools": {
            tool
            for tool in TOOLS
            if covers(grants.scopes, "tools:write")  # may have any of them granted
            or any(tool == of or tool.startswith(f"{of}__") for of in grants.tools)
        },
        "days": {
            day
            for day in range(6)
            if grants.expires_at is None or START + timedelta(days=day) < grants.expires_at
        },
        "amounts": {
            (model, name, amount)
            for model in (None, "llama")
            for name in LIMIT_NAMES
            for amount in range(1, 6)
            if (limit := getattr(grants.limits.get(model, Limits()), name)) is None
            or amount <= limit
        },
    }


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(GRANTS, GRANTS, st.sets(st.sampled_from(FIELDS), min_size=1, max_size=2))
def test_what_is_within_allows_nothing_more(own: Grants, other: Grants, fields: set[str]) -> None:
    wanted = replace(own, **{field: getattr(other, field) for field in fields})
    mine, theirs = allows(own), allows(wanted)
    if excess(wanted, own) is None:
        for what, allowed in theirs.items():
            assert allowed <= mine[what], what


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(GRANTS)
def test_everything_is_within_itself_and_within_a_key_that_may_do_all(grants: Grants) -> None:
    assert excess(grants, grants) is None
    whole = Grants(["all", "admin"], tools=grants.tools)
    assert excess(grants, whole) is None


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"scopes": ["all"]}, "scopes"),
        ({"scopes": ["chat", "admin"]}, "scopes"),
        ({"models": None}, "models"),
        ({"models": ["l*"]}, "models"),
        ({"endpoints": None}, "endpoints"),
        ({"networks": None}, "networks"),
        ({"networks": [ip_network("10.0.0.0/7")]}, "networks"),
        ({"networks": [ip_network("::/0")]}, "networks"),
        ({"knowledge_bases": ["a", "b"]}, "knowledge_bases"),
        ({"knowledge_bases": None}, "knowledge_bases"),
        ({"tools": ["x"]}, "tools"),
        ({"expires_at": None}, "expires_at"),
        ({"expires_at": START + timedelta(seconds=1)}, "expires_at"),
        ({"limits": {}}, "limits"),
        ({"limits": {None: Limits(rpm=6, tpm=5)}}, "limits"),
        ({"limits": {None: Limits(rpm=5)}}, "limits"),
    ],
)
def test_each_kind_of_more_is_named(more: dict, field: str) -> None:
    own = Grants(
        ["chat", "keys:write"],
        ["llama*"],
        ["/v1/chat/*"],
        [ip_network("10.0.0.0/8")],
        ["a"],
        expires_at=START,
        limits={None: Limits(rpm=5, tpm=5)},
    )
    assert excess(replace(own, **more), own) == field
    assert excess(own, own) is None


@pytest.mark.parametrize(
    ("tools", "scopes", "is_within"),
    [
        (["crm"], ["chat"], True),
        (["crm__get", "crm"], ["chat"], True),
        (["crm__get"], ["chat"], True),
        (["crm_2"], ["chat"], False),
        (["crm_2__get"], ["chat"], False),
        (["erp"], ["chat"], False),
        (["erp"], ["chat", "tools:read"], False),
        (["erp"], ["chat", "tools:write"], True),
        (["erp"], ["chat", "admin"], True),
    ],
)
def test_a_server_stands_for_its_tools_and_who_approves_tools_may_grant_any(
    tools: list[str], scopes: list[str], is_within: bool
) -> None:
    field = excess(Grants(["chat"], tools=tools), Grants(scopes, tools=["crm"]))
    assert field == (None if is_within else "tools")
