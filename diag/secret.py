"""The secret: a value that cannot be printed, copied or stored, and the scrubber of all output."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from typing import Literal, NoReturn, final
from urllib.parse import quote, quote_plus

from diag.model import Json

MASK = "***"
_SHORTEST = 3  # a shorter text is no secret: replacing it everywhere would only garble the report
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
        """The text itself. Called where the Authorization header is built, and by `Scrubber`."""
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.__value)


def authorization(scheme: Literal["basic", "bearer"], user: str | None, secret: Secret) -> str:
    """The value of the Authorization header."""
    if scheme == "bearer":
        return f"Bearer {secret.reveal()}"
    return "Basic " + _base64(f"{user or ''}:{secret.reveal()}")


class Scrubber:
    """Takes every spelling of the secrets, and every control character, out of a text."""

    def __init__(self) -> None:
        self._spellings: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, secret: Secret | None, users: Iterable[str | None] = ()) -> None:
        """Remember a secret and the names it may be joined with in basic authentication."""
        if secret is None:
            return
        raw = secret.reveal()
        for text in {raw, raw.strip()}:
            if len(text) >= _SHORTEST:
                self._spellings |= _spellings(text, [user for user in users if user is not None])
        if self._spellings:
            longest_first = sorted(self._spellings, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def text(self, text: str, limit: int | None = None) -> str:
        """`text` without secrets and control characters, at most `limit` characters long.

        Scrubbed before it is cut: a cut through the middle would leave half a secret standing.
        """
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        text = _CONTROL.sub("\ufffd", text)
        if self._pattern is not None:  # a control character may have stood inside the secret
            text = self._pattern.sub(MASK, text)
        if limit is not None and len(text) > limit:
            text = text[: limit - 1] + "…"
        return text

    def json(self, value: Json) -> Json:
        """The same for every text inside a JSON value, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        return value


def _spellings(raw: str, users: list[str]) -> set[str]:
    plain = {raw, quote(raw, safe=""), quote(raw), quote_plus(raw), html.escape(raw)}
    plain |= {json.dumps(raw)[1:-1], json.dumps(raw, ensure_ascii=False)[1:-1], raw.encode().hex()}
    encoded = set()
    for text in [raw, *(f"{user}:{raw}" for user in users), f":{raw}"]:
        for code in (_base64(text), base64.urlsafe_b64encode(text.encode()).decode()):
            encoded |= {code, code.rstrip("="), quote(code, safe="")}
    # Inside a longer base64 text the secret starts at any of three offsets: cut off what its
    # neighbours blend into, so that `user:secret` is found for users nobody told us about too.
    data = raw.encode()
    for lead in range(3):
        code = base64.b64encode(b"\0" * lead + data).decode().rstrip("=")
        start = (0, 2, 3)[lead]
        inner = code[start : len(code) - 1]
        if len(inner) >= 8:
            encoded |= {inner, inner.replace("+", "-").replace("/", "_")}
    return plain | encoded


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
