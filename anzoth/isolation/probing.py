"""Is another tenant's id like one that nobody has?

Each way to name something is asked twice as the second tenant: with an id of the first, and with an
unknown one of the same form. The answers must not be told apart (see `comparing`), neither by what
they say nor by how long they take. With several ids in a path every mixture of foreign and own ones
is tried.

An answer that was refused before anybody looked proves nothing, and fails.

Does not know: which routes there are, or how each is asked (see `recipes`).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from anzoth.api.call import Route
from anzoth.gateway import scopes
from anzoth.isolation import comparing, recipes
from anzoth.isolation.belongings import Kind, Owner, message_of
from anzoth.isolation.canaries import Needles
from anzoth.isolation.client import EMPTY, NOBODY, AsksServer, Content, Credentials
from anzoth.isolation.comparing import Answer, Timing
from anzoth.isolation.recipes import Reference
from anzoth.isolation.report import Check, failed, passed

IDS, REFERENCES, TIMES, WITNESS = "ids in paths", "references", "times", "witness"
_REFUSED_BEFORE = frozenset({401, 403, 405, 429})
_NOT_FOUND = 404
_MAX_TURNS = 128
"""What looks like a difference is looked at more closely, up to here."""
_MAX_TIMING_S = 5.0
"""Of one probe: slow routes get fewer turns."""
_PARAMETER = re.compile(r"\{([a-z_]+)(?::path)?\}")
_ORDER = {"GET": 0, "POST": 1, "DELETE": 2}
"""What destroys comes last: were it to succeed, all after it would see nothing."""


@dataclass(slots=True)
class Witness:
    """Looks at every answer to the second tenant for what is the first one's."""

    a: Owner
    kinds: Collection[Kind]
    """That are not shared."""
    seen: list[str] = field(default_factory=list)
    """What should not have been shown, one sentence each."""
    num_answers: int = 0
    _needles: Needles = field(init=False, repr=False)

    def __post_init__(self) -> None:
        marks = {"a document's canary": self.a.canaries.document}
        marks |= {"a name's canary": self.a.canaries.label}
        self._needles = Needles(marks | self.a.secrets)

    def look(self, name: str, said: bytes, answer: Answer) -> None:
        """`said`: all of the request, which an answer may repeat."""
        self.num_answers += 1
        headers = "\n".join(f"{key}: {value}" for key, value in answer.headers).encode()
        shown = headers + b"\n" + answer.body
        for found in self._needles.within(shown):
            if found not in self._needles.within(said):
                self.seen.append(f"{name} shows {found}")
        for kind in self.a.ids.keys() & self.kinds:
            id = self.a.ids[kind]
            if id.encode() in shown and id.encode() not in said:
                self.seen.append(f"{name} shows the id of the other's {kind}")

    def check(self) -> Check:
        """Of all that was looked at."""
        name = "no answer to the other showed anything of the first"
        if self.seen:
            return failed(WITNESS, name, "; ".join(dict.fromkeys(self.seen)))
        return passed(WITNESS, name, num_answers=self.num_answers)


@dataclass(slots=True, frozen=True)
class Question:
    """One request, but for the ids: `{parameter}` in the pattern, and a place in the content."""

    who: Credentials
    method: str
    path: str
    content: Content = EMPTY
    ids: tuple[str, ...] = ()
    """What is not compared in the answer."""


@dataclass(slots=True)
class Prober:
    """Asks as `b` for what is `a`'s."""

    server: AsksServer
    a: Owner
    b: Owner
    num_turns: int
    """Of each probe's timing, at first; 0: times are not compared."""
    kinds: Collection[Kind] = tuple(Kind)
    """What the two do not share."""
    witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self.witness = Witness(self.a, self.kinds)

    async def ask(self, question: Question) -> Answer:
        """As the second tenant."""
        answer = await self.server.ask(
            question.who, question.method, question.path, question.content
        )
        said = question.path.encode() + b"\n" + question.content.said
        self.witness.look(f"{question.method} {question.path}", said, answer)
        return answer

    async def ids_in_paths(self, routes: Iterable[Route]) -> list[Check]:
        """Of every route with parameters, those that read first."""
        checks: list[Check] = []
        for route in sorted(routes, key=lambda route: _ORDER[route.method]):
            if not parameters(route) or (route.method, route.pattern) in recipes.NOT_A_TENANTS:
                continue
            checks += [check async for check in self._path(route)]
        return checks

    async def references(self, routes: Sequence[Route], *, that_make: bool) -> list[Check]:
        """Of every place in bodies and queries whose route there is. `that_make`: of those that
        are kept, and come last: what the second tenant keeps it is also shown."""
        found = {(route.method, route.pattern): route for route in routes}
        checks: list[Check] = []
        for reference in recipes.REFERENCES:
            route = found.get(reference.route)
            is_shared = reference.kind not in self.kinds
            if route is not None and reference.makes is that_make and not is_shared:
                checks.append(await self._reference(reference, route))
        return checks

    async def compare(
        self,
        area: str,
        name: str,
        foreign: Question,
        unknown: Question,
        *,
        must_be: int | None = None,
        makes: bool = False,
    ) -> Check:
        """`must_be`: the status of both. `makes`: see `comparing.difference`; once is enough."""
        one, other = await self.ask(foreign), await self.ask(unknown)
        check = told_apart(area, name, foreign, unknown, one, other, must_be=must_be, makes=makes)
        if check.state != "passed" or makes or not self.num_turns:
            return check
        timing = await self._time(foreign, unknown)
        check = replace(check, found={**check.found, "time": asdict(timing)})
        if timing.is_same:
            return check
        reason = (
            f"it takes {timing.difference_us:+,} µs more than an unknown id; the bound is "
            f"{timing.bound_us:,} µs"
        )
        return replace(check, state="failed", reason=reason)

    async def _path(self, route: Route) -> AsyncIterator[Check]:
        name = f"{route.method} {route.pattern}"
        kinds = {each: recipes.kind_of(route.pattern, each) for each in parameters(route)}
        try:
            content = recipes.content_of(route.method, route.pattern, self.b)
        except KeyError as missing:
            content = EMPTY
            kinds["body"] = missing.args[0]
        strange = [each for each, kind in kinds.items() if kind is None]
        if strange or content is None:
            what = f"parameter {strange[0]!r}" if strange else "body"
            reason = f"the verification does not know how to fill its {what}"
            yield Check(IDS, name, "not probed", reason)
            return
        known = {each: kind for each, kind in kinds.items() if kind is not None}
        if (lacking := self._lacking(name, known.values())) is not None:
            yield lacking
            return
        names = parameters(route)
        who = credentials(route, self.b)
        own = {each: self.b.ids[known[each]] for each in names}
        if route.method == "GET":
            how = recipes.LISTS.get((route.method, route.pattern), recipes.List())
            for query in ({}, *how.also):
                asked = Question(who, "GET", filled(route.pattern, own), Content(query=query))
                yield await self._own(name, asked)
        for chosen in mixtures(names):
            foreign = {each: self.a.ids[known[each]] for each in chosen}
            unknown = {each: comparing.unknown_like(id) for each, id in foreign.items()}
            questions = (
                Question(
                    who,
                    route.method,
                    filled(route.pattern, own | ids),
                    content,
                    tuple(ids.values()),
                )
                for ids in (foreign, unknown)
            )
            mixture = "" if len(names) == 1 else f" ({', '.join(chosen)} foreign)"
            yield await self.compare(IDS, name + mixture, *questions, must_be=_NOT_FOUND)

    def _lacking(self, name: str, kinds: Iterable[Kind]) -> Check | None:
        """A kind of which there is nothing to probe with."""
        for kind in kinds:
            if kind in self.a.absent:
                return Check(IDS, name, "left out", self.a.absent[kind])
            if kind not in self.a.ids or kind not in self.b.ids:
                return Check(IDS, name, "not probed", f"there is no {kind} to ask for")
        return None

    async def _own(self, name: str, question: Question) -> Check:
        """That the second tenant can see its own: only then is it news that it sees no other."""
        answer = await self.ask(question)
        found = {"asked": f"{question.method} {question.path}", "own": {"status": answer.status}}
        if answer.is_success:
            return passed(IDS, f"{name} (own)", **found)
        reason = f"a tenant does not see its own: {message_of(answer)}"
        return failed(IDS, f"{name} (own)", reason, **found)

    async def _reference(self, reference: Reference, route: Route) -> Check:
        name = f"{reference.name}: {reference.kind}"
        places = [kind_in_path(route, each) for each in parameters(route)]
        kinds = [reference.kind, *(kind for kind in places if kind is not None)]
        if (lacking := self._lacking(name, kinds)) is not None:
            return lacking
        own = {
            each: recipes.WORDS.get(each) or self.b.ids[recipes.PARAMETERS[each]]
            for each in parameters(route)
        }
        who, path = credentials(route, self.b), filled(route.pattern, own)

        def question(id: str) -> Question:
            return Question(who, route.method, path, reference.content(self.b, id), (id,))

        id = self.a.ids[reference.kind]
        unknown = question(comparing.unknown_like(id))
        check = await self.compare(REFERENCES, name, question(id), unknown, makes=reference.makes)
        if check.state != "passed" or not reference.asks_own:
            return check
        mine, none = await self.ask(question(self.b.ids[reference.kind])), await self.ask(unknown)
        if reference.is_found(mine) or mine.status != none.status:
            return check
        reason = f"nothing is looked up here, not even of one's own: {message_of(none)}"
        return Check(REFERENCES, name, "left out", reason, check.found)

    async def _time(self, foreign: Question, unknown: Question) -> Timing:
        """Turns that alternate, in an order that alternates too; more while it is not clear."""
        taken: tuple[list[int], list[int]] = ([], [])
        give_up_at_s = time.monotonic() + _MAX_TIMING_S
        wanted = self.num_turns
        while True:
            while len(taken[0]) < wanted and (time.monotonic() < give_up_at_s or len(taken[0]) < 2):
                pair = [(foreign, taken[0]), (unknown, taken[1])]
                for question, times in pair if len(taken[0]) % 2 else reversed(pair):
                    times.append((await self.ask(question)).elapsed_us)
            timing = comparing.judge(*taken)
            if timing.is_same or wanted >= _MAX_TURNS or time.monotonic() >= give_up_at_s:
                return timing
            wanted *= 2


def told_apart(
    area: str,
    name: str,
    foreign: Question,
    unknown: Question,
    one: Answer,
    other: Answer,
    *,
    must_be: int | None = None,
    makes: bool = False,
) -> Check:
    """Whether `one`, the answer to `foreign`, is like `other`. See `Prober.compare`."""
    found = {
        "asked": f"{foreign.method} {unknown.path}",
        "foreign": {"status": one.status},
        "unknown": {"status": other.status},
    }
    told = comparing.difference(one, other, foreign.ids, unknown.ids, makes=makes)
    if told is not None:
        return failed(area, name, told, **found)
    is_right = other.status == must_be if must_be is not None else not _proves_nothing(other)
    if is_right:
        return passed(area, name, **found)
    reason = f"it was refused before anybody looked: {message_of(other)}"
    return failed(area, name, reason, **found)


def together(checks: Iterable[Check]) -> list[Check]:
    """What all times say as one: a difference that every route has, small as it may be."""
    times = [check.found["time"] for check in checks if "time" in check.found]
    if not times:
        return []
    foreign = [time["foreign_us"] for time in times]
    unknown = [time["unknown_us"] for time in times]
    timing = comparing.judge(foreign, unknown, comparing.BOUND_TOGETHER_US)
    name, found = "foreign and unknown ids take equally long, all in all", asdict(timing)
    if timing.is_same:
        return [passed(TIMES, name, **found)]
    reason = f"foreign ids take {timing.difference_us:+,} µs more; bound {timing.bound_us:,} µs"
    return [failed(TIMES, name, reason, **found)]


def parameters(route: Route) -> list[str]:
    return _PARAMETER.findall(route.pattern)


def filled(pattern: str, ids: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda match: ids[match[1]], pattern)


def mixtures(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Which of them are another's: every choice of at least one."""
    for size in range(1, len(names) + 1):
        yield from itertools.combinations(names, size)


def kind_in_path(route: Route, parameter: str) -> Kind | None:
    """None: it is a word."""
    return None if parameter in recipes.WORDS else recipes.kind_of(route.pattern, parameter)


def credentials(route: Route, owner: Owner) -> Credentials:
    """Those with the widest reach that the route takes."""
    if route.session:
        return owner.browser
    if route.scope is None:
        return NOBODY
    return owner.infers if scopes.is_inference(route.scope) else owner.manages


def _proves_nothing(answer: Answer) -> bool:
    return answer.status in _REFUSED_BEFORE or answer.status >= 500
