"""Where does a lesson's randomness come from, and which half of the language may it use?

Whether the model has learnt to copy or only remembers is told by values it has never seen. So the
values are split by a checksum: one in eight is only used in examinations, all others only in
training, whichever lesson or list they come from. Phrasings are split by hand, in the lessons.

Values are put together from letters and syllables, for the same reason; a few well-known names are
among them because people will use them.

Does not know: what the values mean in a lesson.
"""

# ruff: noqa: SIM905  (lists of words read better as text)

from __future__ import annotations

import random
import string
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_HELD_OUT_ONE_IN = 8

_ONSETS = (
    *("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"),
    *("b", "d", "k", "l", "m", "n", "r", "t", "v", "br", "cl", "gr", "sh", "st", "tr", ""),
)
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ou", "y", "ee")
_CODAS = ("", "", "", "", "", "", "n", "r", "l", "s", "t", "m", "nd", "x", "ck")

FIRST_NAMES = tuple(
    "Anna Ben Maria John Peter Lena Sarah Tom Julia David Emma Alice Bob Mike Laura Ahmed Yuki "
    "Carlos Ivan Sofia Liam Olivia Noah Mia Lucas Chloe Omar Priya Wei Fatima Paul Nina Max Eva "
    "Jack Grace Leo Hannah Kate Alex Chris Daniel Robert James Mary Linda Frank George Maya Ravi "
    "Zoe Adam Ines Karl Marta Hugo Elena Felix Clara Victor".split()
)
CITIES = tuple(
    "Paris London Berlin Rome Tokyo Madrid Vienna Cairo Lima Oslo Boston Sydney Munich Zurich "
    "Prague Dublin Seoul Toronto Chicago Lisbon Athens Mumbai Nairobi Hamburg Geneva Denver "
    "Austin Seattle Warsaw Kyoto Dallas Houston Miami Milan Lyon Porto Delhi Beijing".split()
)
COLORS = tuple(
    "red blue green yellow black white purple orange pink brown grey turquoise violet gold "
    "silver crimson beige teal navy olive".split()
)
NOUNS = tuple(
    "water paper pencil summer winter doctor kitten basket coffee sugar mountain ocean diamond "
    "feather ladder magnet needle pillow ribbon saddle thunder umbrella velvet walnut zebra apple "
    "river candle window tiger bridge cloud garden rocket piano forest lemon mirror anchor pepper "
    "castle button island hammer violin bottle carpet desert engine falcon guitar helmet jacket "
    "kettle lantern meadow napkin orchid parrot quartz radish sandal tunnel wagon yogurt blanket "
    "cactus dolphin eagle fabric glove harbor ivory jungle lizard marble nickel oyster pebble "
    "rabbit salmon teapot valley wallet".split()
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def is_held_out(value: str) -> bool:
    """True for the one in eight that training never shows as a value (case does not count)."""
    return zlib.crc32(value.lower().encode()) % _HELD_OUT_ONE_IN == 0


@dataclass(slots=True, frozen=True)
class Phrasings:
    """Ways to say one thing; patterns of `anzoth.demo.topic`."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Draw:
    """A random generator that keeps to one side of the split."""

    rng: random.Random
    held_out_values: bool = False
    held_out_phrasings: bool = False
    level: float = 1.0
    """How hard the lesson may be: 0 for the first steps of the training, 1 from its middle on."""

    def value(self, make: Callable[[random.Random], str]) -> str:
        """A value of `make` that is on this side of the split. ValueError: there is none."""
        for _ in range(10_000):
            if is_held_out(value := make(self.rng)) is self.held_out_values:
                return value
        raise ValueError("all values of this kind are on the other side of the split")

    def one_of(self, values: Sequence[str]) -> str:
        """One of a list of which both sides have a share."""
        return self.value(lambda rng: rng.choice(values))

    def phrasing(self, phrasings: Phrasings) -> str:
        side = phrasings.held_out if self.held_out_phrasings else phrasings.train
        return self.rng.choice(side)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # --- values -----------------------------------------------------------------------------------

    def word(self) -> str:
        """Lower case: a made-up word, or sometimes a real noun."""
        return self.one_of(NOUNS) if self.chance(0.3) else self.value(made_up_word)

    def name(self) -> str:
        """A capitalised made-up word."""
        return self.value(lambda rng: made_up_word(rng).capitalize())

    def person(self) -> str:
        """First name, or first and last name."""
        first = self.one_of(FIRST_NAMES) if self.chance(0.5) else self.name()
        return f"{first} {self.name()}" if self.chance(0.6) else first

    def city(self) -> str:
        return self.one_of(CITIES) if self.chance(0.5) else self.name()

    def color(self) -> str:
        return self.one_of(COLORS)

    def number(self, low: int = 2, high: int = 999) -> int:
        """Small numbers are as likely as large ones."""

        def make(rng: random.Random) -> str:
            top = rng.choice([limit for limit in (10, 100, 1000, 10**4, 10**6) if limit > low])
            return str(rng.randint(low, min(high, top)))

        return int(self.value(make))

    def amount(self) -> str:
        """Money."""

        def make(rng: random.Random) -> str:
            number = rng.choice(
                (
                    f"{rng.randint(2, 999)}",
                    f"{rng.randint(1, 99)},{rng.randint(0, 999):03}",
                    f"{rng.randint(1, 99)}.{rng.randint(0, 99):02}",
                )
            )
            return rng.choice(
                (f"{number} EUR", f"${number}", f"{number} euros", f"€{number}", f"{number} USD")
            )

        return self.value(make)

    def date(self) -> str:
        def make(rng: random.Random) -> str:
            day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(1950, 2035)
            return rng.choice(
                (
                    f"{MONTHS[month]} {day}, {year}",
                    f"{day} {MONTHS[month]} {year}",
                    f"{year}-{month + 1:02}-{day:02}",
                    f"{MONTHS[month]} {day}",
                    f"{day} {MONTHS[month]}",
                    f"{MONTHS[month]} {year}",
                )
            )

        return self.value(make)

    def iso_date(self) -> str:
        return self.value(
            lambda rng: f"{rng.randint(2019, 2032)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        )

    def year(self) -> str:
        return self.value(lambda rng: str(rng.randint(1900, 2035)))

    def time(self) -> str:
        return self.value(
            lambda rng: rng.choice(
                (
                    f"{rng.randint(0, 23)}:{rng.choice((0, 15, 30, 45, rng.randint(1, 59))):02}",
                    f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}",
                    f"{rng.randint(1, 12)}:{rng.choice((15, 30, 45))} {rng.choice(('am', 'pm'))}",
                )
            )
        )

    def code(self) -> str:
        """An order number, a part number, a password."""

        def make(rng: random.Random) -> str:
            letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 4)))
            digits = "".join(rng.choices(string.digits, k=rng.randint(2, 6)))
            return rng.choice(
                (f"{letters}-{digits}", letters + digits, f"{digits}-{letters}", digits)
            )

        return self.value(make)

    def email(self) -> str:
        return self.value(
            lambda rng: (
                f"{made_up_word(rng)}@{made_up_word(rng)}.{rng.choice(('com', 'org', 'io', 'net'))}"
            )
        )

    def phrase(self) -> str:
        """Two or three words."""
        return " ".join(self.word() for _ in range(self.rng.choice((2, 2, 3))))


def made_up_word(rng: random.Random) -> str:
    """One to three syllables, at least three letters."""
    while True:
        syllables = (
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
            for _ in range(rng.choice((1, 2, 2, 2, 2, 3)))
        )
        if len(word := "".join(syllables)) >= 3:
            return word
