"""What is one thing that the bundled model is taught to talk about?

A topic pairs many ways to ask with a few ways to answer. Phrasings are patterns: `[a|b|]` stands
for any one of its alternatives (they nest, an empty one means "left out"), `{word}` for an entry of
a table such as WORDS below. Answers are plain text, said exactly as written.

Does not know: any topic, or how topics are strung together into a conversation.
"""

# ruff: noqa: E501  (one pattern a line)

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_WORD = re.compile(r"\{([a-z]\w*)\}")

WORDS: Mapping[str, str] = {
    "how": (
        "[how do I|how can I|how do you|how to|how would I|how could I|how should I|how does one"
        "|what do I do to|what must I do to|tell me how to|show me how to|explain how to"
        "|I [want|need|would like|have] to|can I|is it possible to|what is the way to"
        "|which command do I use to|can you [show|tell] me how to|do you know how to"
        "|how am I supposed to|how can we|how could one|is there a way to|what is the command to|we want to"
        "|what do I [type|run|have to do] to|I'd like to|I am trying to|any idea how to"
        "|could you tell me how to|what [steps|command] do I need to|we have to|how do we|what's the best way to|help me|I'm trying to]"
    ),
    "whatis": (
        "[what is|what's|whats|what are|what exactly is|tell me about|explain|describe"
        "|can you explain|could you explain|what do you mean by|what is meant by|define"
        "|can you tell me about|I want to know about|what do you know about|info on|what about]"
    ),
    "which": "[which|what|tell me the|what's the|what is the|give me the|I need the|where is the]",
    "does": "[does|can|will|is it possible that|do you know if|I wonder if]",
    "anzoth": "[Anzoth|Anzoth|the server|it|this server|this thing]",
    "key": "[key|API key|api key|api-key|access key|token]",
}


# Sentences that ask about anything: they multiply the names of a topic.
CARRIERS = (
    "{about}",
    "{whatis} {about}",
    "[what about|how about|and|and what about|now|next:|how is it with] {about}",
    "[I have a question|I'd like to ask|a question|I need information|I want to know more] about {about}",
    "[I don't understand|I'm confused by|I'm stuck with|I need help with|help me with|we struggle with] {about}",
    "how [does|do|would] {about} work",
    "[can|could|would] you [explain|tell me something about|help me with|help us with|describe] {about}",
    "[what do you know|what can you tell me|what should I know|tell us] about {about}",
    "[any|some|more|got] [info|information|details|help] [on|about] {about}",
    "[where can I read about|teach me about|walk me through|give me a summary of] {about}",
    "[we were wondering|I was wondering|my boss asked me|a friend asked me|people ask] about {about}",
)


@dataclass(slots=True, frozen=True)
class Topic:
    """One subject: how people ask for it, what is said, and what may be asked next."""

    name: str
    about: str
    """What it is called, as a pattern; asked for through CARRIERS. Empty where that makes no sense."""
    asks: tuple[str, ...]
    answers: tuple[str, ...]
    key: str
    """A phrase that every answer contains, compared without case: the evaluation looks for it."""
    follows: tuple[tuple[str, str], ...] = ()
    """(a phrasing that makes sense only after this topic, the topic that answers it)."""
    opens: bool = True
    """False: nobody begins with this one, it is reached through `follows` of other topics."""


def expand(pattern: str, rng: random.Random, words: Mapping[str, str] = WORDS) -> str:
    """One phrasing of `pattern`, with single spaces. Raises KeyError for an unknown `{word}`."""
    # Choices first: the words inside an alternative that was not taken are never looked up.
    while True:
        if match := _CHOICE.search(pattern):
            replacement = rng.choice(match[1].split("|"))
        elif match := _WORD.search(pattern):
            replacement = words[match[1]]
        else:
            break
        pattern = pattern[: match.start()] + replacement + pattern[match.end() :]
    return re.sub(r" +", " ", pattern).strip()


def table(*groups: Sequence[Topic]) -> dict[str, Topic]:
    """All topics by name. Raises ValueError for a name used twice or a follow-up to nowhere."""
    topics: dict[str, Topic] = {}
    for topic in (topic for group in groups for topic in group):
        if topic.name in topics:
            raise ValueError(f"two topics are called {topic.name!r}")
        topics[topic.name] = topic
    for topic in topics.values():
        for _, target in topic.follows:
            if target not in topics:
                raise ValueError(f"topic {topic.name!r} leads to {target!r}, which does not exist")
    return topics
