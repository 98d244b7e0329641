"""LangChain against a running server: chats and Responses, tools, types, retrieval.

Looked at is what the server promises: forms, calls that have to come, the shapes of events, usage.
What the small model says, and whether it likes to call, is looked at nowhere.
"""

from __future__ import annotations

from typing import Any

import pytest

from client_drivers import BOAT, Flows, check_level, flows, result_of
from installation import Installation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(whole_server: Installation) -> Flows:
    return flows(whole_server, "drive_langchain.py")


def check_usage(said: dict[str, Any]) -> None:
    usage = said["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens"] > 0


@pytest.mark.parametrize("flow", ["chat", "responses_chat"])
def test_a_stream_adds_up_to_the_whole_message(seen: Flows, flow: str) -> None:
    whole, streamed = seen[flow]["whole"], seen[flow]["streamed"]
    assert whole["text"]
    assert whole["model"] == "anzoth-default"
    for name in ("text", "calls", "finish", "status", "model"):
        assert streamed[name] == whole[name]
    for said in (whole, streamed):
        check_usage(said)
        assert said["calls"] == said["invalid_calls"] == []
    for name in ("input_tokens", "output_tokens"):
        assert streamed["usage"][name] == whole["usage"][name]


def test_a_batch_and_a_chain_are_answered(seen: Flows) -> None:
    first, second = (seen["chat"][name]["usage"] for name in ("whole", "other"))
    assert first["input_tokens"] != second["input_tokens"]  # each its own question
    made = seen["chain"]
    assert len(made["pieces"]) > 2
    assert "".join(made["pieces"]) == made["whole"]


def test_log_probabilities_are_those_of_the_text(seen: Flows) -> None:
    scored = seen["logprobs"]
    assert scored["text"] == scored["whole"]
    assert set(scored["tops"]) == {2}


@pytest.mark.parametrize("flow", ["chat_tools", "responses_tools"])
def test_a_forced_call_goes_its_round(seen: Flows, flow: str) -> None:
    made = seen[flow]
    (call,) = made["call"]["calls"]
    assert call["name"] == "read_level"
    assert made["streamed"]["calls"] == [call]
    assert made["results"] == [result_of(call["args"]["tank"])]
    assert made["answer"]["calls"] == made["call"]["invalid_calls"] == []
    check_usage(made["call"])
    check_usage(made["answer"])
    ending = made["call"]["finish"], made["call"]["status"]
    assert ending == (("tool_calls", None) if flow == "chat_tools" else (None, "completed"))


@pytest.mark.parametrize("flow", ["chat_types", "responses_types"])
def test_an_answer_has_its_type(seen: Flows, flow: str) -> None:
    for made in seen[flow].values():
        check_level(made["whole"])
        check_level(made["streamed"])
        check_usage(made)


def test_its_own_retrieval_finds_by_meaning(seen: Flows) -> None:
    assert seen["embeddings"] == {"sizes": [384, 384], "found": [BOAT], "queried": True}


def test_a_conversation_is_the_same_remembered_and_sent_again(seen: Flows) -> None:
    made = seen["remembered"]
    second, resent = made["second"], made["resent"]
    assert second["text"] == resent["text"]
    read = second["usage"]["input_tokens"]
    assert read == resent["usage"]["input_tokens"] > made["first"]["usage"]["total_tokens"]


def test_a_search_of_the_servers_comes_before_the_text(seen: Flows) -> None:
    for said in seen["file_search"]:
        assert said["blocks"] == ["file_search_call", "text"]
        check_usage(said)


def test_a_prompt_that_is_too_long_is_its_own_error(seen: Flows) -> None:
    assert seen["refusals"] == {
        "chats": [True, "context_length_exceeded"],
        "responses": [True, "context_length_exceeded"],
        "embeddings": [True, "invalid_value"],
    }
