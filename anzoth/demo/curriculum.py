"""What is the bundled model taught, and when? Also: `python -m anzoth.demo.curriculum`.

Each example is a pure function of its random generator and of how far the training has come, so a
seed names the whole training text and nothing has to be stored. Copying is taught first and nearly
alone, because everything else needs it and it is slow to emerge among other things; lessons that
search (passages, tools, schemas) begin with one short thing to find and grow.

Does not know: tokens, or what is in a lesson.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from anzoth.demo import lessons_chat, lessons_json, lessons_passages, lessons_tools
from anzoth.demo.conversation import Conversation
from anzoth.demo.draw import Draw
from anzoth.demo.vocabulary import template

_COPYING_UNTIL = 0.04
FULL_LEVEL_AT = 0.5
"""Of the training."""


@dataclass(slots=True, frozen=True)
class Lesson:
    """One kind of example; weights count examples, not tokens."""

    draw: Callable[[Draw], Conversation | tuple[Conversation, ...]]
    """Several conversations begin alike and are computed together."""
    weights: tuple[float, float, float]
    """While copying is being learnt; until the full level is reached; after that."""
    answer_may_be_cut: bool = False
    """The rest of a long answer known by heart need not be shown every time."""


LESSONS = {
    "copying": Lesson(lessons_chat.copying, (60, 4, 4)),
    "chat": Lesson(lessons_chat.chat, (5, 38, 34), answer_may_be_cut=True),
    "passages": Lesson(lessons_passages.questions, (25, 26, 24), answer_may_be_cut=True),
    "tools": Lesson(lessons_tools.requests, (6, 9, 9)),
    "tool call": Lesson(lessons_tools.call, (0, 4, 6)),
    "no tool": Lesson(lessons_tools.no_tool, (0, 2, 2), answer_may_be_cut=True),
    "tool result": Lesson(lessons_tools.result, (0, 4, 5)),
    "json": Lesson(lessons_json.extract, (10, 9, 10)),
    "several questions": Lesson(lessons_passages.several, (0, 2, 4)),
}
_LESSONS = tuple(LESSONS.values())


def example(rng: random.Random, progress: float) -> tuple[tuple[Conversation, ...], bool]:
    """Conversations that begin alike, and whether their answers may be cut.

    `progress`: 0 at the start, 1 at the end.

    The level is drawn too: short examples stay in the mix to the end.
    """
    phase = (progress >= _COPYING_UNTIL) + (progress > FULL_LEVEL_AT)
    lesson = rng.choices(_LESSONS, [lesson.weights[phase] for lesson in _LESSONS])[0]
    highest = min(1.0, progress / FULL_LEVEL_AT)
    level = highest * rng.random() ** (0.7 if phase == 2 else 0.5)
    drawn = lesson.draw(Draw(rng, level=level))
    together = drawn if isinstance(drawn, tuple) else (drawn,)
    return together, lesson.answer_may_be_cut


def main() -> None:
    parser = argparse.ArgumentParser(description="Print some of the text that the model learns.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--progress", type=float, default=1.0, help="0 to 1 (default: 1)")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    console = Console(highlight=False, markup=False)
    for _ in range(options.count):
        for conversation in example(rng, options.progress)[0]:
            tools = {"tools": list(conversation.tools)} if conversation.tools else None
            text = template().render(conversation.messages(), tools)
            console.print(text.replace("<|end|>", "\n"))


if __name__ == "__main__":
    main()
