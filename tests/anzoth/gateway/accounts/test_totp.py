"""Are codes those of RFC 6238?"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from anzoth.gateway.accounts import totp

SECRET = b"12345678901234567890"


# RFC 6238 appendix B has eight digits; apps show the last six.
@pytest.mark.parametrize(
    ("unix_s", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_rfc(unix_s: int, code: str) -> None:
    assert totp.code_at(SECRET, unix_s // 30) == code
    assert totp.matching_step(SECRET, code, unix_s) == unix_s // 30


def test_a_clock_may_be_off_by_one_step_and_no_more() -> None:
    code = totp.code_at(SECRET, 1000)
    for seconds, expected in ((-31, None), (-1, 1000), (0, 1000), (59, 1000), (60, None)):
        assert totp.matching_step(SECRET, code, 1000 * 30 + seconds) == expected, seconds


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "\x00" * 6])
def test_what_is_no_code_matches_nothing(code: str) -> None:
    assert totp.matching_step(SECRET, code, 59) is None


def test_the_uri_is_what_apps_read() -> None:
    parts = urlsplit(totp.uri(SECRET, "a+b@example.com", "Anzoth"))
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parts.path == "/Anzoth:a%2Bb@example.com"
    assert parse_qs(parts.query) == {"secret": [totp.as_text(SECRET)], "issuer": ["Anzoth"]}


def test_recovery_codes_are_many_and_read_however_they_are_typed() -> None:
    codes = totp.mint_recovery_codes()
    assert len(set(codes)) == 10
    assert totp.normalised_recovery_code(" ABCD-efgh jkmn ") == "abcdefghjkmn"
    assert all(len(totp.normalised_recovery_code(code)) == 12 for code in codes)
