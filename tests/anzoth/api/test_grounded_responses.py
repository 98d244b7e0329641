"""Responses from knowledge bases: as chats, with what was searched for as an item of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api
from api_stand_ins import Reply
from grounded_kit import ANSWER, PUMP, QUESTION, Run, prompts, run_grounded, says, search_in
from grounded_kit import ask as ask_chat
from listed_searcher import ListedSearcher
from principals import make_principal
from responses_kit import checked, put_together, without_ids

from anzoth.api.grounded import NO_ANSWER
from anzoth.errors import RetrieverUnavailable
from anzoth.gateway.aliases import Target
from anzoth.gateway.conversations import NewItems, Reading

CALL = {"type": "function", "name": "f"}


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return run_grounded(checkpoint, tmp_path, monkeypatch)


async def respond(api: Api, **fields: Any) -> Reply:
    return await api.respond(**{"input": QUESTION, **fields})


async def ask(api: Api, **fields: Any) -> dict[str, Any]:
    """A response, which is the same streamed and whole."""
    reply = await respond(api, **fields)
    assert reply.status == 200, reply.json
    streamed = put_together((await respond(api, **fields, stream=True)).events)
    assert without_ids(streamed) == without_ids(checked(reply.json))
    return reply.json


def test_an_answer_is_the_chats_with_the_search_before_it(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        response = await ask(api, tools=[search_in("vs_1")])
        chat = (await ask_chat(api, tools=[search_in("vs_1")])).json["choices"][0]["message"]
        assert len(set(prompts(api))) == 1
        search, message = response["output"]
        assert search.pop("id").startswith("fs_")
        assert search == {
            "type": "file_search_call",
            "status": "completed",
            "queries": [QUESTION],
            "results": None,
        }
        (part,) = message["content"]
        assert part["text"] == chat["content"] == ANSWER
        (cited,) = part["annotations"]
        (made,) = chat["annotations"]
        # OpenAI's fields, and behind them what chats have.
        assert list(cited)[:4] == ["type", "file_id", "filename", "index"]
        assert cited == {"type": "file_citation", **made["file_citation"]}
        assert cited["verified"] is True
        assert response["tools"] == [search_in("vs_1")]

    run(scenario)


def test_the_events_of_a_search_and_its_citations_come_in_order(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        events = (await respond(api, tools=[search_in("vs_1")], stream=True)).events
        names = [event["type"].removeprefix("response.") for event in events]
        assert names[2:8] == [
            "output_item.added",
            "file_search_call.in_progress",
            "file_search_call.searching",
            "file_search_call.completed",
            "output_item.done",
            "output_item.added",
        ]
        assert names[-5:] == [
            "output_text.annotation.added",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]

    run(scenario)


def test_results_and_the_trace_come_where_they_are_asked_for(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        include = ["file_search_call.results"]
        response = await ask(api, tools=[search_in("vs_1")], include=include)
        (result,) = response["output"][0]["results"]
        assert (result["file_id"], result["vector_store_id"]) == ("file-pump", "vs_1")
        assert result["text"] in PUMP
        assert "x_anzoth" not in response
        response = await ask(api, tools=[search_in("vs_1", trace=True)])
        assert response["output"][0]["results"] is None
        assert response["x_anzoth"]["retrieval"]["vector_store_ids"] == ["vs_1"]

    run(scenario)


def test_a_mark_that_cites_nothing_is_no_annotation_of_openais(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.saying = ["It runs on water [7]."]
        response = await ask(api, tools=[search_in("vs_1")])
        (part,) = response["output"][1]["content"]
        assert part["annotations"] == []
        (unknown,) = part["x_anzoth"]["unknown_citations"]
        assert (unknown["number"], unknown["start_index"]) == (7, 17)

    run(scenario)


def test_an_alias_and_a_key_have_their_own_knowledge_bases(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.aliases.add("helpdesk", Target(MODEL), knowledge_bases=("vs_1",))
        api.keys.principals["of_kb"] = make_principal(default_knowledge_bases=("vs_1",))
        for fields in ({"model": "helpdesk"}, {"key": "of_kb"}):
            reply = await respond(api, **fields)
            assert [item["type"] for item in reply.json["output"]] == [
                *("file_search_call", "message"),
            ]
        assert [stores for _, stores, _, _ in searcher.asked] == [("vs_1",)] * 2
        await respond(api, tools=[search_in("vs_1")], tool_choice="none")
        assert len(searcher.asked) == 2

    run(scenario)


class _Conversation:
    """One from `vs_2`."""

    keeps_any = True

    def __init__(self) -> None:
        self.added: list[NewItems] = []

    async def read(self, owner: object, id: str, granted: object) -> Reading:
        return Reading(id, 0, [], ["vs_2"])

    async def try_add(self, owner: object, id: str, new: NewItems) -> bool:
        self.added.append(new)
        return True


def test_what_is_found_for_a_conversation_is_of_the_knowledge_bases_of_both(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        conversation = _Conversation()
        api.app._services = replace(api.services, conversations=conversation)  # type: ignore[arg-type]  # stands in
        fields = {"tools": [search_in("vs_1")], "conversation": "conv_1"}
        response = await ask(api, **fields)
        assert response["conversation"] == {"id": "conv_1"}
        await ask(api, **fields, input="zebra quagga")  # there is no answer: that is one, too
        assert len(conversation.added) == 4
        for added in conversation.added:
            assert added.knowledge_bases == ["vs_2", "vs_1"]
            kinds = [item["type"] for item in added.items]
            assert kinds == ["message", "file_search_call", "message"]
        assert list(conversation.added[0].items[1:]) == response["output"]

    run(scenario)


def test_that_there_is_no_answer_is_said_without_a_model(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        fields = {"input": "zebra quagga", "tools": [search_in("vs_1")]}
        response = await ask(api, **fields)
        assert response["output"][1]["content"][0]["text"] == NO_ANSWER
        assert response["usage"]["total_tokens"] == 0
        form = {"format": {"type": "json_object"}}
        response = await ask(api, **fields, text=form)
        assert response["output"][1]["content"] == [{"type": "refusal", "refusal": NO_ANSWER}]
        assert not api.peer.submits
        assert [used.finish_reason for used in api.ledger.records] == ["stop"] * 4
        await ask(api, **{**fields, "tools": [*fields["tools"], CALL]}, tool_choice="none")
        assert api.peer.submits

    run(scenario)


def test_what_is_wrong_with_a_search_is_told_as_in_chats(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        for store in ("vs_unknown", "vs_foreign"):
            reply = await respond(api, tools=[search_in(store)])
            assert (reply.status, reply.error["param"]) == (404, "vector_store_id")
        api.keys.principals["some"] = make_principal(knowledge_bases=frozenset({"vs_2"}))
        assert (await respond(api, tools=[search_in("vs_1")], key="some")).status in (403, 404)
        reply = await respond(api, tools=[search_in("vs_1")], input=[says("x", "assistant")])
        assert (reply.status, reply.error["param"]) == (400, "input")
        searcher.failure = RetrieverUnavailable()
        assert (await respond(api, tools=[search_in("vs_1")])).status == 503
        assert not api.peer.submits

    run(scenario)


def test_models_of_other_servers_are_asked_by_chats_only(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.aliases.add("far-off", Target("big", "far"))
        reply = await respond(api, model="far-off")
        assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
        assert "/v1/chat/completions" in reply.error["message"]
        assert not searcher.peer.asked  # type: ignore[attr-defined]

    run(scenario)
