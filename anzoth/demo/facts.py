"""What can a sentence of a document state, and how is it asked for?

A fact is one sentence with a question that it answers. Three kinds: an attribute of something
("The price of Plan Zanda is 45 EUR."), an event ("Anna Brel founded Zanda in 1987.") and a rule
("Guests must leave the garden before 9 pm."). Names, values and half of the things are made up, so
that finding the sentence takes reading it and not knowing the world.

Does not know: passages, or what is said when no sentence answers.
"""

# ruff: noqa: E501, SIM905  (one pattern a line; lists of words read better as text)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anzoth.demo.draw import MONTHS, WEEKDAYS, Draw, Phrasings, made_up_word
from anzoth.demo.wording import capitalized


@dataclass(slots=True, frozen=True)
class Fact:
    """A sentence and a question that it answers; `about` tells facts apart that must not meet."""

    sentence: str
    question: str
    value: str
    """What the question asks for, as it stands in the sentence."""
    about: tuple[str, ...]
    short: str = ""
    """The sentence where the title already names what it is about, if there is such a form."""
    also: str = ""
    """Another question that the sentence answers; it may ask for something else in it."""


# --- attributes -----------------------------------------------------------------------------------

# name -> values, and questions that do not say the name itself.
_AMOUNT = (
    *("price", "cost", "fee", "deposit", "budget", "salary", "rent", "fine", "monthly fee"),
    *("entry fee", "total", "revenue", "debt", "prize", "shipping cost", "refund", "annual fee"),
    *("bonus", "loan", "tax", "penalty", "donation", "insurance", "hourly rate", "discount"),
)
_DATE = (
    *("deadline", "opening date", "launch date", "release date", "due date", "birthday"),
    *("expiry date", "start date", "end date", "delivery date", "renewal date", "next review"),
    *("founding date", "last inspection", "wedding", "next meeting", "next update", "anniversary"),
)
_PERSON = (
    *("owner", "manager", "director", "founder", "author", "contact person", "designer", "mayor"),
    *("chief engineer", "treasurer", "coach", "inspector", "head nurse", "chair", "president"),
    *("captain", "teacher", "lawyer", "accountant", "project lead", "architect", "secretary"),
)
_PLACE = (
    *("location", "headquarters", "birthplace", "venue", "destination", "home town", "origin"),
    *("main office", "warehouse", "meeting point", "nearest airport", "factory", "registered seat"),
)
_NUMBER = (
    *("capacity", "number of employees", "number of rooms", "population", "score", "page count"),
    *("seat number", "room number", "age limit", "number of seats", "number of doors", "rank"),
    *("minimum age", "maximum number of guests", "number of floors", "stock", "quota", "limit"),
)
_MEASURE = (
    *("weight", "height", "length", "width", "maximum speed", "range", "depth", "size", "diameter"),
    *("temperature", "power", "distance", "battery capacity", "tank volume", "thickness"),
)
_UNITS = ("kg", "g", "m", "cm", "mm", "km", "km/h", "litres", "degrees", "watts", "miles", "GB")
_CODE = (
    *("order number", "serial number", "access code", "part number", "invoice number", "password"),
    *("customer number", "license plate", "PIN", "model number", "article number", "ticket number"),
    *("Wi-Fi password", "booking code", "tax number", "error code", "tracking number", "batch"),
)
_TIME = (
    *("opening time", "closing time", "departure time", "arrival time", "check-in time"),
    *("start time", "lunch break", "check-out time", "last train", "daily backup"),
)
_DURATION = (
    *("warranty", "refund window", "notice period", "trial period", "delivery time", "validity"),
    *("contract term", "probation period", "retention period", "battery life", "waiting time"),
    *("return period", "cooking time", "flight time", "lead time", "payment term"),
)
_SPANS = ("days", "weeks", "months", "years", "hours", "minutes", "working days")
_PHRASE = (
    *("nickname", "code name", "slogan", "main ingredient", "main product", "material", "topic"),
    *("keyword", "favourite food", "project name", "theme", "hobby", "logo", "mascot", "status"),
)
_EMAIL = ("email address", "contact address", "support address", "email", "billing address")


def _measure(draw: Draw) -> str:
    return f"{draw.number()} {draw.rng.choice(_UNITS)}"


def _duration(draw: Draw) -> str:
    return f"{draw.number(2, 120)} {draw.rng.choice(_SPANS)}"


def _phrase_or_word(draw: Draw) -> str:
    return draw.phrase() if draw.chance(0.6) else draw.word()


def _anything(draw: Draw) -> str:
    return draw.rng.choice(tuple(make for _, make in _KINDS[:-1]))(draw)


def _number(draw: Draw) -> str:
    number = draw.number()
    return f"{number:,}" if number >= 1000 and draw.chance(0.4) else str(number)


Make = Callable[[Draw], str]
_KINDS: tuple[tuple[tuple[str, ...], Make], ...] = (
    (_AMOUNT, Draw.amount),
    (_DATE, Draw.date),
    (_PERSON, Draw.person),
    (_PLACE, Draw.city),
    (_NUMBER, _number),
    (_MEASURE, _measure),
    (_CODE, Draw.code),
    (_TIME, Draw.time),
    (_DURATION, _duration),
    (_PHRASE, _phrase_or_word),
    (_EMAIL, Draw.email),
    (("color", "colour"), Draw.color),
    ((), _anything),  # an attribute that nobody has heard of
)

# Ways to ask that go without the attribute's name; {s} is the subject.
_OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    "price": ("how much is {s}", "how much does {s} cost", "what does {s} cost"),
    "cost": ("how much is {s}", "how expensive is {s}", "what is the price of {s}"),
    "deadline": (
        "when is {s} due",
        "when does {s} have to be done",
        "until when do we have time for {s}",
    ),
    "due date": ("when is {s} due",),
    "owner": ("who owns {s}", "who does {s} belong to", "whose is {s}"),
    "manager": ("who manages {s}", "who runs {s}"),
    "director": ("who directs {s}", "who leads {s}"),
    "founder": ("who founded {s}", "who started {s}"),
    "author": ("who wrote {s}",),
    "designer": ("who designed {s}",),
    "architect": ("who built {s}", "who designed {s}"),
    "location": ("where is {s}", "where can I find {s}", "where is {s} located"),
    "headquarters": ("where is {s} based", "where does {s} have its headquarters"),
    "birthplace": ("where was {s} born",),
    "birthday": ("when was {s} born", "when is {s} born"),
    "venue": ("where does {s} take place", "where is {s} held"),
    "destination": ("where does {s} go",),
    "weight": ("how heavy is {s}", "how much does {s} weigh"),
    "height": ("how tall is {s}", "how high is {s}"),
    "length": ("how long is {s}",),
    "width": ("how wide is {s}",),
    "depth": ("how deep is {s}",),
    "size": ("how big is {s}", "how large is {s}"),
    "maximum speed": ("how fast is {s}", "how fast can {s} go"),
    "population": ("how many people live in {s}",),
    "number of employees": ("how many people work at {s}", "how many employees does {s} have"),
    "number of rooms": ("how many rooms does {s} have",),
    "number of seats": ("how many seats does {s} have",),
    "opening time": ("when does {s} open", "what time does {s} open"),
    "closing time": ("when does {s} close", "what time does {s} close"),
    "departure time": ("when does {s} leave", "when does {s} depart"),
    "arrival time": ("when does {s} arrive",),
    "start date": ("when does {s} start", "when does {s} begin"),
    "end date": ("when does {s} end", "when is {s} over"),
    "opening date": ("when does {s} open",),
    "launch date": ("when is {s} launched", "when will {s} be launched"),
    "release date": ("when is {s} released", "when does {s} come out"),
    "expiry date": ("when does {s} expire",),
    "delivery time": ("how long does the delivery of {s} take",),
    "battery life": ("how long does the battery of {s} last",),
    "warranty": ("how long is {s} under warranty", "how long is the warranty of {s}"),
    "refund window": ("how long can I return {s}", "how long do I have to return {s}"),
    "material": ("what is {s} made of",),
    "color": ("what color does {s} have", "which color is {s}"),
    "colour": ("what colour does {s} have", "which colour is {s}"),
    "email address": ("how do I write to {s}", "what's the email of {s}"),
}

_STATEMENTS = Phrasings(
    train=(
        "the {a} of {s} is {v}",
        "the {a} of {s} is {v}",
        "the {a} for {s} is {v}",
        "{s's} {a} is {v}",
        "{s's} {a} is {v}",
        "for {s}, the {a} is {v}",
        "the {a} of {s} was [set to|changed to|fixed at] {v}",
        "{s} has a {a} of {v}",
        "please note that the {a} of {s} is {v}",
        "the {a} of {s} will be {v} [from now on|this year|until further notice]",
        "at the moment the {a} of {s} is {v}",
        "since [last year|{y}] the {a} of {s} has been {v}",
        "as of today, {s's} {a} is {v}",
        "{s} ({a}: {v}) [is well known|is part of the list|was added recently]",
        "[as everybody knows|as agreed|in short|by the way|officially|to be exact|in our case], the {a} of {s} is {v}",
        "[we note|we confirm|it is known|remember|be aware|everybody knows|the team reports|it was decided] that the {a} of {s} is {v}",
        "[the report|the list|our table|the manual|the contract|the sign|the brochure] [gives|states|shows|names] {v} as the {a} of {s}",
        "with {s}, [the {a} is|you get a {a} of] {v}",
        "{v} is the {a} of {s}",
        "the {a} of {s}[, as agreed,|, we are told,| once more| again| still|, however,] is {v}",
        "the {a} [that was chosen|given|listed|planned|we use|in force] for {s} is {v}",
        "{s's} {a} [is now|has always been|remains|is still|became|was] {v}",
        "the {a} of {s} [is now|has always been|remains|is still|became|was|equals|amounts to|stands at] {v}",
        "{s} [has|got|was given|received|shows|offers] [{v} as its {a}|the {a} {v}|a {a} of {v}]",
        "{s}: {a} {v}",
        "{a} of {s}: {v}",
        "[for those who ask|if you need it|in case of doubt]: the {a} of {s} is {v}",
        "[concerning|as for|about|in the case of] {s}, [the {a} is|we have a {a} of|the {a} was set to] {v}",
        "the {a} [belonging to|that goes with|of the said] {s} is {v}",
    ),
    held_out=(
        "the current {a} of {s} is {v}",
        "{s} comes with a {a} of {v}",
        "according to the records, the {a} of {s} is {v}",
        "when it comes to {s}, the {a} is {v}",
    ),
)
_SHORT_STATEMENTS = Phrasings(
    train=(
        "the {a} is {v}",
        "the {a} is {v}",
        "its {a} is {v}",
        "it has a {a} of {v}",
        "the {a} was set to {v}",
        "[its|the] {a} [is now|remains|is still|became|was|will be] {v}",
        "{a}: {v}",
        "{v} is [its|the] {a}",
        "[in short|as agreed|by the way|officially], the {a} is {v}",
        "[it is known|we confirm|please note|it was decided] that the {a} is {v}",
        "[it got|it shows|it offers|it was given] a {a} of {v}",
        "the {a} [given here|listed|planned|in force] is {v}",
    ),
    held_out=("the current {a} is {v}", "it comes with a {a} of {v}"),
)
_QUESTIONS = Phrasings(
    train=(
        "what is the {a} of {s}",
        "what is the {a} of {s}",
        "what's the {a} of {s}",
        "what is {s's} {a}",
        "what's {s's} {a}",
        "which {a} does {s} have",
        "tell me the {a} of {s}",
        "{a} of {s}",
        "{s} {a}",
        "do you know the {a} of {s}",
        "I need the {a} of {s}",
        "can you tell me the {a} of {s}",
        "what was the {a} of {s}",
        "what {a} does {s} have",
        "what is the {a} for {s}",
        "please give me {s's} {a}",
        "does it say what the {a} of {s} is",
        "[say|state|name|list|check|look for|search for|quote] the {a} of {s}",
        "[I am looking for|I was told to ask for|I wonder about|I'm interested in|we need|my boss wants] [the {a} of {s}|{s's} {a}]",
        "[could you|can you|would you|will you] [please|] [give me|tell us|say|name|check|search for] [the {a} of {s}|{s's} {a}]",
        "{s}, [what is its {a}|which {a}|{a}]",
        "[what|which] is the {a} [that belongs to|given for|listed for|stated for] {s}",
        "[how about|and|what about] [the {a} of {s}|{s's} {a}]",
        "[any idea|do you have any idea|who knows|is it known|is it written] what [the {a} of {s}|{s's} {a}] is",
        "[the {a} of {s} is what|{s} has what {a}|{s} has which {a}]",
        "[is there|do we have|is something said about|anything on] a {a} for {s}",
        "what {a} [is given|is listed|is stated|was chosen] for {s}",
    ),
    held_out=(
        "could you look up the {a} of {s}",
        "find out {s's} {a}",
        "I would like to know the {a} of {s}",
        "what does the document say about the {a} of {s}",
        "regarding {s}: what is the {a}",
    ),
)
_WHEN_WHO_WHERE: Mapping[tuple[str, ...], tuple[str, ...]] = {
    _DATE: ("when is the {a} of {s}", "on which date is the {a} of {s}"),
    _PERSON: ("who is the {a} of {s}", "who is {s's} {a}", "who's the {a} of {s}"),
    _PLACE: ("where is the {a} of {s}", "where is {s's} {a}"),
    _AMOUNT: ("how much is the {a} of {s}", "how high is the {a} of {s}"),
    _TIME: ("when is the {a} of {s}", "at what time is the {a} of {s}"),
    _DURATION: ("how long is the {a} of {s}",),
    _NUMBER: ("how high is the {a} of {s}",),
}

_THINGS = (
    *("hotel", "museum", "school", "bridge", "library", "team", "server", "engine", "garden"),
    *("restaurant", "clinic", "festival", "course", "bakery", "station", "theatre", "laptop"),
    *("printer", "machine", "camera", "contract", "account", "tower", "lab", "shop", "bus", "ship"),
)


def subject(draw: Draw) -> str:
    """Something that has attributes, as it is written inside a sentence."""
    kind = draw.rng.randrange(9)
    if kind == 0:
        return draw.person()
    if kind == 1:
        return f"{draw.rng.choice(('Plan', 'Project', 'Operation', 'Hotel', 'Team', 'Model', 'Station'))} {draw.name()}"
    if kind == 2:
        return f"the {draw.name()} {draw.rng.choice(_THINGS)}"
    if kind == 3:
        return f"{draw.name()} {draw.rng.choice(('Ltd', 'Inc', 'GmbH', 'Group', 'Labs', 'Foods', 'Bank', 'Air'))}"
    if kind == 4:
        return f"{draw.rng.choice(('room', 'order', 'invoice', 'ticket', 'part', 'flight', 'gate', 'contract', 'car'))} {draw.code()}"
    if kind == 5:
        return f"the {draw.color()} {draw.one_of(_NOUNS_AND_THINGS)}"
    if kind == 6:
        return f"the {draw.word()} {draw.rng.choice(_THINGS)}"
    if kind == 7:
        return f"the {draw.rng.choice(_THINGS)} in {draw.city()}"
    return draw.name()


_NOUNS_AND_THINGS = (
    *_THINGS,
    "car",
    "house",
    "chair",
    "box",
    "door",
    "bike",
    "phone",
    "boat",
    "lamp",
)


def attribute(draw: Draw, of: str | None = None, called: tuple[int, str] | None = None) -> Fact:
    """`of`: the subject to use. `called`: the attribute to use, as (kind, name)."""
    kind, name = called or random_attribute(draw)
    s = of or subject(draw)
    names, make = _KINDS[kind]
    value = make(draw)
    words = {
        "a": name,
        "s": s,
        "s's": _possessive(s),
        "v": value,
        "y": str(draw.rng.randint(1990, 2030)),
    }
    return Fact(
        _sentence(draw, _STATEMENTS, words),
        _attribute_question(draw, names, words),
        value,
        (name, s),
        _sentence(draw, _SHORT_STATEMENTS, words),
        _attribute_question(draw, names, words),
    )


def _attribute_question(draw: Draw, names: tuple[str, ...], words: Mapping[str, str]) -> str:
    special = _WHEN_WHO_WHERE.get(names, ())
    if words["a"] in _OTHER_WORDS and draw.chance(0.4):
        question = draw.rng.choice(_OTHER_WORDS[words["a"]])
    elif special and not draw.held_out_phrasings and draw.chance(0.4):
        question = draw.rng.choice(special)
    else:
        question = draw.phrasing(_QUESTIONS)
    return fill(expand_choices(draw, question), words)


def named_attribute(name: str) -> tuple[int, str]:
    """The kind of an attribute by its name; one that nobody has heard of is of the last kind."""
    for kind, (names, _) in enumerate(_KINDS):
        if name in names:
            return kind, name
    return len(_KINDS) - 1, name


def random_attribute(draw: Draw) -> tuple[int, str]:
    kind = draw.rng.randrange(len(_KINDS))
    names = _KINDS[kind][0]
    return kind, draw.rng.choice(names) if names else draw.value(made_up_word)


# --- events ---------------------------------------------------------------------------------------

# (past, base, participle): somebody did it to something, once.
_VERBS = tuple(
    tuple(verb.split("/"))
    for verb in (
        "bought/buy/bought sold/sell/sold designed/design/designed "
        "wrote/write/written opened/open/opened closed/close/closed painted/paint/painted "
        "built/build/built repaired/repair/repaired signed/sign/signed won/win/won lost/lose/lost "
        "found/find/found approved/approve/approved rejected/reject/rejected moved/move/moved "
        "cancelled/cancel/cancelled invented/invent/invented discovered/discover/discovered "
        "visited/visit/visited tested/test/tested cleaned/clean/cleaned ordered/order/ordered "
        "delivered/deliver/delivered presented/present/presented stole/steal/stolen "
        "reviewed/review/reviewed hid/hide/hidden broke/break/broken sent/send/sent "
        "planned/plan/planned updated/update/updated checked/check/checked filmed/film/filmed"
    ).split()
)
_EVENTS = Phrasings(
    train=(
        "{p} {past} {o} in {c} on {d}",
        "{p} {past} {o} in {c}",
        "{p} {past} {o} on {d}",
        "on {d}, {p} {past} {o} in {c}",
        "in {c}, {p} {past} {o} on {d}",
        "{o} was {part} by {p} on {d}",
        "{o} was {part} by {p} in {c}",
        "it was {p} who {past} {o} in {c} on {d}",
        "together with {p2}, {p} {past} {o} in {c}",
        "[we know|it is said|the report says|they remember|it was announced] that {p} {past} {o} [in {c}|on {d}]",
        "on {d}, {o} was {part} by {p}",
        "{p} {past} {o} on {d} in {c}",
        "{p}, [a friend of|who works with|the neighbour of|not] {p2}, {past} {o} [in {c}|on {d}]",
        "[at last|once|one day|as planned|without delay|to our surprise], {p} {past} {o} [in {c}|on {d}]",
        "{o} was {part} [on {d} in {c}|in {c} on {d}] by {p}",
        "it was [on {d}|in {c}] that {p} {past} {o}",
        "{o}, {part} by {p} [on {d}|in {c}], [is famous|was in the news|is kept in a box]",
        "[before noon|after lunch|late] on {d}, {p} {past} {o}",
        "{p} was the one who {past} {o} [in {c}|on {d}]",
    ),
    held_out=("{d} was the day when {p} {past} {o} in {c}", "in {c}, {o} was {part} by {p} on {d}"),
)
_EVENT_QUESTIONS: Mapping[str, Phrasings] = {
    "p": Phrasings(
        train=("who {past} {o}", "who {past} {o}", "by whom was {o} {part}", "who was it that {past} {o}", "do you know who {past} {o}", "tell me who {past} {o}", "[who was the one that|is it known who|what is the name of the one who] {past} {o}", "{o} was {part} by whom", "[say|name|find out|I'd like to know|I wonder] who {past} {o}"),
        held_out=("which person {past} {o}", "can you say who {past} {o}"),
    ),
    "d": Phrasings(
        train=("when did {p} {base} {o}", "when was {o} {part}", "on which date did {p} {base} {o}", "when did somebody {base} {o}", "on what day was {o} {part}", "[tell me|say|find out|do you know|I wonder|is it known] when [{o} was {part}|{p} {past} {o}]", "[since when is|at what date was] {o} {part}", "{o} was {part} when", "what is the date on which {o} was {part}"),
        held_out=("what was the date when {p} {past} {o}", "what day did {p} {base} {o}"),
    ),
    "c": Phrasings(
        train=("where did {p} {base} {o}", "where was {o} {part}", "in which city did {p} {base} {o}", "in what place was {o} {part}", "[tell me|say|find out|do you know|I wonder|is it known] where [{o} was {part}|{p} {past} {o}]", "{o} was {part} where", "[what|which] [place|town|city] was {o} {part} in"),
        held_out=("which city was it where {p} {past} {o}", "at which place did {p} {base} {o}"),
    ),
    "o": Phrasings(
        train=("what did {p} {base}", "what was {part} by {p}", "what did {p} {base} [back then|exactly|]", "[say|find out|do you know|I wonder] what {p} {past}", "{p} {past} what", "[which|what] thing did {p} {base}", "what was it that {p} {past}"),
        held_out=("what is it that {p} {past}", "tell me what {p} {past}"),
    ),
}  # fmt: skip


def event(draw: Draw, verb: tuple[str, ...] | None = None, thing: str | None = None) -> Fact:
    """`verb` and `thing`: to use instead of random ones."""
    past, base, participle = verb or draw.rng.choice(_VERBS)
    words = {
        "p": draw.person(),
        "p2": draw.person(),
        "o": thing or _object(draw),
        "c": draw.city(),
        "d": draw.date(),
        "past": past,
        "base": base,
        "part": participle,
    }
    pattern = expand_choices(draw, draw.phrasing(_EVENTS))
    holes = [hole for hole in _EVENT_QUESTIONS if f"{{{hole}}}" in pattern]
    asked = draw.rng.choice(holes)
    sentence = capitalized(fill(pattern, words)) + "."
    question, also = (
        fill(expand_choices(draw, draw.phrasing(_EVENT_QUESTIONS[hole])), words)
        for hole in (asked, draw.rng.choice(holes))
    )
    return Fact(sentence, question, words[asked], (base, words["o"], words["p"]), also=also)


def _object(draw: Draw) -> str:
    kind = draw.rng.randrange(4)
    if kind == 0:
        return f"the {draw.name()} {draw.rng.choice(_THINGS)}"
    if kind == 1:
        return f"the {draw.color()} {draw.word()}"
    if kind == 2:
        return f"the {draw.rng.choice(('report', 'letter', 'film', 'plan', 'song', 'car', 'cup', 'contract'))} {draw.name()}"
    return f"the {draw.word()} {draw.word()}"


# --- rules ----------------------------------------------------------------------------------------

# (sentence, questions, the hole that is asked for)
_RULES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("{G} may carry over up to {n} {ws} per year", ("how many {ws} may {g} carry over", "how many {ws} can {g} take into the next year"), "n"),
    ("{G} must leave the {w} before {t}", ("when must {g} leave the {w}", "until when may {g} stay in the {w}", "by what time do {g} have to leave the {w}"), "t"),
    ("to reset the {w}, press the {c} button for {n} seconds", ("how do I reset the {w}", "how can I reset the {w}", "what do I press to reset the {w}"), "c"),
    ("to start the {w}, turn the {c} key twice", ("how do I start the {w}", "how is the {w} started"), "c"),
    ("the {w} is open from {t} to {t2}", ("when is the {w} open", "what are the opening hours of the {w}", "from when to when is the {w} open"), "t"),
    ("the {w} is closed on {D}s", ("when is the {w} closed", "on which day is the {w} closed"), "D"),
    ("the {w} opens at {t} on {D}s", ("when does the {w} open on {D}s", "what time does the {w} open on {D}s"), "t"),
    ("refunds for {ws} are paid within {n} days", ("how long do refunds for {ws} take", "when are refunds for {ws} paid", "how many days does a refund for {ws} take"), "n"),
    ("{ws} are sold in {C} and {C2}", ("where are {ws} sold", "where can I buy {ws}", "in which cities are {ws} sold"), "C"),
    ("the {w} needs {n} {ws2} to work", ("how many {ws2} does the {w} need", "what does the {w} need to work"), "n"),
    ("{G} have to wear a {c} {w}", ("what do {g} have to wear", "what must {g} wear"), "c"),
    ("{G} pay {m} for each {w}", ("how much do {g} pay for each {w}", "what do {g} pay for a {w}", "how much is a {w} for {g}"), "m"),
    ("each {w} is checked every {n} weeks by {P}", ("who checks each {w}", "how often is each {w} checked", "who checks the {ws}"), "P"),
    ("{ws} are stored in the {c} {w2}", ("where are {ws} stored", "where do you keep {ws}", "where are the {ws}"), "c"),
    ("{P} is responsible for the {ws}", ("who is responsible for the {ws}", "who takes care of the {ws}"), "P"),
    ("the {w} runs on {D}s and {D2}s", ("when does the {w} run", "on which days does the {w} run"), "D"),
    ("{G} can borrow {n} {ws} for {n2} weeks", ("how many {ws} can {g} borrow", "how long can {g} borrow {ws}"), "n"),
    ("complaints about {ws} go to {e}", ("where do complaints about {ws} go", "whom do I write to about {ws}", "where can I complain about {ws}"), "e"),
    ("if the {w} stops, call {P} at once", ("whom should I call if the {w} stops", "what should I do if the {w} stops", "who is called when the {w} stops"), "P"),
    ("{G} receive the {w} after {n} days", ("when do {g} receive the {w}", "after how many days do {g} get the {w}"), "n"),
    ("{ws} must be kept at {n} degrees", ("at what temperature must {ws} be kept", "how warm must {ws} be kept", "how cold should {ws} be kept"), "n"),
    ("the code of the {w} is changed every {D}", ("how often is the code of the {w} changed", "when is the code of the {w} changed"), "D"),
    ("{G} with a {w} get a discount of {n} percent", ("what discount do {g} with a {w} get", "what do {g} with a {w} get"), "n"),
    ("the {w} was moved to {C} in {M}", ("where was the {w} moved", "when was the {w} moved"), "C"),
    ("only {G} may use the {w}", ("who may use the {w}", "who is allowed to use the {w}"), "G"),
    ("{ws} arrive every {D} at {t}", ("when do {ws} arrive", "on which day do {ws} arrive", "what time do {ws} arrive"), "D"),
    ("a {w} lasts about {n} months", ("how long does a {w} last",), "n"),
    ("you can pay for the {w} by {o}", ("how can I pay for the {w}", "how do I pay for the {w}", "which ways are there to pay for the {w}"), "o"),
    ("{ws} are delivered to {C} within {n} days", ("how fast are {ws} delivered to {C}", "how long does the delivery of {ws} to {C} take"), "n"),
    ("the {w} was made by {P} in {C}", ("who made the {w}", "where was the {w} made"), "P"),
    ("{P} keeps the keys of the {w} until {t}", ("who keeps the keys of the {w}", "who has the keys of the {w}", "until when are the keys of the {w} kept"), "P"),
    ("{G} meet in the {w} every {D} at {t}", ("where do {g} meet", "when do {g} meet in the {w}", "on which day do {g} meet in the {w}"), "D"),
    ("a {w} weighs {n} kg and costs {m}", ("how much does a {w} weigh", "what does a {w} cost", "how heavy is a {w}"), "n"),
    ("{ws} older than {n} years are given to {g}", ("who gets {ws} that are old", "when are {ws} given to {g}", "what happens to old {ws}"), "n"),
    ("the {c} {w} belongs to {P}", ("who owns the {c} {w}", "whose is the {c} {w}", "who does the {c} {w} belong to"), "P"),
    ("{G} must show the {w} at the {w2}", ("what must {g} show at the {w2}", "where must {g} show the {w}"), "G"),
    ("lost {ws} are kept by {P} for {n} days", ("who keeps lost {ws}", "how long are lost {ws} kept", "what happens to lost {ws}"), "P"),
    ("{ws} may not be used before {t}", ("from when may {ws} be used", "when is it forbidden to use {ws}", "before what time may {ws} not be used"), "t"),
    ("the {w} in {C} was repaired in {M}", ("when was the {w} in {C} repaired", "in which month was the {w} in {C} repaired"), "M"),
    ("every {w} has a number on its {w2}", ("where is the number of a {w}", "what is on the {w2} of a {w}"), "w2"),
    ("{P} teaches {g} how to use the {w}", ("who teaches {g} how to use the {w}", "what does {P} teach", "from whom do {g} learn to use the {w}"), "P"),
    ("broken {ws} are replaced for {m}", ("what does it cost to replace broken {ws}", "how much is the replacement of broken {ws}"), "m"),
    ("the {w} closes {n} minutes earlier in {M}", ("how much earlier does the {w} close in {M}", "when does the {w} close earlier"), "n"),
    ("to report a broken {w}, write to {e}", ("how do I report a broken {w}", "where can I report a broken {w}", "whom do I tell about a broken {w}"), "e"),
    ("in {C} the {w} is free for {g}", ("where is the {w} free for {g}", "for whom is the {w} free in {C}"), "C"),
    ("no {w} is sold to {g} after {t}", ("until when is a {w} sold to {g}", "who cannot buy a {w} after {t}"), "t"),
    ("{P} and {P2} share the {c} {w}", ("who shares the {c} {w}", "what do {P} and {P2} share"), "P"),
    ("a ticket for the {w} costs {m} on {D}s", ("how much is a ticket for the {w} on {D}s", "what does a ticket for the {w} cost"), "m"),
)  # fmt: skip
_HELD_OUT_RULES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("{G} should bring {n} {ws} to the meeting", ("how many {ws} should {g} bring to the meeting", "what should {g} bring to the meeting"), "n"),
    ("{P} looks after the {ws} on {D}s", ("who looks after the {ws} on {D}s", "when does {P} look after the {ws}"), "P"),
    ("the {w} costs {m} for {g}", ("how much does the {w} cost for {g}", "what do {g} pay for the {w}"), "m"),
    ("{ws} are produced in {C} since {M}", ("where are {ws} produced", "since when are {ws} produced"), "C"),
    ("the {w} leaves at {t} from {C}", ("when does the {w} leave", "where does the {w} leave from"), "t"),
)  # fmt: skip
_GROUPS = (
    "employees",
    "visitors",
    "members",
    "students",
    "guests",
    "customers",
    "drivers",
    "nurses",
    "children",
    "teachers",
    "pilots",
    "residents",
)
_WAYS = ("card", "invoice", "cash", "bank transfer", "voucher")


def rule(draw: Draw) -> Fact:
    rng = draw.rng
    pattern, questions, asked = rng.choice(_HELD_OUT_RULES if draw.held_out_phrasings else _RULES)
    w, w2 = draw.word(), draw.word()
    group, (day, day2) = rng.choice(_GROUPS), rng.sample(WEEKDAYS, 2)
    words = {
        "G": group,
        "g": group,
        "n": str(draw.number(2, 90)),
        "n2": str(draw.number(2, 90)),
        "w": w,
        "w2": w2,
        "ws": _plural(w),
        "ws2": _plural(w2),
        "c": draw.color(),
        "t": draw.time(),
        "t2": draw.time(),
        "D": day,
        "D2": day2,
        "C": draw.city(),
        "C2": draw.city(),
        "m": draw.amount(),
        "P": draw.person(),
        "P2": draw.person(),
        "e": draw.email(),
        "M": rng.choice(MONTHS),
        "o": rng.choice(_WAYS),
    }
    sentence = capitalized(fill(pattern, words)) + "."
    question, also = (fill(rng.choice(questions), words) for _ in range(2))
    return Fact(sentence, question, words[asked], (pattern, w), also=also)


# --- words ----------------------------------------------------------------------------------------


def fill(pattern: str, words: Mapping[str, str]) -> str:
    """`{name}` replaced by its word."""
    for name, word in words.items():
        if (hole := f"{{{name}}}") in pattern:
            pattern = pattern.replace(hole, word)
    return pattern


def _sentence(draw: Draw, phrasings: Phrasings, words: Mapping[str, str]) -> str:
    return capitalized(fill(expand_choices(draw, draw.phrasing(phrasings)), words)) + "."


def expand_choices(draw: Draw, pattern: str) -> str:
    """`[a|b]` decided, `{holes}` left alone."""
    while (start := pattern.rfind("[")) >= 0:
        end = pattern.index("]", start)
        chosen = draw.rng.choice(pattern[start + 1 : end].split("|"))
        pattern = pattern[:start] + chosen + pattern[end + 1 :]
    return pattern


def _possessive(noun: str) -> str:
    return f"{noun}'" if noun.endswith("s") else f"{noun}'s"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh", "z")) else f"{noun}s"
