"""How does the bundled model's text become tokens?

A byte-level BPE, trained on the generated conversations: any bytes can be written with it, and
common words of the lessons are one token each. The chat template marks each turn with its role and
ends it with <|end|>, which is also where generation stops.

Does not know: the lessons, or the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from anzoth.demo.generate import Turn

END = "<|end|>"
ROLES = ("system", "user", "assistant", "tool")
SPECIAL_TOKENS = (END, *(f"<|{role}|>" for role in ROLES))

# One turn: <|role|>content<|end|>. `developer` is the newer name of `system`. Content may be
# missing (an assistant's turn that only calls tools) or a list of parts: then its text is taken.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set role = 'system' if message['role'] == 'developer' else message['role'] -%}
{%- if role not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('unknown role: ' ~ role) -}}
{%- endif -%}
{{- '<|' ~ role ~ '|>' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- elif message['content'] -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{- part['text'] -}}{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of `size` entries at most, learnt from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Raises KeyError where the tokenizer has no such token."""
    if (found := tokenizer.token_to_id(token)) is None:
        raise KeyError(token)
    return found


def encode(tokenizer: Tokenizer, turns: Sequence[Turn]) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and which of them the model itself has to say.

    Equal to tokenizing what the chat template renders: special tokens are never merged with text.
    """
    ids: list[int] = []
    spoken: list[bool] = []
    end = token_id(tokenizer, END)
    for turn in turns:
        content = tokenizer.encode(turn.content, add_special_tokens=False).ids
        ids += [token_id(tokenizer, f"<|{turn.role}|>"), *content, end]
        spoken += [False] + [turn.role == "assistant"] * (len(content) + 1)
    return ids, spoken


def prompt_ids(tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[int]:
    """The same, followed by the mark after which the assistant speaks."""
    return [*encode(tokenizer, turns)[0], token_id(tokenizer, "<|assistant|>")]


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
    }
