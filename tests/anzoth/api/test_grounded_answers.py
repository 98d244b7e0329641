"""What a chat from knowledge bases answers: with citations that hold, or that there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api_harness import MODEL, Api
from grounded_kit import (
    ANSWER,
    Run,
    ask,
    citations,
    prompts,
    run_grounded,
    search_in,
    unknown_citations,
)
from listed_searcher import ListedSearcher
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from principals import make_principal

from anzoth.api.grounded import NO_ANSWER


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return run_grounded(checkpoint, tmp_path, monkeypatch)


def test_citations_are_openais_with_their_place_and_streamed_they_are_the_same(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.saying = [f"{ANSWER} It costs 5 euros [1]. See [7]."]
        whole = await ask(api, tools=[search_in("vs_1")])
        streamed = await ask(api, tools=[search_in("vs_1")], stream=True)
        assert citations(whole) == citations(streamed)
        supported, invented = citations(whole)
        assert supported == {
            "type": "url_citation",
            "url_citation": {
                "start_index": 28,
                "end_index": 31,
                "title": "file-pump.txt",
                "url": "/v1/vector_stores/vs_1/files/file-pump/content",
            },
            "file_citation": {
                "file_id": "file-pump",
                "filename": "file-pump.txt",
                "index": 28,
                "start_index": 28,
                "end_index": 31,
                "number": 1,
                "vector_store_id": "vs_1",
                "page": 1,
                "start": 0,
                "end": 39,
                "quote": "The X200 pump runs on water at 3.5 bar.",
                "score": 1.0,
                "verified": True,
            },
        }
        assert not invented["file_citation"]["verified"]
        (unknown,) = unknown_citations(whole)
        assert unknown["number"] == 7
        assert unknown_citations(streamed) == [unknown]
        *_, cited, finish = streamed.chunks
        assert cited["choices"][0]["delta"]["content"] == ""
        assert cited["choices"][0]["finish_reason"] is None
        assert finish["choices"][0]["delta"] == {}
        text = "".join(
            choice["delta"].get("content", "")
            for chunk in streamed.chunks
            for choice in chunk["choices"]
        )
        assert text == whole.json["choices"][0]["message"]["content"]
        assert whole.json["usage"]["completion_tokens"] == len(api.tokens(text)) + 1

    run(scenario)


def test_each_choice_has_its_own_citations(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.saying = [ANSWER, "No idea."]
        choices = (await ask(api, tools=[search_in("vs_1")], n=2)).json["choices"]
        assert [len(choice["message"]["annotations"]) for choice in choices] == [1, 0]

    run(scenario)


def test_the_sdk_reads_annotations_whole_and_streamed(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        whole = await ask(api, tools=[search_in("vs_1")])
        parsed = ChatCompletion.model_validate(whole.json).choices[0].message
        (annotation,) = parsed.annotations or []
        assert annotation.model_extra is not None
        assert annotation.model_extra["file_citation"]["file_id"] == "file-pump"
        streamed = await ask(api, tools=[search_in("vs_1")], stream=True)
        for chunk in streamed.chunks:
            ChatCompletionChunk.model_validate(chunk)

    run(scenario)


def test_what_the_documents_do_not_answer_is_said_without_asking_the_model(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        tools = [search_in("vs_1")]
        whole = await ask(api, "who wrote hamlet", tools=tools)
        (choice,) = whole.json["choices"]
        assert choice == {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": NO_ANSWER,
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
        assert whole.json["usage"]["total_tokens"] == 0
        streamed = await ask(
            api,
            "who wrote hamlet",
            tools=tools,
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in streamed.chunks:
            ChatCompletionChunk.model_validate(chunk)
        texts = ["", ""]
        for chunk in streamed.chunks:
            for part in chunk["choices"]:
                texts[part["index"]] += part["delta"].get("content", "")
        assert texts == [NO_ANSWER, NO_ANSWER]
        assert streamed.chunks[-1]["usage"] == whole.json["usage"]
        assert streamed.frames[-1] == "[DONE]"
        assert api.peer.submits == []
        for record in api.ledger.records:
            assert (record.status, record.finish_reason, record.model) == (200, "stop", MODEL)
            assert record.prompt_tokens == record.completion_tokens == 0

    run(scenario)


def test_a_score_below_the_threshold_is_no_answer_unless_it_means_nothing(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        question = "the " + " ".join(f"word{number}" for number in range(19))
        tool = search_in("vs_1")
        said = await ask(api, question, tools=[tool])
        assert said.json["choices"][0]["message"]["content"] == NO_ANSWER
        by_rank = {**tool, "ranking_options": {"fusion": "rrf"}}
        assert (await ask(api, question, tools=[by_rank])).json["usage"]["prompt_tokens"] > 0

    run(scenario)


def test_a_refusal_counts_as_a_request_and_meets_the_limits(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        api.keys.principals["slow"] = make_principal(rpm=1)
        tools = [search_in("vs_1")]
        first = await ask(api, "who wrote hamlet", key="slow", tools=tools)
        assert (first.status, first.headers["x-ratelimit-remaining-requests"]) == (200, "0")
        assert (await ask(api, "who wrote hamlet", key="slow", tools=tools)).status == 429

    run(scenario)


def test_the_model_may_answer_anyway_where_the_caller_or_functions_want_it(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        function = {"type": "function", "function": {"name": "f"}}
        question = "who wrote hamlet"
        plain = await ask(api, question)
        anyway = search_in("vs_1", file_search={"on_no_answer": "answer"})
        told = await ask(api, question, tools=[anyway])
        assert prompts(api)[0] == prompts(api)[1]
        assert told.json["usage"] == plain.json["usage"]
        message = told.json["choices"][0]["message"]
        # It cites a passage that it was not given.
        assert message["annotations"] == []
        assert len(message["x_anzoth"]["unknown_citations"]) == 1
        strict = search_in("vs_1", file_search={"on_no_answer": "say_so"})
        said = await ask(api, question, tools=[strict, function])
        assert said.json["choices"][0]["message"]["content"] == NO_ANSWER

    run(scenario)


def test_where_json_was_promised_the_sentence_is_a_refusal(run: Run) -> None:
    async def scenario(api: Api, searcher: ListedSearcher) -> None:
        fields: dict[str, Any] = {
            "tools": [search_in("vs_1")],
            "response_format": {"type": "json_object"},
        }
        whole = await ask(api, "who wrote hamlet", **fields)
        message = whole.json["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, NO_ANSWER)
        streamed = await ask(api, "who wrote hamlet", stream=True, **fields)
        assert streamed.chunks[1]["choices"][0]["delta"] == {"refusal": NO_ANSWER}

    run(scenario)
