"""Is this an email address, and which one?

One address is one account however it is written. Only ASCII: characters that look like others would
let one person pass for another.

Does not know: whether mail arrives there.
"""

from __future__ import annotations

import re

from anzoth.errors import InvalidValue

_MAX_CHARS = 254
_SHAPE = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@"
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
    re.ASCII,
)


def normalised(email: str, param: str = "email") -> str:
    """Raises InvalidValue, which does not repeat it."""
    text = email.strip()
    if not text.isascii() or len(text) > _MAX_CHARS or not _SHAPE.fullmatch(text.lower()):
        raise InvalidValue(f"Invalid value for '{param}': expected an email address.", param=param)
    return text.lower()


def domain_of(email: str) -> str:
    return email.rpartition("@")[2]
