"""In which words does a user hand over a text that values are extracted from?

The text names each value's property, as a form or in sentences, or is one of the texts of
`anzoth.demo.json_things`; then come asides that give no value, and the request around it all.

Does not know: how properties and values are chosen, or what the schema looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.json_values import LISTS, NUMBERS, STRINGS, Property
from anzoth.demo.topic import expand
from anzoth.demo.wording import capitalized, enumerated

_EXTRACT = Phrasings(
    (
        "Extract the data[:|.] {text}",
        "Extract the {thing}: {text}",
        "Extract the {thing} [information|data|details] from [this|the following] text[:|.]"
        "\n{text}",
        "[Parse|Convert|Analyze] this[:|.] {text}",
        "[Parse|Read] the following text:\n\n{text}",
        "{text}\n\n[Extract the fields.|Extract the data.|Answer as JSON.|Return JSON.]",
        "[Turn this into|Give me|Return] JSON: {text}",
        "[Get|Find] the {thing} in this text: {text}",
        "Text: {text}",
        "Fill in the [form|fields|{thing}] from this: {text}",
        'Extract from "{text}"',
        "[Please extract|Can you extract] the [values|information|{thing} data]: {text}",
        "[I need|We need|I want] the {thing} as JSON[:|.] {text}",
        "[Collect|Read off|Note|Gather] the [values|facts|fields|details][:| from this:] {text}",
        "{text}\n\n[JSON please.|Which {thing} is this?|What are the fields?|Fill in the schema.]",
        "[Below is|This is|I got] a [text|message|note] about a {thing}.\n{text}",
        "[Message|Note|Input|Document|Email]:\n{text}",
        "{text}\n[Please structure this.|Please extract.|Give me the {thing}.|Make JSON of it.]",
        "[Structure|Transform|Translate to JSON|Summarize as JSON|Use the schema]: {text}",
        "[What {thing} is described here?|Which values are in here?] {text}",
        "[Could you|Would you] [read|structure|convert] [this|the following]? {text}",
    ),
    (
        "[Pull|Take] the {thing} out of this text: {text}",
        "Here is a text. Extract the {thing} as JSON.\n\n{text}",
        "{text}\nWhat does this say? Answer with JSON.",
        "Please parse the {thing}: {text}",
    ),
)
_CLASSIFY = Phrasings(
    (
        "[Classify|Label|Categorize|Rate] this[:|.] {text}",
        "[Classify|Label|Categorize] the following text: {text}",
        "{text}\n\nClassify this text.",
        "Classify the {thing}: {text}",
        'What is the [{field}|{field} of this text]? "{text}"',
        "Determine the {field}: {text}",
        "[Find|Choose|Pick|Decide on|Give] the {field}[ of this text|]: {text}",
        "{text}\n[What is the {field}?|Choose a {field}.|Pick the right {field}.]",
        "[Sort this|Put this into a category|Judge this][:|.] {text}",
    ),
    ("Which {field} has this text? {text}", "Classify: {text}", "Tell me the {field}. {text}"),
)
_ASIDES = Phrasings(
    (
        "Thanks in advance.",
        "Thank you very much.",
        "Let me know if anything is unclear.",
        "The weather was not that important.",
        "I hope this helps.",
        "That is all for now.",
        "Sorry for the late message.",
        "Nobody knows what comes next.",
        "We talked about it before.",
        "Best wishes to everyone.",
        "It was a long story.",
        "More news will follow.",
        "Please keep this to yourself.",
        "I am writing this on the train.",
        "There was not much time.",
        "My colleagues say hello.",
        "You know how it is.",
        "Call me when you are back.",
        "As I said before, it is quite simple.",
        "The office was empty when I left.",
    ),
    ("Have a good evening.", "I will tell you more later.", "We are looking forward to it."),
)
# An aside with a value in it, only where no property could mean it.
_STRAY: Mapping[str, Phrasings] = {
    "integer": Phrasings(
        ("I called {value} times.", "This is message {value} of today.", "See page {value}."),
        ("I waited for {value} minutes.",),
    ),
    "color": Phrasings(
        ("I wrote this with the {value} pen.", "The {value} folder is mine."),
        ("My {value} car is broken.",),
    ),
    "time": Phrasings(
        ("I wrote this at {value}.", "Please answer before {value}."), ("It is {value} here now.",)
    ),
}
# The kinds of properties that it could be taken for.
_RIVALS = {"integer": NUMBERS.keys(), "color": {"color"}, "time": {"time", "day", "iso"}}

# How a text names a property beside its value.
_STATEMENTS = Phrasings(
    (
        "the {name} is {value}",
        "its {name} is {value}",
        "the {name} is {value}",
        "{value} is the {name}",
        "it has the {name} {value}",
        "the {name} was {value}",
        "we have {value} as {name}",
        "the {name} is given as {value}",
        "the {name} says {value}",
        "{value} was chosen as {name}",
        "for {name} it says {value}",
        "its {name} is said to be {value}",
        "the {name} should be {value}",
        "somebody wrote {value} as the {name}",
    ),
    ("its {name} was {value}", "the {name} seems to be {value}", "as {name} it has {value}"),
)
_PLURALS = Phrasings(
    (
        "the {name} are {value}",
        "its {name} are {value}",
        "it has the {name} {value}",
        "{value} are the {name}",
        "we have {value} as {name}",
        "the {name} should be {value}",
        "for {name} it says {value}",
    ),
    ("its {name} were {value}", "as {name} it has {value}"),
)


def statements(draw: Draw, said: Sequence[Property]) -> str:
    """A text that names each property beside its value, as a form or in sentences."""
    has_comma = any("," in one.text or one.kind in LISTS for one in said)
    if draw.chance(0.35):
        mark = draw.rng.choice((": ", ": ", " = ", "="))
        separator = draw.rng.choice(("\n", "; ") if has_comma else ("\n", ", ", ", ", "; "))
        has_capitals = draw.chance(0.5)
        return separator.join(_entry(draw, one, mark, has_capitals) for one in said)
    clauses = [_clause(draw, one) for one in said]
    if draw.chance(0.5) and not has_comma:
        return f"{_beginning(enumerated(clauses), said)}."
    text = ". ".join(_beginning(clause, said) for clause in clauses) + "."
    if draw.chance(0.2 * draw.level):
        return with_aside(draw, text, {"integer", "color", "time"})
    return text


def _entry(draw: Draw, one: Property, mark: str, has_capitals: bool) -> str:
    name = one.name.replace("_", " ")
    text = one.text
    if one.kind == "flag":
        text = draw.rng.choice(("yes", "true") if one.value else ("no", "false"))
    return f"{capitalized(name) if has_capitals else name}{mark}{text}"


def _clause(draw: Draw, one: Property) -> str:
    if one.kind == "flag":
        text = one.text.rstrip(".")
        return text[:1].lower() + text[1:]
    pattern = draw.phrasing(_PLURALS if one.kind in LISTS else _STATEMENTS)
    return pattern.replace("{name}", one.name.replace("_", " ")).replace("{value}", one.text)


def _beginning(clause: str, said: Sequence[Property]) -> str:
    """With a capital, unless it begins with a value: that is copied as it stands."""
    if any(clause.startswith(one.text) for one in said):
        return clause
    return capitalized(clause)


def with_aside(draw: Draw, text: str, kinds: set[str]) -> str:
    """A sentence more, that could not be taken for the value of a property of these kinds."""
    aside = draw.phrasing(_ASIDES)
    stray = [kind for kind, rivals in _RIVALS.items() if kinds.isdisjoint(rivals)]
    if stray and draw.chance(0.5):
        kind = draw.rng.choice(stray)
        value = str(draw.number()) if kind == "integer" else STRINGS[kind](draw)
        aside = draw.phrasing(_STRAY[kind]).replace("{value}", value)
    if "\n" in text:
        return f"{text}\n{aside}"
    if text[-1] not in ".!?":
        return f"{text}. {aside}"
    return f"{aside} {text}" if draw.chance(0.4) else f"{text} {aside}"


def with_request(draw: Draw, title: str, text: str, properties: Sequence[Property]) -> str:
    """What the user sends: often only the text. `title`: what is to be extracted."""
    if draw.chance(0.35):
        return text
    words = {"thing": title, "text": text}
    # What kind of text this is: said in other words than the schema's.
    if (first := properties[0]).kind == "choice" and first.text not in first.schema["enum"]:
        words["field"] = first.name
        return expand(draw.phrasing(_CLASSIFY), draw.rng, words)
    return expand(draw.phrasing(_EXTRACT), draw.rng, words)
