"""What is asked of a generation, and does it fit the model?

Does not know: how text is generated, or what the fields are called beyond the names that errors
carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from anzoth.errors import ContextLengthExceeded, InvalidValue
from anzoth.frames import Hello, SamplingParams
from anzoth.gateway.service_tiers import DEFAULT_TIER
from anzoth.text.reasoning import Beginning


@dataclass(slots=True, frozen=True)
class GenerationRequest:
    """What to generate: `num_choices` continuations of each prompt."""

    prompts: tuple[Sequence[int], ...] = field(repr=False)
    num_choices: int
    max_tokens: int | None
    """Per choice. None: as many as the context leaves."""
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    default_max_tokens: int | None = None
    """What `max_tokens=None` means at most."""
    starts_text: bool = True
    """False: the output continues the prompt's text, so its leading space belongs to it."""
    reasoning: Beginning | None = None
    """Where the reasoning stands when the prompts end. None: the answer comes at once."""
    prompt_param: str = "messages"
    """The field of the request's body that errors about the prompt name."""
    grammar_param: str | None = None
    """The field that errors about `sampling.grammar` name."""
    tier: str = DEFAULT_TIER
    """One of `service_tiers.ENGINE_PRIORITIES`."""
    deadline_s: float | None = None
    """On the clock of `time.monotonic`: from here on nobody waits for the answer."""
    tags: tuple[str, ...] = ()
    """Ids of the documents in the prompts: what is computed from these can be purged by them."""


def check_vocabulary(request: GenerationRequest, hello: Hello) -> None:
    """Raises InvalidValue for a token id that the model does not have."""
    size = hello.vocab_size
    for param, token_ids in (
        ("logit_bias", [token_id for token_id, _ in request.sampling.logit_bias]),
        ("stop_token_ids", request.sampling.stop_token_ids),
        *((request.prompt_param, prompt) for prompt in request.prompts),
    ):
        if token_ids and not (min(token_ids) >= 0 and max(token_ids) < size):
            raise InvalidValue(
                f"Invalid value for '{param}': token ids of this model are 0 to {size - 1}.",
                param=param,
            )


def output_limit(request: GenerationRequest, hello: Hello) -> int:
    """How many tokens each choice may have at most. Raises ContextLengthExceeded or
    InvalidValue (an empty prompt).

    An explicit `max_tokens` that does not fit is refused, as OpenAI refuses it: cutting it silently
    would hide from the caller that the answer cannot have the length it asked for. Without one, the
    output ends where the context ends: what of it is reserved is another matter (`output_budget`).
    """
    if not all(request.prompts):
        raise InvalidValue("The prompt must hold at least one token.", param=request.prompt_param)
    num_prompt_tokens = max(map(len, request.prompts))
    left = hello.max_model_tokens - num_prompt_tokens
    if left < 1:
        raise ContextLengthExceeded(
            f"This model's context length is {hello.max_model_tokens} tokens, with room for at "
            f"least one token of output, but the prompt has {num_prompt_tokens} tokens.",
            param=request.prompt_param,
        )
    if request.max_tokens is not None:
        if request.max_tokens > left:
            raise ContextLengthExceeded(
                f"This model's context length is {hello.max_model_tokens} tokens, but this request "
                f"needs {num_prompt_tokens + request.max_tokens}: {num_prompt_tokens} in the "
                f"prompt and {request.max_tokens} for the output.",
                param=request.prompt_param,
            )
        return request.max_tokens
    return left if request.default_max_tokens is None else min(left, request.default_max_tokens)
