"""POST /v1/completions: translates between OpenAI's older shapes and a generation.

The prompt is plain text or token ids, one or several; choices are numbered prompt by prompt.
Without `max_tokens` an answer has at most 16 tokens, as OpenAI's has. With `best_of` there are more
continuations than choices, and the likeliest are given out: those with the highest mean
log probability of their tokens. All of them count as output. `echo` with `logprobs` and no tokens
of output is how texts are scored.

Does not know: limits, the engine, chat templates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from anzoth.api import answers, forward, streams, through_alias
from anzoth.api.call import Answer, Call, must_generate
from anzoth.api.echo import Echo, PromptScores, joined
from anzoth.api.requests import DEFAULT_COMPLETION_MAX_TOKENS, CompletionRequest, parse_completion
from anzoth.api.response_format import form_constraint
from anzoth.api.timeout import deadline_s
from anzoth.gateway.choices import ChoiceText
from anzoth.gateway.generation_request import GenerationRequest
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response
from anzoth.text.tokenizer import Tokenizer


async def create(call: Call) -> Answer:
    alias = await through_alias.alias_of(call)
    body = call.body if alias is None else through_alias.body_without_chat(alias, call.body)
    request = parse_completion(body)
    options = request.options
    call.describe(options)
    if alias is None:
        return await _generate(call, request, call.model(options.model))
    num_choices = len(request.prompts) * options.num_choices
    return await through_alias.answer(
        call,
        alias,
        str(request.prompts[0]),
        lambda model: _generate(call, request, model),
        lambda backend, target: forward.generate(
            call, forward.COMPLETIONS, body, options, num_choices, backend, target
        ),
    )


async def _generate(call: Call, request: CompletionRequest, model: ServedModel) -> Answer:
    """By an engine of our own."""
    options = request.options
    must_generate(model).engine.require_ready()
    made = None if request.form is None else form_constraint(request.form)
    has_logprobs = options.sampling.num_logprobs is not None
    must_choose = request.num_candidates > options.num_choices
    sampling = model.sampling.fill(options.sampling, options.unsaid)
    if must_choose and not has_logprobs:
        sampling = replace(sampling, num_logprobs=0)
    has_scores = request.echo and has_logprobs
    if has_scores:
        sampling = replace(sampling, num_prompt_logprobs=sampling.num_logprobs)
    elif options.max_tokens == 0:
        sampling = replace(sampling, num_prompt_logprobs=0)
    prompts = await call.off_loop(lambda: _prompts(model.tokenizer, request))
    generation = await call.begin(
        model,
        GenerationRequest(
            prompts=prompts,
            num_choices=request.num_candidates,
            max_tokens=options.max_tokens,
            default_max_tokens=DEFAULT_COMPLETION_MAX_TOKENS,
            sampling=replace(sampling, grammar=made and made.grammar),
            stop=options.stop,
            starts_text=False,
            prompt_param="prompt",
            grammar_param=made and made.param,
            deadline_s=deadline_s(call.request),
        ),
    )
    identity = answers.identify("cmpl", generation)
    echoes = _echoes(model.tokenizer, request, prompts)
    if options.stream:
        return streams.stream(
            generation,
            lambda write: streams.CompletionChunks(
                write,
                identity,
                model.tokenizer,
                [echo for echo in echoes for _ in range(options.num_choices)],
                generation.prompt_scores if has_scores else None,
                include_usage=options.include_usage,
                has_logprobs=has_logprobs,
            ),
            call.headers,
            include_usage=options.include_usage,
        )
    choices = await generation.collect()
    scores = generation.prompt_scores[:: request.num_candidates]
    if must_choose:
        choices = _best(choices, request.num_candidates, options.num_choices)
    body = {
        "id": identity.id,
        "object": "text_completion",
        "created": identity.created,
        "model": identity.model,
        "choices": [
            _choice(
                index,
                choice,
                echoes[prompt],
                scores[prompt] if has_scores else None,
                model.tokenizer,
                has_logprobs=has_logprobs,
            )
            for index, choice in enumerate(choices)
            for prompt in [index // options.num_choices]
        ],
        "usage": answers.usage(generation),
        "system_fingerprint": identity.fingerprint,
    }
    return Response(200, orjson.dumps(body), headers=call.headers)


def _prompts(tokenizer: Tokenizer, request: CompletionRequest) -> tuple[Sequence[int], ...]:
    return tuple(
        tokenizer.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else prompt
        for prompt in request.prompts
    )


def _echoes(
    tokenizer: Tokenizer, request: CompletionRequest, prompts: Sequence[Sequence[int]]
) -> list[Echo | None]:
    """For each prompt, what its choices begin with; None when `echo` does not ask for it."""
    if not request.echo:
        return [None] * len(prompts)
    return [
        Echo(given if isinstance(given, str) else tokenizer.decode(given), token_ids)
        for given, token_ids in zip(request.prompts, prompts, strict=True)
    ]


def _best(
    candidates: Sequence[ChoiceText], num_candidates: int, num_choices: int
) -> list[ChoiceText]:
    """The likeliest of each prompt's `num_candidates`, the best one first."""
    best: list[ChoiceText] = []
    for start in range(0, len(candidates), num_candidates):
        own = candidates[start : start + num_candidates]
        best += sorted(own, key=_mean_logprob, reverse=True)[:num_choices]
    return best


def _mean_logprob(choice: ChoiceText) -> float:
    """Of the tokens of its text. A choice without any is the worst: it says nothing."""
    logprobs = [entry.logprob for entry in choice.logprobs]
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf


def _choice(
    index: int,
    choice: ChoiceText,
    echo: Echo | None,
    scores: PromptScores | None,
    tokenizer: Tokenizer,
    *,
    has_logprobs: bool,
) -> dict[str, Any]:
    before = "" if echo is None else echo.text
    logprobs = None
    if has_logprobs:
        logprobs = answers.completion_logprobs(choice.logprobs, tokenizer, len(before))
        if echo is not None and scores is not None:
            logprobs = joined(echo.logprobs(scores, tokenizer), logprobs)
    return {
        "text": before + choice.text,
        "index": index,
        "logprobs": logprobs,
        "finish_reason": choice.ending,
    }
