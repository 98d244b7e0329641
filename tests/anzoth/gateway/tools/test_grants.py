"""Does a model see what key, tenant, alias and request all allow, and nothing else?"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from principals import make_principal
from tools_policy_kit import catalogue_of, make_tool

from anzoth.errors import ToolNotAllowed
from anzoth.gateway.tools.definitions import Approval, GovernedTool
from anzoth.gateway.tools.grants import AskedServer, granted, is_granted, stricter

CRM = [
    make_tool("crm__find", is_read_only=True),
    make_tool("crm__delete"),
    make_tool("crm2__find", is_read_only=True, approval="always"),
    make_tool("mail__send", approval="never"),
]
ALL = catalogue_of(*CRM)
APPROVALS: tuple[Approval, ...] = ("never", "writes", "always")


def seen(
    grants: Collection[str],
    of_alias: Sequence[str] | None = None,
    *asked: AskedServer,
    catalogue: dict[str, GovernedTool] = ALL,
) -> dict[str, Approval]:
    principal = make_principal(tools=frozenset(grants))
    found = granted(catalogue, principal, of_alias, asked)
    assert all(name == tool.tool.name for name, tool in found.items())
    return {name: tool.approval for name, tool in found.items()}


def refusal(*given: object) -> str:
    with pytest.raises(ToolNotAllowed) as raised:
        seen(*given)  # type: ignore[arg-type]  # as the test has them
    assert (raised.value.status, raised.value.code, raised.value.rule) == (
        403,
        "tool_not_allowed",
        "key.tool",
    )
    return raised.value.message


def test_nothing_is_granted_and_nothing_offered_by_default() -> None:
    assert seen(()) == {}
    assert seen(("crm",)) == {}
    assert seen((), ("crm",)) == {}
    refusal((), None, AskedServer("crm"))


def test_a_grant_names_a_server_or_one_tool() -> None:
    ask = AskedServer("crm")
    assert set(seen(("crm",), None, ask)) == {"crm__find", "crm__delete"}
    assert set(seen(("crm__find",), None, ask)) == {"crm__find"}
    refusal(("crm2", "crm__", "crm__fin", "*", "crm*"), None, ask)


def test_what_is_not_granted_reads_as_what_is_not_there() -> None:
    for name in ("mail", "nothing"):
        text = refusal(("crm",), None, AskedServer(name))
        assert text == f"This API key has no access to the tool server '{name}'."
    for name in ("delete", "nothing"):
        text = refusal(("crm__find",), None, AskedServer("crm", frozenset({name})))
        assert text == f"This API key has no access to the tool 'crm__{name}'."


def test_a_refusal_says_where_the_request_asked() -> None:
    with pytest.raises(ToolNotAllowed) as raised:
        seen((), None, AskedServer("crm", param="tools[1].server_label"))
    assert raised.value.param == "tools[1].server_label"


def test_what_was_not_approved_is_not_there() -> None:
    approved = catalogue_of(CRM[0])
    assert set(seen(("crm",), None, AskedServer("crm"), catalogue=approved)) == {"crm__find"}
    with pytest.raises(ToolNotAllowed, match=re.escape("'crm__delete'")):
        seen(("crm",), None, AskedServer("crm", frozenset({"delete"})), catalogue=approved)


def test_an_alias_offers_its_tools_and_is_a_ceiling() -> None:
    everything = ("crm", "mail")
    assert set(seen(everything, ("crm__find", "mail"))) == {"crm__find", "mail__send"}
    assert set(seen(("mail",), ("crm", "mail"))) == {"mail__send"}  # silently, without the rest
    assert set(seen(everything, ("crm__find",), AskedServer("crm"))) == {"crm__find"}
    refusal(everything, ("crm",), AskedServer("mail"))
    refusal(everything, (), AskedServer("mail"))
    assert set(seen(everything, None, AskedServer("mail"))) == {"mail__send"}


def test_a_request_narrows_what_the_alias_offers_of_the_servers_it_names() -> None:
    only_find = AskedServer("crm", frozenset({"find"}))
    assert set(seen(("crm", "mail"), ("crm", "mail"), only_find)) == {"crm__find", "mail__send"}
    reading = AskedServer("crm", read_only=True)
    assert set(seen(("crm",), ("crm",), reading)) == {"crm__find"}


def test_read_only_leaves_out_what_may_write() -> None:
    named = AskedServer("crm", frozenset({"find", "delete"}), read_only=True)
    assert set(seen(("crm",), None, named)) == {"crm__find"}
    assert seen(("mail",), None, AskedServer("mail", read_only=True)) == {}


def test_a_request_can_ask_for_more_approval_and_not_for_less() -> None:
    grants = ("crm", "crm2", "mail")
    found = seen(
        grants,
        None,
        AskedServer("crm", approval="never"),
        AskedServer("crm", frozenset({"find"}), approval="always"),
        AskedServer("crm2", approval="never"),
        AskedServer("mail", approval="writes"),
    )
    assert found == {
        "crm__delete": "writes",
        "crm__find": "always",
        "crm2__find": "always",
        "mail__send": "writes",
    }


def test_which_calls_need_approval() -> None:
    found = granted(
        ALL, make_principal(tools=frozenset({"crm", "crm2", "mail"})), ("crm", "crm2", "mail"), ()
    )
    needs = {name for name, tool in found.items() if tool.needs_approval}
    assert needs == {"crm__delete", "crm2__find"}


LABELS = ("a", "b", "a_b")
NAMES = ("x", "y", "_x")
tools = st.lists(
    st.builds(
        lambda label, name, approval, reads: make_tool(
            f"{label}__{name}", approval=approval, is_read_only=reads
        ),
        *(st.sampled_from(LABELS), st.sampled_from(NAMES), st.sampled_from(APPROVALS)),
        st.booleans(),
    ),
    unique_by=lambda tool: tool.name,
    max_size=9,
)
grants = st.lists(
    st.sampled_from([*LABELS, *(f"{label}__{name}" for label in LABELS for name in NAMES)]),
    max_size=4,
)
asked = st.lists(
    st.builds(
        AskedServer,
        st.sampled_from(LABELS),
        st.none() | st.frozensets(st.sampled_from(NAMES)),
        st.booleans(),
        st.none() | st.sampled_from(APPROVALS),
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tools, grants, st.none() | grants, asked)
def test_what_is_seen_is_within_key_tenant_alias_and_request(
    approved: list[GovernedTool],
    of_key: list[str],
    of_alias: list[str] | None,
    entries: list[AskedServer],
) -> None:
    principal = make_principal(tools=frozenset(of_key))
    try:
        found = granted(catalogue_of(*approved), principal, of_alias, entries)
    except ToolNotAllowed:
        assert entries
        return
    assert list(found) == sorted(found)
    for name, tool in found.items():
        assert tool.tool in approved
        assert is_granted(tool.tool, of_key)
        assert of_alias is None or is_granted(tool.tool, of_alias)
        naming = [
            entry
            for entry in entries
            if entry.label == tool.tool.server.label
            and (entry.tool_names is None or name.split("__", 1)[1] in entry.tool_names)
        ]
        is_named = any(entry.label == tool.tool.server.label for entry in entries)
        assert naming if is_named else of_alias is not None
        assert stricter(tool.approval, tool.tool.server.approval) == tool.approval
    # And nothing that all of them allow is missing.
    for tool in approved:
        if of_alias is not None and is_granted(tool, of_alias) and is_granted(tool, of_key):
            assert tool.name in found or tool.server.label in {e.label for e in entries}
