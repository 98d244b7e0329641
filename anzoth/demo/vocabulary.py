"""How does the bundled model's text become tokens?

A byte-level BPE, trained on the generated conversations: any bytes can be written with it, and
common words of the lessons are one token each. The chat template marks each turn with its role and
ends it with <|end|>, which is also where generation stops.

Does not know: the lessons, or the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from anzoth.demo.conversation import Conversation
from anzoth.text.chat_template import ChatTemplate
from anzoth.text.prompt import chat_prompt
from anzoth.text.tokenizer import Tokenizer as ServedTokenizer

END = "<|end|>"
ROLES = ("system", "user", "assistant", "tool")
SPECIAL_TOKENS = (END, *(f"<|{role}|>" for role in ROLES))

# One token each, but ordinary text: they are part of what the model says.
TEXT_TOKENS = ("<tool_call>", "</tool_call>", *(f"[{number}]" for number in range(1, 10)))

_ANY_SPECIAL = re.compile("|".join(map(re.escape, (*SPECIAL_TOKENS, *TEXT_TOKENS))))

# One turn: <|role|>content<|end|>. `developer` is the newer name of `system`. Content may be
# missing (an assistant's turn that only calls tools) or a list of parts: then its text is taken.
# Tools are listed in the system turn, one per line and one line for each of their parameters:
# a tenth of the tokens of their JSON.
CHAT_TEMPLATE = """\
{%- macro text_of(content) -%}
{%- if content is string -%}
{{- content -}}
{%- elif content -%}
{%- for part in content if part['type'] == 'text' -%}{{- part['text'] -}}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- macro list_tools() -%}
{{- 'Tools:' -}}
{%- for tool in tools -%}
{%- set function = tool['function'] -%}
{{- '\\n' ~ function['name'] -}}
{%- if function['description'] -%}{{- ': ' ~ function['description'] -}}{%- endif -%}
{%- set parameters = function['parameters'] or {} -%}
{%- for name, schema in (parameters['properties'] or {}) | items -%}
{{- '\\n- ' ~ name -}}
{%- if name not in (parameters['required'] or []) -%}{{- '?' -}}{%- endif -%}
{%- if schema['type'] is string and schema['type'] != 'string' -%}
{{- ' (' ~ schema['type'] ~ ')' -}}
{%- endif -%}
{%- if schema['description'] -%}{{- ': ' ~ schema['description'] -}}{%- endif -%}
{%- if schema['enum'] -%}{{- ' = ' ~ schema['enum'] | join('|') -}}{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{%- endmacro -%}
{%- set is_system_first = messages[0]['role'] in ['system', 'developer'] -%}
{%- if tools and not is_system_first -%}{{- '<|system|>' ~ list_tools() ~ '<|end|>' -}}{%- endif -%}
{%- for message in messages -%}
{%- set role = 'system' if message['role'] == 'developer' else message['role'] -%}
{%- if role not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('unknown role: ' ~ role) -}}
{%- endif -%}
{{- '<|' ~ role ~ '|>' ~ text_of(message['content']) -}}
{%- if tools and loop.first and is_system_first -%}{{- '\\n\\n' ~ list_tools() -}}{%- endif -%}
{%- for call in message['tool_calls'] or [] -%}
{%- set function = call['function'] -%}
{{- '<tool_call>{"name": ' ~ function['name'] | tojson ~ ', "arguments": ' -}}
{%- if function['arguments'] is string -%}
{{- function['arguments'] -}}
{%- else -%}
{{- function['arguments'] | tojson -}}
{%- endif -%}
{{- '}</tool_call>' -}}
{%- endfor -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


@cache
def template() -> ChatTemplate:
    """The chat template, compiled as the gateway compiles it."""
    return ChatTemplate(CHAT_TEMPLATE, {})


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of `size` entries at most, learnt from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(TEXT_TOKENS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in TEXT_TOKENS])
    return tokenizer


def texts_of(conversation: Conversation) -> Iterator[str]:
    """What a prompt of this conversation is written with, turn by turn."""
    tools = {"tools": list(conversation.tools)} if conversation.tools else None
    prompt = template().render(conversation.messages(), tools)
    return (text for text in re.split(_ANY_SPECIAL, prompt) if text)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Raises KeyError where the tokenizer has no such token."""
    if (found := tokenizer.token_to_id(token)) is None:
        raise KeyError(token)
    return found


class Encoder:
    """Conversations to token ids, by the same code that renders and tokenizes served prompts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = ServedTokenizer(tokenizer, None, {}, None)
        self._assistant = token_id(tokenizer, "<|assistant|>")
        self._end = token_id(tokenizer, END)

    def prompt(self, conversation: Conversation) -> list[int]:
        """The ids after which the assistant speaks."""
        return chat_prompt(
            self._tokenizer,
            template(),
            conversation.messages(),
            {"tools": list(conversation.tools) or None},
        )

    def example(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """The ids of a whole conversation, and which of them the model itself has to say."""
        ids = self.prompt(conversation)[:-1]
        spoken: list[bool] = []
        speaks = False
        for id_ in ids:
            spoken.append(speaks)
            if id_ == self._assistant:
                speaks = True
            elif id_ == self._end:
                speaks = False
        return ids, spoken


def tokenizer_config(max_tokens: int) -> dict[str, Any]:  # Any: JSON
    """`tokenizer_config.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "eos_token": END,
        "pad_token": END,
        "bos_token": None,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        "passage_layout": "lines",  # see anzoth.text.passages
    }
