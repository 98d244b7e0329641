"""Is every way of changing an audit log seen, and is an untouched one never suspected?"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.db.store.audit_rows import AuditHead
from anzoth.gateway import audit, audit_chain
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.audit_chain import Report, Verifier

START = datetime(2026, 1, 1, tzinfo=UTC)
TENANT = uuid.UUID(int=1)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NUM_EVENTS = 6
HEAD_AT = 4

Line = dict[str, Any]


def head(event: Line, key: Ed25519PrivateKey = KEY) -> Line:
    tenant_id = None if event["tenant_id"] is None else uuid.UUID(event["tenant_id"])
    hash = bytes.fromhex(event["hash"])
    signed = audit_chain.head_content(tenant_id, event["seq"], hash, START)
    signature = key.sign(audit_chain.canonical(signed))
    public_key = key.public_key().public_bytes_raw()
    return audit_chain.exported_head(
        AuditHead(tenant_id, event["seq"], hash, START, public_key, signature)
    )


@functools.cache
def _export() -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Two chains of events, the installation's first, each with a head before its end."""
    events: list[Line] = []
    for tenant in (None, TENANT):
        previous, seq = audit_chain.GENESIS, 0
        for number in range(NUM_EVENTS):
            created = tenant is None and number == 0
            rows = audit.linked(
                seq,
                previous,
                START + timedelta(seconds=number),
                [
                    AuditEvent(
                        "tenant.created" if created else "project.updated",
                        Actor("user", f"u{number}", "192.0.2.1"),
                        tenant,
                        uuid.UUID(int=3),
                        target={"id": str(TENANT)},
                        details={"name": f"n{number}", "limits": {"rpm": number}},
                        request_id="req",
                    )
                ],
            )
            seq, previous = rows[-1].seq, rows[-1].hash
            events += map(audit_chain.exported, rows)
    heads = [head(event) for event in events if event["seq"] == HEAD_AT]
    return tuple(events), tuple(heads)


def export() -> tuple[list[Line], list[Line]]:
    return copy.deepcopy([list(part) for part in _export()])  # type: ignore[return-value]


def verify(
    events: list[Any],
    heads: list[Line],
    trusted: list[bytes] | None = None,
    *,
    is_complete: bool = True,
) -> Report:
    verifier = Verifier(heads, trusted)
    for event in events:
        verifier.add(event)
    return verifier.finish(is_complete=is_complete)


def problems(events: list[Any], heads: list[Line], **how: Any) -> list[tuple[Any, ...]]:
    found = verify(events, heads, **how).problems
    return [(problem.tenant_id, problem.seq, problem.reason) for problem in found]


def rehash(event: Line) -> None:
    """What somebody does who knows how it works."""
    body = {name: value for name, value in event.items() if name != "hash"}
    event["hash"] = audit_chain.digest(body).hex()


def test_an_untouched_log_is_whole() -> None:
    report = verify(*export(), trusted=[KEY.public_key().public_bytes_raw()])
    assert report.problems == []
    assert (report.num_chains, report.num_events, report.num_heads) == (2, 2 * NUM_EVENTS, 2)
    assert report.num_after_heads == 2 * (NUM_EVENTS - HEAD_AT)
    assert report.public_keys == [KEY.public_key().public_bytes_raw().hex()]


def test_the_canonical_form_is_the_documented_one() -> None:
    event = export()[0][0]
    body = {name: value for name, value in event.items() if name != "hash"}
    written = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(written.encode()).hexdigest() == event["hash"]
    assert written.startswith('{"actor":{"id":"u0","ip":"192.0.2.1","kind":"user"},"at":"2026-01-')
    assert event["previous"] == "0" * 64


PATHS = [
    *((name,) for name in _export()[0][0]),
    ("actor", "id"),
    ("actor", "ip"),
    ("actor", "kind"),
    ("target", "id"),
    ("details", "name"),
    ("details", "limits"),
    ("details", "limits", "rpm"),
]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just({}), st.just([])
)


@given(
    index=st.integers(0, 2 * NUM_EVENTS - 1),
    path=st.sampled_from(PATHS),
    value=VALUES,
    knows_how=st.booleans(),
)
@settings(deadline=None)
@pytest.mark.slow
def test_a_change_of_any_field_of_any_event_is_seen(
    index: int, path: tuple[str, ...], value: Any, knows_how: bool
) -> None:
    events, heads = export()
    event = events[index]
    place = functools.reduce(lambda part, name: part[name], path[:-1], event)
    if (type(place[path[-1]]), place[path[-1]]) == (type(value), value):
        return
    place[path[-1]] = value
    # Beyond the last head a new hash at the end of a chain is all it takes: that is what heads are
    # for. Everywhere else the next event, or the head, gives it away.
    if knows_how and event["seq"] != NUM_EVENTS and path != ("hash",):
        try:
            rehash(event)
        except TypeError:
            pass
    found = problems(events, heads)
    assert found
    seqs = [seq for _, seq, _ in found if seq is not None]
    assert all(seq in (index % NUM_EVENTS + 1, index % NUM_EVENTS + 2) for seq in seqs) or path in (
        ("tenant_id",),
        ("seq",),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2 * NUM_EVENTS - 1), st.sampled_from(sorted(_export()[0][0])))
def test_a_field_that_is_removed_or_added_is_seen(index: int, name: str) -> None:
    events, heads = export()
    del events[index][name]
    assert problems(events, heads)
    events, heads = export()
    events[index][name + "2"] = None
    assert problems(events, heads)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2 * NUM_EVENTS - 1))
def test_a_deleted_event_is_seen_unless_it_is_the_last_one_after_the_head(index: int) -> None:
    events, heads = export()
    event = events.pop(index)
    if event["seq"] == NUM_EVENTS:
        assert problems(events, heads) == []
        return
    ((tenant, seq, reason),) = problems(events, heads)
    assert (tenant, seq) == (event["tenant_id"], event["seq"] + 1)
    assert reason == f"event {event['seq']} was expected here"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, NUM_EVENTS - 1), st.integers(0, NUM_EVENTS - 1), st.booleans())
def test_events_in_another_order_are_seen(one: int, two: int, renumbers: bool) -> None:
    if one == two:
        return
    events, heads = export()
    events[one], events[two] = events[two], events[one]
    if renumbers:
        for number, event in enumerate(events[:NUM_EVENTS], 1):
            event["seq"] = number
            rehash(event)
    assert problems(events, heads)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, NUM_EVENTS), st.booleans(), st.booleans())
def test_an_inserted_event_is_seen(index: int, fits: bool, renumbers: bool) -> None:
    events, heads = export()
    forged = copy.deepcopy(events[min(index, NUM_EVENTS - 1)])
    forged["id"] = str(uuid.UUID(int=99))
    if fits:
        forged["seq"] = index + 1
        forged["previous"] = events[index - 1]["hash"] if index else "0" * 64
        rehash(forged)
    events.insert(index, forged)
    if renumbers:  # and chains all that follow anew: only a head can tell
        for number in range(index + 1, NUM_EVENTS + 1):
            events[number]["seq"] = number + 1
            events[number]["previous"] = events[number - 1]["hash"]
            rehash(events[number])
    is_beyond_the_head = fits and index >= HEAD_AT and (renumbers or index == NUM_EVENTS)
    assert bool(problems(events, heads)) is not is_beyond_the_head


@settings(max_examples=40, deadline=None)
@given(st.integers(0, NUM_EVENTS - 1))
def test_a_chain_that_ends_before_its_head_is_seen(num_left: int) -> None:
    events, heads = export()
    tenant = str(TENANT)
    left = [e for e in events if e["tenant_id"] is None or e["seq"] <= num_left]
    found = problems(left, heads)
    if num_left >= HEAD_AT:
        assert found == []
    else:
        assert [(chain, seq) for chain, seq, _ in found] == [(tenant, num_left + 1)]
        assert "reached event 4" in found[0][2]


def test_a_chain_that_is_missing_as_a_whole_is_seen() -> None:
    events, heads = export()
    of_installation = [event for event in events if event["tenant_id"] is None]
    heads = [head for head in heads if head["tenant_id"] is None]
    ((tenant, _, reason),) = problems(of_installation, heads)
    assert (tenant, "whole chain" in reason) == (str(TENANT), True)
    assert problems(of_installation, heads, is_complete=False) == []


def test_a_log_that_was_written_anew_needs_the_key() -> None:
    events, heads = export()
    events[0]["details"]["name"] = "other"
    for number in range(NUM_EVENTS):
        events[number]["previous"] = events[number - 1]["hash"] if number else "0" * 64
        rehash(events[number])
    assert "signed head" in problems(events, heads)[0][2]
    forged = [head(events[HEAD_AT - 1], OTHER_KEY), heads[1]]
    trusted = [KEY.public_key().public_bytes_raw()]
    assert "not trusted" in problems(events, forged, trusted=trusted)[0][2]
    assert problems(events, forged) == []  # what pinning the key is for


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(("tenant_id", "seq", "hash", "signed_at", "signature")), VALUES)
def test_a_changed_head_is_seen(name: str, value: Any) -> None:
    events, heads = export()
    if heads[0][name] == value:
        return
    heads[0][name] = value
    assert problems(events, heads)
    del heads[0][name]
    assert problems(events, heads)


@settings(max_examples=40, deadline=None)
@given(VALUES | st.dictionaries(st.text(), VALUES))
def test_what_is_no_event_is_a_problem_and_not_an_accident(value: Any) -> None:
    events, heads = export()
    assert problems([*events, value], heads)


def test_two_signed_heads_for_one_event_are_a_problem() -> None:
    events, heads = export()
    other = {**events[HEAD_AT - 1], "hash": "f" * 64}
    ((_, seq, reason),) = problems(events, [*heads, head(other)])
    assert (seq, reason) == (HEAD_AT, "two signed heads name different hashes")


@pytest.mark.parametrize("chain", [None, str(TENANT)])
def test_only_the_first_bad_event_of_a_chain_is_named(chain: str | None) -> None:
    events, heads = export()
    for event in events:
        if event["tenant_id"] == chain and event["seq"] in (2, 3, 5):
            event["details"]["name"] = "other"
    ((tenant, seq, reason),) = problems(events, heads)
    assert (tenant, seq) == (chain, 2)
    assert reason == "its content is not what was hashed"
