"""What one tenant cached tells another nothing: no hit, and to the token the same work per step.

The victim's prompts are probed with every prefix, by a tenant that knows them word for word. What
it sees must not depend on whether the victim was there. The positive control is as important: its
own prefixes do hit, so a difference would have shown.
"""

from __future__ import annotations

import random

import pytest

from anzoth.frames import SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.sequence import RowFailure
from fake_runner import FakeRunner

ENDLESS = SamplingParams(ignore_eos=True)
LENGTH = 60
Seen = tuple[int | None, list[int], list[int | None]]
"""What a probe shows: cached tokens, tokens computed in each step, the tokens of the answer."""


class Site:
    """An engine with room for everything, and who asks what."""

    def __init__(self, *shared_prompts: list[int]) -> None:
        self.engine = Engine(
            FakeRunner(num_blocks=400),
            EngineConfig(max_batch_tokens=16),
            lambda: 0.0,
            shared_prompts,
        )

    def ask(self, tenant: str, prompt: list[int]) -> Seen:
        request = self.engine.submit(
            Submit(0, f"secret of {tenant}", tenant, 1, 4, ENDLESS), prompt
        )
        assert isinstance(request, int), request
        cached, work, tokens = None, [], []
        while self.engine.has_work:
            for row in self.engine.step():
                if row.cached_tokens is not None:
                    cached = row.cached_tokens
                tokens.append(row.token)
            work.append(self.engine.stats().batch_tokens)
        return cached, work, tokens


def text(seed: int) -> list[int]:
    random_ = random.Random(seed)
    return [random_.randrange(90) for _ in range(LENGTH)]


VICTIM, OTHER = text(1), text(2)


@pytest.mark.parametrize("num_known_tokens", range(0, LENGTH + 1, 4))
def test_probe_sees_the_same_whatever_another_tenant_has_cached(num_known_tokens: int) -> None:
    probe = [*VICTIM[:num_known_tokens], *OTHER[num_known_tokens:]]
    seen: list[Seen] = []
    for said in (VICTIM, OTHER):
        site = Site()
        site.ask("victim", said)
        site.ask("victim", said)
        seen.append(site.ask("attacker", probe))
    assert seen[0] == seen[1]
    assert seen[0][0] == 0


def test_probe_beside_the_running_victim_sees_the_same() -> None:
    """In flight, and not only cached: a shared system prompt would be waited for and then hit."""
    seen = []
    for said in (VICTIM, OTHER):
        engine = Site().engine
        for tenant, prompt in (("victim", said), ("attacker", VICTIM)):
            engine.submit(Submit(0, f"secret of {tenant}", tenant, 1, 4, ENDLESS), prompt)
        steps = []
        while engine.has_work:
            rows = [(row.token, row.cached_tokens) for row in engine.step() if row.request == 1]
            steps.append((engine.stats().batch_tokens, rows))
        seen.append(steps)
    assert seen[0] == seen[1]


def test_own_prefix_hits_and_shows_in_the_work() -> None:
    site = Site()
    first, second = (site.ask("attacker", VICTIM) for _ in range(2))
    assert (first[0], second[0]) == (0, 56)
    assert sum(first[1]) - sum(second[1]) == 56
    assert first[2] == second[2]


def test_one_tenant_under_another_name_hits_nothing_without_its_secret() -> None:
    """The name is for fairness; the secret alone decides what is found."""
    site = Site()
    site.ask("victim", VICTIM)
    request = site.engine.submit(Submit(0, "guess", "victim", 1, 4, ENDLESS), VICTIM)
    rows = [row for _ in range(8) for row in (site.engine.step() if site.engine.has_work else [])]
    assert next(row.cached_tokens for row in rows if row.request == request) == 0


# --- a prompt that the operator approved to be shared --------------------------------------------

APPROVED = text(3)[:22]
"""Five full blocks, and two tokens of a sixth."""


@pytest.mark.parametrize("num_known_tokens", range(0, LENGTH + 1, 4))
def test_probe_behind_an_approved_prompt_sees_nothing_of_what_others_wrote_there(
    num_known_tokens: int,
) -> None:
    probe = [*APPROVED, *VICTIM[:num_known_tokens], *OTHER[num_known_tokens:]]
    seen: list[Seen] = []
    for said in (VICTIM, OTHER):
        site = Site(APPROVED)
        for _ in range(2):
            site.ask("victim", [*APPROVED, *said])
        seen.append(site.ask("attacker", probe))
    assert seen[0] == seen[1]
    assert seen[0][0] == 20


def test_probe_tells_whether_the_whole_approved_prompt_is_in_use_and_nothing_else() -> None:
    whole = [*APPROVED, 5]
    unused, in_use = Site(APPROVED), Site(APPROVED)
    in_use.ask("victim", [*APPROVED, *VICTIM])
    assert unused.ask("attacker", whole)[0] == 0
    assert in_use.ask("attacker", whole)[0] == 20
    for num_tokens in range(1, 20):
        site = Site(APPROVED)
        site.ask("victim", [*APPROVED[:num_tokens], *VICTIM])
        assert site.ask("attacker", whole) == Site(APPROVED).ask("attacker", whole)
    # And a part of it finds nothing, though the whole is there.
    assert in_use.ask("attacker", [*APPROVED[:19], 96, 5])[0] == 0


def test_what_was_not_approved_is_not_shared_however_many_tenants_send_it() -> None:
    site = Site(APPROVED)
    for number in range(5):
        assert site.ask(f"tenant {number}", VICTIM)[0] == 0


def test_a_tenants_failing_requests_do_not_take_an_approved_prompt_from_others() -> None:
    """Such a failure is the request's own fault and says nothing about the blocks."""
    site = Site(APPROVED)
    site.ask("victim", [*APPROVED, 5])
    runner = site.engine._runner
    assert isinstance(runner, FakeRunner)
    runner.failure = RowFailure("no token is left", is_callers=True)
    runner.fails = lambda place: place.num_tokens == len(APPROVED) + 1
    assert site.ask("attacker", [*APPROVED, 6])[2] == [None]
    runner.fails = lambda place: False
    assert site.ask("victim", [*APPROVED, 7])[0] == 20
