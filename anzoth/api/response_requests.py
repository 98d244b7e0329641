"""Which fields does POST /v1/responses have, and what does this server do with each?

The table is the contract, as in `requests`: a field that it does not name is ignored. What chat
completions have under other names means the same here, and so do the extensions.

    input                 a string, or items (see `response_items`)
    tools, tool_choice    as of chat completions, with the function's fields beside its type;
                          `strict` is false where it is not said
    text.format           as `response_format`, with the schema's fields beside its type
    top_logprobs          has an effect where `include` asks for log probabilities
    background            needs that the response is kept, and cannot be streamed
    truncation            `auto` is refused: what a model does not read is the caller's to decide

Does not know: models, tokens, what is stored, or how an answer is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anzoth.api.fields import (
    INT32_MAX,
    Field,
    Policy,
    array,
    boolean,
    harmless,
    integer,
    json_object,
    mapping,
    nested,
    one_of,
    parse,
    require_shallow,
    string,
    unsupported,
    wrong_type,
    wrong_value,
)
from anzoth.api.file_search import RESULTS, FileSearch
from anzoth.api.mcp_tool import McpTool
from anzoth.api.messages import Message
from anzoth.api.requests import (
    COMMON_FIELDS,
    MAX_INCLUDED,
    MAX_TEMPLATE_VARIABLES,
    MAX_TOP_LOGPROBS,
    METADATA,
    ChatRequest,
    Options,
    options_of,
    template_variable,
)
from anzoth.api.response_format import AnswerForm, answer_form, text_format
from anzoth.api.response_items import Item, input_items
from anzoth.api.tools import (
    MAX_TOOLS,
    AskedTools,
    Offered,
    OfferedTool,
    ToolChoice,
    asked_tools,
    function_name,
    mcp_choice,
    mcp_name,
    offered,
    offered_tool,
    search_of,
    special_tool,
    tool_kind,
    tool_use,
)
from anzoth.errors import InvalidValue

LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (
    RESULTS,
    LOGPROBS,
    # What there is nothing of is not included.
    "reasoning.encrypted_content",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)

_USED, _IGNORED, _REFUSED = Policy.USED, Policy.IGNORED, Policy.REFUSED


# --- checks that belong to one field --------------------------------------------------------------

_FUNCTION = nested(
    Field("type", tool_kind, required=True),
    Field("name", function_name, required=True),
    Field("description", string(INT32_MAX)),
    Field("parameters", json_object),
    Field("strict", boolean, default=False),
)
_CHOSEN = nested(
    Field("type", one_of("function"), required=True),
    Field("name", function_name, required=True),
)


def _tool(value: Any, param: str) -> OfferedTool | FileSearch | McpTool:
    if (special := special_tool(value, param)) is not None:
        return special
    if isinstance(value, dict):
        tool_kind(value.get("type"), f"{param}.type")  # before the fields of a function
    return offered_tool(_FUNCTION(value, param))


def _tools(value: Any, param: str) -> Offered:
    return offered(array(_tool, MAX_TOOLS)(value, param), param, "name")


def _allowed(value: Any, param: str) -> str | None:
    if isinstance(value, dict) and value.get("type") == "file_search":
        return None  # it happens anyway
    if isinstance(value, dict) and value.get("type") == "mcp":
        return mcp_name(value, param)
    return _CHOSEN(value, param)["name"]


_ALLOWED = nested(
    Field("mode", one_of("auto", "required"), required=True),
    Field("tools", array(_allowed, MAX_TOOLS, min_items=1), required=True),
)


def _tool_choice(value: Any, param: str) -> ToolChoice:
    if isinstance(value, str):
        return ToolChoice(one_of("auto", "none", "required")(value, param))  # type: ignore[arg-type]  # checked
    if not isinstance(value, dict):
        raise wrong_type(param, "a string or an object", value)
    match value.get("type"):
        case "function":
            return ToolChoice("required", (_CHOSEN(value, param)["name"],), is_named=True)
        case "allowed_tools":
            allowed = _ALLOWED(value, param)
            names = tuple(name for name in allowed["tools"] if name is not None)
            if not names:
                raise wrong_value(f"{param}.tools", "at least one function")
            return ToolChoice(allowed["mode"], names)
        case "file_search":
            return ToolChoice("auto", is_search=True)
        case "mcp":
            return mcp_choice(value, param)
    raise unsupported(
        f"{param}.type",
        "other than 'function', 'allowed_tools', 'file_search' and 'mcp' is not supported by this "
        "server",
    )


def _conversation(value: Any, param: str) -> str:
    """Its id."""
    if isinstance(value, str):
        return _ID(value, param)
    if not isinstance(value, dict):
        raise wrong_type(param, "a string or an object", value)
    return _CONVERSATION(value, param)["id"]


_ID = string(128, min_characters=1)
_CONVERSATION = nested(Field("id", _ID, required=True))


# --- the table ------------------------------------------------------------------------------------

_SAID = (
    Field("instructions", string(INT32_MAX)),
    Field("tools", _tools, default=Offered()),
    Field("tool_choice", _tool_choice),
    Field("parallel_tool_calls", boolean, default=True),
    Field(
        "text",
        nested(
            Field("format", text_format),
            Field("verbosity", one_of("low", "medium", "high"), _IGNORED),
        ),
        default={"format": None, "verbosity": None},
    ),
    # Never refused for its values: new efforts appear, and these models have none.
    Field("reasoning", json_object, _IGNORED, default={}),
    Field("previous_response_id", _ID),
    Field("conversation", _conversation),
    Field("truncation", one_of("disabled", "auto")),
    Field(
        "chat_template_kwargs",
        mapping(template_variable, MAX_TEMPLATE_VARIABLES, 64),
        default={},
    ),
)
RESPONSE_FIELDS = (
    *(field for field in COMMON_FIELDS if field.name != "n"),
    *_SAID,
    Field("input", input_items, required=True),
    Field("n", harmless(1), _REFUSED),
    Field("include", array(one_of(*INCLUDABLE), MAX_INCLUDED), default=()),
    Field("max_output_tokens", integer(1, INT32_MAX)),
    Field("max_tool_calls", integer(1, INT32_MAX)),
    Field("top_logprobs", integer(0, MAX_TOP_LOGPROBS)),
    Field("metadata", METADATA),
    Field("service_tier", one_of("auto", "default", "flex", "scale", "priority", "fast")),
    Field("safety_identifier", string(128)),
    Field("store", boolean),
    Field("background", boolean, default=False),
    Field("prompt", harmless(), _REFUSED),
    Field("context_management", harmless([]), _REFUSED),
    Field("moderation", harmless(), _REFUSED),
    Field("prompt_cache_key", string(512), _IGNORED),
    Field("prompt_cache_retention", string(64), _IGNORED),
    Field("prompt_cache_options", json_object, _IGNORED),
)
COUNT_FIELDS = (
    *(field for field in COMMON_FIELDS if field.name != "n"),
    *_SAID,
    Field("input", input_items, default=()),
)
"""Of POST /v1/responses/input_tokens."""


# --- the request ----------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Asked:
    """What both endpoints have."""

    items: Sequence[Item] = field(repr=False)
    """The input, without what went before; references are among it."""
    instructions: str | None = field(repr=False)
    previous_id: str | None
    conversation_id: str | None
    tools: AskedTools
    form: AnswerForm | None
    template_variables: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True, frozen=True)
class ResponseRequest:
    """A valid body of POST /v1/responses."""

    asked: Asked
    options: Options
    file_search: FileSearch | None
    stores: bool | None
    """None: as is usual."""
    includes: frozenset[str]
    shown: Mapping[str, Any] = field(repr=False)
    """What of the request stands in the response."""
    max_tool_calls: int | None = None
    """Of tools of servers. None: as many as the server allows."""
    is_background: bool = False
    """Its caller does not wait for it."""

    def is_kept(self, keeps_any: bool) -> bool:
        """Where responses are kept, if any. Raises UnsupportedParameter."""
        if self.is_background and not keeps_any:
            raise unsupported(
                "background", "is not supported by this server: it keeps no responses"
            )
        if self.stores and not keeps_any:
            raise unsupported("store", "is not supported by this server: it keeps no responses")
        return keeps_any if self.stores is None else self.stores

    def chat(self, messages: Sequence[Message]) -> ChatRequest:
        """What is asked of a model. `messages`: the whole conversation."""
        search = self.file_search
        return ChatRequest(
            self.options,
            messages,
            self.asked.template_variables,
            tool_use(self.asked.tools),
            (),
            self.asked.form,
            search,
            search is not None and search.shows_trace,
            self.asked.tools,
            any(tool.shows_trace for tool in self.asked.tools.offered.servers),
        )


def parse_response(body: Mapping[str, Any]) -> ResponseRequest:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter."""
    values = parse(RESPONSE_FIELDS, body)
    if values["background"]:
        _check_background(values)
    asked = _asked(values)
    includes = frozenset(values["include"])
    num_logprobs = (values["top_logprobs"] or 0) if LOGPROBS in includes else None
    options = options_of(body, {**values, "n": 1}, values["max_output_tokens"], num_logprobs)
    return ResponseRequest(
        asked,
        options,
        search_of(asked.tools),
        values["store"],
        includes,
        _shown(values, body),
        values["max_tool_calls"],
        values["background"],
    )


def _check_background(values: Mapping[str, Any]) -> None:
    if values["store"] is False:
        raise InvalidValue(
            "A response in the background is kept, or nobody could ask for it: leave out 'store'.",
            param="store",
        )
    if values["stream"]:
        raise unsupported(
            "stream",
            "together with 'background' is not supported by this server: leave it out, and ask for "
            "the response with GET",
        )


def parse_count(body: Mapping[str, Any]) -> ResponseRequest:
    """A body of POST /v1/responses/input_tokens. Raises as `parse_response` does."""
    values = parse(COUNT_FIELDS, body)
    options = options_of(body, {**values, "n": 1}, None, None)
    return ResponseRequest(_asked(values), options, None, False, frozenset(), {})


def _asked(values: Mapping[str, Any]) -> Asked:
    if values["truncation"] == "auto":
        raise unsupported(
            "truncation", "'auto' is not supported by this server: send what is to be read"
        )
    if values["previous_response_id"] is not None and values["conversation"] is not None:
        raise InvalidValue(
            "'previous_response_id' and 'conversation' exclude each other: send one of them.",
            param="conversation",
        )
    tools = asked_tools(values)
    tool_use(tools)  # what of it is wrong is so before anything is looked up
    return Asked(
        values["input"],
        values["instructions"],
        values["previous_response_id"],
        values["conversation"],
        tools,
        answer_form({**values, "response_format": values["text"]["format"]}),
        values["chat_template_kwargs"],
    )


def _shown(values: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's own settings, with what holds where it said nothing. Raises InvalidValue."""
    for name in ("tools", "tool_choice", "text", "reasoning"):
        require_shallow(body.get(name), name)
    text, reasoning = body.get("text") or {}, values["reasoning"]
    conversation_id = values["conversation"]
    return {
        "access_programs": None,
        "background": values["background"],
        "conversation": None if conversation_id is None else {"id": conversation_id},
        "instructions": values["instructions"],
        "max_output_tokens": values["max_output_tokens"],
        "max_tool_calls": values["max_tool_calls"],
        "metadata": values["metadata"] or {},
        "parallel_tool_calls": values["parallel_tool_calls"],
        "previous_response_id": values["previous_response_id"],
        "prompt_cache_key": values["prompt_cache_key"],
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "safety_identifier": values["safety_identifier"],
        "temperature": values["temperature"],
        "text": {
            "format": _shown_format(text.get("format") or {"type": "text"}),
            "verbosity": text.get("verbosity") or "medium",
        },
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": list(map(_shown_tool, body.get("tools") or ())),
        "top_logprobs": values["top_logprobs"] or 0,
        "top_p": values["top_p"],
        "truncation": "disabled",
        **({} if values["user"] is None else {"user": values["user"]}),
    }


def _shown_format(form: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"schema": {}, **form} if form["type"] == "json_schema" else form


def _shown_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if tool["type"] != "function":
        return tool
    given = {name: tool.get(name) for name in ("type", "name", "description", "parameters")}
    return {**given, "strict": bool(tool.get("strict"))}
