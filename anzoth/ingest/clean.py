"""Which characters of a file are text?

What a person does not see must not reach a model: zero-width characters, overrides of the writing
direction, tag characters and variation selectors (all of which have carried hidden instructions),
control characters. The rest is composed (NFC), with one kind of line end and of space.

Does not know: where a text comes from.
"""

from __future__ import annotations

import re
import unicodedata

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")

# Joiners shape letters of Arabic, Syriac, Indic and Mongolian scripts; elsewhere they hide things.
_JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af"
_JOINER = f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])"

_HIDDEN = re.compile(
    "[\u00ad\u061c\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufe00-\ufe0f\U000e0000-\U000e0fff]|" + _JOINER
)
# Noncharacters and lone surrogates cannot be sent on as UTF-8 or mean nothing there.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffc\ufffe\uffff\ud800-\udfff"
    "\U0001fffe\U0001ffff\U000f0000-\U0010ffff]"
)
_MANY_MARKS = re.compile("([\u0300-\u036f]{30})[\u0300-\u036f]+")
"""Composing a run of n marks takes n² steps; Unicode's stream-safe text has no more than thirty."""


def clean(text: str) -> tuple[str, int]:
    """The visible text, and how many hidden characters were taken out of it.

    Soft hyphens and byte order marks are taken out and not counted: they hide nothing.
    """
    if text.isascii():
        return _CONTROL.sub("", _LINE_ENDS.sub("\n", text)), 0
    text = _SPACES.sub(" ", _LINE_ENDS.sub("\n", text))
    text = _CONTROL.sub("", text.replace("\u00ad", "").replace("\ufeff", ""))
    visible = _HIDDEN.sub("", text)
    num_hidden = len(text) - len(visible)
    return unicodedata.normalize("NFC", _MANY_MARKS.sub(r"\1", visible)), num_hidden
