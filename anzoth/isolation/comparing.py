"""Can two answers be told apart, by what they say or by how long they take?

Two ids are asked for, one of another tenant and one of nobody. What differs because the ids do (the
ids themselves, and the request's own) is taken out first; then everything has to be equal. Of time
the medians are compared, over turns that alternate, so that what else goes on falls on both alike.

Does not know: who is asked, or for what.
"""

from __future__ import annotations

import math
import re
import secrets
import statistics
import string
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

BOUND_US = 500
"""What may differ within a turn, at the median."""
BOUND_TOGETHER_US = 200
"""The same of the medians of all probes: what every route does is seen through more noise."""
_ERRORS = 4
"""Of the standard error of the difference: on a noisy machine the bound is wider, and says so."""
_NORMAL = 1.2533 * 1.4826
"""Standard error of a median from the median absolute deviation, over the root of the number."""
_LEAST_RANDOM = 8
"""Characters, so that an unknown id is nobody's."""
_MADE_ANEW = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    rb"|(?<=[-_])[0-9a-f]{24,}|anz-\w+(?:\xe2\x80\xa6\w+)?|\b\d{10}\b"
    rb'|(?<="token":")[\w-]{43}|(?<="kid":")\w{12}'
)
"""Ids, keys and times in an answer that made something: never the same twice."""
_PER_REQUEST = frozenset({"openai-processing-ms", "date", "x-request-id"})


@dataclass(slots=True, frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    elapsed_us: int = 0

    @property
    def request_id(self) -> str:
        return dict(self.headers).get("x-request-id", "")

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True, frozen=True)
class Timing:
    """What alternating turns say."""

    foreign_us: int
    """Median."""
    unknown_us: int
    difference_us: int
    """Median of the differences within a turn."""
    bound_us: int
    num_turns: int

    @property
    def is_same(self) -> bool:
        return abs(self.difference_us) < self.bound_us


def difference(
    foreign: Answer,
    unknown: Answer,
    foreign_ids: Sequence[str],
    unknown_ids: Sequence[str],
    *,
    makes: bool = False,
) -> str | None:
    """In what they differ, as a sentence; None: they cannot be told apart.

    `makes`: the answers are about something new each, whose own ids and times are not compared.
    """
    if foreign.status != unknown.status:
        return f"the status is {foreign.status}, for an unknown id {unknown.status}"
    if _names(foreign) != _names(unknown):
        others = sorted({*_names(foreign)} ^ {*_names(unknown)}) or ["their order"]
        return f"the headers differ: {', '.join(others)}"
    one, other = _plain(foreign, foreign_ids, makes), _plain(unknown, unknown_ids, makes)
    if one != other:
        return f"the bodies differ from byte {_first_difference(one, other)} on"
    ours, theirs = _values(foreign, foreign_ids), _values(unknown, unknown_ids)
    for name, value in ours.items():
        if value != theirs[name] and not (makes and name == "content-length"):
            return f"the header {name} differs"
    return None


def judge(
    foreign_us: Sequence[int], unknown_us: Sequence[int], least_bound_us: int = BOUND_US
) -> Timing:
    """`foreign_us[i]` and `unknown_us[i]` were measured next to each other."""
    differences = [one - other for one, other in zip(foreign_us, unknown_us, strict=True)]
    middle = statistics.median(differences)
    spread = statistics.median(abs(value - middle) for value in differences)
    error = _NORMAL * spread / math.sqrt(len(differences))
    return Timing(
        round(statistics.median(foreign_us)),
        round(statistics.median(unknown_us)),
        round(middle),
        max(least_bound_us, math.ceil(_ERRORS * error)),
        len(differences),
    )


def unknown_like(id: str) -> str:
    """Another id of the same form and length, which nobody has."""
    try:
        uuid.UUID(id)
    except ValueError:
        pass
    else:
        return str(uuid.uuid4())
    local, at, domain = id.partition("@")
    cut = max(local.rfind("-"), local.rfind("_")) + 1
    if len(local) - cut < _LEAST_RANDOM:
        cut = 0  # what begins it is no prefix
    tail = local[cut:]
    digits = string.hexdigits[:16]
    letters = string.ascii_lowercase if local.islower() else string.ascii_letters
    alphabet = digits if set(tail) <= set(digits) else letters + string.digits
    return local[:cut] + "".join(secrets.choice(alphabet) for _ in tail) + at + domain


def _names(answer: Answer) -> list[str]:
    return [name for name, _ in answer.headers]


def _values(answer: Answer, ids: Sequence[str]) -> Mapping[str, str]:
    values = {name: value for name, value in answer.headers if name not in _PER_REQUEST}
    for name, value in values.items():
        for id in ids:
            value = value.replace(id, "{id}")
        values[name] = re.sub(r"\d+", "{n}", value) if name.startswith("x-ratelimit-") else value
    return values


def _plain(answer: Answer, ids: Iterable[str], makes: bool) -> bytes:
    body = answer.body
    for id in ids:
        body = body.replace(id.encode(), b"{id}")
    if answer.request_id:
        body = body.replace(answer.request_id.encode(), b"{request}")
    return _MADE_ANEW.sub(b"{new}", body) if makes else body


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
