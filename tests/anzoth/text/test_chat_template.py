"""Templates render as Hugging Face renders them, inside a sandbox, with bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from anzoth.text import chat_template
from anzoth.text.chat_template import ChatTemplate, ChatTemplateError

SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|end|>"}
MESSAGES = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": " hi\n"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}],
    },
    {"role": "tool", "content": "42"},
    {"role": "user", "content": "thanks"},
]

# Written for this test with the constructs that published templates use.
TEMPLATE = """{{- bos_token }}
{%- set ns = namespace(turns=0) %}
{% for message in messages %}
    {%- if message.role == 'tool' %}{% continue %}{% endif %}
    {%- set ns.turns = ns.turns + 1 %}
    {{- '<|' + message['role'] + '|>' }}
    {%- if message.tool_calls is defined %}
        {%- for call in message.tool_calls %}{{ call.function | tojson }}{% endfor %}
    {%- else %}
        {{- message['content'] | trim }}
    {%- endif %}
    {% if message.role == 'assistant' %}
        {%- generation %}{{ eos_token }}{% endgeneration %}
    {% endif %}
{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{{ ns.turns }}{% endif %}
"""


def test_rendering_equals_transformers(byte_level_dir: Path) -> None:
    oracle = PreTrainedTokenizerFast(
        tokenizer_file=str(byte_level_dir / "tokenizer.json"), **SPECIAL
    )
    expected = oracle.apply_chat_template(
        MESSAGES, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True
    )
    assert ChatTemplate(TEMPLATE, SPECIAL).render(MESSAGES) == expected


def test_a_templates_own_refusal_reaches_the_caller() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", SPECIAL)
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        template.render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[99].content }}",
        "{{ 1 + messages[0].content }}",
        "{{ 1 // 0 }}",
        "{{ messages[0]['content'] | int(base='x') + none }}",
        "{{ strftime_now(5) }}",
    ],
)
def test_a_failing_expression_is_one_error_that_does_not_quote_the_messages(source: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        ChatTemplate(source, SPECIAL).render(MESSAGES)
    assert "brief" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__ | attr('__base__') }}{{ cycler.__init__.__globals__.os }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, SPECIAL).render(MESSAGES)


def test_a_template_that_writes_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MAX_PROMPT_CHARACTERS", 1000)
    template = ChatTemplate("{% for i in range(99999) %}xxxxxxxxxx{% endfor %}", SPECIAL)
    with pytest.raises(ChatTemplateError, match="too large"):
        template.render(MESSAGES)


def test_a_template_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MAX_RENDER_S", -1.0)
    with pytest.raises(ChatTemplateError, match="too large"):
        ChatTemplate("x", SPECIAL).render(MESSAGES)


def test_a_callers_variables_are_seen_but_cannot_replace_ours() -> None:
    template = ChatTemplate("{{ thinking }}{{ bos_token }}{{ messages | length }}", SPECIAL)
    extra = {"thinking": False, "bos_token": "forged", "messages": []}
    assert template.render(MESSAGES, extra) == "False<|bos|>5"


def test_a_broken_template_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ChatTemplateError, match="broken"):
        ChatTemplate("{% for %}", SPECIAL)


def test_the_date_is_available() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}", SPECIAL).render([]).isdigit()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for tool in tools %}{{ tool }}{% endfor %}", True),
        ("{% macro listed() %}{{ tools | tojson }}{% endmacro %}{{ listed() }}", True),
        # As Llama's do: set where it is missing.
        ("{% if not tools is defined %}{% set tools = none %}{% endif %}{{ tools }}", True),
        ("{% generation %}{{ tools }}{% endgeneration %}", True),
        ("You have tools: {{ messages[0].tools }} {# tools #}", False),
    ],
)
def test_a_template_with_a_place_for_tools_is_known(source: str, expected: bool) -> None:
    assert ChatTemplate(source, SPECIAL).takes_tools is expected
