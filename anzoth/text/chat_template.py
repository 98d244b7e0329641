"""What prompt does a conversation become for this checkpoint?

Runs the checkpoint's Jinja template with the variables, filters and block settings that Hugging
Face gives it, so the prompt is the one the model was trained on. A template comes from the
internet with the weights: it runs in Jinja's immutable sandbox, and what it writes is bounded in
size and time. (A loop that writes nothing is bounded only by the sandbox's limit on ranges; the
messages are bounded by the request's body.)

Does not know: tokens, or the API's message shapes (see `anzoth.api.messages`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_PROMPT_CHARACTERS = 32 << 20
MAX_RENDER_S = 10.0

# What a template's own expressions can raise: they compute on values from the request.
_RENDER_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplateError(Exception):
    """The template refused this conversation, or could not be compiled."""


class _Raised(jinja2.TemplateError):
    """The template called `raise_exception`: its message is meant for the caller."""


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks training targets; here it is just its body."""

    tags = {"generation"}  # noqa: RUF012  # the base class declares a set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """One compiled template. Safe to use from several threads."""

    __slots__ = ("_special_tokens", "_template", "takes_tools")

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Raises ChatTemplateError when `source` is not a template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
            names = environment.parse(source).find_all(nodes.Name)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template is broken: {error}") from error
        self._special_tokens = dict(special_tokens)
        # By name, not as an undeclared variable: templates also set `tools` themselves when it is
        # missing, and whether Jinja then counts it as declared depends on the branches.
        self.takes_tools = any(name.name == "tools" for name in names)
        """Whether the template has a place for tools at all."""

    def render(
        self, messages: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None
    ) -> str:
        """The prompt, ending where the assistant's next message begins.

        `extra` holds further template variables of the caller's; it cannot replace ours. Raises
        ChatTemplateError.
        """
        variables = {
            "tools": None,
            "documents": None,
            **(extra or {}),
            **self._special_tokens,
            "messages": messages,
            "add_generation_prompt": True,
        }
        try:
            return self._join_bounded(variables)
        except _Raised as error:
            raise ChatTemplateError(f"The model's chat template says: {error.message}") from error
        except _RENDER_ERRORS as error:
            # The error's own text may quote the conversation: only its kind is told.
            kind = type(error).__name__
            raise ChatTemplateError(
                f"The model's chat template cannot render these messages ({kind})."
            ) from error

    def _join_bounded(self, variables: Mapping[str, Any]) -> str:
        """Reads the template's output piece by piece, so that a runaway loop can be left."""
        deadline_s = time.monotonic() + MAX_RENDER_S
        pieces: list[str] = []
        num_characters = 0
        for piece in self._template.generate(variables):
            pieces.append(piece)
            num_characters += len(piece)
            if num_characters > MAX_PROMPT_CHARACTERS or time.monotonic() > deadline_s:
                raise _Raised("the rendered prompt is too large")
        return "".join(pieces)


def _to_json(
    value: Any,  # whatever the template computed
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which no model was trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise _Raised(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
