"""Which tools may the model call, given `tools` and the fields that go with it?

    tools                 functions, in OpenAI's form; a template gets them as they were written,
                          in one order of keys and without what it has no use for (`strict`)
    tool_choice           auto: the model decides; none: it does not get to see the tools;
                          required: a call has to come; a function: a call of that one;
                          allowed_tools: the model sees all tools, but calls only these
    strict                the arguments follow the schema, to the letter
    parallel_tool_calls   false: an answer ends with its first call
    file_search           is no tool of the model's: see `file_search`
    mcp                   tools that run on this side: see `mcp_tool`. Which of them the model gets
                          is known later; until then, so is what can be chosen from

What is promised here is kept by a grammar (`ToolUse.needs_grammar`), not by asking the model: a
promise that is usually kept is no promise.

Does not know: how calls are found in a text (see `anzoth.text.tool_calls`), or grammars.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from anzoth.api.fields import (
    INT32_MAX,
    Field,
    array,
    boolean,
    json_object,
    nested,
    one_of,
    string,
    unsupported,
    wrong_type,
    wrong_value,
)
from anzoth.api.file_search import FileSearch, file_search, only_one
from anzoth.api.mcp_tool import McpTool, mcp_tool
from anzoth.errors import InvalidValue
from anzoth.gateway.tools.definitions import SEPARATOR
from anzoth.text.grammars import Signature

MAX_TOOLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Tool = dict[str, Any]  # JSON: what templates read


@dataclass(slots=True, frozen=True)
class OfferedTool:
    """One entry of `tools`."""

    tool: Tool = field(repr=False)
    is_strict: bool

    @property
    def name(self) -> str:
        return self.tool["function"]["name"]


@dataclass(slots=True, frozen=True)
class ToolChoice:
    """What `tool_choice` asks for."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] | None = None
    """The tools that may be called; `label__*`: all of one server. None: all."""
    is_named: bool = False
    """It is one function, by its name."""
    is_search: bool = False
    """It is `file_search`, which happens anyway."""


_AUTO = ToolChoice("auto")


@dataclass(slots=True, frozen=True)
class Offered:
    """The field `tools`."""

    functions: tuple[OfferedTool, ...] = ()
    file_search: FileSearch | None = None
    servers: tuple[McpTool, ...] = ()


@dataclass(slots=True, frozen=True)
class ToolUse:
    """What the model may call in one answer."""

    offered: tuple[OfferedTool, ...] = field(repr=False)
    choice: ToolChoice = _AUTO
    is_parallel: bool = True
    """False: one call per choice."""

    @property
    def tools(self) -> list[Tool]:
        """What the template gets."""
        return [offer.tool for offer in self.offered]

    @property
    def callable(self) -> list[OfferedTool]:
        names = self.choice.names
        return [offer for offer in self.offered if names is None or offer.name in names]

    @property
    def names(self) -> frozenset[str]:
        """Of the tools that may be called."""
        return frozenset(offer.name for offer in self.callable)

    @property
    def must_call(self) -> bool:
        return self.choice.mode == "required"

    @property
    def needs_grammar(self) -> bool:
        """Whether something is promised that a model alone does not always keep."""
        return (
            self.must_call
            or self.choice.names is not None
            or any(offer.is_strict for offer in self.offered)
        )

    @property
    def signatures(self) -> list[Signature]:
        """Of the tools that may be called."""
        return [
            Signature(offer.name, offer.tool["function"].get("parameters"), offer.is_strict)
            for offer in self.callable
        ]


@dataclass(slots=True, frozen=True)
class AskedTools:
    """The fields of a request that are about tools."""

    offered: Offered = Offered()
    choice: ToolChoice = _AUTO
    is_parallel: bool = True

    def use(self, of_servers: Sequence[OfferedTool] = ()) -> ToolUse | None:
        """What the model may call, with the tools that it gets of servers. None: this answer is
        text and nothing else. Raises InvalidValue.
        """
        choice, functions = self.choice, self.offered.functions
        own = {offer.name for offer in functions}
        if any(offer.name in own for offer in of_servers):
            raise wrong_value("tools", "names that no tool of a server has")
        offered = (*functions, *of_servers)
        if len(offered) > MAX_TOOLS:
            raise wrong_value("tools", f"at most {MAX_TOOLS} tools, with those of servers")
        is_searched = self.offered.file_search is not None
        if choice.is_search and not is_searched:
            raise wrong_value("tool_choice", "a tool that is among 'tools'")
        must_call = choice.mode == "required" and not is_searched
        if not offered and (must_call or choice.names is not None):
            raise InvalidValue("'tool_choice' needs 'tools' to choose from.", param="tool_choice")
        names = None if choice.names is None else _chosen_names(choice.names, offered)
        if not offered or choice.mode == "none":
            return None
        # One function that was asked for by name is called once.
        is_parallel = self.is_parallel and not choice.is_named
        return ToolUse(offered, replace(choice, names=names), is_parallel)


NO_TOOLS = AskedTools()


def asked_tools(values: Mapping[str, Any]) -> AskedTools:
    """Of a body whose fields were checked."""
    choice = values["tool_choice"] or _AUTO
    return AskedTools(values["tools"], choice, values["parallel_tool_calls"])


def tool_use(asked: AskedTools) -> ToolUse | None:
    """What the model may call, where that is known already (see `governed`)."""
    return None if asked.offered.servers else asked.use()


def _chosen_names(names: Sequence[str], offered: Sequence[OfferedTool]) -> tuple[str, ...]:
    """Raises InvalidValue for what is not offered."""
    chosen: dict[str, None] = {}
    for name in names:
        begin = name.removesuffix("*")
        found = [
            offer.name
            for offer in offered
            if offer.name == name or (begin != name and offer.name.startswith(begin))
        ]
        if not found:
            raise wrong_value("tool_choice", "names of functions that are among 'tools'")
        chosen |= dict.fromkeys(found)
    return tuple(chosen)


def search_of(asked: AskedTools) -> FileSearch | None:
    """The knowledge bases that a body asks for."""
    return None if asked.choice.mode == "none" else asked.offered.file_search


# --- checks ---------------------------------------------------------------------------------------


def tools(value: Any, param: str) -> Offered:
    """A check (see `fields`): the functions, each as a template takes it, and the search."""
    return offered(array(_tool, MAX_TOOLS)(value, param), param, "function.name")


def offered(
    checked: Sequence[OfferedTool | FileSearch | McpTool], param: str, name_at: str
) -> Offered:
    """All entries of the field `param`; each has its name at `name_at`. Raises InvalidValue."""
    seen: set[str] = set()
    for index, offer in enumerate(checked):
        if not isinstance(offer, OfferedTool):
            continue
        if offer.name in seen:
            raise wrong_value(f"{param}[{index}].{name_at}", "a name that no other tool has")
        seen.add(offer.name)
    searches = [offer for offer in checked if isinstance(offer, FileSearch)]
    functions = tuple(offer for offer in checked if isinstance(offer, OfferedTool))
    servers = tuple(offer for offer in checked if isinstance(offer, McpTool))
    return Offered(functions, only_one(searches, param), servers)


def tool_choice(value: Any, param: str) -> ToolChoice:
    """A check (see `fields`)."""
    if isinstance(value, str):
        return ToolChoice(one_of("auto", "none", "required")(value, param))  # type: ignore[arg-type]  # checked
    if not isinstance(value, dict):
        raise wrong_type(param, "a string or an object", value)
    match value.get("type"):
        case "function":
            return ToolChoice("required", (_chosen(value, param),), is_named=True)
        case "allowed_tools":
            allowed = _ALLOWED(value, param)["allowed_tools"]
            return ToolChoice(allowed["mode"], allowed["tools"])
        case "file_search":
            return ToolChoice("auto", is_search=True)
        case "mcp":
            return mcp_choice(value, param)
        case "custom":
            raise unsupported(param, "of type 'custom' is not supported by this server")
    raise wrong_value(f"{param}.type", "'function', 'allowed_tools', 'file_search' or 'mcp'")


def mcp_choice(value: Any, param: str) -> ToolChoice:
    """A check (see `fields`): a call of one tool of a server, or of any of its tools."""
    name = mcp_name(value, param)
    return ToolChoice("required", (name,), is_named=not name.endswith("*"))


def mcp_name(value: Any, param: str) -> str:
    """A check (see `fields`): what models call the tool that is chosen; `label__*`: any."""
    given = _CHOSEN_OF_SERVER(value, param)
    return f"{given['server_label']}{SEPARATOR}{given['name'] or '*'}"


def tool_kind(value: Any, param: str) -> str:
    """A check (see `fields`) of a tool's type."""
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if value != "function":
        raise unsupported(
            param, "other than 'function', 'file_search' and 'mcp' is not supported by this server"
        )
    return value


def function_name(value: Any, param: str) -> str:
    """A check (see `fields`)."""
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if not _NAME.fullmatch(value):
        raise wrong_value(param, "1 to 64 letters, digits, underscores or hyphens (ASCII)")
    return value


def _chosen(value: Any, param: str) -> str:
    return _CHOSEN(value, param)["function"]["name"]


def _allowed(value: Any, param: str) -> str:
    is_of_server = isinstance(value, dict) and value.get("type") == "mcp"
    return mcp_name(value, param) if is_of_server else _chosen(value, param)


_CHOSEN = nested(
    Field("type", tool_kind, required=True),
    Field("function", nested(Field("name", function_name, required=True)), required=True),
)
_CHOSEN_OF_SERVER = nested(
    Field("type", one_of("mcp"), required=True),
    Field("server_label", function_name, required=True),
    Field("name", function_name),
)
_ALLOWED = nested(
    Field(
        "allowed_tools",
        nested(
            Field("mode", one_of("auto", "required"), required=True),
            Field("tools", array(_allowed, MAX_TOOLS, min_items=1), required=True),
        ),
        required=True,
    ),
)
_TOOL = nested(
    Field("type", tool_kind, required=True),
    Field(
        "function",
        nested(
            Field("name", function_name, required=True),
            Field("description", string(INT32_MAX)),
            Field("parameters", json_object),
            Field("strict", boolean, default=False),
        ),
        required=True,
    ),
)


def _tool(value: Any, param: str) -> OfferedTool | FileSearch | McpTool:
    if (special := special_tool(value, param)) is not None:
        return special
    return offered_tool(_TOOL(value, param)["function"])


def special_tool(value: Any, param: str) -> FileSearch | McpTool | None:
    """A tool that is no function. None: it is one, or nothing."""
    match value.get("type") if isinstance(value, dict) else None:
        case "file_search":
            return file_search(value, param)
        case "mcp":
            return mcp_tool(value, param)
    return None


def offered_tool(function: Mapping[str, Any]) -> OfferedTool:
    """Of a function whose fields were checked."""
    given = ("name", "description", "parameters")
    tool = {
        "type": "function",
        "function": {key: function[key] for key in given if function[key] is not None},
    }
    return OfferedTool(tool, function["strict"])
