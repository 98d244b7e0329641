"""Under which ids are calls of servers' tools known, and which calls were made at once?

    mcp_ 5d41402a bc4b2a76b9719d911017c592
    mcpr_└── turn ┘└─ the call, or the request to approve it ─┘

Calls of one turn have the first digits in common: items of a response do not say otherwise where
one turn ends and the next begins, and a conversation must make the prompt that it made before.

Does not know: calls.
"""

from __future__ import annotations

import re
import secrets

_TURN_DIGITS, _OWN_DIGITS = 8, 24
_NUM_IN_PROMPTS = 9
_ID = re.compile(rf"mcpr?_[0-9a-f]{{{_TURN_DIGITS + _OWN_DIGITS}}}")


def new_ids(count: int) -> list[str]:
    """Of the calls of one turn."""
    turn = secrets.token_hex(_TURN_DIGITS // 2)
    return [_of_turn("mcp", turn) for _ in range(count)]


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def sibling(prefix: str, id: str) -> str:
    """A new id, of a call of the same turn, or of the request to approve one."""
    return _of_turn(prefix, turn_of(id))


def turn_of(id: str) -> str:
    return id.partition("_")[2][:_TURN_DIGITS]


def prompt_id(id: str) -> str:
    """What stands for it in prompts: nine letters and digits, on which some templates insist."""
    return id[-_NUM_IN_PROMPTS:]


def _of_turn(prefix: str, turn: str) -> str:
    return f"{prefix}_{turn}{secrets.token_hex(_OWN_DIGITS // 2)}"
