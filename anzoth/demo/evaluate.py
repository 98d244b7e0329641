"""How good are the bundled model's answers? `python -m anzoth.demo.evaluate`.

Three examinations, none of which the model was trained on. The first two are drawn from the lessons
with values (names, amounts, codes, words) that training never used: once in phrasings that it did
use, once in phrasings that it did not. The third was written by hand, away from the lessons: it
shows what carries over to people. Where a lesson has no phrasings of its own to hold out (talk
about Anzoth), there is no second one.

Does not know: how the model was trained.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from anzoth.demo import (
    examination_tasks,
    lessons_chat,
    lessons_json,
    lessons_passages,
    lessons_tools,
)
from anzoth.demo.answering import Answer, Answering
from anzoth.demo.checkpoint import MODEL_DIR
from anzoth.demo.conversation import Conversation, Turn, text_of
from anzoth.demo.draw import Draw
from anzoth.demo.examination import EXAMINATION
from anzoth.demo.lessons_self import ITSELF, MANNERS

SEED = 987_654_321
SAME_PHRASINGS = "known phrasings, new values"
NEW_PHRASINGS = "new phrasings, new values"
BY_HAND = "written by hand"

Lesson = Callable[[Draw], Conversation]
Judge = Callable[[Answer], Sequence[tuple[str, bool]]]
"""An answer to (category, whether it is right) pairs: one answer may show several skills."""


@dataclass(slots=True, frozen=True)
class Case:
    """A conversation to go on with."""

    column: str
    conversation: Conversation
    judge: Judge


@dataclass(slots=True, frozen=True)
class Result:
    """One judged answer."""

    column: str
    category: str
    conversation: Conversation
    answer: Answer
    is_right: bool

    def __str__(self) -> str:
        said = self.answer.text or str(self.answer.calls)
        return f"{self.category}: {text_of(self.conversation.turns[-3:])}\n    -> {said}"


# --- judges ---------------------------------------------------------------------------------------


def contains(category: str, accepts: Sequence[str]) -> Judge:
    """Right: one of the phrases is in the answer, compared without case."""
    return lambda answer: [
        (category, any(phrase.lower() in answer.text.lower() for phrase in accepts))
    ]


def equals(category: str, expected: Turn) -> Judge:
    """Right: the very text."""
    return lambda answer: [(category, answer.text == expected.content and not answer.calls)]


def is_json(category: str, expected: Turn) -> Judge:
    """Right: the same object, however it is spaced."""

    def judge(answer: Answer) -> Sequence[tuple[str, bool]]:
        try:
            return [(category, json.loads(answer.text) == json.loads(expected.content))]
        except ValueError:
            return [(category, False)]

    return judge


def calls(expected: Turn) -> Judge:
    """Right choice: one call, of the right tool. Right arguments: equal ones, in that call."""

    def judge(answer: Answer) -> Sequence[tuple[str, bool]]:
        is_choice = [call.name for call in answer.calls] == [call.name for call in expected.calls]
        return [("tool choice", is_choice), ("tool arguments", answer.calls == expected.calls)]

    return judge


def no_call(_expected: Turn) -> Judge:
    """Right: nothing is called."""
    return lambda answer: [("no tool", not answer.calls and bool(answer.text))]


# --- drawn cases ----------------------------------------------------------------------------------

# One line per lesson: who judges what the assistant says last.
_JUDGES: Mapping[Lesson, Callable[[Turn], Judge]] = {
    lessons_passages.answerable: lambda turn: equals("grounded answer", turn),
    lessons_passages.unanswerable: lambda turn: equals("unanswerable", turn),
    lessons_tools.call: calls,
    lessons_tools.no_tool: no_call,
    lessons_tools.result: lambda turn: contains("tool result", (turn.key,)),
    lessons_json.extract: lambda turn: is_json("JSON answer", turn),
}


def drawn(count: int, seed: int = SEED) -> Iterator[Case]:
    """`count` cases of each kind of talk, and of each lesson in both columns."""
    yield from _chats(count, seed)
    for column in (SAME_PHRASINGS, NEW_PHRASINGS):
        for lesson in _JUDGES:
            yield from islice(drawn_from(lesson, column, seed), count)


def drawn_from(lesson: Lesson, column: str, seed: int = SEED) -> Iterator[Case]:
    """Cases of one lesson, without end."""
    is_new = column == NEW_PHRASINGS
    rng = random.Random(f"{seed}/{lesson.__module__}.{lesson.__name__}/{is_new}")
    while True:
        conversation = lesson(Draw(rng, held_out_values=True, held_out_phrasings=is_new))
        last = len(conversation.turns) - 1
        judge = _JUDGES[lesson](conversation.turns[last])
        yield Case(column, conversation.up_to(last), judge)


def _chats(count: int, seed: int) -> Iterator[Case]:
    """`count` of each category, taken from wherever they come up in conversations."""
    draw = Draw(random.Random(f"{seed}/chat"), held_out_values=True)
    categories = ("greeting, identity", "about Anzoth", "follow-up", "recall", "outside knowledge")
    wanted: dict[str, int] = dict.fromkeys(categories, count)
    while any(wanted.values()):
        conversation = lessons_chat.chat(draw)
        turns = conversation.turns
        for at, turn in enumerate(turns[:14]):
            if turn.role != "assistant" or turn.topic is None:
                continue
            is_first = at < 2 or turns[at - 2].role != "assistant"
            category = _category(turn.topic, is_first=is_first)
            if wanted[category]:
                wanted[category] -= 1
                yield Case(SAME_PHRASINGS, conversation.up_to(at), contains(category, (turn.key,)))


_POLITE = frozenset(topic.name for topic in (*ITSELF, *MANNERS))


def _category(topic: str, *, is_first: bool) -> str:
    if topic not in lessons_chat.TOPICS:
        return "recall"
    if topic.startswith("unknown"):
        return "outside knowledge"
    if not is_first:
        return "follow-up"
    return "greeting, identity" if topic in _POLITE else "about Anzoth"


# --- examinations ---------------------------------------------------------------------------------


def examine(model: Answering, cases: Iterable[Case]) -> Iterator[Result]:
    """The results of cases that do not depend on each other's answers."""
    cases = list(cases)
    conversations = [case.conversation for case in cases]
    for case, answer in zip(cases, model.answers(conversations), strict=True):
        for category, is_right in case.judge(answer):
            yield Result(case.column, category, case.conversation, answer, is_right)


def examine_by_hand(model: Answering) -> Iterator[Result]:
    """The hand-written questions and tasks."""
    yield from _questions(model)
    yield from examine(model, (_task(case) for case in examination_tasks.cases()))


def _questions(model: Answering) -> Iterator[Result]:
    """About Anzoth; later turns come after the model's own earlier answers."""
    for category, questions in EXAMINATION.items():
        said = [Conversation(()) for _ in questions]
        for exchange in range(max(len(question.says) for question in questions)):
            active = [i for i, question in enumerate(questions) if len(question.says) > exchange]
            for i in active:
                user = Turn("user", questions[i].says[exchange])
                said[i] = Conversation((*said[i].turns, user))
            for i, answer in zip(active, model.answers([said[i] for i in active]), strict=True):
                if exchange + 1 == len(questions[i].says):
                    judge = contains(_SAME_SKILL[category], questions[i].accepts)
                    for name, is_right in judge(answer):
                        yield Result(BY_HAND, name, said[i], answer, is_right)
                said[i] = Conversation((*said[i].turns, Turn("assistant", answer.text)))


def _task(case: examination_tasks.Case) -> Case:
    def judge(answer: Answer) -> Sequence[tuple[str, bool]]:
        is_right = case.is_right(answer.text, answer.calls)
        if case.call is None:
            return [(_SAME_SKILL[case.category.split(",")[0]], is_right)]
        is_choice = [call.name for call in answer.calls] == [case.call.name]
        return [("tool choice", is_choice), ("tool arguments", is_right)]

    return Case(BY_HAND, case.conversation, judge)


_SAME_SKILL = {
    "greeting and identity": "greeting, identity",
    "greeting": "greeting, identity",
    "documentation": "about Anzoth",
    "follow-up questions": "follow-up",
    "recall": "recall",
    "outside of its knowledge": "outside knowledge",
    "grounded": "grounded answer",
    "unanswerable": "unanswerable",
    "no tool": "no tool",
    "tool result": "tool result",
    "json answer": "JSON answer",
}


Scores = dict[str, dict[str, tuple[int, int]]]
"""category -> column -> (right, asked)"""


def scores(results: Iterable[Result]) -> Scores:
    table: Scores = {}
    for result in results:
        row = table.setdefault(result.category, {})
        right, asked = row.get(result.column, (0, 0))
        row[result.column] = (right + result.is_right, asked + 1)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Examine the bundled model.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--count", type=int, default=200, help="drawn cases of each kind")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mistakes", action="store_true", help="print what it got wrong")
    options = parser.parse_args()
    model = Answering(options.model)
    cases = list(drawn(options.count))
    results = [
        *track(
            examine(model, cases), "drawn cases", total=len(cases), console=Console(stderr=True)
        ),
        *examine_by_hand(model),
    ]
    found = scores(results)
    if options.json:
        print(json.dumps(found))
        return
    _print(found, results if options.mistakes else ())


def _print(found: Scores, results: Sequence[Result]) -> None:
    console = Console(highlight=False)
    columns = (SAME_PHRASINGS, NEW_PHRASINGS, BY_HAND)
    view = Table("skill", *columns, title="right answers")
    for category, row in found.items():
        cells = (row.get(column) for column in columns)
        view.add_row(
            category,
            *(f"{100 * c[0] / c[1]:.0f} %  ({c[0]}/{c[1]})" if c else "" for c in cells),
        )
    console.print(view)
    for result in results:
        if not result.is_right:
            console.print(str(result), markup=False)


if __name__ == "__main__":
    main()
