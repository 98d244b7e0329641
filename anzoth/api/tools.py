"""Which tools may the model call, given `tools` and the fields that go with it?

    tools                 functions, in OpenAI's form; a template gets them as they were written,
                          in one order of keys and without what it has no use for (`strict`)
    tool_choice           auto: the model decides; none: it does not get to see the tools
    parallel_tool_calls   false: an answer ends with its first call

What would need the model's output to be constrained (a call that has to come, arguments that are
sure to follow their schema) is refused by name: a promise that is usually kept is no promise.

Does not know: how calls are found in a text (see `anzoth.text.tool_calls`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anzoth.api.fields import (
    INT32_MAX,
    Field,
    Policy,
    array,
    boolean,
    json_object,
    nested,
    string,
    unsupported,
    wrong_type,
    wrong_value,
)

MAX_TOOLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Tool = dict[str, Any]  # JSON: what templates read


@dataclass(slots=True, frozen=True)
class ToolUse:
    """What the model may call in one answer."""

    tools: tuple[Tool, ...] = field(repr=False)
    is_parallel: bool = True
    """False: one call per choice."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(tool["function"]["name"] for tool in self.tools)


def tool_use(values: Mapping[str, Any]) -> ToolUse | None:
    """Of a body whose fields were checked. None: this answer is text and nothing else."""
    if not values["tools"] or values["tool_choice"] == "none":
        return None
    return ToolUse(values["tools"], values["parallel_tool_calls"])


# --- checks ---------------------------------------------------------------------------------------


def tools(value: Any, param: str) -> tuple[Tool, ...]:
    """A check (see `fields`): the tools as a template takes them."""
    checked = array(_tool, MAX_TOOLS)(value, param)
    seen: set[str] = set()
    for index, tool in enumerate(checked):
        name = tool["function"]["name"]
        if name in seen:
            raise wrong_value(f"{param}[{index}].function.name", "a name that no other tool has")
        seen.add(name)
    return checked


def tool_choice(value: Any, param: str) -> str:
    """A check (see `fields`)."""
    if value in ("auto", "none"):
        return value
    if value == "required":
        raise _would_be_forced(param, "'required'")
    if isinstance(value, str):
        raise wrong_value(param, "'auto' or 'none'")
    if not isinstance(value, dict):
        raise wrong_type(param, "a string or an object", value)
    if value.get("type") in ("function", "custom", "allowed_tools"):
        raise _would_be_forced(param, "an object")
    raise wrong_value(f"{param}.type", "'function', 'custom' or 'allowed_tools'")


def _would_be_forced(param: str, what: str) -> Exception:
    return unsupported(
        param,
        f"as {what} is not supported by this server: it cannot make the model call a tool. "
        "Use 'auto', and leave out the tools that should not be called",
    )


def _kind(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if value != "function":
        raise unsupported(param, "other than 'function' is not supported by this server")
    return value


def _name(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if not _NAME.fullmatch(value):
        raise wrong_value(param, "1 to 64 letters, digits, underscores or hyphens (ASCII)")
    return value


def _strict(value: Any, param: str) -> bool:
    if boolean(value, param):
        raise unsupported(
            param,
            "as true is not supported by this server: it does not constrain what the model "
            "writes, so it cannot promise arguments that follow the schema. Leave it out",
        )
    return False


_TOOL = nested(
    Field("type", _kind, required=True),
    Field(
        "function",
        nested(
            Field("name", _name, required=True),
            Field("description", string(INT32_MAX)),
            Field("parameters", json_object),
            Field("strict", _strict, Policy.REFUSED),
        ),
        required=True,
    ),
)


def _tool(value: Any, param: str) -> Tool:
    function = _TOOL(value, param)["function"]
    given = ("name", "description", "parameters")
    return {
        "type": "function",
        "function": {key: function[key] for key in given if function[key] is not None},
    }
