"""The helpers of OpenAI's SDK for Node against a running server: types, streams, loops over tools.

Looked at is what the server promises: forms, calls that have to come, the shapes of events, usage.
What the small model says, and whether it likes to call, is looked at nowhere.
"""

from __future__ import annotations

import json

import pytest

from client_drivers import TANKS, Flows, check_level, flows, result_of
from installation import Installation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(whole_server: Installation) -> Flows:
    return flows(whole_server, "drive_node_helpers.mjs")


def test_a_response_has_its_type(seen: Flows) -> None:
    made = seen["typed_responses"]
    for parsed in made["parsed"]:
        check_level(parsed)
        assert parsed == made["parsed"][0]
    assert (made["begins"], made["ends"]) == ("response.created", "response.completed")
    assert made["snapshot"] is made["stored"] is made["id"] is True


def test_a_chat_has_its_type(seen: Flows) -> None:
    made = seen["typed_chats"]
    whole, streamed = made["parsed"]
    check_level(whole)
    assert streamed == whole
    assert len(set(made["usage"])) == 1


def test_a_call_has_its_type(seen: Flows) -> None:
    made = seen["typed_calls"]
    ((name, arguments),) = made["whole"]
    assert name == "read_level"
    assert arguments["tank"] in TANKS
    assert made["streamed"] == made["whole"]
    assert json.loads(made["last_piece"]) == arguments


@pytest.mark.parametrize("way", ["", "_streamed", "_eager"])
def test_a_loop_of_responses_calls_its_tool_and_ends(seen: Flows, way: str) -> None:
    made = seen[f"responses_loop{way}"]
    (call,) = made["calls"]
    assert call["tank"] in TANKS
    first, last = made["turns"]
    assert (first["types"], first["final"]) == (["function_call"], False)
    assert last["final"] is True
    assert "function_call" not in last["types"]
    assert last["total"] > 0


@pytest.mark.parametrize("way", ["", "_streamed"])
def test_a_loop_of_chats_calls_its_tool_and_ends(seen: Flows, way: str) -> None:
    made = seen[f"chat_loop{way}"]
    assert made["roles"] == ["user", "assistant", "tool", "assistant"]
    assert made["result"] in map(result_of, TANKS)
    usage = made["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_tokens_are_counted_before_they_are_read(seen: Flows) -> None:
    counted, read = seen["counted"]
    assert counted == read


def test_leaving_a_stream_ends_the_request(seen: Flows) -> None:
    assert seen["aborted"] is True
