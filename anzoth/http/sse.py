"""How does one server-sent event look on the wire?

Only `data:` frames: no `event:`, `id:` or `retry:` (there are SDKs that drop or choke on each of
them), and JSON never contains a raw line break, so one line is always enough. The Responses API
alone has named events.

Does not know: what the JSON says, or how a stream is sent.
"""

from __future__ import annotations

from anzoth.errors import AnzothError

MEDIA_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"
"""The last frame of a stream that ended well; never sent after an error frame."""

HEADERS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
"""For every event stream: proxies must neither keep it nor hold it back."""


def data_frame(json_bytes: bytes) -> bytes:
    return b"data: " + json_bytes + b"\n\n"


def event_frame(name: str, json_bytes: bytes) -> bytes:
    return b"event: " + name.encode() + b"\n" + data_frame(json_bytes)


def error_frame(error: AnzothError) -> bytes:
    """Both SDKs raise from it; the stream ends after it."""
    return data_frame(error.body_bytes())
