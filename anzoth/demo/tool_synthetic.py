"""Which tools do businesses bring that nobody has thought of?

A verb, an object and some parameters, and everything that is said about them put together from
these words: so the model learns to match words, not to know tools. The object may be made up.

Does not know: tools that have a meaning (see `anzoth.demo.tool_catalogue`).
"""

# ruff: noqa: E501, SIM905  (tables of words: a row a line)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.tool_family import Offer, Parameter, schema_of
from anzoth.demo.tool_values import Value
from anzoth.demo.wording import camel_case, capitalized, plural

# Verbs that may stand for each other in a question are in one string, the first says which they are.
_VERBS = Phrasings(
    train=(
        *("get fetch show find", "create add", "update change", "delete remove", "check verify"),
        *("cancel", "approve accept", "reject", "send", "print", "start", "stop", "restart"),
        *("assign", "archive", "export", "reserve", "track locate", "close", "open", "rename"),
        *("ship", "refund", "renew extend", "lock", "unlock", "inspect", "repair fix", "clean"),
        *("order", "return", "sign", "tag", "rate", "pause", "resume", "reset", "calibrate"),
        *("activate enable", "deactivate disable", "publish", "confirm", "deliver", "measure"),
        *("count",),
    ),
    held_out=(
        *("load", "review", "merge", "freeze", "scan", "submit", "import", "release", "rent"),
        *("transfer", "validate", "schedule", "suspend", "upload", "weigh", "test"),
    ),
)
_OBJECTS = tuple(
    "warehouse contract employee vehicle "
    "subscription booking project document report supplier part pallet container truck "
    "driver license policy claim patient sample experiment batch pump valve robot drone "
    "camera printer domain certificate coupon voucher membership survey lesson "
    "student exam grade rental apartment lease meter turbine elevator conveyor forklift label "
    "barcode budget expense receipt refund quote offer lead campaign banner article photo video "
    "folder dataset permit visa passport badge "
    "locker desk crate pallet bin shelf tank furnace oven freezer press lathe mixer "
    "generator battery antenna".split()
)
_COMPOUNDS = tuple(
    "spare work delivery service purchase test storage repair customer safety maintenance "
    "training travel sales support production cargo guest medical rental".split()
)
# Words too near for a question to choose between them: two tools are never offered together whose
# objects and whose verbs are both the same, or in one of these groups.
_ARE_SAME = (
    ("offer", "quote"),
    ("package", "parcel", "shipment"),
    ("rental", "rent", "lease"),
    ("picture", "photo"),
    ("employee", "driver"),
)
_ARE_NEAR = (
    ("approve", "confirm"),
    ("start", "activate", "resume", "open", "unlock"),
    ("stop", "deactivate", "pause", "close", "lock", "freeze", "suspend"),
    ("check", "inspect", "test", "validate", "review", "scan", "measure", "get", "track"),
    ("send", "ship", "deliver", "transfer", "return"),
    ("cancel", "delete", "reject"),
    ("create", "order", "import", "upload"),
    ("reserve", "rent"),
    ("restart", "reset"),
    ("update", "rename", "repair"),
    ("publish", "release"),
)
_GETTERS = frozenset(("get", "fetch", "show", "find"))
_IDENTITY = "id"


@dataclass(slots=True, frozen=True)
class _Attribute:
    """A parameter of made-up tools. `kind`, `type` and `choices`: as in `Parameter`."""

    kind: str
    names: tuple[str, ...]
    cues: tuple[str, ...]
    """How a question gives it without naming it, where no other attribute could be meant."""
    type: str = "string"
    choices: tuple[tuple[Value, str], ...] = ()


def _same(*words: str) -> tuple[tuple[Value, str], ...]:
    return tuple((word, word) for word in words)


_ATTRIBUTES = (
    _Attribute("person", tuple("customer client owner assignee employee user technician".split()), ("for {v}",)),
    _Attribute("person", tuple("author buyer seller manager driver contact teacher".split()), ()),
    _Attribute("name", tuple("brand company supplier carrier vendor".split()), ("from {v}",)),
    _Attribute("city", tuple("city warehouse location branch site".split()), ("in {v}",)),
    _Attribute("city", tuple("destination target_city".split()), ("to {v}",)),
    _Attribute("date", tuple("date due_date start_date deadline day delivery_date".split()), ("on {v}",)),
    _Attribute("time", tuple("time start_time hour".split()), ("at {v}",)),
    _Attribute("iso_date", tuple("expiry valid_until end_date".split()), ("until {v}",)),
    _Attribute("decimal", tuple("amount price total cost discount weight budget".split()), (), "number"),
    _Attribute("integer", tuple("quantity count pieces units size capacity limit".split()), (), "integer"),
    _Attribute("small", tuple("minutes days hours".split()), ("for {v} {n}",), "integer"),
    _Attribute("color", ("color", "colour"), ("in {v}",)),
    _Attribute("email", tuple("email contact_email mail".split()), ("to {v}",)),
    _Attribute("phone", tuple("phone phone_number".split()), ()),
    _Attribute("text", tuple("reason note comment message description".split()), ("because '{v}'",)),
    _Attribute("", ("status", "state"), ("that are {v}",), "string", _same("open", "closed", "pending")),
    _Attribute("", ("status",), (), "string", _same("active", "inactive", "blocked")),
    _Attribute("", ("priority", "urgency"), ("with {v} priority",), "string", _same("low", "medium", "high")),
    _Attribute("", ("size",), (), "string", _same("small", "medium", "large")),
    _Attribute("", ("format", "file_format"), ("as {v}",), "string", _same("pdf", "csv", "json")),
    _Attribute("", ("urgent", "is_urgent"), (), "boolean", ((True, "urgent"), (False, "not urgent"))),
    _Attribute("word", tuple("category type material kind model department".split()), ()),
    _Attribute("code", tuple("serial_number sku batch_number license_plate code".split()), ()),
)  # fmt: skip

_PLAIN_ATTRIBUTES = tuple(
    attribute for attribute in _ATTRIBUTES if attribute.type == "string" and attribute.kind
)
_BY_NAME = Phrasings(
    train=(
        *("with {n} {v}", "with the {n} {v}", "{n} {v}", "{n}: {v}", "and {n} {v}", ", {n} {v}"),
        *("whose {n} is {v}", "using {n} {v}", "[set|use|take] {v} as {n}", "(the {n} is {v})"),
        *(
            "and {n} is {v}",
            "[by|for|at|of] {n} {v}",
            "{v} is the {n}",
            "with {v} as the {n}",
        ),
    ),
    held_out=("where the {n} is {v}", "having {n} {v}", "{n}={v}"),
)
# {o}: the object and the value that names it, {os}: its plural, {r}: everything else.
_REQUESTS = Phrasings(
    train=(
        *("{pls} {verb} {o} {r}", "{pls} {verb} {o} {r}", "{pls} {verb} the {o} {r}"),
        *("{verb} {o} {r}", "we [have to|should|must] {verb} the {o} {r}"),
        *("is it possible to {verb} {o} {r}", "[somebody|someone] should {verb} the {o} {r}"),
        *("I have to {verb} {o} {r}", "don't forget to {verb} the {o} {r}"),
        *("[remember|try|be so kind as|it would be good] to {verb} {o} {r}", "{o} {r}: {verb}"),
        "[let's|we need to|I'd like to|you should|go ahead and] {verb} [the|] {o} {r}",
        "[the boss|my manager|a customer|the team] wants [us|you|me] to {verb} [the|] {o} {r}",
        *("will you {verb} [the|] {o} {r}", "{o} {r}, [please|can you|you may] {verb} it"),
        "[is anybody able to|are you able to] {verb} {o} {r}",
    ),
    held_out=("it is time to {verb} the {o} {r}", "would you mind to {verb} {o} {r}"),
)
_GETTING = Phrasings(
    train=(
        *("{show} [the|] {o} {r}", "{q} [the|] {o} {r}", "{pls} {verb} [the|] {o} {r}"),
        *("I need [the|] {o} {r}", "details [of|for] [the|] {o} {r}", "[the|] {o} {r}"),
        *(
            "[is there|do we have|have you got] [anything on|data on|] {o} {r}",
            "{o} {r}, [details|please]",
        ),
        *(
            "[I want to|we would like to|may I] see [the|] {o} {r}",
            "[bring up|open] [the|] {o} {r}",
        ),
        *("what about [the|] {o} {r}", "[tell me|everything] about [the|] {o} {r}"),
    ),
    held_out=("what do we know about {o} {r}", "let me see {o} {r}"),
)
_COUNTING = Phrasings(
    train=(
        *("how many {os} {r}", "{pls} count [the|all|] {os} {r}", "number of {os} {r}"),
        *("count {os} {r}", "what is the number of {os} {r}", "how many {os} do we have {r}"),
        "[tell me|I wonder|find out|we need to know] how many {os} there are {r}",
        *(
            "[the|total] [count|number] of [all|] {os} {r}",
            "{os} {r}, [in total|the number please]",
        ),
        *(
            "how many {os} [are there|exist|did we count] {r}",
            "{pls} [tell me the number of|add up] {os} {r}",
        ),
    ),
    held_out=("{os} {r}: how many", "do a count of the {os} {r}"),
)
_ABOUT = Phrasings(
    train=("{Verb} {a} {o}", "{Verb} {os}", "{Verbs} {a} {o}", "{Verb} {a} {o} by {n}", ""),
    held_out=("To {verb} {os}", "{o}: {verb}"),
)
_PARAMETER_ABOUT = ("The {n}", "{n}", "The {n} of the {o}", "{o} {n}", "Which {n}")


@dataclass(slots=True, frozen=True)
class _Wording:
    """The words that a made-up tool is put together from."""

    verb: str
    verbs: str
    """All that the verb may be called in a question."""
    noun: str
    parameters: Mapping[str, Parameter]
    """By their slots. `_IDENTITY` is the one whose value follows the object: "invoice 4711"."""
    says: Mapping[str, str]
    """How a question gives the value of each other slot."""


def offer(draw: Draw) -> Offer:
    """A made-up tool."""
    return _offer(draw, draw.phrasing(_VERBS), _object(draw))


def _object(draw: Draw) -> str:
    if draw.chance(0.4):
        return draw.word()
    noun = draw.rng.choice(_OBJECTS)
    if draw.chance(0.15 * draw.level):
        return f"{draw.rng.choice(_COMPOUNDS)} {noun}"
    return noun


def _near(verbs: str, noun: str, draw: Draw) -> Offer:
    """The same object with another verb, or the same verb with another object."""
    if draw.chance(0.5):
        return _offer(draw, verbs, _object(draw))
    return _offer(draw, draw.phrasing(_VERBS), noun)


def _offer(draw: Draw, verbs: str, noun: str) -> Offer:
    verb = draw.rng.choice(verbs.split())
    names, parameters, says = _parameters(verb, noun, draw)
    about = _about(verb, noun, names, draw)
    tool_name = _tool_name(verb, noun, draw)
    if draw.chance(0.2 * draw.level):
        tool_name = camel_case(tool_name)
        names = {slot: camel_case(name) for slot, name in names.items()}
    return Offer(
        schema=schema_of(tool_name, about, {names[slot]: parameters[slot] for slot in names}, draw),
        groups=frozenset((f"{_meaning(verbs)} {_heart(noun)}",)),
        names=names,
        parameters=parameters,
        ask=partial(_ask, _Wording(verb, verbs, noun, parameters, says)),
        near=partial(_near, verbs, noun),
    )


def _meaning(verbs: str) -> str:
    """What makes two verbs so near that no question should have to choose between them."""
    first = verbs.split()[0]
    return next((group[0] for group in _ARE_NEAR if first in group), first)


def _heart(noun: str) -> str:
    """What makes two objects the same: not what they are for."""
    last = noun.split()[-1]
    return next((group[0] for group in _ARE_SAME if last in group), last)


def _tool_name(verb: str, noun: str, draw: Draw) -> str:
    words = (plural(noun) if verb == "count" else noun).replace(" ", "_")
    return f"{words}_{verb}" if draw.chance(0.12) else f"{verb}_{words}"


def _about(verb: str, noun: str, names: Mapping[str, str], draw: Draw) -> str:
    return ("{Verb} {os}" if verb == "count" else draw.phrasing(_ABOUT)).format(
        verb=verb,
        Verb=verb.capitalize(),
        Verbs=plural(verb).capitalize(),
        a="an" if noun[0] in "aeiou" else "a",
        o=noun,
        os=plural(noun),
        n=next(iter(names.values())).replace("_", " "),
    )


def _parameters(
    verb: str, noun: str, draw: Draw
) -> tuple[dict[str, str], dict[str, Parameter], dict[str, str]]:
    """By their slots: the parameters' names, the parameters, and how a question gives them."""
    names: dict[str, str] = {}
    parameters: dict[str, Parameter] = {}
    says: dict[str, str] = {}
    if has_identity := verb != "count":
        names[_IDENTITY], parameters[_IDENTITY] = _identity(noun, draw)
    attributes = _attributes(has_identity, draw)
    for attribute in attributes:
        name = draw.rng.choice(attribute.names)
        if name in names.values() or name == noun:
            continue
        slot = f"p{len(names)}"
        spoken = name.replace("_", " ")
        is_optional = draw.level > 0.3 and draw.chance(0.4)
        if attribute.type == "boolean":
            cue, about = ", {v}", (f"Whether the {noun} is {spoken.removeprefix('is ')}",)
        else:
            is_unnamed = _is_alone(attribute, attributes) and draw.chance(0.5)
            cue = draw.rng.choice(attribute.cues) if is_unnamed else draw.phrasing(_BY_NAME)
            about = _about_parameter(spoken, noun, draw)
        names[slot] = name
        says[slot] = cue.format(n=spoken, v=f"{{{slot}}}")
        tail = says[slot] if is_optional else ""
        parameters[slot] = Parameter(
            slot, attribute.kind, (name,), about, attribute.type, attribute.choices, tail
        )
    return names, parameters, says


def _is_alone(attribute: _Attribute, others: Sequence[_Attribute]) -> bool:
    """Whether it can be said without its name, as no other parameter could be meant."""
    return bool(attribute.cues) and not any(
        other is not attribute
        and (other.kind == attribute.kind or set(other.cues) & set(attribute.cues))
        for other in others
    )


def _attributes(has_identity: bool, draw: Draw) -> list[_Attribute]:
    """What the tool takes besides the object's identity; at least something."""
    most = (1 if draw.level < 0.3 else 2 if draw.level < 0.7 else 3) if has_identity else 2
    pool = _ATTRIBUTES if draw.level >= 0.3 else _PLAIN_ATTRIBUTES
    return draw.rng.sample(pool, draw.rng.randint(0 if has_identity else 1, most))


def _identity(noun: str, draw: Draw) -> tuple[str, Parameter]:
    """The name and the parameter of the value that tells which of the objects is meant."""
    words = noun.replace(" ", "_")
    kind = draw.rng.choice(("code", "code", "integer", "name", "word"))
    if kind in ("code", "integer"):
        name = draw.rng.choice(("id", f"{words}_id", f"{words}_number", "number", "reference"))
    else:
        name = draw.rng.choice(("name", f"{words}_name", words, "title"))
    is_integer = kind == "integer" and draw.level > 0.3 and draw.chance(0.6)
    about = _about_parameter(name.replace("_", " "), noun, draw)
    return name, Parameter(_IDENTITY, kind, (name,), about, "integer" if is_integer else "string")


def _about_parameter(name: str, noun: str, draw: Draw) -> tuple[str, ...]:
    about = f"The {name}" if noun in name else draw.rng.choice(_PARAMETER_ABOUT)
    return (capitalized(about.format(n=name, o=noun)),)


def _ask(wording: _Wording, draw: Draw) -> str:
    """A pattern, in which the slots are still in braces, and the words of asking (`{pls}`)."""
    noun, verb = wording.noun, wording.verb
    if draw.chance(0.3 * draw.level):
        verb = draw.rng.choice(wording.verbs.split())
    by_verb = _GETTING if verb in _GETTERS else _REQUESTS
    frames = _COUNTING if verb == "count" else by_verb
    says = [
        words
        for slot, words in wording.says.items()
        if not wording.parameters[slot].tail or draw.chance(0.5)
    ]
    draw.rng.shuffle(says)
    thing = f"{noun} {{{_IDENTITY}}}" if _IDENTITY in wording.parameters else noun
    return (
        draw.phrasing(frames)
        .replace("{verb}", verb)
        .replace("{o}", thing)
        .replace("{os}", plural(noun))
        .replace("{r}", " ".join(says))
        .replace(" ,", ",")
    )
