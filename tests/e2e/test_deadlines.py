"""A deadline reaches the model and comes back as an error that the SDKs understand."""

from __future__ import annotations

import time

import openai
import pytest
from openai import OpenAI

from installation import Installation

pytestmark = pytest.mark.slow

LONG = {
    "model": "anzoth-default",
    "prompt": "What is Anzoth?",
    "max_tokens": 900,
    "extra_body": {"ignore_eos": True},
}


def wait_until_idle(server: Installation) -> None:
    """Until the engine's heartbeat says that it runs nothing."""
    deadline_s = time.monotonic() + 20
    with server.client(None) as client:
        while True:
            metrics = client.get("/metrics").text
            if 'anzoth_engine_running{model="anzoth-default"} 0.0' in metrics:
                return
            assert time.monotonic() < deadline_s, metrics
            time.sleep(0.1)


@pytest.fixture
def sdk(server: Installation, key: str) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=2)


def test_an_answer_that_is_late_is_stopped_and_not_asked_for_again(
    sdk: OpenAI, server: Installation
) -> None:
    started_s = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.completions.create(**LONG, extra_headers={"x-request-timeout-ms": "150"})
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")
    # The SDK's own header counts the attempts: the last one was the first.
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert time.monotonic() - started_s < 10
    wait_until_idle(server)


def test_a_stream_that_is_late_ends_with_the_error(sdk: OpenAI, server: Installation) -> None:
    stream = sdk.completions.create(
        **LONG, stream=True, extra_headers={"x-request-timeout-ms": "400"}
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "deadline_exceeded"
    wait_until_idle(server)


def test_an_answer_in_time_is_whole(sdk: OpenAI) -> None:
    answer = sdk.completions.create(
        **{**LONG, "max_tokens": 5}, extra_headers={"x-request-timeout-ms": "60000"}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
