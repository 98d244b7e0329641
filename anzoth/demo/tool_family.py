"""What describes a family of tools, and what is one tool of it that a conversation offers?

A `Family` is written by hand (see `anzoth.demo.tool_catalogue` and `tool_catalogue_work`): the
names, descriptions, parameters and questions that occur for one kind of tool. `offer` draws a tool
from it. Questions are patterns of `anzoth.demo.topic`, in which `{slot}` stands for a parameter's
value; only the slots become arguments.

Does not know: which families there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from anzoth.demo.conversation import Json
from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.tool_values import KINDS, Value
from anzoth.demo.topic import expand
from anzoth.demo.wording import camel_case

_NO_DESCRIPTION = 0.12
"""Of tools. Small: without one, only names tell what a tool is for."""
_NO_PARAMETER_DESCRIPTION = 0.25
_EXAMPLE = 0.25
"""Of descriptions of parameters, at level 1."""


@dataclass(slots=True, frozen=True)
class Parameter:
    """One argument that a tool takes."""

    slot: str
    """What questions call it."""
    kind: str
    """What its values are: one of KINDS. Empty where `choices` are all its values."""
    names: tuple[str, ...]
    """What schemas call it."""
    about: tuple[str, ...]
    """Patterns of its description."""
    type: str = "string"
    """In JSON."""
    choices: tuple[tuple[Value, str], ...] = ()
    """(value, pattern of the words that mean it in a question)."""
    tail: str = ""
    """How a question goes on that gives it; such a parameter is optional, others never are."""

    def value(self, draw: Draw) -> tuple[Value, str]:
        """A value, and the words for it in the question."""
        if self.choices:
            value, words = draw.rng.choice(self.choices)
            return value, expand(words, draw.rng)
        value = KINDS[self.kind](draw)
        words = str(value)
        return (words if self.type == "string" else value), words


def parameter(
    slot: str,
    kind: str,
    names: str,
    *about: str,
    type: str = "string",
    tail: str = "",
    choices: tuple[tuple[Value, str], ...] = (),
) -> Parameter:
    """For tables, where `names` in one string, separated by spaces, are easier to read."""
    return Parameter(slot, kind, tuple(names.split()), about, type, choices, tail)


@dataclass(slots=True, frozen=True)
class Family:
    """One kind of tool."""

    groups: str
    """Tools that share one of these words could answer each other's questions."""
    names: Phrasings
    about: Phrasings
    parameters: tuple[Parameter, ...]
    asks: Phrasings
    """Patterns that give every parameter without a tail. The first two are near the description."""
    is_general: bool = False
    """True where nearly any question could be answered with it."""
    follows: tuple[str, ...] = ()
    """Patterns that ask once more with another value, after the first one was answered."""


@dataclass(slots=True, frozen=True)
class Offer:
    """A tool that the assistant is given, and how its users ask."""

    schema: Json
    groups: frozenset[str]
    names: Mapping[str, str]
    """From slots to the names in the schema, in the schema's order."""
    parameters: Mapping[str, Parameter]
    ask: Callable[[Draw], str]
    """Draws a pattern."""
    is_general: bool = False
    follows: tuple[str, ...] = ()
    near: Callable[[Draw], Offer] | None = None
    """Draws a tool that is easily mistaken for this one."""

    @property
    def name(self) -> str:
        return self.schema["function"]["name"]


def schema_of(name: str, about: str, parameters: Mapping[str, Parameter], draw: Draw) -> Json:
    """A tool in the API's form. `parameters` by their names in the schema."""
    properties = {key: _property(parameter, draw) for key, parameter in parameters.items()}
    required = [key for key, parameter in parameters.items() if not parameter.tail]
    function: Json = {"name": name}
    if about:
        function["description"] = about
    function["parameters"] = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": function}


def _property(parameter: Parameter, draw: Draw) -> Json:
    schema: Json = {"type": parameter.type}
    if parameter.about and not draw.chance(_NO_PARAMETER_DESCRIPTION):
        about = expand(draw.rng.choice(parameter.about), draw.rng)
        # An example is a value that must not be copied.
        if not parameter.choices and "e.g." not in about and draw.chance(_EXAMPLE * draw.level):
            about += f", e.g. {parameter.value(draw)[1]}"
        schema["description"] = about
    if parameter.choices and parameter.type != "boolean":
        schema["enum"] = [value for value, _ in parameter.choices]
    return schema


def offer(family: Family, draw: Draw) -> Offer:
    """A tool of this family, with some of its optional parameters."""
    rng = draw.rng
    name = expand(draw.phrasing(family.names), rng)
    about = expand(draw.phrasing(family.about), rng)
    if draw.level > 0.3 and draw.chance(_NO_DESCRIPTION):
        about = ""
    is_camel_case = draw.chance(0.15 * draw.level)
    names: dict[str, str] = {}
    parameters: dict[str, Parameter] = {}
    for parameter in family.parameters:
        if parameter.tail and not draw.chance(0.6 * draw.level):
            continue
        key = rng.choice([key for key in parameter.names if key not in names.values()])
        names[parameter.slot] = camel_case(key) if is_camel_case else key
        parameters[parameter.slot] = parameter
    if is_camel_case:
        name = camel_case(name)

    return Offer(
        schema=schema_of(name, about, {names[slot]: parameters[slot] for slot in names}, draw),
        groups=frozenset(family.groups.split()),
        names=names,
        parameters=parameters,
        ask=partial(_ask, family, parameters),
        is_general=family.is_general,
        follows=family.follows,
    )


def _ask(family: Family, parameters: Mapping[str, Parameter], draw: Draw) -> str:
    """A pattern: at low levels mostly one that is near the description; some tails follow it."""
    if not draw.held_out_phrasings and draw.chance((1 - draw.level) * 0.8):
        pattern = draw.rng.choice(family.asks.train[:2])
    else:
        pattern = draw.phrasing(family.asks)
    tails = [parameter.tail for parameter in parameters.values() if parameter.tail]
    draw.rng.shuffle(tails)
    given = [tail for tail in tails if draw.chance(0.5)]
    return " ".join((pattern, *given))
