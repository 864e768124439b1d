"""Characters that nobody sees: which they are, and how to name them in a message."""

from __future__ import annotations

import unicodedata

_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})  # controls, formats, blanks
_LOOK_EMPTY = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols without ink
_CONTROLS = {"\t": "TAB", "\n": "LINE FEED", "\r": "CARRIAGE RETURN", "\0": "NULL"}


def unseen(character: str) -> bool:
    """Whether it is a blank, a control or formatting character, or half of one."""
    return unicodedata.category(character) in _CATEGORIES or character in _LOOK_EMPTY


def visible(text: str) -> str:
    """`text` without what is unseen."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text  # as nearly all is: looking at each character takes a hundred times longer
    return "".join(character for character in text if not unseen(character))


def describe(character: str) -> str:
    """Its code point and name: "U+200B ZERO WIDTH SPACE"."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python passes on a byte that could not be decoded
        return f"the byte 0x{number - 0xDC00:02X}, which is no UTF-8 text"
    name = unicodedata.name(character, "") or _CONTROLS.get(character, "CONTROL CHARACTER")
    return f"U+{number:04X} {name}"
