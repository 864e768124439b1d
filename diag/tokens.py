"""What the text of a secret gives away before it is sent: stray characters, placeholders, and
whose product it comes from.

Nothing here returns any part of the secret; the answers are words for a message.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from diag.characters import describe, unseen
from diag.record import record
from diag.secret import Secret

Scheme = Literal["basic", "bearer"]

_QUOTES = ('"', "'", "`")
_SCHEME_WORD = r"(?i:(bearer|basic|token|authorization:))\s"
_VARIABLE = r"[A-Z_][A-Z0-9_]*|(?i:\w*(?:token|passw|secret|apikey)\w*)"
_PLACEHOLDERS = (  # each so clearly one that no password looks like it
    (
        "a shell variable that was not expanded",
        rf"\$+(?:env:)?(?:{_VARIABLE})|\$+\{{.*\}}|\$\(.*\)",
    ),
    ("a Windows variable that was not expanded", r"%\w+%"),
    ("a template's field that was not filled in", r"\{\{.*\}\}|\(\(.*\)\)|#\{.*\}#?|__\w+__"),
    ("a blank of a manual that was not filled in", r"<.+>|‹.+›|\[.+\]|\{.+\}"),
    (
        "an example from a manual",
        r"(?i:(?:your|my|insert|enter|put|paste)[-_. ].*(?:token|passw|secret).*)",
    ),
    (
        "a row of masking characters",
        r"(?:BBDC-|AT[AC]TT3x|ATBB)?(?:[xX]{3,}|[*•●.…·_?#-]{3,}|…)",
    ),
)
_WORDS = (  # never a token; but people do have such passwords
    r"(?i:(?:your|my|the)?[-_ ]?(?:http)?[-_ ]?(?:access|api|bearer|bitbucket)?[-_ ]?"
    r"(?:token|password|secret)[-_ ]?(?:here)?"
    r"|change[-_ ]?(?:me|it)|replace[-_ ]?me|example|dummy|todo|tbd|none|null|nil|undefined)"
)


@record
class Issuer:
    """The product whose tokens begin like this. `kind` completes "it looks like …"."""

    kind: str
    bitbucket: Literal["datacenter", "cloud"] | None = None  # None: no Bitbucket at all


_ISSUERS = (
    (r"BBDC-[\w+/=@-]{20}", Issuer("a Bitbucket Data Center HTTP access token", "datacenter")),
    (r"ATATT3x\w{10}", Issuer("an Atlassian Cloud API token", "cloud")),
    (r"ATCTT3x\w{10}", Issuer("a Bitbucket Cloud access token", "cloud")),
    (r"ATBB\w{20}", Issuer("a Bitbucket Cloud app password", "cloud")),
    (r"(?:gh[pousr]|github_pat)_\w{10}", Issuer("a GitHub token")),
    (
        r"gl(?:pat|dt|rt|rtr|ptt|cbt|ft|imt|agent|oas|soat|ffct|wt)-[\w.-]{10}",
        Issuer("a GitLab token"),
    ),
    (r"npm_\w{10}", Issuer("an npm token")),
    (r"(?:xox[a-z]|xapp)-[\w.-]{6}", Issuer("a Slack token")),
    (r"(?:AKIA|ASIA)[A-Z0-9]{16}$", Issuer("an AWS access key")),
    (r"dckr_(?:pat|oat)_\w{10}", Issuer("a Docker Hub token")),
    (r"pypi-\w{10}", Issuer("a PyPI token")),
    (r"sq[upa]_\w{10}", Issuer("a SonarQube token")),
    (r"CCI(?:PAT|PRJ)_\w{6}", Issuer("a CircleCI token")),
    (r"hv[sbr]\.\w{10}", Issuer("a HashiCorp Vault token")),
    (r"sk_(?:live|test)_\w{10}", Issuer("a Stripe key")),
)


# In a fleet most runs have the same secret.
_once_for_all = lru_cache(maxsize=64)


@_once_for_all
def stray_characters(secret: Secret, scheme: Scheme) -> str | None:
    """What in the secret cannot belong to it ("U+000A LINE FEED at the end"), or None.

    A token sent as Bearer has visible ASCII characters only. A password may hold any, but hardly
    begins or ends with a blank, or holds a line break.
    """
    text = secret.reveal()
    if scheme == "bearer" and (word := re.match(_SCHEME_WORD, text)):
        return f"the word “{word[1]}” in front of it"
    for position, character in enumerate(text):
        if unseen(character):
            where = _where(text, position)
            category = unicodedata.category(character)
            if category == "Cs":
                return "bytes that are not UTF-8 text"
            if scheme == "bearer" or category != "Zs" or where != "inside":
                return f"{describe(character)} {where}"
        elif scheme == "bearer" and not character.isascii():
            return "a character that is not ASCII"
    if scheme == "bearer" and text[:1] in _QUOTES and text[-1:] in _QUOTES:
        return "quotation marks around it"
    return None


@_once_for_all
def placeholder(secret: Secret, scheme: Scheme) -> str | None:
    """What the secret is instead of one ("a shell variable that was not expanded"), or None."""
    text = _core(secret)
    for words, pattern in _PLACEHOLDERS:
        if re.fullmatch(pattern, text):
            return words
    if scheme == "bearer" and re.fullmatch(_WORDS, text):
        return "a word that stands for the secret in a manual"
    return None


@_once_for_all
def issuer(secret: Secret) -> Issuer | None:
    """Which product's tokens begin like this, None where nothing tells."""
    text = _core(secret)
    return next((issuer for pattern, issuer in _ISSUERS if re.match(pattern, text)), None)


@_once_for_all
def no_token(secret: Secret) -> bool:
    """Whether it cannot be a token of Bitbucket: those are long, and of few kinds of characters.

    HTTP access tokens have 44 characters, OAuth tokens more; what is shorter is a password.
    """
    return re.fullmatch(r"[\w.~+/=@-]{30,}", _core(secret)) is None


CloudForm = Literal["api-token", "access-token", "app-password", "consumer-secret", "other"]
_CLOUD_FORMS: tuple[tuple[str, CloudForm], ...] = (
    (r"ATATT\w{10}.*", "api-token"),
    (r"ATCTT\w{10}.*", "access-token"),
    (r"ATBB\w{20,}", "app-password"),
    (r"[A-Za-z0-9]{32}", "consumer-secret"),
)
_CONSUMER_KEY = r"(?=.*[A-Z])(?=.*[a-z])[A-Za-z0-9]{18}"


def cloud_form(secret: Secret, user: str | None = None) -> CloudForm:
    """What a secret for Bitbucket Cloud looks like, with the user name it is sent with.

    What begins like a token was only ever observed, it is not documented: this may explain why a
    secret was refused, it is no reason not to try it.
    """
    text = _core(secret)
    if user and "@" not in user and re.fullmatch(r"\w{36}", text):
        return "app-password"
    for pattern, form in _CLOUD_FORMS:
        if re.fullmatch(pattern, text):
            return form
    return "other"


def is_consumer(secret: Secret, user: str | None) -> bool:
    """Whether these are the key and the secret of an OAuth consumer of Bitbucket Cloud."""
    key = user is not None and re.fullmatch(_CONSUMER_KEY, user) is not None
    return key and cloud_form(secret) == "consumer-secret"


def _core(secret: Secret) -> str:
    """The text without blanks and quotation marks around it."""
    return secret.reveal().strip().strip("\"'`").strip()


def _where(text: str, position: int) -> str:
    if not text[position:].strip():
        return "at the end"
    return "inside" if text[:position].strip() else "at the start"
