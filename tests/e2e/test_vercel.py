"""Vercel's AI SDK against a running server, with each of its kinds of model.

Looked at is what the server promises: forms, calls that have to come, the shapes of events, usage.
What the small model says, and whether it likes to call, is looked at nowhere.
"""

from __future__ import annotations

import pytest

from client_drivers import BOAT, Flows, check_level, flows, result_of
from installation import Installation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(whole_server: Installation) -> Flows:
    return flows(whole_server, "drive_vercel.mjs")


@pytest.mark.parametrize("flow", ["chat", "compatible", "completion", "responses"])
def test_a_stream_adds_up_to_the_whole_text(seen: Flows, flow: str) -> None:
    made = seen[flow]
    assert made["errors"] == []
    assert made["whole"] or flow == "completion"  # there the model was not asked anything it knows
    assert made["whole"] == made["streamed"] == made["deltas"]
    assert made["usage"] == made["streamed_usage"]
    read, written, total = made["usage"]
    assert total == read + written > read
    assert made["finish"] == made["streamed_finish"]
    assert made["finish"] in ("stop", "length")


@pytest.mark.parametrize(
    "flow", ["chat_tools", "compatible_tools", "responses_tools", "responses_tools_unstored"]
)
def test_a_loop_calls_its_tool_and_answers(seen: Flows, flow: str) -> None:
    made = seen[flow]
    assert made["streamed"] == made["whole"]
    call, answer = made["whole"]
    ((name, arguments),) = call["calls"]
    assert name == "readLevel"
    assert call["results"] == [result_of(arguments["tank"])]
    assert call["finish"] == "tool-calls"
    assert answer["calls"] == answer["results"] == []
    *steps, total = made["usage"]
    assert [sum(column) for column in zip(*steps, strict=True)] == total


@pytest.mark.parametrize("flow", ["chat_types", "compatible_types", "responses_types"])
def test_an_answer_has_its_type(seen: Flows, flow: str) -> None:
    made = seen[flow]
    whole, streamed, _ = made["objects"]
    for each in made["objects"]:
        check_level(each)
    assert whole == streamed == made["last_partial"]
    assert made["choice"] in ("low", "high")


def test_a_conversation_is_the_same_remembered_and_sent_again(seen: Flows) -> None:
    made = seen["remembered"]
    assert made["second"] == made["again"]
    assert made["second"][0] > made["first"][-1]
    remembered, sent = made["texts"]
    assert remembered == sent


def test_a_search_of_the_servers_is_a_call_with_its_result(seen: Flows) -> None:
    for call, result, *others in seen["file_search"]:
        assert call == ["tool-call", "file_search"]
        assert result == ["tool-result", [BOAT]]
        assert all(other == ["source", "boat.txt"] or other[0] == "text" for other in others)


def test_citations_of_a_chat_are_sources(seen: Flows) -> None:
    made = seen["grounded_chat"]
    text, ((url, title),) = made["whole"]
    assert made["streamed"] == made["whole"]
    assert text == "It is Mara Velten [1][9]"
    assert title == "boat.txt"
    assert url.startswith(f"/v1/vector_stores/{made['store']}/files/file-")


def test_near_texts_have_near_vectors(seen: Flows) -> None:
    made = seen["embeddings"]
    assert made["sizes"] == [384, 384, 384]
    assert made["is_near"]
    assert made["usage"]["tokens"] > 0


def test_a_refusal_is_not_tried_again(seen: Flows) -> None:
    refused = ["AI_APICallError", 400, "context_length_exceeded", False]
    assert seen["refusals"] == {"chat": refused, "responses": refused}
