"""Can a key be told from a typo without a database, and does nothing ever show its secret?"""

from __future__ import annotations

import concurrent.futures
import logging
import re
import stat
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anzoth.gateway import keys
from anzoth.gateway.keys import Key, Pepper

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PEPPER = Pepper("p", bytes(32))


def test_a_minted_key_has_the_published_form() -> None:
    key = keys.mint()
    assert re.fullmatch(keys.KEY_PATTERN, key.text)
    assert key.text.startswith(f"anz-{key.kid}_")
    assert len(key.text) == 4 + 12 + 1 + 36 + 6
    assert keys.try_parse(key.text) == key
    assert keys.is_kid(key.kid)
    assert re.findall(keys.KEY_PATTERN, f"key='{key.text}';") == [key.text]


def test_the_published_pattern_is_that_of_every_key_and_stands_in_the_readme() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    assert f"`{keys.KEY_PATTERN}`" in readme
    published = re.compile(keys.KEY_PATTERN)
    for _ in range(300):
        text = keys.mint().text  # whatever it may do: there is one form
        for around in (text, f"'{text}'", f"KEY={text}\n", f"https://u:{text}@h", f"{text}."):
            assert published.findall(around) == [text]
        assert not published.search(f"x{text}")
        assert not published.search(f"{text}x")
        assert not published.search(text[:-1])


def test_text_is_redacted_wherever_a_key_or_most_of_one_stands() -> None:
    text = keys.mint().text
    secret = text.partition("_")[2]
    for written in (text, f"/v1/models/{text}/x", f"a{text}", text + "x", text[:-1], text[:30]):
        shown = keys.redact(f"{written} and {written}")
        assert shown.count(f"{text[:8]}…") == 2
        for start in range(len(secret) - 8):
            assert secret[start : start + 8] not in shown
    for other in ("", "anz-", "anz-k7Qm…9fZ2", "anz-embeddings_of_names", "model_not_found"):
        assert keys.redact(other) == other


def test_no_two_keys_are_equal() -> None:
    minted = [keys.mint() for _ in range(200)]
    assert len({key.kid for key in minted}) == 200
    assert len({key.text[17:] for key in minted}) == 200


@given(st.integers(0, 58), st.sampled_from(ALPHABET))
def test_any_changed_character_is_noticed(position: int, character: str) -> None:
    text = keys.mint().text
    changed = text[:position] + character + text[position + 1 :]
    assert (keys.try_parse(changed) is None) == (changed != text)


def test_the_checksum_is_as_published() -> None:
    # Worked out by hand from the description: CRC-32 of everything before it, six base62 digits.
    head = "anz-000000000000_" + "0" * 36
    number = 0
    for digit in keys.try_parse(f"{head}{keys._checksum(head)}").text[-6:]:  # pyright: ignore[reportOptionalMemberAccess]
        number = number * 62 + ALPHABET.index(digit)
    crc = 0xFFFFFFFF
    for byte in head.encode():
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    assert number == crc ^ 0xFFFFFFFF


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parsed = keys.try_parse(text)
    assert parsed is None or parsed.text == text


def test_text_around_a_key_is_not_a_key() -> None:
    text = keys.mint().text
    for wrong in (f" {text}", f"{text}\n", f"x{text}", f"{text}0", text.upper(), text[:-1]):
        assert keys.try_parse(wrong) is None


def test_nothing_shows_the_secret_half(caplog: pytest.LogCaptureFixture) -> None:
    key = keys.mint()
    secret = key.text.partition("_")[2]
    pepper = Pepper("id", b"canary-pepper-canary-pepper-1234")
    logging.getLogger("canary").warning("%s %r %s", key, pepper, [key, pepper])
    assert secret[:8] not in caplog.text
    assert "canary-pepper" not in caplog.text
    assert secret[:-4] not in key.redacted
    assert key.redacted == f"anz-{key.kid[:4]}…{key.text[-4:]}"


def test_the_kid_of_an_admin_key_and_of_no_other_begins_with_adm() -> None:
    for is_admin in (True, False):
        for _ in range(20):
            key = keys.mint(is_admin=is_admin)
            assert key.kid.startswith("adm") is is_admin
            assert keys.try_parse(key.text) == key


def test_digests_depend_on_pepper_and_whole_key() -> None:
    key, other = keys.mint(), keys.mint()
    swapped = Key(key.kid, other.text)
    digests = {
        PEPPER.digest(key),
        PEPPER.digest(other),
        Pepper("q", bytes(31) + b"1").digest(key),
    }
    assert len(digests) == 3
    assert PEPPER.digest(swapped) == PEPPER.digest(other)
    assert {len(digest) for digest in digests} == {32}


def test_cache_salts_differ_by_tenant_and_stay_the_same() -> None:
    one, two = uuid.uuid4(), uuid.uuid4()
    assert PEPPER.cache_salt(one) == PEPPER.cache_salt(uuid.UUID(str(one)))
    assert PEPPER.cache_salt(one) != PEPPER.cache_salt(two)
    assert len(PEPPER.cache_salt(one)) == 64


def test_the_pepper_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        peppers = list(pool.map(lambda _: keys.load_pepper(tmp_path), range(32)))
    assert len({pepper.secret for pepper in peppers}) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600
    assert peppers[0].secret.hex() not in peppers[0].id


def test_a_damaged_pepper_is_refused_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text("00ff\n")
    with pytest.raises(ValueError, match="32 bytes"):
        keys.load_pepper(tmp_path)
    assert (tmp_path / "pepper").read_text() == "00ff\n"
