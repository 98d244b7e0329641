"""Which headers may a tenant have sent along?

Those that say who asks. Not those by which a server decides where a request goes and where it ends:
with a `Host` of one's own, an allowed host that serves others as well would be any of them.

Does not know: what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]{0,8190}[\x21-\x7e])?")
_OURS = frozenset(
    (
        *("host", "content-length", "content-type", "transfer-encoding", "connection", "expect"),
        *("keep-alive", "te", "trailer", "upgrade", "accept", "accept-encoding", "cookie"),
        *("forwarded", "last-event-id", "content-encoding", "range"),
    )
)
_OUR_PREFIXES = ("proxy-", "x-forwarded-", "mcp-", "sec-", "x-http-method")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError, which names a header and never its value."""
    if len(headers) > 16:
        raise ValueError("there are more than 16 headers")
    for name, value in headers.items():
        small = name.lower()
        if _NAME.fullmatch(name) is None:
            raise ValueError("a header has an impossible name")
        if small in _OURS or small.startswith(_OUR_PREFIXES):
            raise ValueError(f"the header {small} cannot be set")
        if _VALUE.fullmatch(value) is None:
            raise ValueError(f"the header {small} is not 1 to 8,192 printable ASCII characters")
