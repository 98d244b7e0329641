"""The OpenAI Agents SDK against a running server: agents that speak Responses and chats.

Looked at is what the server promises: forms, calls that have to come, the shapes of events, usage.
What the small model says, and whether it likes to call, is looked at nowhere.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from client_drivers import TANKS, Flows, check_level, flows
from installation import Installation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(whole_server: Installation) -> Flows:
    return flows(whole_server, "drive_agents.py")


def check_usage(made: dict[str, Any], num_requests: int) -> None:
    requests, read, written, total = made["usage"]
    assert requests == num_requests
    assert total == read + written > read


def test_an_agent_calls_its_tool_and_answers(seen: Flows) -> None:
    for made in seen["tools"]:
        assert all(len(tanks) == 1 and tanks[0] in TANKS for tanks in made["tanks"])
        for ran in (made["whole"], made["streamed"]):
            assert ran["items"][:2] == ["tool_call_item", "tool_call_output_item"]
            check_usage(ran, 2)
        assert made["streamed"]["text"] == made["streamed"]["output"] == made["whole"]["output"]


def test_an_answer_has_its_type(seen: Flows) -> None:
    for made in seen["types"]:
        check_level(made["output"])
        if "text" in made:
            assert json.loads(made["text"]) == made["output"]


def test_an_agent_hands_over_to_another(seen: Flows) -> None:
    for made in seen["handoffs"]:
        assert made["items"][:2] == ["handoff_call_item", "handoff_output_item"]
        assert made["last"] == "expert"
        check_usage(made, 2)


def test_a_conversation_is_the_same_remembered_and_sent_again(seen: Flows) -> None:
    conversations = seen["sessions"]
    assert len(conversations) == 3
    for first, second in conversations:
        assert second == conversations[0][1]
        assert second["usage"][1] > first["usage"][-1]


def test_a_search_of_the_servers_comes_before_the_text(seen: Flows) -> None:
    for made in seen["file_search"]:
        assert made["items"] == ["tool_call_item", "message_output_item"]
    assert seen["close"] is None
