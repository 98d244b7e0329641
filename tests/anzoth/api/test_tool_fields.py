"""Which tools a request offers, and what its choice among them means."""

from __future__ import annotations

from typing import Any

import pytest
from request_kit import (
    TOOL,
    allowed,
    chat,
    file_search,
    named,
    tool,
)

from anzoth.api.file_search import FileSearch
from anzoth.api.ranking_options import Ranker
from anzoth.errors import BadRequest, InvalidValue, UnsupportedParameter
from anzoth.gateway.knowledge.grounding import KnowledgeUse
from anzoth.index_frames import Fusion


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "x"}}]}, "tools[1].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom"}}, "tool_choice"),
    ],
)
def test_tools_of_other_kinds_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("choice", "strict", "must_call", "names", "needs_grammar", "is_parallel"),
    [
        (None, False, False, {"f", "g"}, False, True),
        ("auto", False, False, {"f", "g"}, False, True),
        ("auto", True, False, {"f", "g"}, True, True),
        ("required", False, True, {"f", "g"}, True, True),
        (named("g"), False, True, {"g"}, True, False),
        (allowed("auto", "f"), False, False, {"f"}, True, True),
        (allowed("required", "f", "g"), False, True, {"f", "g"}, True, True),
    ],
)
def test_what_a_choice_of_tools_means(
    choice: Any,
    strict: bool,
    must_call: bool,
    names: set[str],
    needs_grammar: bool,
    is_parallel: bool,
) -> None:
    used = chat(tools=[tool(strict=strict), tool(name="g")], tool_choice=choice).tools
    assert used is not None
    assert [entry["function"]["name"] for entry in used.tools] == ["f", "g"]  # all are shown
    assert (used.must_call, used.names) == (must_call, names)
    assert (used.needs_grammar, used.is_parallel) == (needs_grammar, is_parallel)
    assert [one.name for one in used.signatures] == sorted(names)


def test_a_second_tool_of_the_same_name_is_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        chat(tools=[TOOL, tool(name="g"), TOOL])
    assert caught.value.param == "tools[2].function.name"


def test_tools_are_kept_in_one_order_without_what_templates_do_not_read() -> None:
    given = {
        "function": {
            "strict": False,
            "parameters": {"type": "object", "b": 1, "a": 2},
            "name": "f",
            "description": "d",
        },
        "type": "function",
        "cache_control": {},
    }
    used = chat(tools=[given, TOOL | {"function": {"name": "g", "description": None}}]).tools
    assert used is not None
    assert used.names == {"f", "g"}
    assert [list(entry) for entry in used.tools] == [["type", "function"]] * 2
    assert list(used.tools[0]["function"].items()) == [
        ("name", "f"),
        ("description", "d"),
        ("parameters", {"type": "object", "b": 1, "a": 2}),
    ]
    assert used.tools[1]["function"] == {"name": "g"}


def test_tools_are_used_unless_the_caller_says_none() -> None:
    assert chat().tools is None
    assert chat(tools=[]).tools is None
    assert chat(tools=[TOOL], tool_choice="none").tools is None
    for choice in ("auto", None):
        used = chat(tools=[TOOL], tool_choice=choice, parallel_tool_calls=None).tools
        assert used is not None
        assert used.is_parallel
    used = chat(tools=[TOOL], parallel_tool_calls=False).tools
    assert used is not None
    assert not used.is_parallel


def test_a_file_search_is_no_function_and_none_turns_it_off() -> None:
    weights = {"embedding_weight": 2, "text_weight": 0.5}
    tool_of_stores = file_search(
        vector_store_ids=["vs_1", "vs_2", "vs_1"],
        max_num_results=3,
        ranking_options={"hybrid_search": weights, "score_threshold": 0.2},
        file_search={"on_no_answer": "answer"},
    )
    request = chat(tools=[tool_of_stores], tool_choice={"type": "file_search"})
    assert request.tools is None
    fusion = Fusion("rrf", 2.0, 0.5)
    assert request.file_search == FileSearch(
        KnowledgeUse(("vs_1", "vs_2"), 3, None, fusion, 0.2),
        "answer",
        ranker=Ranker("auto", "tools[0].ranking_options.ranker"),
    )
    assert not request.shows_trace
    both = chat(tools=[file_search(), TOOL], tool_choice="required")
    assert both.tools is not None
    assert both.tools.must_call
    assert both.tools.names == {"f"}
    assert chat(tools=[file_search()], tool_choice="required").tools is None
    assert chat(tools=[file_search()], tool_choice="none").file_search is None
    assert chat(tools=[file_search(trace=True)]).shows_trace
    assert chat(include=["file_search_call.results"]).shows_trace
    for fields in (
        {"tools": [TOOL], "tool_choice": {"type": "file_search"}},
        {"tools": [file_search()], "tool_choice": named("f")},
        {
            "tools": [
                file_search(ranking_options={"hybrid_search": weights, "fusion": "calibrated"})
            ]
        },
    ):
        with pytest.raises(BadRequest):
            chat(**fields)
