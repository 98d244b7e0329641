from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.ingest.clean import clean


@pytest.mark.parametrize(
    ("text", "expected", "num_hidden"),
    [
        ("a\u200bb\u200d", "ab", 2),
        ("\u202eevil\u202c", "evil", 2),
        ("x" + "".join(chr(0xE0000 + ord(c)) for c in "evil"), "x", 4),
        ("smile\ufe0f\U000e0100", "smile", 2),
        ("soft\u00adhyphen\ufeff", "softhyphen", 0),
        ("bell\x07\x00 tab\t", "bell tab\t", 0),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne", 0),
        ("e\u0301", "é", 0),
        ("a\u00a0b", "a b", 0),
        ("lone \ud800 surrogate", "lone  surrogate", 0),
        ("می\u200cخواهم", "می\u200cخواهم", 0),  # Persian needs its joiners
    ],
)
def test_only_visible_characters_stay(text: str, expected: str, num_hidden: int) -> None:
    assert clean(text) == (expected, num_hidden)


@given(st.text())
@settings(deadline=None)  # the machine may be busy
def test_cleaning_is_idempotent_and_encodable(text: str) -> None:
    once, _ = clean(text)
    assert clean(once) == (once, 0)
    assert unicodedata.is_normalized("NFC", once)
    once.encode()


def test_a_run_of_combining_marks_costs_no_quadratic_time() -> None:
    assert len(clean("a" + "\u0301\u0316" * 500_000)[0]) < 40
