"""Which fields do chat completions and completions have, and what does this server do with each?

The two tables are the whole contract: every documented field, its type and range, its default, and
whether it is used, ignored or refused. The few rules that join two fields follow them. A field in
no table is ignored: clients send extensions of other servers.

Does not know: models, tokens, or how an answer is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anzoth.api.fields import (
    INT32_MAX,
    INT64_MAX,
    Field,
    Policy,
    array,
    boolean,
    harmless,
    integer,
    json_object,
    mapping,
    nested,
    number,
    one_of,
    parse,
    string,
    texts_or_token_ids,
    unsupported,
    wrong_type,
    wrong_value,
)
from anzoth.api.file_search import RESULTS, FileSearch
from anzoth.api.mcp_tool import TRACE
from anzoth.api.messages import Message, messages
from anzoth.api.response_format import (
    AnswerForm,
    answer_form,
    response_format,
    structured_outputs,
)
from anzoth.api.tools import (
    NO_TOOLS,
    AskedTools,
    Offered,
    ToolUse,
    asked_tools,
    search_of,
    tool_choice,
    tool_use,
    tools,
)
from anzoth.errors import InvalidValue
from anzoth.frames import SamplingParams
from anzoth.gateway.sampling_defaults import LEAST_TOP_P, RECOMMENDABLE
from anzoth.text.passages import Passage

# What one request may ask for. Texts are bounded by the body's size besides.
MAX_CHOICES = 128
"""Of all prompts of the request together."""
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 1024
MAX_STOP_TOKEN_IDS = 64
MAX_LOGIT_BIAS = 1024
MAX_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5
MAX_BEST_OF = 20
MAX_TOP_K = 1 << 20
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
MAX_TEMPLATE_VARIABLES = 32
MAX_DOCUMENTS = 64
MAX_INCLUDED = 16
MAX_DOCUMENT_TITLE = 1024
MAX_MODEL_NAME = 256
DEFAULT_COMPLETION_MAX_TOKENS = 16

_USED, _IGNORED, _REFUSED = Policy.USED, Policy.IGNORED, Policy.REFUSED


# --- checks that belong to one field --------------------------------------------------------------

METADATA = mapping(string(MAX_METADATA_VALUE), MAX_METADATA_PAIRS, MAX_METADATA_KEY)


def _stop(value: Any, param: str) -> tuple[str, ...]:
    if isinstance(value, list):
        return array(string(MAX_STOP_CHARACTERS, min_characters=1), MAX_STOPS)(value, param)
    if not isinstance(value, str):
        raise wrong_type(param, "a string or an array of strings", value)
    # An empty string would match everywhere; as the only value it is how some clients say "none".
    return (string(MAX_STOP_CHARACTERS)(value, param),) if value else ()


def _logit_bias(value: Any, param: str) -> tuple[tuple[int, float], ...]:
    biases = mapping(number(-100, 100), MAX_LOGIT_BIAS, 12)(value, param)
    pairs: dict[int, float] = {}
    for key, bias in biases.items():
        if not (key.isascii() and key.isdigit()) or int(key) > INT32_MAX:
            raise wrong_value(param, "token ids as keys")
        pairs[int(key)] = bias
    return tuple(pairs.items())


def _top_k(value: Any, param: str) -> int | None:
    """0 and -1 are two servers' ways to say "no limit"."""
    checked = integer(-1, MAX_TOP_K)(value, param)
    return checked if checked > 0 else None


def _modalities(value: Any, param: str) -> None:
    if "audio" in array(one_of("text", "audio"), 2)(value, param):
        raise unsupported(param, "with 'audio' is not supported by this server")


def template_variable(value: Any, param: str) -> Any:
    """A check (see `fields`)."""
    if not isinstance(value, bool | int | float | str):
        raise wrong_type(param, "values that are strings, numbers or booleans", value)
    return value


_DOCUMENT = nested(
    Field("text", string(INT32_MAX, min_characters=1), required=True),
    Field("title", string(MAX_DOCUMENT_TITLE)),
)


def _document(value: Any, param: str) -> Passage:
    return Passage(**_DOCUMENT(value, param))


# --- the tables -----------------------------------------------------------------------------------

COMMON_FIELDS = (
    Field("model", string(MAX_MODEL_NAME, min_characters=1), required=True),
    Field("temperature", number(0, 2), default=1.0),
    Field("top_p", number(0, 1), default=1.0),
    Field("frequency_penalty", number(-2, 2), default=0.0),
    Field("presence_penalty", number(-2, 2), default=0.0),
    Field("n", integer(1, MAX_CHOICES), default=1),
    Field("stop", _stop, default=()),
    Field("seed", integer(-INT64_MAX - 1, INT64_MAX)),
    Field("logit_bias", _logit_bias, default=()),
    Field("stream", boolean, default=False),
    Field(
        "stream_options",
        nested(
            Field("include_usage", boolean, default=False),
            Field("include_obfuscation", boolean, _IGNORED),
        ),
    ),
    Field("user", string(512)),
    # Extensions that other servers made customary.
    Field("top_k", _top_k),
    Field("min_p", number(0, 1), default=0.0),
    Field("typical_p", number(0, 1, above_low=True), default=1.0),
    Field("repetition_penalty", number(0, 10, above_low=True), default=1.0),
    Field("min_tokens", integer(0, INT32_MAX), default=0),
    Field("ignore_eos", boolean, default=False),
    Field("stop_token_ids", array(integer(0, INT32_MAX), MAX_STOP_TOKEN_IDS), default=()),
    Field("structured_outputs", structured_outputs),
)

CHAT_FIELDS = (
    *COMMON_FIELDS,
    Field("messages", messages, required=True),
    Field("max_tokens", integer(1, INT32_MAX)),
    Field("max_completion_tokens", integer(1, INT32_MAX)),
    Field("logprobs", boolean, default=False),
    Field("top_logprobs", integer(0, MAX_TOP_LOGPROBS)),
    Field("metadata", METADATA),
    Field("service_tier", one_of("auto", "default", "flex", "scale", "priority", "fast")),
    Field("safety_identifier", string(64)),
    Field(
        "chat_template_kwargs",
        mapping(template_variable, MAX_TEMPLATE_VARIABLES, 64),
        default={},
    ),
    Field("tools", tools, default=Offered()),
    Field("tool_choice", tool_choice),
    Field("parallel_tool_calls", boolean, default=True),
    # An extension: passages to answer from (`anzoth.text.passages` lays them out).
    Field("documents", array(_document, MAX_DOCUMENTS), default=()),
    # As in the Responses API; what there is nothing of is not included.
    Field("include", array(string(64), MAX_INCLUDED), default=()),
    Field("response_format", response_format),
    Field("functions", harmless([]), _REFUSED),
    Field("function_call", harmless("none", "auto"), _REFUSED),
    Field("modalities", _modalities, _REFUSED),
    Field("store", harmless(False), _REFUSED),
    Field("audio", harmless(), _REFUSED),
    Field("prediction", harmless(), _REFUSED),
    Field("web_search_options", harmless(), _REFUSED),
    Field("moderation", harmless(), _REFUSED),
    # Never refused for its value: new efforts appear, and these models have none.
    Field("reasoning_effort", string(64), _IGNORED),
    Field("verbosity", one_of("low", "medium", "high"), _IGNORED),
    Field("prompt_cache_key", string(512), _IGNORED),
    Field("prompt_cache_retention", string(64), _IGNORED),
    Field("prompt_cache_options", json_object, _IGNORED),
)

COMPLETION_FIELDS = (
    *COMMON_FIELDS,
    Field("prompt", texts_or_token_ids(MAX_CHOICES), required=True),
    # 0: the prompt is only scored, or repeated.
    Field("max_tokens", integer(0, INT32_MAX)),
    Field("logprobs", integer(0, MAX_COMPLETION_LOGPROBS)),
    Field("echo", boolean, default=False),
    Field("best_of", integer(0, MAX_BEST_OF), default=1),
    Field("suffix", harmless(""), _REFUSED),
)


# --- the requests ---------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Options:
    """What both kinds of request have."""

    model: str
    num_choices: int
    max_tokens: int | None
    sampling: SamplingParams
    """As OpenAI documents it in the fields that are `unsaid`; a model may have it otherwise (see
    `ServedModel.sampling`)."""
    unsaid: frozenset[str]
    stop: tuple[str, ...] = field(repr=False)
    stream: bool
    include_usage: bool
    end_user: str | None = field(repr=False)
    metadata: dict[str, str] | None = field(repr=False)
    service_tier: str | None


@dataclass(slots=True, frozen=True)
class ChatRequest:
    """A valid body of POST /v1/chat/completions."""

    options: Options
    messages: Sequence[Message] = field(repr=False)
    template_variables: Mapping[str, Any] = field(repr=False)
    tools: ToolUse | None
    """None: the model is not told of any."""
    documents: Sequence[Passage] = field(repr=False)
    form: AnswerForm | None = None
    """What an answer has to be. None: any text."""
    file_search: FileSearch | None = None
    """Knowledge bases that the request itself names."""
    shows_trace: bool = False
    """What was found in knowledge bases is to stand in the answer."""
    asked_tools: AskedTools = NO_TOOLS
    """From which `tools` is made."""
    shows_calls: bool = False
    """What was called of tools on this side is to stand in the answer."""


@dataclass(slots=True, frozen=True)
class CompletionRequest:
    """A valid body of POST /v1/completions."""

    options: Options
    prompts: tuple[str | Sequence[int], ...] = field(repr=False)
    echo: bool
    form: AnswerForm | None = None
    """What a choice has to be, without its echo. None: any text."""
    num_candidates: int = 1
    """Of which each prompt's choices are the likeliest; as many as those, or more."""


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter."""
    values = parse(CHAT_FIELDS, body)
    newer, older = values["max_completion_tokens"], values["max_tokens"]
    if newer is not None and older is not None and newer != older:
        raise InvalidValue(
            "'max_tokens' and 'max_completion_tokens' mean the same and differ. Give one of them.",
            param="max_completion_tokens",
        )
    if values["top_logprobs"] is not None and not values["logprobs"]:
        raise InvalidValue("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    num_logprobs = (values["top_logprobs"] or 0) if values["logprobs"] else None
    options = options_of(body, values, newer if older is None else older, num_logprobs)
    asked = asked_tools(values)
    search = search_of(asked)
    return ChatRequest(
        options,
        values["messages"],
        values["chat_template_kwargs"],
        tool_use(asked),
        values["documents"],
        answer_form(values),
        search,
        RESULTS in values["include"] or (search is not None and search.shows_trace),
        asked,
        TRACE in values["include"] or any(tool.shows_trace for tool in asked.offered.servers),
    )


def parse_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """Raises MissingParameter, InvalidValue or UnsupportedParameter."""
    values = parse(COMPLETION_FIELDS, body)
    num_candidates = _num_candidates(values)
    if (num_choices := len(values["prompt"]) * num_candidates) > MAX_CHOICES:
        field = "n" if num_candidates == values["n"] else "best_of"
        raise wrong_value(field, f"at most {MAX_CHOICES} choices over all prompts", num_choices)
    options = options_of(body, values, values["max_tokens"], values["logprobs"])
    return CompletionRequest(
        options, values["prompt"], values["echo"], values["structured_outputs"], num_candidates
    )


def _num_candidates(values: Mapping[str, Any]) -> int:
    """Per prompt. 0 and 1 mean that there is nothing to choose from."""
    best_of, num_choices = values["best_of"], values["n"]
    if best_of <= 1:
        return num_choices
    if best_of < num_choices:
        raise wrong_value("best_of", f"at least {num_choices} (the value of 'n')", best_of)
    if values["stream"] and best_of > num_choices:
        raise unsupported(
            "best_of", "above 'n' cannot be streamed: which choices are the best shows at the end"
        )
    return best_of


def options_of(
    body: Mapping[str, Any],
    values: Mapping[str, Any],
    max_tokens: int | None,
    num_logprobs: int | None,
) -> Options:
    """Of a body whose fields were checked: `values`."""
    if values["stream_options"] is not None and not values["stream"]:
        raise InvalidValue("'stream_options' needs 'stream' to be true.", param="stream_options")
    if max_tokens is not None and values["min_tokens"] > max_tokens:
        raise wrong_value("min_tokens", f"at most {max_tokens} (the maximum)", values["min_tokens"])
    return Options(
        model=values["model"],
        num_choices=values["n"],
        max_tokens=max_tokens,
        sampling=_sampling(values, num_logprobs),
        unsaid=frozenset(name for name in RECOMMENDABLE if body.get(name) is None),
        stop=values["stop"],
        stream=values["stream"],
        include_usage=bool((values["stream_options"] or {}).get("include_usage")),
        end_user=values.get("safety_identifier") or values["user"],
        metadata=values.get("metadata"),
        service_tier=values.get("service_tier"),
    )


def _sampling(values: Mapping[str, Any], num_logprobs: int | None) -> SamplingParams:
    seed = values["seed"]
    return SamplingParams(
        temperature=values["temperature"],
        top_p=max(values["top_p"], LEAST_TOP_P),
        top_k=values["top_k"],
        min_p=values["min_p"],
        typical_p=values["typical_p"],
        seed=secrets.randbits(63) if seed is None else seed,
        presence_penalty=values["presence_penalty"],
        frequency_penalty=values["frequency_penalty"],
        repetition_penalty=values["repetition_penalty"],
        logit_bias=values["logit_bias"],
        num_logprobs=num_logprobs,
        min_tokens=values["min_tokens"],
        ignore_eos=values["ignore_eos"],
        stop_token_ids=values["stop_token_ids"],
    )
