"""POST /v1/chat/completions: translates between OpenAI's chat shapes and a generation.

Does not know: limits, the engine, or what a valid field is (see `requests`).
"""

from __future__ import annotations

from typing import Any

import orjson

from anzoth.api import answers, streams
from anzoth.api.call import Answer, Call
from anzoth.api.requests import ChatRequest, parse_chat
from anzoth.errors import InvalidValue
from anzoth.gateway.choices import ChoiceText
from anzoth.gateway.generation import GenerationRequest
from anzoth.gateway.models import ServedModel
from anzoth.http.messages import Response
from anzoth.text.chat_template import ChatTemplateError
from anzoth.text.prompt import chat_prompt


async def create(call: Call) -> Answer:
    request = parse_chat(call.body)
    options = request.options
    call.describe(options)
    model = call.model(options.model)
    model.engine.require_ready()  # before work that would be for nothing
    prompt = await call.off_loop(lambda: _prompt(model, request))
    generation = await call.begin(
        model,
        GenerationRequest(
            prompts=(prompt,),
            num_choices=options.num_choices,
            max_tokens=options.max_tokens,
            sampling=options.sampling,
            stop=options.stop,
        ),
    )
    identity = answers.identify("chatcmpl", generation, options.service_tier)
    has_logprobs = options.sampling.num_logprobs is not None
    if options.stream:
        return streams.stream(
            generation,
            lambda write: streams.ChatChunks(
                write,
                identity,
                options.num_choices,
                model.tokenizer,
                include_usage=options.include_usage,
                has_logprobs=has_logprobs,
            ),
            call.headers,
            include_usage=options.include_usage,
        )
    choices = await generation.collect()
    body: dict[str, Any] = {
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": identity.model,
        "choices": [
            _choice(index, choice, model, has_logprobs=has_logprobs)
            for index, choice in enumerate(choices)
        ],
        "usage": answers.usage(generation),
    }
    if identity.service_tier is not None:
        body["service_tier"] = identity.service_tier
    body["system_fingerprint"] = identity.fingerprint
    return Response(200, orjson.dumps(body), headers=call.headers)


def _prompt(model: ServedModel, request: ChatRequest) -> list[int]:
    if model.template is None:
        raise InvalidValue(
            f"The model '{model.name}' has no chat template: use /v1/completions.", param="model"
        )
    try:
        return chat_prompt(
            model.tokenizer, model.template, request.messages, request.template_variables
        )
    except ChatTemplateError as error:
        raise InvalidValue(str(error), param="messages") from error


def _choice(
    index: int, choice: ChoiceText, model: ServedModel, *, has_logprobs: bool
) -> dict[str, Any]:
    logprobs = answers.chat_logprobs(choice.logprobs, model.tokenizer) if has_logprobs else None
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "logprobs": logprobs,
        "finish_reason": choice.ending,
    }
