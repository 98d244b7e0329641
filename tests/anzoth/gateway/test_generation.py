"""Streamed and collected answers are equal, whatever tokens come, however many in a step, and
however frames are cut."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, running_api
from checkpoints import EOS_ID, write_checkpoint
from engine_peer import HELLO, Said, stats
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.errors import ContextLengthExceeded, InvalidValue
from anzoth.frames import Admitted, Row, SamplingParams, Step, Submit, encode
from anzoth.gateway.generation_request import GenerationRequest, check_vocabulary, output_limit

COUNTER = itertools.count()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("generation"))


def joined(chunks: Sequence[dict[str, Any]], num_choices: int) -> list[tuple[str, Any]]:
    texts = [""] * num_choices
    reasons: list[Any] = [None] * num_choices
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        assert reasons[choice["index"]] is None, "something came after the end"
        reasons[choice["index"]] = choice["finish_reason"]
    return list(zip(texts, reasons, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    scripts=st.lists(st.lists(st.integers(4, 299), max_size=25), min_size=1, max_size=3),
    stop=st.lists(st.text("hel th\ufffd", min_size=1, max_size=3), max_size=2),
    ends=st.sampled_from(["stop", "length"]),
    tokens_per_step=st.integers(1, 4),
)
def test_streamed_equals_whole(
    scripts: list[list[int]],
    stop: list[str],
    ends: Any,
    tokens_per_step: int,
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def script(submit: Submit, prompt: list[int], choice: int) -> list[Said]:
        tokens = [Said(token) for token in scripts[choice]]
        return [*tokens, Said(EOS_ID if ends == "stop" else 10, ends)]

    async def main() -> None:
        socket = tmp_path_factory.getbasetemp() / f"e{next(COUNTER)}"
        async with running_api(checkpoint, socket, script) as api:
            fields = {"n": len(scripts), "stop": stop}
            whole = (await api.chat(**fields)).json
            api.peer.tokens_per_step = tokens_per_step
            streamed = await api.chat(**fields, stream=True)
            expected = [(c["message"]["content"], c["finish_reason"]) for c in whole["choices"]]
            assert joined(streamed.chunks, len(scripts)) == expected
            assert streamed.frames[-1] == "[DONE]"
            records = api.ledger.records
            assert records[0].completion_tokens == records[1].completion_tokens
            assert records[0].finish_reason == records[1].finish_reason == expected[0][1]

    asyncio.run(main())


def test_rows_that_come_before_the_caller_runs_again_are_not_lost(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Admitted and the first steps may arrive in one read of the socket."""

    async def scenario(api: Api) -> None:
        api.peer.admits = False
        task = asyncio.create_task(api.chat(stream=True))
        await api.peer.until(lambda: bool(api.peer.submits))
        (number,) = [submit.request for submit, _ in api.peer.submits]
        tokens = api.tokens("hello there")
        frames = encode(Admitted(number)) + b"".join(
            encode(Step(stats(i), (Row(number, 0, token, None, None, None, None),)))
            for i, token in enumerate(tokens)
        )
        frames += encode(Step(stats(9), (Row(number, 0, EOS_ID, "stop", None, None, None),)))
        for writer in api.peer._writers:
            writer.write(frames)
        reply = await task
        assert joined(reply.chunks, 1) == [("hello there", "stop")]

    async def main() -> None:
        async with running_api(checkpoint, tmp_path / "s") as api:
            await scenario(api)

    asyncio.run(main())


# --- limits -----------------------------------------------------------------------------------


def request(**fields: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {
        "prompts": ([5] * 100,),
        "num_choices": 1,
        "max_tokens": None,
        "sampling": SamplingParams(),
    }
    return GenerationRequest(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 156),
        ({"default_max_tokens": 16}, 16),
        ({"default_max_tokens": 500}, 156),
        ({"max_tokens": 156}, 156),
        ({"prompts": ([5] * 255,)}, 1),
        ({"prompts": ([5], [5] * 200)}, 56),
        ({"max_tokens": 100}, 100),
    ],
)
def test_the_output_is_limited_by_the_caller_and_the_context(
    fields: dict[str, Any], expected: int
) -> None:
    assert output_limit(request(**fields), HELLO) == expected


@pytest.mark.parametrize(
    "fields",
    [{"prompts": ([5] * 256,)}, {"max_tokens": 157}, {"prompts": ([5], [5] * 256)}],
)
def test_what_cannot_fit_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ContextLengthExceeded, match="256"):
        output_limit(request(**fields), HELLO)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompts": ([400],), "prompt_param": "prompt"}, "prompt"),
        ({"prompts": ([1], [-1]), "prompt_param": "prompt"}, "prompt"),
        ({"sampling": SamplingParams(logit_bias=((400, 1.0),))}, "logit_bias"),
        ({"sampling": SamplingParams(stop_token_ids=(400,))}, "stop_token_ids"),
    ],
)
def test_ids_beyond_the_vocabulary_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_vocabulary(request(**fields), HELLO)
    assert caught.value.param == param
