"""What do gateways on one database tell each other about their shares of limits, and who gets what?

    members   every gateway, with the share that it may use of each rule that is not below
    rules     those of which some gateway asked for more than that: who has which share, and needs

All of a limit is `WHOLE` parts. Each gateway exchanges with the table by itself and under a lock,
and changes only its own shares there: it takes from what nobody has, or gives back. Two things make
that safe, whatever is lost, late or twice:

    what a gateway uses ≤ its share in the table      it gives up first and says so then; what it
                                                      takes stands in the table before it knows
    Σ shares in the table ≤ WHOLE                     of the members' shares, and of each rule's

A share takes along the credit that its giver had (see `buckets`), or none. Credit is said once:
what is lost on the way is lost. So credit never comes into being by moving, and all gateways
together admit at most what one would: burst + rate · time.

Where the needs do not exceed the limit, everybody gets what it needs and an equal part of the rest;
else the small needs are met (a little is kept for everybody) and the large ones get equal parts of
what is left. A gateway whose
requests are too large for its part gets turns.

A rule that nobody needs more of goes back to the members' shares when everything is as it would be
there. Its entry stays, without holders, until every member has seen that.

Does not know: how a gateway uses its share (see `limit_shares`), or where the table is kept (see
`limit_leases`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from anzoth.gateway.buckets import WHOLE

Name = tuple[UUID, str | None]
"""Of a rule: whose it is, and the model if it is of one."""
SLACK = WHOLE // 64
"""A share that is this near to what it should be stays."""
_FLOORS = 16
"""One part of so many is for those that need nothing: their next request then fits, mostly."""


@dataclass(slots=True)
class Member:
    """One gateway."""

    beat: int
    """The version of its last exchange: while that changes, it lives."""
    share: int
    version: int
    """Up to which it has seen what changed."""
    joined: int
    """The version when it did."""


@dataclass(slots=True)
class Held:
    """One gateway's share of one rule."""

    share: int
    need: int = 0
    """0: it is idle, and has been for long enough."""
    least: int = 0
    """A smaller share is of no use: some request did not fit. 0: any is."""


@dataclass(slots=True)
class RuleShares:
    """No holders: it is shared like any other rule, again."""

    version: int
    credit: int = 0
    """Of what nobody holds."""
    held: dict[UUID, Held] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return WHOLE - sum(held.share for held in self.held.values())


@dataclass(slots=True)
class Table:
    """Or as much of it as an exchange needs (see `must_know`)."""

    version: int
    """Of the exchange that is going on: larger than any before."""
    members: dict[UUID, Member] = field(default_factory=dict)
    rules: dict[Name, RuleShares] = field(default_factory=dict)
    turn: int = 0
    """Whose requests are too large for all to be served, they are served by turns."""
    changed: set[Name] = field(default_factory=set)
    """Rules that the exchange touched."""
    is_news: bool = False
    """Whether others should look soon."""

    def share_of(self, gateway: UUID) -> int:
        return self.members[gateway].share if gateway in self.members else 0


@dataclass(slots=True, frozen=True)
class Told:
    """What a gateway says of one rule."""

    share: int
    """It uses no more than this."""
    credit: int = 0
    """It has given this away, with the share that it had above."""
    need: int = 0
    least: int = 0


@dataclass(slots=True, frozen=True)
class Counted:
    """What a gateway's process has counted of one quota in one period, all of it."""

    name: Name
    quota: str
    gateway: UUID
    began: int
    """The version when the process joined first."""
    begin_ns: int
    """When the period did, since 1970."""
    used: int


@dataclass(slots=True, frozen=True)
class Report:
    """What a gateway says."""

    share: int
    """Of the rules that the table does not name, it uses no more than this."""
    version: int
    """Up to which it has seen what changed."""
    rules: Mapping[Name, Told] = field(default_factory=dict)
    dead: Mapping[UUID, int] = field(default_factory=dict)
    """Gateways that have been at this beat for longer than any lease lasts."""
    joined: int | None = None
    """What it knows of when it joined. None: nothing, the process has just begun."""


@dataclass(slots=True, frozen=True)
class Given:
    """What a gateway learns of one rule."""

    share: int
    credit: int
    """That came with what it gained just now."""
    aim: int
    """The share that it should have. Where that is less, it should give up some."""
    is_even: bool = False
    """It is shared like any other rule, again."""


@dataclass(slots=True, frozen=True)
class Reply:
    """What a gateway learns. `share` and `aim` are of the rules that are not named."""

    version: int
    share: int
    aim: int
    beats: Mapping[UUID, int]
    rules: Mapping[Name, Given]
    joined: int
    """Another one than it knows: whatever it had before is gone."""

    @property
    def is_alone(self) -> bool:
        return len(self.beats) == 1


def must_know(
    members: Mapping[UUID, Member], me: UUID, report: Report
) -> tuple[int, set[Name], set[UUID]]:
    """Which rules an exchange needs: those that changed after this version, those of these names,
    and those that these gateways hold."""
    version = report.version if _knows_itself(members, me, report) else 0
    return version, set(report.rules), set(report.dead)


def exchange(table: Table, me: UUID, report: Report) -> Reply:
    """Changes the table. Alone in it, under its lock."""
    knows_itself = _knows_itself(table.members, me, report)
    _bury(table, me, report.dead)
    _update_member(table, me, report, knows_itself=knows_itself)
    if knows_itself:
        for name, told in report.rules.items():
            _update_rule(table, me, name, told)
    aim = WHOLE // len(table.members)
    member = table.members[me]
    if member.share < aim:
        free = WHOLE - sum(other.share for other in table.members.values())
        gained = min(aim - member.share, free)
        member.share += gained
    rules = {name: _settle(table, me, name) for name in table.rules}
    beats = {gateway: other.beat for gateway, other in table.members.items()}
    return Reply(table.version, member.share, aim, beats, rules, member.joined)


def leave(table: Table, me: UUID) -> None:
    """A gateway ends, and nothing of it runs any more. `table` has the rules that it holds."""
    _remove(table, me)


def _knows_itself(members: Mapping[UUID, Member], me: UUID, report: Report) -> bool:
    """Whether what it reports is about what it has in the table, and not about what it had once."""
    return me in members and members[me].joined == report.joined


def _bury(table: Table, me: UUID, dead: Mapping[UUID, int]) -> None:
    """What they had comes back without credit: they may have used it just before they died."""
    for gateway, beat in dead.items():
        member = table.members.get(gateway)
        if member is not None and member.beat == beat and gateway != me:
            _remove(table, gateway)


def _remove(table: Table, gateway: UUID) -> None:
    if table.members.pop(gateway, None) is None:
        return
    table.is_news = True
    for name, rule in table.rules.items():
        if rule.held.pop(gateway, None) is not None:
            _touch(table, name)


def _update_member(table: Table, me: UUID, report: Report, *, knows_itself: bool) -> None:
    if me not in table.members:
        share = 0 if table.members else WHOLE
        table.members[me] = Member(0, share, 0, table.version)
        table.is_news = len(table.members) > 1
    member = table.members[me]
    member.beat = table.version
    member.version = report.version if knows_itself else 0
    # It may not know yet that a rule is like the others again, and use the share of that rule that
    # it had, which was that of the others then: what it has of those shrinks when it has seen this.
    is_behind = any(
        not rule.held and rule.version > report.version for rule in table.rules.values()
    )
    if report.share < member.share and knows_itself and not is_behind:
        member.share = report.share
        table.is_news = True


def _update_rule(table: Table, me: UUID, name: Name, told: Told) -> None:
    rule = table.rules.get(name)
    if rule is None or not rule.held:
        # From what everybody may be using of it at this moment.
        rule = table.rules[name] = RuleShares(
            table.version, 0, {g: Held(member.share) for g, member in table.members.items()}
        )
        _touch(table, name, is_news=True)
    held = rule.held.setdefault(me, Held(0))
    if told.share < held.share:
        held.share = told.share
        _touch(table, name, is_news=True)
    rule.credit = min(rule.credit + told.credit, rule.free)
    if (told.need, told.least) != (held.need, held.least):
        is_news = max(told.need, told.least) > held.share
        held.need, held.least = told.need, told.least
        _touch(table, name, is_news=is_news)


def _settle(table: Table, me: UUID, name: Name) -> Given:
    """Gives this gateway what it should have and is free."""
    rule = table.rules[name]
    if rule.held and _is_like_others(table, rule):
        rule.held, rule.credit = {}, 0
        _touch(table, name)
    if not rule.held:
        return Given(0, 0, 0, is_even=True)
    aim = aims(table, rule).get(me, 0)
    held = rule.held.get(me, Held(0))
    gained = min(aim - held.share, rule.free)
    credit = 0
    if gained > 0:
        credit = min(rule.credit, gained)
        rule.credit -= credit
        held.share += gained
        rule.held[me] = held
        _touch(table, name)
    return Given(held.share, credit, aim)


def _touch(table: Table, name: Name, *, is_news: bool = False) -> None:
    table.rules[name].version = table.version
    table.changed.add(name)
    table.is_news = table.is_news or is_news


def _is_like_others(table: Table, rule: RuleShares) -> bool:
    """Whether every gateway has of it what it has of the rules that are not named, or should."""
    if len(table.members) == 1:
        return True
    return rule.held.keys() == table.members.keys() and all(
        held.need == held.least == 0 and held.share == table.share_of(gateway)
        for gateway, held in rule.held.items()
    )


def aims(table: Table, rule: RuleShares) -> dict[UUID, int]:
    """The share that each gateway should have. Their sum is at most WHOLE."""
    floor = WHOLE // (_FLOORS * max(1, len(rule.held)))
    needs = {gateway: max(held.need, held.least) for gateway, held in rule.held.items()}
    if all(need <= table.share_of(gateway) for gateway, need in needs.items()):
        found = {gateway: table.share_of(gateway) for gateway in needs | table.members}
        if not any(needs.values()):
            return found
    else:
        found = _filled({gateway: max(need, floor) for gateway, need in needs.items()}, WHOLE)
        starving = sorted(g for g, held in rule.held.items() if held.least > found[g])
        if starving:
            served = starving[table.turn % len(starving)]
            rest = {gateway: need for gateway, need in needs.items() if gateway != served}
            found = {served: needs[served], **_filled(rest, WHOLE - needs[served])}
    if all(
        abs(held.share - found[gateway]) <= SLACK and held.share >= held.least
        for gateway, held in rule.held.items()
    ):
        return {gateway: held.share for gateway, held in rule.held.items()}
    return found


def _filled(needs: Mapping[UUID, int], total: int) -> dict[UUID, int]:
    """The small needs are met; the large ones share equally, and so does everybody what is left."""
    found: dict[UUID, int] = {}
    for number, gateway in enumerate(sorted(needs, key=lambda g: (needs[g], g))):
        found[gateway] = min(needs[gateway], total // (len(needs) - number))
        total -= found[gateway]
    for gateway in found:
        found[gateway] += total // len(found)
    return found
