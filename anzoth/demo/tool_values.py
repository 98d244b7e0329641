"""Which values do people put into the parameters of tools?

Every kind of value is a function of a `Draw`, so the split of values holds for all of them. A value
of several parts is split as a whole where the parts are ordinary words ("call me about the kettle")
and by its parts otherwise ("Anna Trelk").

Does not know: tools, or the questions that the values are said in.
"""

# ruff: noqa: SIM905  (lists of words are read, and changed, more easily without quotes)

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Mapping

from anzoth.demo.draw import CITIES, FIRST_NAMES, NOUNS, WEEKDAYS, Draw, made_up_word

Value = str | int | float | bool

_LANGUAGES = tuple(
    "French German Spanish Italian Latin Japanese Chinese Dutch Swedish Greek Portuguese Polish "
    "Russian Turkish Arabic Hindi Korean Danish Finnish Norwegian Czech Hungarian Romanian Thai "
    "Vietnamese Hebrew Ukrainian Welsh Irish Swahili Persian Bengali Catalan Croatian".split()
)
_CURRENCIES = tuple(
    "USD EUR GBP JPY CHF CAD AUD CNY INR BRL MXN SEK NOK DKK PLN CZK HUF TRY ZAR KRW SGD HKD NZD "
    "THB dollars euros pounds yen francs pesos rupees kroner won lira rubles yuan shekels".split()
)
_UNITS = tuple(
    "miles kilometers meters feet inches centimeters yards pounds kilograms grams ounces liters "
    "gallons cups celsius fahrenheit kelvin hours minutes seconds days weeks acres hectares knots "
    "km kg cm mm lb oz ml tons stones joules calories bytes megabytes gigabytes".split()
)
_SYMBOLS = tuple("AAPL MSFT GOOG AMZN TSLA NVDA META NFLX IBM ORCL INTC AMD SAP DIS BA KO".split())
_COINS = tuple(
    "bitcoin ethereum dogecoin litecoin solana cardano monero BTC ETH SOL XRP DOGE ADA".split()
)
_ROOMS = tuple(
    "kitchen bedroom bathroom garage hallway office attic basement nursery library hall study "
    "lobby cellar".split()
) + ("living room", "dining room", "guest room", "meeting room", "kids room", "laundry room")
_DEVICES = tuple(
    "TV heater fan oven radio dishwasher printer speaker vacuum humidifier projector sprinkler "
    "toaster stereo fridge dryer".split()
) + ("coffee machine", "washing machine", "air conditioner", "garden pump", "floor lamp")
_DISHES = tuple(
    "pizza pasta sushi soup salad curry lasagna pancakes risotto chili ramen tacos paella bread "
    "burger noodles omelette stew goulash hummus falafel dumplings waffles".split()
)
_CUISINES = tuple(
    "Italian Indian Thai Mexican Japanese Greek French Chinese Turkish Korean vegan Spanish "
    "Lebanese Ethiopian vegetarian Vietnamese Peruvian".split()
)
_SUBJECTS = tuple(
    "politics sports technology football science business health climate music chess fashion "
    "economy space travel art history biology robotics finance gaming education energy "
    "cricket tennis medicine crypto cinema literature farming".split()
)
_DAYS = (
    *("today", "tomorrow", "tonight", "this weekend", "next week", "next weekend", "next month"),
    *("the day after tomorrow", "this evening", "tomorrow morning", "tomorrow evening"),
    *WEEKDAYS,
    *(f"next {day}" for day in WEEKDAYS),
    *(f"this {day}" for day in WEEKDAYS),
    *(f"{day} morning" for day in WEEKDAYS),
)
_COUNTRIES = tuple(
    "France Germany Italy Spain Japan China India Brazil Canada Peru Egypt Kenya Norway Poland "
    "Mexico Chile Turkey Greece Austria Australia Portugal Vietnam Sweden Finland Denmark Ireland "
    "Morocco Ghana Nigeria Cuba Iceland Belgium Nepal Jamaica".split()
)

# Patterns of _FILLINGS.
_SENTENCES = (
    *("I will be late", "the {w} is ready", "see you at the {w}", "where is the {w}"),
    *("happy birthday {p}", "good morning {p}", "please bring the {w}", "I need a {w}"),
    *("thank you for the {w}", "call me about the {w}", "I love {c}", "we arrive in {c} soon"),
    *("the {w} does not work", "how much is the {w}", "my name is {p}", "hello {p}"),
    *("dinner is ready", "I am on my way", "the meeting moved to {c}", "send me the {w}"),
    *("where is the train station", "the {w} and the {w}", "we are out of {w}", "can we talk"),
)
_TITLES = (
    *("{w} meeting", "lunch with {p}", "call with {p}", "{w} report", "dinner in {c}"),
    *("trip to {c}", "{w} review", "{p}'s birthday", "team {w}", "{w} workshop", "new {w}"),
    *("{W} {w}", "Dentist", "{W}", "interview with {p}", "broken {w}", "{w} is missing", "gym"),
)
_TASKS = (
    *("buy {w}", "call {p}", "water the {w}", "pay the rent", "pick up {p}", "clean the {w}"),
    *("email {p}", "fix the {w}", "book the {w}", "take out the trash", "feed the {w}"),
    *("return the {w}", "order {w}", "visit {p}", "check the {w}", "write to {p}", "sell the {w}"),
)
_QUERIES = (
    *("best {w} recipe", "{w} reviews", "history of {c}", "{p} {w}", "cheap {w} in {c}", "{w}"),
    *("who invented the {w}", "how to fix a {w}", "why is the {w} important", "who is {p} {P}"),
    *("how old is the {w} of {c}", "what is a {w}", "{w} vs {w}", "how tall is the {w} of {c}"),
    *("who won the {w} cup", "when was {c} founded", "{c} {w} museum", "where do {w}s live"),
)


_BLANK = re.compile(r"\{(\w)\}")
_FILLINGS: Mapping[str, Callable[[random.Random], str]] = {
    "w": lambda rng: rng.choice(NOUNS) if rng.random() < 0.6 else made_up_word(rng),
    "W": lambda rng: rng.choice(NOUNS).capitalize(),
    "p": lambda rng: rng.choice(FIRST_NAMES),
    "P": lambda rng: made_up_word(rng).capitalize(),
    "c": lambda rng: rng.choice(CITIES),
}


def _filled(patterns: tuple[str, ...]) -> Callable[[Draw], str]:
    def make(rng: random.Random) -> str:
        return _BLANK.sub(lambda blank: _FILLINGS[blank[1]](rng), rng.choice(patterns))

    return lambda draw: draw.value(make)


def _or_made_up(values: tuple[str, ...], share: float) -> Callable[[Draw], str]:
    return lambda draw: draw.value(
        lambda rng: rng.choice(values) if rng.random() < share else made_up_word(rng)
    )


def _place(draw: Draw) -> str:
    """Mostly a city; now and then with its state or country, or of two words."""
    city = draw.city()
    if draw.chance(0.8):
        return city
    if draw.chance(0.5):
        state = draw.value(lambda rng: "".join(rng.choices(string.ascii_uppercase, k=2)))
        return f"{city}, {state}"
    return f"{city}, {draw.one_of(_COUNTRIES)}" if draw.chance(0.5) else f"{draw.name()} {city}"


def _letters(low: int, high: int) -> Callable[[Draw], str]:
    return lambda draw: draw.value(
        lambda rng: "".join(rng.choices(string.ascii_uppercase, k=rng.randint(low, high)))
    )


def _decimal(draw: Draw) -> int | float:
    """A number as it is read in JSON and said in the question: no zero at its end."""
    if draw.chance(0.5):
        return draw.number()
    return float(
        draw.value(
            lambda rng: f"{rng.randint(0, 999)}.{rng.choice(('', '0', '5'))}{rng.randint(1, 9)}"
        )
    )


def _expression(rng: random.Random) -> str:
    numbers = [str(rng.randint(2, rng.choice((12, 99, 999)))) for _ in range(3)]
    first, second = rng.choices("+-*/", k=2)
    return rng.choice(
        (
            f"{numbers[0]} {first} {numbers[1]}",
            f"{numbers[0]}{first}{numbers[1]}",
            f"{numbers[0]} {first} {numbers[1]} {second} {numbers[2]}",
            f"({numbers[0]} {first} {numbers[1]}) {second} {numbers[2]}",
        )
    )


def _phone(rng: random.Random) -> str:
    tail = "".join(rng.choices(string.digits, k=rng.choice((4, 7))))
    return rng.choice(
        (f"+{rng.randint(1, 99)}{tail}", f"0{rng.randint(10, 99)}-{tail}", f"555{tail}")
    )


def _file(rng: random.Random) -> str:
    word = rng.choice(NOUNS) if rng.random() < 0.5 else made_up_word(rng)
    folder = rng.choice(("", "", "/tmp/", "docs/", f"{made_up_word(rng)}/"))
    return f"{folder}{word}.{rng.choice(('txt', 'pdf', 'csv', 'py', 'md', 'json', 'log', 'docx'))}"


def _site(rng: random.Random) -> str:
    site = f"{made_up_word(rng)}.{rng.choice(('com', 'org', 'io', 'net', 'dev'))}"
    return rng.choice(
        (site, f"https://{site}", f"www.{site}", f"https://{site}/{made_up_word(rng)}")
    )


def _word_or_phrase(draw: Draw) -> str:
    return draw.word() if draw.chance(0.6) else draw.phrase()


KINDS: Mapping[str, Callable[[Draw], Value]] = {
    "airport": lambda draw: draw.city() if draw.chance(0.7) else _letters(3, 3)(draw),
    "city": Draw.city,
    "code": Draw.code,
    "coin": lambda draw: draw.one_of(_COINS),
    "color": Draw.color,
    "country": lambda draw: draw.one_of(_COUNTRIES) if draw.chance(0.8) else draw.name(),
    "cuisine": _or_made_up(_CUISINES, 0.8),
    "currency": lambda draw: draw.one_of(_CURRENCIES),
    "date": Draw.date,
    "day": lambda draw: draw.one_of(_DAYS) if draw.chance(0.6) else draw.date(),
    "decimal": _decimal,
    "device": _or_made_up(_DEVICES, 0.7),
    "dish": _or_made_up(_DISHES, 0.6),
    "email": Draw.email,
    "expression": lambda draw: draw.value(_expression),
    "file": lambda draw: draw.value(_file),
    "integer": Draw.number,
    "iso_date": Draw.iso_date,
    "language": lambda draw: draw.one_of(_LANGUAGES),
    "name": Draw.name,
    "percent": lambda draw: draw.number(1, 100),
    "person": Draw.person,
    "phone": lambda draw: draw.value(_phone),
    "place": _place,
    "query": _filled(_QUERIES),
    "recipient": lambda draw: draw.email() if draw.chance(0.5) else draw.person(),
    "room": _or_made_up(_ROOMS, 0.8),
    "site": lambda draw: draw.value(_site),
    "small": lambda draw: draw.number(1, 60),
    "subject": lambda draw: draw.one_of(_SUBJECTS) if draw.chance(0.6) else _word_or_phrase(draw),
    "symbol": lambda draw: draw.one_of(_SYMBOLS) if draw.chance(0.4) else _letters(2, 5)(draw),
    "task": _filled(_TASKS),
    "text": _filled(_SENTENCES),
    "time": Draw.time,
    "title": _filled(_TITLES),
    "unit": lambda draw: draw.one_of(_UNITS),
    "word": Draw.word,
    "phrase": _word_or_phrase,
    "year": Draw.year,
}

# What people type in lower case when they type everything in lower case.
CASELESS = frozenset(
    "city place person name country language cuisine coin title text task query day date room "
    "device subject airport".split()
)
