"""Drives a running server with whatever `openai` package is importable; prints one JSON object.

Run as a script, with BASE_URL and API_KEY in the environment, once per major version of the SDK:
the tests compare what each of them understood.
"""

import json
import os
from typing import Any

import openai

# `Any`: each major version of the SDK has its own types for these plain dicts.
MESSAGES: Any = [{"role": "user", "content": "What is Anzoth?"}]
COMMON: Any = {"model": "anzoth-default", "temperature": 0, "max_tokens": 24}


def main() -> None:
    server: Any = {
        "base_url": os.environ["BASE_URL"],
        "api_key": os.environ["API_KEY"],
        "max_retries": 0,
    }
    client = openai.OpenAI(**server, _strict_response_validation=True)
    # In the types of its chunks every token of a completion is the last one.
    lax = openai.OpenAI(**server)
    whole: Any = client.chat.completions.create(messages=MESSAGES, **COMMON)
    chunks: Any = list(
        client.chat.completions.create(
            messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **COMMON
        )
    )
    completion = client.completions.create(prompt="Anzoth is", **COMMON)
    completion_chunks = list(lax.completions.create(prompt="Anzoth is", stream=True, **COMMON))
    two = client.chat.completions.create(
        messages=MESSAGES, n=2, seed=7, logprobs=True, top_logprobs=2, **{**COMMON, "max_tokens": 4}
    )
    print(
        json.dumps(
            {
                "version": openai.__version__,
                "models": [model.id for model in client.models.list()],
                "model": client.models.retrieve("anzoth-default").id,
                "chat": whole.choices[0].message.content,
                "chat_role": whole.choices[0].message.role,
                "chat_finish": whole.choices[0].finish_reason,
                "chat_usage": whole.usage.model_dump(),
                "chat_stream": "".join(
                    chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
                ),
                "chat_stream_usage": chunks[-1].usage.model_dump(),
                "completion": completion.choices[0].text,
                "completion_stream": "".join(
                    chunk.choices[0].text for chunk in completion_chunks if chunk.choices
                ),
                "two": [choice.index for choice in two.choices],
                "logprobs": [
                    [len(token.top_logprobs) for token in choice.logprobs.content]
                    for choice in two.choices
                ],
                "errors": errors(client),
            }
        )
    )


def errors(client: openai.OpenAI) -> dict[str, list[object]]:
    """The exception class, status and code that the SDK makes of each refusal."""
    stranger = client.with_options(api_key="anz-000000000000_" + "0" * 42)
    calls = {
        "bad_key": lambda: stranger.models.list(),
        "unknown_model": lambda: client.chat.completions.create(
            model="no-such-model", messages=MESSAGES
        ),
        "bad_value": lambda: client.chat.completions.create(
            messages=MESSAGES, **{**COMMON, "temperature": 9}
        ),
        "too_long": lambda: client.completions.create(
            model="anzoth-default", prompt=[5] * 100_000, max_tokens=1
        ),
    }
    seen = {}
    for name, call in calls.items():
        try:
            call()
            seen[name] = None
        except openai.APIStatusError as error:
            seen[name] = [
                type(error).__name__,
                error.status_code,
                error.code,
                bool(error.response.headers.get("x-request-id")),
            ]
    return seen


main()
