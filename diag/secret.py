"""The secret: a value that cannot be printed, copied or stored, and the scrubber of all output."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import inf
from typing import Literal, NoReturn, final

from diag.model import Json

MASK = "***"
_SHORTEST = 3  # replacing a shorter text everywhere would garble the report and hide nothing
_SHORTEST_CODE = 8  # the same of a piece of base64
_ENTITIES = dict(
    zip("\"&'<>+/=", ("quot", "amp", "apos", "lt", "gt", "plus", "sol", "equals"), strict=True)
)
_BLANKS = r"(?:\s|\+|%(?:25)*[0-9a-f]{2}|\\+(?:[a-z]|u[0-9a-f]{4})|&(?:amp;)*#?[a-z0-9]+;)+"
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


@final
class Secret:
    """A token or password. Formatting, pickling and copying it give nothing away."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself. Called where the Authorization header is built, by `Scrubber`, and by
        `diag.tokens`, which answers in words of its own."""
        return self.__value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be copied or stored")

    def __getstate__(self) -> NoReturn:  # object's would hand out the text
        raise TypeError("a secret cannot be copied or stored")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.__value)


def authorization(scheme: Literal["basic", "bearer"], user: str | None, secret: Secret) -> str:
    """The value of the Authorization header."""
    if scheme == "bearer":
        return f"Bearer {secret.reveal()}"
    return "Basic " + _base64(f"{user or ''}:{secret.reveal()}")


def socks_login(user: str, secret: Secret) -> bytes:
    """The message by which a SOCKS5 client logs in (RFC 1929); each part is cut at 255 bytes."""
    name, password = user.encode()[:255], secret.reveal().encode()[:255]
    return bytes([1, len(name)]) + name + bytes([len(password)]) + password


class Scrubber:
    """Takes every spelling of the secrets, and every control character, out of a text."""

    def __init__(self) -> None:
        self._spellings: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._shortest: float = inf  # characters of a text that may hold one of them

    def learn(self, secret: Secret | None, users: Iterable[str | None] = ()) -> None:
        """Remember a secret and the names it may be joined with in basic authentication."""
        if secret is None:
            return
        known = [user for user in users if user is not None]
        self._spellings |= _spellings(secret.reveal().strip(), tuple(known))
        if self._spellings:
            self._pattern, self._shortest = _pattern(frozenset(self._spellings))

    def text(self, text: str, limit: int | None = None) -> str:
        """`text` without secrets and control characters, at most `limit` characters long.

        Scrubbed before it is cut: a cut through the middle would leave half a secret standing.
        """
        if len(text) < self._shortest and text.isprintable() and text.isascii():
            pass  # as nearly all is
        elif self._pattern is None:
            text = _CONTROL.sub("\ufffd", text)
        else:
            text = _CONTROL.sub("\ufffd", self._pattern.sub(MASK, text))
            if "\ufffd" in text and self._pattern.search(bare := text.replace("\ufffd", "")):
                text = self._pattern.sub(MASK, bare)  # they stood inside a secret
        if limit is not None and len(text) > limit:
            text = text[: limit - 1] + "…"
        return text

    def json(self, value: Json) -> Json:
        """The same for every text inside a JSON value, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (int, float)):  # to ask for the others takes longer
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value]


# In a fleet most runs have the same secret.
@lru_cache(maxsize=64)
def _pattern(spellings: frozenset[str]) -> tuple[re.Pattern[str], int]:
    """What finds all of these in whatever quoting, and how many characters that takes at least."""
    longest_first = sorted(map(_together, spellings), key=len, reverse=True)
    pattern = "|".join(map(_flexible, longest_first))
    return re.compile(pattern, re.IGNORECASE), len(longest_first[-1])


@lru_cache(maxsize=64)
def _spellings(raw: str, users: tuple[str, ...]) -> set[str]:
    """The secret itself and what it is encoded to; `_flexible` adds how each of these is quoted."""
    data = _bytes(raw)
    spellings = {raw, data.hex()} if len(raw) >= _SHORTEST else set()
    codes = {_base64(f"{user}:{raw}").rstrip("=") for user in users} if raw else set()
    # Inside a longer base64 text the secret starts at any of three offsets: cut off what its
    # neighbours blend into, so that `user:secret` is found for users nobody told us about too.
    for lead in range(3):
        code = base64.b64encode(b"\0" * lead + data).decode().rstrip("=")
        inner = code[(0, 2, 3)[lead] : None if (lead + len(data)) % 3 == 0 else -1]
        if len(inner) >= _SHORTEST_CODE:
            codes.add(inner)
    return spellings | codes | {code.replace("+", "-").replace("/", "_") for code in codes}


def _flexible(text: str) -> str:
    """A regular expression for `text` in every quoting that it may have gone through.

    Letters and digits stand for themselves; any other character may be percent-encoded (even
    twice), a JSON or HTML escape, or have a backslash before it; blanks may have run together.
    """
    return "".join(map(_character, text))


def _together(text: str) -> str:
    """`text` with blanks run together: no quoting of it is shorter."""
    return re.sub(r"\s+", " ", text)


def _character(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    if character.isspace():
        return _BLANKS
    number = ord(character)
    ways = [
        r"\\*" + re.escape(character),
        "".join(f"%(?:25)*{byte:02x}" for byte in _bytes(character)),
        "".join(rf"\\+u{unit.hex()}" for unit in _utf16(character)),
        f"&(?:amp;)*#(?:0*{number}|x0*{number:x});",
    ]
    if name := _ENTITIES.get(character):
        ways.append(f"&(?:amp;)*{name};")
    return f"(?:{'|'.join(ways)})"


def _utf16(character: str) -> list[bytes]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [data[index : index + 2] for index in range(0, len(data), 2)]


def _bytes(text: str) -> bytes:
    """UTF-8, also of an environment variable that was none."""
    return text.encode("utf-8", "surrogatepass")


def _base64(text: str) -> str:
    return base64.b64encode(_bytes(text)).decode()
