"""What does the bundled model know about error statuses?

Content only. The wording of the questions is shared, because people ask for every status alike.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from anzoth.demo.topic import Topic

# status -> (other words for it, what it means and what to do, a phrase of that text)
_STATUSES = {
    "400": (
        "[bad request|invalid value|a malformed request]",
        "400 means that the request itself is wrong: malformed JSON, a bad value, or a prompt longer than the context. The message names the field.",
        "the request itself is wrong",
    ),
    "401": (
        "[unauthorized|invalid_api_key|invalid api key|an authentication error|not authenticated]",
        "401 means that the key is missing or invalid. Check the header: `Authorization: Bearer anz-...`. A revoked key gives 401 too.",
        "the key is missing or invalid",
    ),
    "403": (
        "[forbidden|permission denied|insufficient_scope|model_not_allowed|a permission error]",
        "403 means that the key is valid but has no access to this model or endpoint. Create a key with the right `--model` or `--scope`.",
        "has no access to this model or endpoint",
    ),
    "404": (
        "[not found|model_not_found|model not found|the model does not exist|unknown model]",
        "404 means that the model or path does not exist, or is not yours to see. `GET /v1/models` lists the models of your key.",
        "does not exist",
    ),
    "429": (
        "[too many requests|rate_limit_exceeded|rate limited|a rate limit error|rate limit exceeded]",
        "429 means that this key reached its own request or token limit. Wait as long as `retry-after` says, or give the key higher limits.",
        "reached its own request or token limit",
    ),
    "500": (
        "[internal error|internal server error|internal_error|a server error]",
        "500 means an unexpected error inside Anzoth. It was logged; please report it with the `x-request-id` of the answer.",
        "an unexpected error inside",
    ),
    "502": (
        "[bad gateway|model_unavailable|model unavailable|backend down|the model is not responding]",
        "502 means that the model backend did not respond or is still warming up. Try again in a few seconds; `/readyz` says when it is back.",
        "still warming up",
    ),
    "503": (
        "[service unavailable|capacity_unavailable|overloaded|out of capacity|no capacity|server busy]",
        "503 means that all inference capacity is in use, or that the server is shutting down. Retry after the time in `Retry-After`.",
        "all inference capacity is in use",
    ),
}

_ASKS = (
    "[what does|what's|what is|whats] [a|an|the|] [error|status|http|code|status code|error code|http status|] {code} [mean|]",
    "what does [a|an|the|] [error|status|http|] {code} [error|status|] mean",
    "why [do I get|am I getting|did I get|does it return|does it say|is there] [a|an|] [error|] {code} [error|]",
    "I [get|got|keep getting|am getting|see|receive] [a|an|] [error|http|status|] {code} [error|]",
    "[my request|the server|it|{anzoth}|the api] [returns|returned|answers|fails with|responds with|gives me|says] {code}",
    "[meaning of|explain|help with|what about|how do I fix|how to fix|how do I solve|fix] [a|an|the|] [error|] {code} [error|]",
    "[what should I do|what to do|what do I do] [about|when I get|with|on] [a|an|] {code}",
    "[error|status|http|] {code}",
    '[what is|what does|why do I get|I get|explain|help with|how do I fix] ["|]{words}["|] [mean|]',
)
_FOLLOW = "[and|what about|how about|and what is|and what does|what is|and a|ok and] [error|] {code} [mean|]"


def _topic(status: str) -> Topic:
    words, answer, key = _STATUSES[status]
    asks = tuple(ask.replace("{code}", status).replace("{words}", words) for ask in _ASKS)
    follows = [
        (_FOLLOW.replace("{code}", other), f"error-{other}")
        for other in _STATUSES
        if other != status
    ]
    return Topic(
        f"error-{status}",
        f"[error {status}|status {status}|http {status}|a {status}|{status} errors]",
        asks,
        (answer,),
        key,
        (*follows, *_NEXT.get(status, ())),
    )


_NEXT: dict[str, tuple[tuple[str, str], ...]] = {
    "401": (
        ("[how do I get a key|how do I create one|where do I get a valid key]", "key-create"),
        ("[how do I send the key|where does the key go|which header]", "key-use"),
    ),
    "403": (("[how do I give it access|how do I allow it|how can I change that]", "key-grants"),),
    "404": (("[which models are there|what models exist|what is the right name]", "model-ids"),),
    "429": (("[how do I raise the limit|how do I change the limit|can I raise it]", "key-limits"),),
    "502": (("[what is readyz|how do I check|how do I see when it is ready]", "health"),),
}

ERRORS = (
    *(_topic(status) for status in _STATUSES),
    Topic(
        "error-list",
        "[the errors|error codes|all status codes|errors in general|possible errors]",
        (
            "[which|what] [errors|error codes|status codes|error statuses] [are there|exist|can I get|can happen|does {anzoth} return|are possible]",
            "[list|show me|explain|name] [the|all|all the] [errors|error codes|status codes]",
            "[errors|error codes|status codes|list of errors|error table]",
            "{how} [handle|treat|deal with] errors",
        ),
        (
            "The statuses are 400 (bad request), 401 (key), 403 (no access), 404 (unknown), 429 (limit), 500 (our error), 502 (model down) and 503 (full). Ask me about any of them.",
        ),
        "429 (limit)",
        tuple((_FOLLOW.replace("{code}", other), f"error-{other}") for other in _STATUSES),
    ),
    Topic(
        "error-body",
        "[the error format|error bodies|the error JSON|the shape of an error|x-request-id]",
        (
            "what does an error [look like|body look like|response look like|message contain|contain]",
            "{whatis} the [format|shape|body|structure] of [an error|errors|error responses]",
            "{how} [read|parse] an error [response|body|]",
        ),
        (
            'Every error is JSON: `{"error": {"message", "type", "param", "code"}}`. The header `x-request-id` names the request.',
        ),
        "x-request-id",
    ),
    Topic(
        "retry",
        "[retries|retrying|retry-after|the Retry-After header|when to retry]",
        (
            "[when|how long|after what time] [should|do|can] I [retry|wait|try again]",
            "[should|can|must] I retry [a failed request|requests|after an error|]",
            "{whatis} [retry-after|Retry-After|retry-after-ms|the retry-after header]",
            "{how} retry [correctly|requests|failed requests|]",
        ),
        (
            "Retry 429, 502 and 503 after the time in `retry-after` (exact in `retry-after-ms`). OpenAI SDKs do that by themselves. Do not retry 400, 401, 403 or 404.",
        ),
        "retry-after-ms",
    ),
    Topic(
        "context-length",
        "[context_length_exceeded|a prompt that is too long|too long prompts|the context limit|long conversations]",
        (
            "[what does|what is|why do I get|I get|explain] [context_length_exceeded|context length exceeded|a context length error|maximum context length|prompt too long] [mean|]",
            "[what if|what happens when|what happens if] [my prompt|the prompt|the conversation|my text|the input] [is|gets|becomes] too long",
            "my prompt [is too long|does not fit|doesn't fit|is rejected as too long]",
            "how long [can|may] [a|the|my] prompt be",
        ),
        (
            "A prompt that cannot fit gives 400 with the code `context_length_exceeded`. Shorten the conversation or ask for fewer tokens; my own context is 2048 tokens.",
        ),
        "context_length_exceeded",
    ),
)
