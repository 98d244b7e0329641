"""The bytes of server-sent events."""

from __future__ import annotations

import json

from anzoth.errors import InvalidValue
from anzoth.http import sse


def test_a_frame_is_one_data_line_and_a_blank_line() -> None:
    assert sse.data_frame(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert sse.DONE == b"data: [DONE]\n\n"


def test_an_error_frame_carries_all_four_keys_on_one_line() -> None:
    frame = sse.error_frame(InvalidValue("line\nbreak", param="n"))
    assert frame.count(b"\n") == 2
    assert frame.endswith(b"\n\n")
    assert json.loads(frame.removeprefix(b"data: "))["error"] == {
        "message": "line\nbreak",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }
