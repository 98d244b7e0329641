"""LlamaIndex against a running server: completions, chats and Responses, tools, types, an index.

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
    return flows(whole_server, "drive_llama_index.py")


def test_it_completes_unless_it_is_told_to_chat(seen: Flows) -> None:
    made = seen["completion"]
    assert made["whole"]
    assert made["streamed"] == made["whole"]
    assert made["chat"]


@pytest.mark.parametrize("flow", ["chat", "responses_chat"])
def test_every_way_to_ask_is_answered_the_same(seen: Flows, flow: str) -> None:
    made = seen[flow]
    usage = made.pop("usage")
    assert usage["total_tokens"] > 0
    (text,) = set(made.values())
    assert text


@pytest.mark.parametrize("flow", ["chat_tools", "responses_tools"])
def test_a_forced_call_goes_its_round(seen: Flows, flow: str) -> None:
    made = seen[flow]
    ((name, arguments),) = made["calls"]
    assert name == "read_level"
    assert made["streamed"] == made["calls"]
    assert made["results"] == made["done"] == [result_of(arguments["tank"])]
    assert isinstance(made["answer"], str)


def test_an_answer_has_its_type(seen: Flows) -> None:
    for made in (*seen["chat_types"], *seen["responses_types"]):
        check_level(made)


def test_its_own_index_finds_by_meaning(seen: Flows) -> None:
    assert seen["index"]["found"] == [BOAT]


def test_the_server_remembers_what_was_said(seen: Flows) -> None:
    (_, said), (read, _) = seen["remembered"]
    assert read > said
