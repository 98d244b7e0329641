"""Each field of the two tables: what is accepted, what is refused, and how the refusal reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from request_kit import (
    MESSAGES,
    TOOL,
    allowed,
    chat,
    completion,
    file_search,
    json_schema,
    named,
    tool,
)

from anzoth.api.fields import Policy
from anzoth.api.requests import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    MAX_LOGIT_BIAS,
    MAX_METADATA_PAIRS,
    MAX_TOP_K,
    parse_chat,
)
from anzoth.errors import BadRequest, InvalidValue, MissingParameter, UnsupportedParameter

# field: (values that are accepted, values that are refused)
COMMON: dict[str, tuple[list[Any], list[Any]]] = {
    "temperature": ([0, 2, 0.7], [-0.01, 2.01, True, "hot", [1]]),
    "top_p": ([0, 1], [-0.1, 1.01, "x"]),
    "frequency_penalty": ([-2, 2], [-2.1, 2.1, {}]),
    "presence_penalty": ([-2, 2], [-2.1, 2.1, "x"]),
    "n": ([1, 128], [0, 129, 1.0, "1"]),
    "stop": (
        ["", "x", "x" * 1024, ["a"] * 4, []],
        ["x" * 1025, ["a"] * 5, [""], 3, [3], {"a": 1}],
    ),
    "seed": ([0, -(2**63), 2**63 - 1], [2**63, -(2**63) - 1, 1.5, "x"]),
    "logit_bias": (
        [{}, {"5": -100, "6": 100}, {str(i): 1 for i in range(MAX_LOGIT_BIAS)}],
        [
            {"5": 100.1},
            {"5": -101},
            {"x": 1},
            {"-1": 1},
            {"٣": 1},
            {"5": "1"},
            {"9" * 11: 1},
            {str(i): 1 for i in range(MAX_LOGIT_BIAS + 1)},
            [],
        ],
    ),
    "stream": ([True, False], [1, "true"]),
    "user": (["", "x" * 512], ["x" * 513, 5]),
    "top_k": ([-1, 0, 1, MAX_TOP_K], [-2, MAX_TOP_K + 1, 1.5]),
    "min_p": ([0, 1], [-0.1, 1.1]),
    "typical_p": ([1e-9, 1], [0, -0.1, 1.1]),
    "repetition_penalty": ([0.01, 10], [0, 10.1, -1]),
    "min_tokens": ([0, 5], [-1, 1.5]),
    "ignore_eos": ([True, False], [1, "yes"]),
    "stop_token_ids": ([[], [0] * 64], [[0] * 65, [-1], ["1"], 5]),
    "structured_outputs": (
        [
            {"json": {"type": "object"}},
            {"regex": "a+", "json": None},
            {"choice": ["yes", "no"]},
            {"grammar": "start: /a/"},
        ],
        [
            {},
            "a+",
            {"regex": ""},
            {"regex": "a", "choice": ["b"]},
            {"choice": []},
            {"choice": [5]},
            {"json": "{}"},
            {"structural_tag": {}},
        ],
    ),
    "model": (["m", "org/m", "x" * 256], ["", "x" * 257, 5]),
}
CHAT_ONLY: dict[str, tuple[list[Any], list[Any]]] = {
    "max_tokens": ([1, 2**31 - 1], [0, -1, 2**31, 1.5, True, "5"]),
    "max_completion_tokens": ([1, 2**31 - 1], [0, 2**31]),
    "logprobs": ([True, False], [1, "yes"]),
    "metadata": (
        [
            {},
            {"k" * 64: "v" * 512},
            {str(i): "" for i in range(MAX_METADATA_PAIRS)},
        ],
        [
            {"k" * 65: "v"},
            {"k": "v" * 513},
            {"k": 5},
            {str(i): "" for i in range(MAX_METADATA_PAIRS + 1)},
        ],
    ),
    "service_tier": (["auto", "default", "flex", "scale", "priority", "fast"], ["gold", 5]),
    "safety_identifier": (["x" * 64], ["x" * 65]),
    "chat_template_kwargs": (
        [{"enable_thinking": False, "level": "low", "budget": 3}],
        [{"a": []}, {str(i): 1 for i in range(33)}, "x"],
    ),
    "messages": (
        [MESSAGES * 2048],
        [MESSAGES * 2049, [], {}, "hi", [5], [{}]],
    ),
    "response_format": (
        [
            {"type": "text"},
            {"type": "json_object"},
            json_schema(),
            json_schema(name="A-z_9" * 12, strict=True, description="d", schema={}),
            json_schema(strict=None, schema=None),
        ],
        [
            {"type": "xml"},
            {},
            "text",
            {"type": "json_schema"},
            {"type": "json_schema", "json_schema": {"schema": {}}},
            json_schema(name="a b"),
            json_schema(name="x" * 65),
            json_schema(schema=[]),
            json_schema(strict="yes"),
            json_schema(description=5),
        ],
    ),
    "modalities": ([["text"], []], [["video"], "text"]),
    "tools": (
        [
            [],
            [TOOL],
            [tool(name="A-z_9" * 12)],
            [tool(description="", parameters={}, strict=False)],
            [tool(description=None, parameters=None, strict=None)],
            [tool(strict=True)],
            [tool(name=f"f{index}") for index in range(128)],
            [file_search(), TOOL],
            [file_search(max_num_results=50, filters={"type": "eq"}, trace=True)],
            [file_search(ranking_options={"ranker": "auto", "score_threshold": 1})],
            [file_search(file_search={"on_no_answer": "answer"})],
        ],
        [
            "x",
            [5],
            [{}],
            [{"type": "function"}],
            [{"type": 5, "function": {"name": "f"}}],
            [{"function": {"name": "f"}}],
            [tool(name="")],
            [tool(name="a b")],
            [tool(name="é")],
            [tool(name="f\n")],
            [tool(name="x" * 65)],
            [tool(name=5)],
            [tool(description=5)],
            [tool(parameters=[])],
            [tool(strict="no")],
            [TOOL, TOOL],
            [tool(name=f"f{index}") for index in range(129)],
            [file_search(), file_search()],
            [{"type": "file_search"}],
            [file_search(vector_store_ids=[])],
            [file_search(vector_store_ids="vs_1")],
            [file_search(vector_store_ids=["vs_1"] * 17)],
            [file_search(max_num_results=51)],
            [file_search(filters=[])],
            [file_search(ranking_options={"score_threshold": 1.1})],
            [file_search(ranking_options={"hybrid_search": {"text_weight": 1}})],
            [
                file_search(
                    ranking_options={"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}
                )
            ],
            [file_search(file_search={"on_no_answer": "invent"})],
        ],
    ),
    "tool_choice": (
        ["none", "auto"],
        [
            "any",
            5,
            ["auto"],
            {},
            {"type": "x"},
            {"type": "function"},
            {"type": "function", "function": {}},
            {"type": "function", "function": {"name": "a b"}},
            allowed("auto"),
            allowed("none", "f"),
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}},
        ],
    ),
    "include": ([[], ["file_search_call.results", "x"]], ["x", [5], ["x"] * 17]),
    "documents": (
        [[], [{"text": "x"}] * 64, [{"text": "x", "title": "t" * 1024, "id": 5}]],
        [
            "x",
            ["x"],
            [{}],
            [{"text": ""}],
            [{"text": 5}],
            [{"content": "x"}],
            [{"text": "x", "title": "t" * 1025}],
            [{"text": "x", "title": 5}],
            [{"text": "x"}] * 65,
        ],
    ),
    "parallel_tool_calls": ([True, False], ["no"]),
    "reasoning_effort": (["none", "an effort of next year"], [5, "x" * 65]),
    "verbosity": (["low", "medium", "high"], ["loud"]),
    "prompt_cache_key": (["x" * 512], ["x" * 513]),
    "prompt_cache_retention": (["24h"], [5]),
    "prompt_cache_options": ([{"any": 1}], ["x"]),
}
COMPLETION_ONLY: dict[str, tuple[list[Any], list[Any]]] = {
    "max_tokens": ([0, 1, 2**31 - 1], [-1, 2**31, 1.5, True, "5"]),
    "prompt": (
        ["hi", "", ["a"] * 128, [1, 2], [[1], [2, 3]]],
        [["a"] * 129, [], [1, "a"], ["a", 1], [[]], [[-1]], [2**31], [True], 5, [[1.5]]],
    ),
    "logprobs": ([0, 5], [-1, 6, True]),
    "echo": ([True, False], ["yes"]),
    "best_of": ([0, 1, 20], [-1, 21, "1"]),
}
# field: (harmless values, values this server cannot honour)
REFUSED: dict[str, tuple[list[Any], list[Any]]] = {
    "functions": ([[]], [[{"name": "f"}]]),
    "function_call": (["none", "auto"], [{"name": "f"}]),
    "modalities": ([["text"]], [["text", "audio"]]),
    "store": ([False], [True, 0]),
    "audio": ([], [{"voice": "x"}]),
    "prediction": ([], [{"type": "content"}]),
    "web_search_options": ([], [{}]),
    "moderation": ([], [{}]),
}


def cases(table: dict[str, tuple[list[Any], list[Any]]], which: int) -> list[Any]:
    return [
        pytest.param(field, value, id=f"{field}-{index}")
        for field, values in table.items()
        for index, value in enumerate(values[which])
    ]


@pytest.mark.parametrize(("field", "value"), cases({**COMMON, **CHAT_ONLY, **REFUSED}, 0))
def test_chat_accepts_up_to_each_limit(field: str, value: Any) -> None:
    chat(**{field: value})


@pytest.mark.parametrize(("field", "value"), cases({**COMMON, **CHAT_ONLY}, 1))
def test_chat_refuses_beyond_each_limit_and_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(**{field: value})
    assert (caught.value.param or "").startswith(field)
    assert caught.value.code in ("invalid_value", "missing_required_parameter")


@pytest.mark.parametrize(("field", "value"), cases(REFUSED, 1))
def test_what_this_server_cannot_do_is_refused_and_not_dropped(field: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        chat(**{field: value})
    assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": named("f"), "tools": []}, "tool_choice"),
        ({"tool_choice": named("g"), "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": allowed("auto", "f", "g"), "tools": [TOOL]}, "tool_choice"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(("field", "value"), cases({**COMMON, **COMPLETION_ONLY}, 0))
def test_completions_accept_up_to_each_limit(field: str, value: Any) -> None:
    completion(**{field: value})


@pytest.mark.parametrize(("field", "value"), cases({**COMMON, **COMPLETION_ONLY}, 1))
def test_completions_refuse_beyond_each_limit_and_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        completion(**{field: value})
    assert (caught.value.param or "").startswith(field)


@pytest.mark.parametrize(
    "fields",
    [{"best_of": 2, "stream": True}, {"suffix": "x"}],
)
def test_what_completions_cannot_do_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter):
        completion(**fields)


def test_every_field_of_the_tables_is_tested_here() -> None:
    tested = {*COMMON, *CHAT_ONLY, *REFUSED, *COMPLETION_ONLY}
    joined = {"top_logprobs", "stream_options", "suffix"}
    fields = (*CHAT_FIELDS, *COMPLETION_FIELDS)
    assert {field.name for field in fields} == tested | joined
    refused = {field.name for field in fields if field.policy is Policy.REFUSED}
    assert refused == {*REFUSED, "suffix"}


def test_the_best_are_of_at_least_as_many_as_are_asked_for() -> None:
    for fields, expected in (
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 3, "best_of": 0}, 3),
        ({"n": 3, "best_of": 1}, 3),
        ({"n": 3, "best_of": 3, "stream": True}, 3),
        ({"n": 3, "best_of": 5}, 5),
    ):
        assert completion(**fields).num_candidates == expected
    for fields in ({"n": 3, "best_of": 2}, {"prompt": ["x"] * 7, "best_of": 20}):
        with pytest.raises(InvalidValue) as caught:
            completion(**fields)
        assert caught.value.param == "best_of"


@pytest.mark.parametrize("name", [f.name for f in CHAT_FIELDS if not f.required])
def test_null_means_not_given_in_chat(name: str) -> None:
    assert _comparable(chat(**{name: None})) == _comparable(chat())


@pytest.mark.parametrize("name", [f.name for f in COMPLETION_FIELDS if not f.required])
def test_null_means_not_given_in_completions(name: str) -> None:
    assert _comparable(completion(**{name: None})) == _comparable(completion())


def _comparable(request: Any) -> dict[str, Any]:
    values = asdict(request)
    values["options"]["sampling"].pop("seed")  # drawn anew for each request
    return values


def test_unknown_fields_are_ignored() -> None:
    chat(extra_body={"x": 1}, repetition_context=5)
    completion(use_beam_search=True)


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(name: str) -> None:
    body = {"model": "m", "messages": MESSAGES}
    del body[name]
    with pytest.raises(MissingParameter) as caught:
        parse_chat(body)
    assert caught.value.param == name
    assert caught.value.message == f"Missing required parameter: '{name}'."


def test_a_required_null_is_a_wrong_type() -> None:
    with pytest.raises(InvalidValue, match="'messages': expected an array, but got null"):
        chat(messages=None)


def test_a_wrong_type_is_said_in_openais_way() -> None:
    with pytest.raises(InvalidValue) as caught:
        chat(temperature="hot")
    assert caught.value.message == (
        "Invalid type for 'temperature': expected a number, but got a string instead."
    )


def test_errors_do_not_repeat_the_callers_text() -> None:
    secret = "what the customer wrote"
    for field in ("temperature", "service_tier", "verbosity", "seed", "stream", "tool_choice"):
        with pytest.raises(BadRequest) as caught:
            chat(**{field: secret})
        assert secret not in str(caught.value)


def test_requests_do_not_show_the_callers_words_when_printed() -> None:
    words: dict[str, Any] = {"stop": "secret", "user": "secret", "metadata": {"k": "secret"}}
    words |= {"documents": [{"text": "secret"}], "tools": [tool(description="secret")]}
    shown = repr(chat(messages=[{"role": "user", "content": "secret"}], **words))
    shown += repr(completion(prompt="secret"))
    assert "secret" not in shown


def test_the_two_names_of_the_maximum_mean_the_same() -> None:
    assert chat(max_tokens=5).options.max_tokens == 5
    assert chat(max_completion_tokens=5).options.max_tokens == 5
    assert chat(max_completion_tokens=5, max_tokens=5).options.max_tokens == 5
    with pytest.raises(InvalidValue, match="differ"):
        chat(max_completion_tokens=5, max_tokens=6)


def test_top_logprobs_needs_logprobs() -> None:
    assert chat(logprobs=True, top_logprobs=20).options.sampling.num_logprobs == 20
    assert chat(logprobs=True).options.sampling.num_logprobs == 0
    assert chat().options.sampling.num_logprobs is None
    for fields in ({"top_logprobs": 0}, {"top_logprobs": 5, "logprobs": False}):
        with pytest.raises(InvalidValue) as caught:
            chat(**fields)
        assert caught.value.param == "top_logprobs"
    with pytest.raises(InvalidValue):
        chat(logprobs=True, top_logprobs=21)


def test_stream_options_need_a_stream() -> None:
    assert chat(stream=True, stream_options={"include_usage": True}).options.include_usage
    assert not chat(stream=True, stream_options={"include_usage": None}).options.include_usage
    assert not chat(stream=True, stream_options={"unknown": 1}).options.include_usage
    for options in ({}, {"include_usage": True}):
        with pytest.raises(InvalidValue) as caught:
            chat(stream_options=options)
        assert caught.value.param == "stream_options"
    for wrong in ("x", {"include_usage": 1}, {"include_obfuscation": "x"}):
        with pytest.raises(InvalidValue) as caught:
            chat(stream=True, stream_options=wrong)
        assert (caught.value.param or "").startswith("stream_options")


def test_the_minimum_cannot_exceed_the_maximum() -> None:
    with pytest.raises(InvalidValue) as caught:
        chat(min_tokens=6, max_tokens=5)
    assert caught.value.param == "min_tokens"


def test_choices_of_all_prompts_together_are_bounded() -> None:
    completion(prompt=["a"] * 64, n=2)
    with pytest.raises(InvalidValue) as caught:
        completion(prompt=["a"] * 65, n=2)
    assert caught.value.param == "n"


def test_the_end_user_is_the_safety_identifier_or_the_user() -> None:
    assert chat(user="u").options.end_user == "u"
    assert chat(user="u", safety_identifier="s").options.end_user == "s"
    assert chat().options.end_user is None


def test_no_top_k_limit_has_three_spellings() -> None:
    assert {chat(top_k=value).options.sampling.top_k for value in (None, 0, -1)} == {None}
    assert chat(top_k=5).options.sampling.top_k == 5


def test_a_top_p_of_zero_is_within_the_engines_range() -> None:
    assert 0 < chat(top_p=0).options.sampling.top_p < 1e-3
