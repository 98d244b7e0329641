"""An input is the same lines however it comes in pieces, and whatever is in them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from anzoth.gateway.batches import input_lines
from anzoth.gateway.batches.input_lines import BadInput, InputCheck, parse_line, read_lines

CHAT = "/v1/chat/completions"


async def pieces_of(content: bytes, sizes: random.Random) -> AsyncIterator[bytes]:
    while content:
        size = sizes.randint(1, 40)
        yield content[:size]
        content = content[size:]


def read(content: bytes, seed: int = 1) -> list[tuple[int, bytes]]:
    async def main() -> list[tuple[int, bytes]]:
        pieces = pieces_of(content, random.Random(seed))
        return [
            one
            async for lines in read_lines(pieces, lambda number, text: (number, text))
            for one in lines
        ]

    return asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_numbered_as_they_stand_and_empty_ones_left_out(seed: int) -> None:
    random_ = random.Random(seed)
    texts = [random_.randbytes(random_.randint(0, 90)).translate(None, b"\r\n") for _ in range(30)]
    end = random_.choice([b"\n", b"\r\n"])
    content = end.join(texts) + random_.choice([b"", end])
    expected = [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
    assert [(number, text.rstrip(b"\r")) for number, text in read(content, seed)] == expected


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert read(b"\xef\xbb\xbf{}\n{}") == [(1, b"{}"), (2, b"{}")]
    assert read(b"") == []


def test_a_line_that_never_ends_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_lines, "MAX_LINE_BYTES", 100)
    assert len(read(b"x" * 100 + b"\n" + b"y" * 100)) == 2
    for content in (b"x" * 100_000, b"a\n" + b"x" * 101 + b"\nb"):
        with pytest.raises(BadInput) as bad:
            read(content)
        assert bad.value.shown["code"] == "line_too_long"


def test_no_error_quotes_the_input() -> None:
    secret = "s3cret"
    good = {"custom_id": secret, "method": "POST", "url": CHAT, "body": {}}
    wrong = [
        secret,
        json.dumps(secret),
        *(
            json.dumps({**good, **change})
            for change in (
                {"custom_id": secret * 200},
                {"custom_id": [secret]},
                {"method": secret},
                {"url": secret},
                {"body": [secret]},
                {"body": None},
            )
        ),
    ]
    for text in wrong:
        with pytest.raises(BadInput) as bad:
            parse_line(7, text.encode(), CHAT)
        assert secret not in str(bad.value.shown)
        assert bad.value.shown["line"] == 7
    assert parse_line(7, json.dumps(good).encode(), CHAT).custom_id == secret
    assert secret not in repr(parse_line(7, json.dumps(good).encode(), CHAT))


def test_an_input_that_is_wrong_everywhere_is_told_the_first_hundred() -> None:
    check = InputCheck(CHAT, 1000)

    def see_all() -> None:
        for number in range(1, 1000):
            check.see(number, b"{")

    with pytest.raises(BadInput) as stopped:
        see_all()
    assert [error["line"] for error in check.finish(stopped.value)] == list(range(1, 101))
