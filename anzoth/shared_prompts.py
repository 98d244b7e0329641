"""Which beginnings of prompts did the operator approve to be shared by all tenants?

A setting names a directory; each `*.txt` in it is one system prompt. What every conversation with
that system prompt begins with is worked out here, with the model's own template and tokenizer:

    rendering of the prompt alone      [ template | system prompt | template … ]
    of the prompt and more behind it   [ template | system prompt | "\\n\\n" and so on ]
    what they have in common           [ template | system prompt ]

So a conversation may go on behind it as it likes: with tools that the template puts there, or with
a tenant's own instructions. The engine gets token ids when it is started and compares those with
each prompt; a request has no say in it.

Does not know: what the engine does with them (see `scheduler/prefix_cache.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from anzoth.config import ConfigError
from anzoth.model_config import ModelConfig
from anzoth.model_kind import model_kind

_CONTINUATIONS = ("", "\n\nAnd", " and")


def read(model: ModelConfig) -> list[list[int]]:
    """Token ids of the beginnings. Raises ConfigError: a file, or the template, is of no use."""
    directory = model.engine.shared_prompts
    if directory is None or model_kind(model.path) != "generation":
        return []
    # Here, because the supervisor needs them only where something is shared.
    from anzoth.text.chat_template import ChatTemplate, ChatTemplateError
    from anzoth.text.prompt import chat_prompt
    from anzoth.text.tokenizer import Tokenizer, TokenizerError

    try:
        texts = [file.read_text() for file in sorted(directory.expanduser().glob("*.txt"))]
    except (OSError, UnicodeDecodeError) as error:
        raise _error(model, f"a prompt cannot be read: {error}") from None
    if not texts:
        raise _error(model, "expected a directory with a *.txt for each system prompt")
    try:
        tokenizer = Tokenizer.load(model.path)
        if tokenizer.chat_template is None:
            raise _error(model, "this model has no chat template")
        template = ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens)
        return [
            _common_beginning(
                [
                    chat_prompt(tokenizer, template, _conversation(text.removesuffix("\n") + more))
                    for more in _CONTINUATIONS
                ]
            )
            for text in texts
        ]
    except (TokenizerError, ChatTemplateError) as error:
        raise _error(model, str(error)) from error


def _conversation(system_prompt: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": "?"},
    ]


def _common_beginning(prompts: Sequence[list[int]]) -> list[int]:
    first = prompts[0]
    for index, tokens in enumerate(zip(*prompts, strict=False)):
        if len(set(tokens)) > 1:
            return first[:index]
    return first[: min(map(len, prompts))]


def _error(model: ModelConfig, problem: str) -> ConfigError:
    return ConfigError(
        f"model {model.name}: shared_prompts is {model.engine.shared_prompts}: {problem}"
    )
