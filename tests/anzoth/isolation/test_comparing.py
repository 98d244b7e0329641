"""What is told apart, and what is not: contents to the byte, times within what noise allows."""

from __future__ import annotations

import random
import uuid

import pytest

from anzoth.isolation import comparing
from anzoth.isolation.comparing import BOUND_US, Answer

ONE, OTHER = "file-" + "a" * 32, "file-" + "b" * 32
HEADERS = (("x-request-id", "req_1"), ("content-type", "application/json"))


def answer(body: str, status: int = 404, headers: tuple[tuple[str, str], ...] = HEADERS) -> Answer:
    return Answer(status, headers, body.encode())


def difference(one: Answer, other: Answer, **more: bool) -> str | None:
    return comparing.difference(one, other, [ONE], [OTHER], **more)


def test_answers_that_differ_only_by_what_was_asked_are_the_same() -> None:
    one = answer(f'{{"message":"no {ONE}","request":"req_1"}}')
    other = answer(
        f'{{"message":"no {OTHER}","request":"req_2"}}',
        headers=(("x-request-id", "req_2"), ("content-type", "application/json")),
    )
    assert difference(one, other) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (answer("{}"), answer("{}", status=403)),
        (answer("{}"), answer("{ }")),
        (answer("{}"), answer("{}", headers=(*HEADERS, ("x-more", "1")))),
        (answer("{}"), answer("{}", headers=HEADERS[::-1])),
        (answer("{}", headers=(("etag", "1"),)), answer("{}", headers=(("etag", "2"),))),
        (answer(ONE), answer(ONE)),  # the foreign id, where nobody asked for it
    ],
)
def test_what_differs_is_named(one: Answer, other: Answer) -> None:
    assert difference(one, other)


def test_what_is_made_anew_differs_by_its_own_ids_and_times_only() -> None:
    def made(name: str, model: str = "m") -> Answer:
        return answer(
            f'{{"id":"{uuid.uuid4()}","created_at":{random.randrange(10**9, 2 * 10**9)},'
            f'"name":"{name}","model":"{model}"}}',
            200,
        )

    assert difference(made(ONE), made(OTHER), makes=True) is None
    assert difference(made(ONE), made(OTHER))
    assert difference(made(ONE), made(OTHER, "other"), makes=True)


@pytest.mark.parametrize(
    "id",
    [
        *("file-" + "0123456789abcdef" * 2, "req_0123456789abcdefghij"),
        "2634ab72-563c-4c05-a6cb-c12938ac6aa9",
        *("rl-alias-00ff00ff", "isolation-a@anzoth.invalid", "project 00ff"),
    ],
)
def test_an_unknown_id_has_the_same_form_and_is_another(id: str) -> None:
    unknown = comparing.unknown_like(id)
    assert unknown != id
    assert len(unknown) == len(id)
    for prefix in ("file-", "req_", "rl-alias-"):
        assert unknown.startswith(prefix) is id.startswith(prefix)
    assert ("@anzoth.invalid" in unknown) is ("@" in id)


def turns(num: int, extra_us: int, seed: int, drift_us: int = 0) -> tuple[list[int], list[int]]:
    """Times as a busy machine has them: skewed, with outliers, drifting."""
    draw = random.Random(seed)

    def one(turn: int) -> int:
        slow = draw.random() < 0.05
        return int(3000 + draw.gammavariate(2, 150) + slow * draw.uniform(0, 40_000)) + (
            drift_us * turn
        )

    return [one(t) + extra_us for t in range(num)], [one(t) for t in range(num)]


def test_noise_is_no_difference() -> None:
    same = [comparing.judge(*turns(24, 0, seed, drift_us=50)).is_same for seed in range(300)]
    assert all(same)


def test_what_a_database_query_costs_is_seen() -> None:
    seen = [not comparing.judge(*turns(64, 800, seed)).is_same for seed in range(100)]
    assert sum(seen) >= 95


def test_the_bound_grows_with_the_noise_and_is_told() -> None:
    quiet = comparing.judge([1000] * 20, [1001] * 20)
    assert (quiet.bound_us, quiet.difference_us, quiet.num_turns) == (BOUND_US, -1, 20)
    wild = [1000 if turn % 2 else 30_000 for turn in range(20)]
    assert comparing.judge(wild, [2000] * 20).bound_us > BOUND_US
