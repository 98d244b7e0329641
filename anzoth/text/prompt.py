"""Which token ids does a model see for a conversation?

Does not know: requests, or how long a prompt may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anzoth.text.chat_template import ChatTemplate, ChatTemplateError
from anzoth.text.tokenizer import Tokenizer


def chat_prompt(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],  # JSON
    extra: Mapping[str, Any] | None = None,  # JSON
) -> list[int]:
    """The ids of what `template` makes of `messages`; `extra` are further template variables.

    The control tokens that the template writes act; those in the messages, and in `extra` (tools
    and their descriptions), are ordinary text. Raises ChatTemplateError.
    """
    try:
        hidden = tokenizer.control_tokens.hide([messages, extra])
    except RecursionError:
        raise ChatTemplateError("The messages or tools are nested too deeply.") from None
    token_ids: list[int] = []
    for part, is_literal in hidden.split(template.render(*hidden.value)):
        if is_literal:
            token_ids += tokenizer.encode_literally(part)
        else:  # the template has written BOS and the like itself
            token_ids += tokenizer.encode(part, add_special_tokens=False)
    return token_ids
