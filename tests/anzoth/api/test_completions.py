"""Legacy completions: shapes, many prompts, echo, the old form of log probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from api_harness import MODEL, Api, Scenario
from checkpoints import EOS_ID
from engine_peer import Said

Run = Callable[[Scenario], None]


def test_a_whole_answer_has_exactly_the_documented_shape(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.complete()
        body = reply.json
        assert list(body) == [
            "id",
            "object",
            "created",
            "model",
            "choices",
            "usage",
            "system_fingerprint",
        ]
        assert body["id"].startswith("cmpl-")
        assert (body["object"], body["model"]) == ("text_completion", MODEL)
        assert body["choices"] == [
            {"text": "hello there", "index": 0, "logprobs": None, "finish_reason": "stop"}
        ]
        assert body["usage"]["prompt_tokens"] == len(api.tokens("hi"))

    run(scenario)


def test_chunks_keep_the_object_name_and_end_with_a_reason_and_usage(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.complete(stream=True, stream_options={"include_usage": True})
        assert reply.frames[-1] == "[DONE]"
        *texts, finish, last = reply.chunks
        assert {chunk["object"] for chunk in reply.chunks} == {"text_completion"}
        assert {chunk["id"] for chunk in reply.chunks} == {last["id"]}
        assert "".join(chunk["choices"][0]["text"] for chunk in texts) == "hello there"
        for chunk in texts:
            assert chunk["usage"] is None
            assert chunk["choices"][0]["finish_reason"] is None
            assert set(chunk["choices"][0]) == {"text", "index", "logprobs", "finish_reason"}
        assert finish["choices"] == [
            {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
        ]
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == len(api.tokens("hello there")) + 1
        plain = await api.complete(stream=True)
        assert all("usage" not in chunk for chunk in plain.chunks)

    run(scenario)


def test_without_a_maximum_an_answer_has_sixteen_tokens(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello " * 40]
        reply = await api.complete()
        assert reply.json["usage"]["completion_tokens"] == 16
        assert reply.json["choices"][0]["finish_reason"] == "length"

    run(scenario)


def test_the_default_maximum_is_cut_where_the_context_ends(run: Run) -> None:
    async def scenario(api: Api) -> None:
        prompt = [10] * (api.peer.hello.max_model_tokens - 3)
        assert (await api.complete(prompt=prompt)).status == 200
        assert api.peer.submits[0][0].max_tokens == 3

    run(scenario)


@pytest.mark.parametrize(
    ("prompt", "num_prompts"),
    [("hi there", 1), ([10, 11, 12], 1), (["hi", "hello"], 2), ([[10, 11], [12]], 2)],
)
def test_each_form_of_prompt_reaches_the_engine_as_its_ids(
    prompt: Any, num_prompts: int, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.complete(prompt=prompt, n=2)
        choices = reply.json["choices"]
        assert [choice["index"] for choice in choices] == list(range(2 * num_prompts))
        sent = [ids for _, ids in api.peer.submits]
        many = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
        assert sent == [api.tokens(p) if isinstance(p, str) else p for p in many]
        assert reply.json["usage"]["prompt_tokens"] == sum(map(len, sent))

    run(scenario)


def test_choices_are_numbered_prompt_by_prompt(run: Run) -> None:
    async def scenario(api: Api) -> None:
        first, second = api.tokens("hello")[0], api.tokens("there")[0]

        def say(submit: Any, prompt: list[int], choice: int) -> list[Said]:
            return [Said(prompt[0])] * (choice + 1) + [Said(EOS_ID, "stop")]

        api.peer.script = say
        literal = api.model.tokenizer.decode
        expected = [
            literal([first]),
            literal([first] * 2),
            literal([second]),
            literal([second] * 2),
        ]
        whole = await api.complete(prompt=[[first], [second]], n=2)
        assert [choice["text"] for choice in whole.json["choices"]] == expected
        texts = ["", "", "", ""]
        for chunk in (await api.complete(prompt=[[first], [second]], n=2, stream=True)).chunks:
            (choice,) = chunk["choices"]
            texts[choice["index"]] += choice["text"]
        assert texts == expected

    run(scenario)


@pytest.mark.parametrize("prompt", ["hi 🙂", [10, 11, 12]])
def test_echo_puts_the_prompt_before_each_choice(prompt: Any, run: Run) -> None:
    async def scenario(api: Api) -> None:
        text = prompt if isinstance(prompt, str) else api.model.tokenizer.decode(prompt)
        whole = await api.complete(prompt=prompt, echo=True, n=2)
        assert [choice["text"] for choice in whole.json["choices"]] == [text + "hello there"] * 2
        streamed = ["", ""]
        for chunk in (await api.complete(prompt=prompt, echo=True, n=2, stream=True)).chunks:
            (choice,) = chunk["choices"]
            streamed[choice["index"]] += choice["text"]
        assert streamed == [text + "hello there"] * 2

    run(scenario)


@pytest.mark.parametrize("max_tokens", [0, 2, 16])
def test_echo_with_logprobs_scores_the_prompt_and_then_the_answer(
    run: Run, max_tokens: int
) -> None:
    async def scenario(api: Api) -> None:
        prompts = [api.tokens("hi there"), api.tokens("hello")]
        fields = {"prompt": prompts, "n": 2, "echo": True, "logprobs": 2, "max_tokens": max_tokens}
        whole = (await api.complete(**fields)).json
        alone = await api.complete(**{**fields, "echo": False, "max_tokens": max_tokens or 1})
        literal = api.model.tokenizer.token_bytes
        for index, choice in enumerate(whole["choices"]):
            prompt = prompts[index // 2]
            text = api.model.tokenizer.decode(prompt)
            logprobs = choice["logprobs"]
            assert choice["text"].startswith(text)
            assert len({len(values) for values in logprobs.values()}) == 1
            size = len(prompt)
            assert logprobs["tokens"][:size] == [literal(token).decode() for token in prompt]
            assert logprobs["token_logprobs"][:size] == [None] + [-0.125 * t for t in prompt[1:]]
            assert logprobs["top_logprobs"][0] is None
            assert all(len(top) == 3 for top in logprobs["top_logprobs"][1:size])
            for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
                assert choice["text"][offset:].startswith(token)
            if max_tokens:
                answer = alone.json["choices"][index]
                assert choice["text"] == text + answer["text"]
                assert logprobs["token_logprobs"][size:] == answer["logprobs"]["token_logprobs"]
            else:
                assert (choice["text"], choice["finish_reason"]) == (text, "length")
        assert bool(whole["usage"]["completion_tokens"]) == bool(max_tokens)
        streamed: list[dict[str, Any]] = [
            {"text": "", "logprobs": None, "finish_reason": None} for _ in range(4)
        ]
        for chunk in (await api.complete(**fields, stream=True)).chunks:
            (part,) = chunk["choices"]
            choice = streamed[part["index"]]
            choice["text"] += part["text"]
            choice["finish_reason"] = part["finish_reason"]
            if part["logprobs"] is not None:
                before = choice["logprobs"] or {name: [] for name in part["logprobs"]}
                choice["logprobs"] = {n: before[n] + part["logprobs"][n] for n in before}
        assert streamed == [
            {name: choice[name] for name in ("text", "logprobs", "finish_reason")}
            for choice in whole["choices"]
        ]

    run(scenario)


@pytest.mark.parametrize("echo", [False, True])
def test_no_tokens_of_output_give_the_prompt_or_nothing(run: Run, echo: bool) -> None:
    async def scenario(api: Api) -> None:
        whole = (await api.complete(prompt="hi", echo=echo, max_tokens=0)).json
        assert whole["choices"] == [
            {
                "text": "hi" if echo else "",
                "index": 0,
                "logprobs": None,
                "finish_reason": "length",
            }
        ]
        assert whole["usage"]["completion_tokens"] == 0

    run(scenario)


def test_logprobs_have_the_old_parallel_form(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = ["hello 漢"]
        logprobs = (await api.complete(logprobs=1)).json["choices"][0]["logprobs"]
        tokens = api.tokens("hello 漢")
        literal = api.model.tokenizer.token_bytes
        assert list(logprobs) == ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
        assert logprobs["token_logprobs"] == [-0.5 - index for index in range(len(tokens))]
        assert logprobs["tokens"][0] == literal(tokens[0]).decode()
        assert logprobs["tokens"][-1].startswith("bytes:\\x")
        assert logprobs["top_logprobs"][0] == {
            literal(4).decode(): -1.0,
            logprobs["tokens"][0]: -0.5,
        }
        # Every token begins where the text before it ends; the parts of one character, together.
        for token, offset in zip(tokens, logprobs["text_offset"], strict=True):
            assert "hello 漢".encode().find(literal(token)) >= len("hello 漢"[:offset].encode())
        joined: dict[str, list[Any]] = {name: [] for name in logprobs}
        for chunk in (await api.complete(logprobs=1, stream=True)).chunks:
            part = chunk["choices"][0]["logprobs"]
            for name in part or {}:
                joined[name] += part[name]
        assert joined == logprobs

    run(scenario)


def spoken(api: Api, texts: list[tuple[str, float]]) -> None:
    """Choice i says a text, each of its tokens with this log probability."""

    def say(submit: Any, prompt: list[int], choice: int) -> list[Said]:
        text, logprob = texts[choice]
        has_logprobs = submit.sampling.num_logprobs is not None
        said = [Said(t, None, logprob if has_logprobs else None) for t in api.tokens(text)]
        return [*said, Said(EOS_ID, "stop", -9.0 if has_logprobs else None)]

    api.peer.script = say


def test_the_best_are_those_with_the_likeliest_tokens(run: Run) -> None:
    async def scenario(api: Api) -> None:
        texts = [("hello", -2.0), ("hello there hello there", -1.0), ("", 0.0), ("there", -3.0)]
        spoken(api, texts)
        for fields in ({"best_of": 4}, {"best_of": 4, "n": 3}, {"best_of": 4, "n": 4}):
            reply = await api.complete(**fields, prompt=["hi", "hello"])
            num_choices = fields.get("n", 1)
            best = ["hello there hello there", "hello", "there", ""][:num_choices]
            if num_choices == 4:  # nothing to choose from: in the order in which they came
                best = [text for text, _ in texts]
            choices = reply.json["choices"]
            assert [choice["text"] for choice in choices] == best * 2
            assert [choice["index"] for choice in choices] == list(range(2 * num_choices))
            assert all(choice["logprobs"] is None for choice in choices)
            # All that was generated counts.
            per_prompt = sum(len(api.tokens(text)) + 1 for text, _ in texts)
            assert reply.json["usage"]["completion_tokens"] == 2 * per_prompt
            assert api.ledger.records[-1].completion_tokens == 2 * per_prompt

    run(scenario)


def test_the_best_choice_comes_with_its_own_logprobs_and_echo(run: Run) -> None:
    async def scenario(api: Api) -> None:
        spoken(api, [("hello", -2.0), ("there", -1.0)])
        (choice,) = (await api.complete(best_of=2, logprobs=0)).json["choices"]
        assert set(choice["logprobs"]["token_logprobs"]) == {-1.0}
        (choice,) = (await api.complete(best_of=2, echo=True)).json["choices"]
        assert choice["text"] == "hithere"

    run(scenario)


def test_an_empty_prompt_is_a_400(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for prompt in ("", [], [[]], [""]):
            reply = await api.complete(prompt=prompt)
            assert (reply.status, reply.error["param"].partition("[")[0]) == (400, "prompt")

    run(scenario)


def test_a_second_prompt_that_is_refused_stops_the_first(run: Run) -> None:
    async def scenario(api: Api) -> None:
        limit = api.peer.hello.max_model_tokens
        reply = await api.complete(prompt=[[10], [10] * limit])
        assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
        reply = await api.complete(prompt=[[10], [400]])
        assert (reply.status, reply.error["param"]) == (400, "prompt")
        assert not api.peer.submits

    run(scenario)


def test_the_token_after_a_prompt_keeps_its_leading_space(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.saying = [" there"]
        assert (await api.complete()).json["choices"][0]["text"] == " there"

    run(scenario)
