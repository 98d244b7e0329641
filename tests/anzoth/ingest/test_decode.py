from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.ingest.decode import NotText, decode

GERMAN = "Die Straße führt über die Brücke, und überall hört man schöne Vögel singen. " * 3
RUSSIAN = "Музей открыт каждый день с девяти часов утра до шести часов вечера. " * 3


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252"]
)
def test_an_encoding_is_found(encoding: str) -> None:
    assert decode(GERMAN.encode(encoding)) == GERMAN


def test_a_code_page_of_another_script_is_found() -> None:
    assert decode(RUSSIAN.encode("cp1251")) == RUSSIAN


def test_what_a_page_declares_is_believed_if_it_can_be() -> None:
    page = "<html><meta charset=iso-8859-2><p>żółć"
    assert decode(page.encode("iso-8859-2")) == page
    assert decode("<meta charset=ascii>é".encode()) == "<meta charset=ascii>é"


def test_a_broken_character_does_not_change_the_encoding_of_the_rest() -> None:
    data = GERMAN.encode() * 5
    assert decode(data + b"\xff" + data) == GERMAN * 5 + "\ufffd" + GERMAN * 5


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 4, b"\x7fELF\x02\x01\x01" + b"\x00" * 90 + b"abc"]
)
def test_binary_is_no_text(data: bytes) -> None:
    with pytest.raises(NotText):
        decode(data)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"])))
@settings(deadline=None)  # the machine may be busy
def test_utf8_is_read_as_it_is(text: str) -> None:
    data = text.encode()
    if not data.startswith((b"\xef\xbb\xbf",)) and b"\x00" not in data:
        assert decode(data) == text
