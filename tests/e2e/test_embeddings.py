"""Embeddings through the real OpenAI client, from the default model, in a whole installation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from installation import Installation

pytestmark = pytest.mark.slow

TEXTS = ["A cat sits on the mat.", "Quarterly revenue rose by nine percent.", "Two kittens play."]


@pytest.fixture(scope="module")
def sdk(whole_server: Installation) -> Iterator[openai.OpenAI]:
    key = whole_server.create_key("embeddings")
    with openai.OpenAI(base_url=f"{whole_server.url}/v1", api_key=key, max_retries=0) as made:
        yield made


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_both_models_are_listed(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["anzoth-default", "anzoth-embed"]


def test_near_texts_have_near_vectors_in_both_encodings(sdk: openai.OpenAI) -> None:
    # The SDK asks for base64 by itself when no format is given.
    packed = sdk.embeddings.create(model="anzoth-embed", input=TEXTS)
    plain = sdk.embeddings.create(model="anzoth-embed", input=TEXTS, encoding_format="float")
    cats, revenue, kittens = (entry.embedding for entry in packed.data)
    assert [entry.embedding for entry in plain.data] == [cats, revenue, kittens]
    assert len(cats) == 384
    assert cosine(cats, cats) == pytest.approx(1, abs=1e-5)
    assert cosine(cats, kittens) > 0.3 > cosine(cats, revenue)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


def test_a_texts_vector_is_the_same_alone_and_among_many(sdk: openai.OpenAI) -> None:
    many = [f"{TEXTS[n % 3]} " * (n % 7 + 1) for n in range(200)] + [TEXTS[0]]
    among = sdk.embeddings.create(model="anzoth-embed", input=many).data[-1].embedding
    alone = sdk.embeddings.create(model="anzoth-embed", input=TEXTS[0]).data[0].embedding
    assert 1 - cosine(among, alone) < 1e-6


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ["short", "word " * 300]}, "input[1]", "context_length_exceeded"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": "hi", "dimensions": 128}, "dimensions", "unsupported_parameter"),
        ({"input": "hi", "model": "anzoth-default"}, "model", "invalid_value"),
        ({"input": [15339, 1917]}, "input", "invalid_value"),
    ],
)
def test_refusals_reach_the_sdk_as_its_own_errors(
    fields: dict[str, Any], param: str, code: str, sdk: openai.OpenAI
) -> None:
    request: Any = {"model": "anzoth-embed"} | fields
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(**request)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_a_chat_is_answered_beside_it_but_not_by_it(sdk: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is Anzoth?"}]
    answer = sdk.chat.completions.create(model="anzoth-default", messages=messages, max_tokens=8)
    assert answer.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
        sdk.chat.completions.create(model="anzoth-embed", messages=messages)


def test_doctor_lists_it(whole_server: Installation) -> None:
    models, _ = whole_server.cli("doctor")["models"]
    assert "anzoth-embed" in models
