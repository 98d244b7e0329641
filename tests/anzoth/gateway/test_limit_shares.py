"""Do several gateways together admit what one would? Every history is replayed in one exact bucket.

Gateways and their table are real; what lies between them is simulated: exchanges are lost before or
after they took effect, or answered late; gateways are paused, die, begin again and leave. Whatever
happens, the units that all of them admitted fit into one bucket of the whole limit.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from principals import make_principal

from anzoth.errors import CapacityUnavailable, RateLimited
from anzoth.gateway import share_table
from anzoth.gateway.buckets import MINUTE_NS, WHOLE
from anzoth.gateway.limit_lease import FORGET_NS, TERM_NS, Lease
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.gateway.share_table import Reply, Report, Table

MS = 10**6
TPM, CONCURRENCY = 1000, 4
KEYS = [
    make_principal(key_id=uuid.UUID(int=9), tpm=TPM),
    make_principal(key_id=uuid.UUID(int=8), tpm=TPM, concurrency=CONCURRENCY),
]


@dataclass(eq=False)
class Request:
    key: int
    gateway: int
    at_ns: int
    tokens: int
    reservation: Reservation
    is_open: bool = True
    counts: bool = True
    """Whether it runs for all that the gateways know: not where its gateway is forgotten."""


@dataclass
class Gateway:
    id: uuid.UUID
    limiter: Limiter
    lease: Lease
    pending: tuple[Report, Reply] | None = None


@dataclass
class World:
    """Several gateways, each with a limiter of its own, and what they admitted."""

    num: int
    now_ns: int = 10**18
    table: Table = field(default_factory=lambda: Table(0))
    gateways: list[Gateway] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gateways = [self.new(uuid.UUID(int=1 + number)) for number in range(self.num)]

    def new(self, id: uuid.UUID) -> Gateway:
        limiter = Limiter(lambda: self.now_ns, lambda: self.now_ns)
        return Gateway(id, limiter, Lease(limiter.shares, lambda: self.now_ns))

    # --- exchanges --------------------------------------------------------------------------------

    def exchange(self, number: int, fate: str = "answered") -> bool:
        """Whether the gateway wants another one at once."""
        gateway = self.gateways[number]
        if gateway.pending is not None:
            return self.deliver(number)
        report = gateway.lease.ask()
        if fate == "lost":
            return False
        reply = self.apply(gateway.id, report)
        if fate == "unanswered":
            return False
        gateway.pending = (report, reply)
        return self.deliver(number) if fate == "answered" else False

    def deliver(self, number: int) -> bool:
        gateway = self.gateways[number]
        assert gateway.pending is not None
        (report, reply), gateway.pending = gateway.pending, None
        return gateway.lease.answered(report, reply)

    def apply(self, me: uuid.UUID, report: Report) -> Reply:
        """As the database does: with those rules only that the exchange asks for."""
        table = self.table
        since, names, dead = share_table.must_know(table.members, me, report)
        known = {
            name: rule
            for name, rule in table.rules.items()
            if rule.version > since or name in names or dead & rule.held.keys()
        }
        part = Table(table.version + 1, table.members, known, turn=self.now_ns // 10**9 // 5)
        before = set(table.members)
        reply = share_table.exchange(part, me, report)
        table.version += 1
        table.rules |= part.rules
        seen_by_all = min(member.version for member in table.members.values())
        for name in [n for n, r in table.rules.items() if not r.held and r.version <= seen_by_all]:
            del table.rules[name]
        for number, gateway in enumerate(self.gateways):
            if gateway.id in before - table.members.keys():
                until_ns = gateway.limiter.shares.until_ns
                assert until_ns is not None
                assert until_ns <= self.now_ns
                for request in self.requests:
                    request.counts = request.counts and request.gateway != number
        self.check_table()
        return reply

    def check_table(self) -> None:
        assert sum(member.share for member in self.table.members.values()) <= WHOLE
        for rule in self.table.rules.values():
            assert 0 <= rule.credit <= rule.free
        for number, gateway in enumerate(self.gateways):
            until_ns = gateway.limiter.shares.until_ns
            if until_ns is None or self.now_ns < until_ns:
                self.check_use(number, gateway)

    def check_use(self, number: int, gateway: Gateway) -> None:
        """What a gateway uses is its own in the table."""
        member = self.table.members[gateway.id]
        assert gateway.limiter.shares.even.share <= member.share
        for key, who in enumerate(KEYS[:2]):
            name = who.limits[0].subject, None
            rule = self.table.rules.get(name)
            share = member.share
            if rule is not None and rule.held:
                share = rule.held[gateway.id].share if gateway.id in rule.held else 0
            assert gateway.limiter.shares.of(name).share <= share
            if key == 1:
                mine = [r for r in self.requests if r.gateway == number and r.key == key]
                running = sum(request.is_open and request.counts for request in mine)
                assert running <= CONCURRENCY * share // WHOLE

    def settle_down(self, rounds: int = 3) -> None:
        """Everybody exchanges until nobody has anything to give."""
        for _ in range(rounds):
            for number in range(self.num):
                self.exchange(number)

    # --- requests ---------------------------------------------------------------------------------

    def reserve(self, number: int, key: int, tokens: int) -> Request | None:
        gateway = self.gateways[number]
        try:
            made = gateway.limiter.reserve(KEYS[key], "m", tokens, 0)
        except (RateLimited, CapacityUnavailable):
            return None
        request = Request(key, number, self.now_ns, tokens, made)
        self.requests.append(request)
        self.check(key)
        return request

    def settle(self, request: Request, tokens: int) -> None:
        request.is_open, request.tokens = False, tokens
        request.reservation.settle(tokens)

    def restart(self, number: int, *, gracefully: bool) -> None:
        gateway = self.gateways[number]
        for request in self.requests:
            if request.gateway == number and request.is_open:
                request.is_open = False  # whatever it used was at most what it reserved
        if gracefully:
            part = Table(self.table.version + 1, self.table.members, self.table.rules)
            share_table.leave(part, gateway.id)
            self.table.version += 1
        self.gateways[number] = self.new(gateway.id)

    # --- what must hold ---------------------------------------------------------------------------

    def check(self, key: int) -> None:
        debt, at_ns = Fraction(0), 0
        for request in self.requests:
            if request.key == key:
                drained = Fraction(TPM * (request.at_ns - at_ns), MINUTE_NS)
                debt, at_ns = max(Fraction(0), debt - drained) + request.tokens, request.at_ns
                assert debt <= TPM
        if key == 1:
            running = [r for r in self.requests if r.key == key and r.is_open and r.counts]
            assert len(running) <= CONCURRENCY


@dataclass
class Phase:
    """Some seconds in which the same happens again and again."""

    random: Random
    world: World

    def run(self) -> None:
        random, world = self.random, self.world
        step_ms, most = random.choice([(20, 25), (100, 25), (700, 12), (1000, 12), (1500, 50)])
        paused = {n for n in range(world.num) if random.random() < 0.3 and step_ms > 500}
        loss = random.choice([0, 0, 0.2, 0.5])
        traffic = [
            (number, key, random.choice([1, 5, 12, 20, 33, 50, 70, 100]) * TPM // 100)
            for number in range(world.num)
            for key in range(len(KEYS))
            if random.random() < 0.4 and most < 50
        ]
        used = random.choice([0, 50, 100])
        for _ in range(random.randrange(1, most)):
            world.now_ns += random.randrange(2 * step_ms) * MS
            for number, key, tokens in traffic:
                while world.reserve(number, key, tokens) is not None:
                    pass
            for request in [request for request in world.requests if request.is_open]:
                if random.random() < 0.2:
                    world.settle(request, request.tokens * used // 100)
            for number in random.sample(range(world.num), world.num):
                is_alone = world.gateways[number].limiter.shares.until_ns is None
                if is_alone:  # it has no lease (see limit_lease): it hears of others in time
                    world.exchange(number)
                elif number not in paused and random.random() < 0.8:
                    world.exchange(number, self.fate(loss))
            self.hear()
        if random.random() < 0.15:
            self.restart(random.randrange(world.num), gracefully=random.random() < 0.5)

    def fate(self, loss: float) -> str:
        if self.random.random() < loss:
            return self.random.choice(["lost", "unanswered", "late"])
        return "answered"

    def hear(self) -> None:
        for number, gateway in enumerate(self.world.gateways):
            if gateway.limiter.shares.until_ns is None:
                self.world.exchange(number)

    def restart(self, number: int, *, gracefully: bool) -> None:
        # One that is alone begins with the whole limit again, as ever.
        if self.world.table.members.keys() - {self.world.gateways[number].id}:
            self.world.restart(number, gracefully=gracefully)
            self.hear()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_all_gateways_together_admit_what_one_bucket_would(seed: int) -> None:
    world, random = World(3), Random(seed)
    for _ in range(25):
        Phase(random, world).run()
    for key in range(len(KEYS)):
        world.check(key)


# --- who gets what --------------------------------------------------------------------------------


def settled(num: int) -> World:
    world = World(num)
    world.settle_down()
    world.now_ns += MINUTE_NS
    world.settle_down()
    return world


def admitted(world: World, number: int, key: int, tokens: int) -> int:
    count, limiter = 0, world.gateways[number].limiter
    with contextlib.suppress(RateLimited):
        while True:
            limiter.reserve(KEYS[key], "m", tokens, 0).settle(tokens)
            count += 1
    return count


def share(world: World, number: int, key: int = 0) -> int:
    rules = KEYS[key].limits
    return world.gateways[number].limiter.meters(rules)[0].holding.share


def live(world: World, seconds: int, use: Callable[[int], None] = lambda second: None) -> None:
    for second in range(seconds):
        world.now_ns += 1000 * MS
        use(second)
        world.settle_down(2)


def test_who_is_alone_has_everything_at_once() -> None:
    world = World(1)
    assert world.reserve(0, 0, 1) is None  # not before it has asked
    world.exchange(0)
    assert admitted(world, 0, 0, TPM) == 1
    world.now_ns += MINUTE_NS
    assert admitted(world, 0, 0, 1) == TPM


def test_gateways_begin_with_equal_shares() -> None:
    world = settled(3)
    assert [admitted(world, number, 0, 1) for number in range(3)] == [TPM // 3] * 3


def test_who_alone_has_the_traffic_gets_nearly_all_of_the_burst_and_the_rate() -> None:
    world = settled(3)
    first = admitted(world, 0, 0, 10)
    world.settle_down()
    assert (first + admitted(world, 0, 0, 10)) * 10 >= TPM * 0.93  # of the same burst
    counts = []
    live(world, 60, lambda _: counts.append(admitted(world, 0, 0, 1)))
    assert sum(counts[-30:]) >= TPM * 0.5 * 0.93


def test_a_request_that_needs_the_whole_limit_is_served_where_it_comes() -> None:
    world = settled(2)
    for number in (0, 1, 1, 0):
        assert world.reserve(number, 0, TPM) is None
        live(world, 2)
        assert world.reserve(number, 0, TPM) is not None
        live(world, 65)


def test_two_that_want_everything_get_half_each() -> None:
    world = settled(2)
    counts = [0, 0]

    def use(_: int) -> None:
        for number in (0, 1):
            counts[number] += admitted(world, number, 0, 1)

    live(world, 20, use)
    counts = [0, 0]
    live(world, 60, use)
    assert min(counts) >= TPM * 0.47


def test_who_needs_little_beside_who_wants_everything_gets_that() -> None:
    world = settled(2)
    served = {0: 0, 1: 0}

    def use(_: int) -> None:
        for _ in range(2):  # 120 a minute of 1000
            request = world.reserve(1, 0, 1)
            if request is not None:
                world.settle(request, 1)
                served[1] += 1
        served[0] += admitted(world, 0, 0, 1)

    live(world, 60, use)
    served |= {0: 0, 1: 0}
    live(world, 60, use)
    assert served[1] >= 115
    assert served[0] >= TPM * 0.75


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_slots_go_where_the_requests_are(concurrency: int) -> None:
    who = make_principal(key_id=uuid.UUID(int=7), concurrency=concurrency)
    world = settled(3)
    KEYS.append(who)
    try:
        for number in (2, 0):
            held = []
            for _ in range(20):
                while (request := world.reserve(number, len(KEYS) - 1, 1)) is not None:
                    held.append(request)
                live(world, 1)
            assert len(held) == concurrency
            for request in held:
                world.settle(request, 1)
    finally:
        KEYS.pop()


def test_after_the_traffic_the_table_is_empty_and_shares_are_equal_again() -> None:
    world = settled(2)
    admitted(world, 0, 0, 1)
    world.settle_down()
    assert world.table.rules
    live(world, 150)
    assert not world.table.rules
    assert [share(world, number) for number in (0, 1)] == [WHOLE // 2] * 2
    assert [admitted(world, number, 0, 1) for number in (0, 1)] == [TPM // 2] * 2


@pytest.mark.parametrize("had_traffic", [True, False])
def test_what_a_dead_gateway_had_is_used_by_the_others_after_the_term(had_traffic: bool) -> None:
    world = settled(2)
    if had_traffic:
        admitted(world, 0, 0, 1)
        world.settle_down()
        admitted(world, 0, 0, 1)
    world.exchange(1)
    for _ in range(FORGET_NS // 10**9):
        assert len(world.table.members) == 2
        world.now_ns += 1000 * MS
        world.exchange(1)
    assert len(world.table.members) == 1
    assert share(world, 1) == WHOLE
    world.now_ns += MINUTE_NS
    assert admitted(world, 1, 0, 1) == TPM


def test_whoever_was_paused_for_longer_than_the_term_asks_first() -> None:
    world = settled(2)
    world.now_ns += TERM_NS
    assert world.reserve(0, 0, 1) is None
    world.exchange(0)
    assert world.reserve(0, 0, 1) is not None


def test_while_the_database_is_away_everybody_goes_on_with_what_he_has() -> None:
    world = settled(2)
    admitted(world, 0, 0, 1)
    world.settle_down()
    admitted(world, 0, 0, 1)
    before = share(world, 0)
    for _ in range(60):
        for gateway in world.gateways:
            gateway.lease.ask()
        world.now_ns += 1000 * MS
        for gateway in world.gateways:
            gateway.lease.failed()
    assert share(world, 0) == before
    assert admitted(world, 0, 0, 1) >= TPM * 0.95  # more than its equal share
    assert admitted(world, 1, 0, 1) <= TPM * 0.07
    world.exchange(0)  # and when it is back, nobody takes the other for dead
    world.exchange(0)
    assert len(world.table.members) == 2


def test_an_exchange_that_fails_after_a_pause_says_nothing_about_the_database() -> None:
    world = settled(2)
    world.gateways[0].lease.ask()
    world.now_ns += TERM_NS
    world.gateways[0].lease.failed()
    assert world.reserve(0, 0, 1) is None


def test_moving_a_share_to_and_fro_brings_no_second_burst() -> None:
    world = settled(2)
    total = 0
    for number in itertools.islice(itertools.cycle((0, 1)), 40):
        total += admitted(world, number, 0, 1)
        world.settle_down()
    assert TPM - 2 <= total <= TPM  # each may have a part of one left


def test_running_requests_keep_their_slots_when_a_gateway_joins() -> None:
    world = World(2)
    world.exchange(0)
    held = [world.reserve(0, 1, 1) for _ in range(CONCURRENCY)]
    assert all(held)
    for rounds in (3, 1, 1, 1):
        world.settle_down(rounds)
        world.now_ns += 1000 * MS
        assert world.reserve(1, 1, 1) is None
    assert share(world, 1) == WHOLE // 2  # of other rules
    for request in held:
        assert request is not None
        world.settle(request, 1)
    live(world, 3)
    assert world.reserve(1, 1, 1) is not None


def test_who_was_forgotten_and_misses_the_answer_that_says_so_uses_nothing_it_had() -> None:
    world = settled(3)
    for _ in range(5):  # gateway 0 is paused, and the others agree about a rule meanwhile
        world.now_ns += 1000 * MS
        for number in (1, 2):
            admitted(world, number, 0, 1)
            world.exchange(number)
    assert share(world, 1) + share(world, 2) == WHOLE
    world.exchange(0, "unanswered")
    for number in (0, 1, 2, 1, 2, 0):
        world.exchange(number)
        assert sum(share(world, other) for other in range(3)) <= WHOLE


def test_who_left_and_came_back_is_not_taken_for_silent() -> None:
    world = settled(2)
    since_ns = world.now_ns
    while world.now_ns - since_ns <= FORGET_NS:
        world.now_ns += 1000 * MS
        world.restart(0, gracefully=True)
        world.exchange(0)
        world.exchange(1)
    assert len(world.table.members) == 2
