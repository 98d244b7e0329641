"""Streamed pieces joined are the unstreamed answer, wherever a text is cut.

Every cut into two pieces, one character at a time, and for short texts every cut into three: for
each way of writing calls and for reasoning, alone and behind one another as an answer is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from anzoth.api.reasoning import ReasoningReader
from anzoth.api.tool_calls import ChatCollector, ToolCallReader
from anzoth.demo.vocabulary import CHAT_TEMPLATE
from anzoth.gateway.choices import TokenLogprob
from anzoth.text.reasoning import Beginning, Reasoning, ReasoningParser
from anzoth.text.tool_calls import FORMATS, format_of

NAMES = {"f", "get_weather"}
SHORT = 44
"""Characters of a text that is cut into three: 946 ways."""
FORMAT_OF = {form.name: form for form in FORMATS}
BUNDLED = format_of(CHAT_TEMPLATE)
assert BUNDLED is not None

ARGUMENTS = '{"city": "Zürich 🏔\\u00e9", "note": "a\\"}\\\\{ [x] </tool_call> [TOOL_CALLS]"}'
F = '{"name": "f", "arguments": {}}'
WEATHER = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
LLAMA_F = '{"name": "f", "parameters": {}}'
LLAMA_WEATHER = f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}'

PLAIN = (
    "",
    " ",
    "Grüezi 👋🏽, no call here.",
    "a < b and [c] {d}\n\n",
    "{",
    "[",
    "\n\n\\",
)
HERMES = (
    *PLAIN,
    f"<tool_call>{F}</tool_call>",
    '<tool_call>{"name":"f"}',
    f"<tool_call>\n{WEATHER}\n</tool_call>",
    f"Let me see. 🤔\n\n<tool_call>\n{F}\n</tool_call>\n<tool_call>\n{WEATHER}\n</tool_call>\n",
    f"One.\n<tool_call>{F}</tool_call>\nTwo.\n<tool_call>{F}</tool_call> Three. ",
    f"<tool_call>{F}<tool_call>{F}</tool_call>",
    f"<tool_call>{F}",
    f"<tool_call>{F}</tool_",
    "<tool_call>{broken}</tool_call> then",
    '<tool_call>{"name": "f", "arguments": {"a": "\\',
    '<tool_call>{"name": "nope", "arguments": {}}</tool_call>',
    f"<tool_call>{F} and so on </tool_call>",
    f"<tool_call>[{F}]</tool_call>",
    "<tool_<tool_call><tool_call>x</tool_call>",
    " <tool_call> \n",
)
MISTRAL = (
    *PLAIN,
    "[TOOL_CALLS]f[ARGS]{}",
    f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}",
    f"Well…\n[TOOL_CALLS]f[ARGS]{{}}[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}\nDone. ",
    "[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{} ",
    '[TOOL_CALLS] f[ARGS] {"a": [1, {}]} x',
    "[TOOL_CALLS]nope[ARGS]{}",
    "[TOOL_CALLS]f[ARGS]{broken",
    "[TOOL_CALLS]f[ARGS]not json",
    "[TOOL_CALLS]f[ARG]{}",
    "[TOOL_CALLS]f[CALL_ID",
    "[TOOL_[TOOL_CALLS]f[ARGS]{}",
    "é[TOOL_CALLS]",
)
MISTRAL_ARRAY = (
    *PLAIN,
    f"[TOOL_CALLS] [{F}]",
    f"[TOOL_CALLS] [{F}, {WEATHER}]",
    f"So: [TOOL_CALLS][ {F} ]\n\nand on",
    f"[TOOL_CALLS] [{F}, 1]",
    f"[TOOL_CALLS] [{F}",
    "[TOOL_CALLS] [1]",
    "[TOOL_CALLS] []",
    '[TOOL_CALLS] [{"name": "nope", "arguments": {}}]',
    "[TOOL_CALLS] [{broken}] x",
)
LLAMA3 = (
    *PLAIN,
    LLAMA_F,
    LLAMA_WEATHER,
    f"\n {LLAMA_F}; {LLAMA_WEATHER}\n",
    f"{LLAMA_F};{LLAMA_F};",
    f"{LLAMA_F} and more",
    f"Text. {LLAMA_F}",
    '{"name": "nope", "parameters": {}}',
    '{"name": "f", "parameters": {"a": "\\',
    "{broken}",
    '{"answer": 1}',
)
REASONING = (
    *PLAIN,
    "<think>Hm.</think>Yes.",
    "<think>\n Is 2 < 3? \n é🤔 </thin </think>\n\nYes, </think> too. ",
    " \n<think></think> ",
    "<think> \n </think>x",
    "<think>no end \n",
    "<think>no end </thi",
    "<thin",
    " <thinking> aloud",
    "Hm.</think>Yes.",
    "Yes: <think>x</think>",
)


def cuts(text: str) -> Iterator[Sequence[str]]:
    """All that the module's docstring names."""
    yield list(text)
    for cut in range(len(text) + 1):
        yield text[:cut], text[cut:]
    if len(text) <= SHORT:
        for first, second in itertools.combinations(range(1, len(text)), 2):
            yield text[:first], text[first:second], text[second:]


def joined(parser: Any, pieces: Sequence[str]) -> list[object]:  # a parser of either kind
    """What it gives out; neighbours of one kind are one."""
    given: Iterator[Any] = itertools.chain(*map(parser.push, pieces), parser.flush())
    found: list[Any] = []
    for event in given:
        last = found[-1] if found else None
        if isinstance(event, str) and isinstance(last, str):
            found[-1] = last + event
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            found[-1] = Reasoning(last.text + event.text)
        else:
            found.append(event)
    return found


CASES = [
    *(("hermes", FORMAT_OF["hermes"].parser, text) for text in HERMES),
    *(("bundled", BUNDLED.parser, text) for text in HERMES),
    *(("mistral", FORMAT_OF["mistral"].parser, text) for text in (*MISTRAL, *MISTRAL_ARRAY)),
    *(("mistral_array", FORMAT_OF["mistral_array"].parser, text) for text in MISTRAL_ARRAY),
    *(("llama3_json", FORMAT_OF["llama3_json"].parser, text) for text in LLAMA3),
]


@pytest.mark.parametrize(
    ("make_parser", "text"),
    [(make_parser, text) for _, make_parser, text in CASES],
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(CASES)],
)
def test_calls_and_text_are_the_same_wherever_the_text_is_cut(
    make_parser: Callable[[Any], Any], text: str
) -> None:
    whole = joined(make_parser(NAMES), [text])
    for pieces in cuts(text):
        assert joined(make_parser(NAMES), pieces) == whole, pieces


@pytest.mark.parametrize("beginning", Beginning)
@pytest.mark.parametrize("text", REASONING, ids=itertools.count())
def test_reasoning_and_answer_are_the_same_wherever_the_text_is_cut(
    beginning: Beginning, text: str
) -> None:
    whole = joined(ReasoningParser(beginning), [text])
    for pieces in cuts(text):
        assert joined(ReasoningParser(beginning), pieces) == whole, pieces


# --- an answer as it is read: reasoning, calls and text, with the log probability of each piece ---


def answer(form: str, pieces: Sequence[str], *, is_parallel: bool) -> dict[str, object]:
    collector = ChatCollector(1)
    endings: list[object] = []
    calls = ToolCallReader(
        collector,
        [FORMAT_OF[form].parser(NAMES)],
        lambda _, ending: endings.append(ending),
        is_parallel=is_parallel,
    )
    reader = ReasoningReader(collector, calls, 1, Beginning.POSSIBLE)
    offset = 0
    for piece in pieces:
        reader.text(0, piece, [TokenLogprob(1, -1.0, (), offset)])
        offset += len(piece)
    reader.finished(0, "stop")
    (choice,) = collector.choices()
    # Behind the first call, where only one is allowed, nobody listens any more.
    heard = len(choice.logprobs) == len(pieces) or not is_parallel
    offsets = [entry.text_offset for entry in choice.logprobs]
    assert offsets == sorted(offsets)
    return {
        "text": choice.text,
        "ending": choice.ending,
        "endings": endings,
        "calls": collector.calls,
        "reasoning": collector.reasonings(),
        "every logprob is given": heard,
    }


CALLED = f"<tool_call>{F}</tool_call>"
ANSWERS = [
    ("hermes", f"<think>Call f? {CALLED}</think>\nI do.\n<tool_call>{F}"),
    (
        "hermes",
        f"<think>é</think><tool_call>\n{WEATHER}\n</tool_call>\n{CALLED}x",
    ),
    ("hermes", "<think>no end, <tool_call>"),
    (
        "mistral",
        f"<think>[TOOL_C</think>[TOOL_CALLS]f[ARGS]{ARGUMENTS}[TOOL_CALLS]f[ARGS]{{}}",
    ),
    ("mistral_array", f"<think>x</think> [TOOL_CALLS] [{F}, {WEATHER}]."),
    ("llama3_json", f"<think>{LLAMA_F}</think>\n\n{LLAMA_WEATHER}; {LLAMA_F}"),
    ("llama3_json", "<think>x</think>\n\nNo { call."),
]


@pytest.mark.parametrize("is_parallel", [True, False])
@pytest.mark.parametrize(("form", "text"), ANSWERS, ids=itertools.count())
def test_a_streamed_answer_is_the_whole_one_wherever_it_is_cut(
    form: str, text: str, is_parallel: bool
) -> None:
    whole = answer(form, [text], is_parallel=is_parallel)
    assert whole["every logprob is given"]
    for pieces in cuts(text):
        assert answer(form, pieces, is_parallel=is_parallel) == whole, pieces


def test_the_texts_hold_what_they_are_there_for() -> None:
    """A corpus in which nothing is found would prove little."""
    found = [joined(make_parser(NAMES), [text]) for _, make_parser, text in CASES]
    num_calls = [sum(not isinstance(event, str) for event in events) for events in found]
    assert sum(number == 1 for number in num_calls) > 15
    assert sum(number > 1 for number in num_calls) > 6
    assert sum(number == 0 for number in num_calls) > 30
    answers = [answer(form, [text], is_parallel=True) for form, text in ANSWERS]
    assert sum(bool(read["calls"] != [[]]) for read in answers) == 5
    assert all(read["reasoning"] != [""] for read in answers)
