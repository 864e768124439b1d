"""What the scopes of Bitbucket Cloud allow: two vocabularies, and the needs both are measured by.

Access tokens and OAuth have the older scopes ("webhook"), some of which include others. API tokens
have the granular ones ("write:webhook:bitbucket"), none of which includes another. A *need*
("webhook:write") says what a product does, in neither of the two. Sources: the operations of
Atlassian's OpenAPI description of Bitbucket Cloud, and its documentation of scopes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from diag.record import record

Vocabulary = Literal["legacy", "granular"]

# Of the older scopes; those that end in ":admin" or ":delete" include nothing.
_INCLUDES: Mapping[str, tuple[str, ...]] = {
    "account": ("email",),
    "account:write": ("account",),
    "team:write": ("team",),
    "project": ("repository",),
    "repository:write": ("repository",),
    "pullrequest": ("repository",),
    "pullrequest:write": ("pullrequest", "repository:write"),
    "issue:write": ("issue",),
    "snippet:write": ("snippet",),
    "pipeline:write": ("pipeline",),
    "pipeline:variable": ("pipeline:write",),
    "runner:write": ("runner",),
    "test:write": ("test",),
}
# Each need in both vocabularies: ways to meet it, the least first, and what each takes together.
# Granular scopes stand without ":bitbucket", but for "read:account", which has no such end.
_WAYS: Mapping[str, tuple[str, str]] = {
    "account:email": ("email", "read:user | read:account"),
    "account:read": ("account", "read:user"),
    "workspace:read": ("team | account", "read:workspace"),
    "project:read": ("project", "read:project"),
    "project:admin": ("project:admin", "admin:project"),
    "repository:read": ("repository", "read:repository"),
    "repository:write": ("repository:write", "read:repository write:repository"),
    "repository:admin": ("repository:admin", "admin:repository"),
    "repository:delete": ("repository:delete", "delete:repository"),
    "pullrequest:read": ("pullrequest", "read:pullrequest"),
    "pullrequest:write": ("pullrequest:write", "read:pullrequest write:pullrequest"),
    "webhook:read": ("webhook", "read:webhook"),
    "webhook:write": ("webhook", "read:webhook write:webhook"),
    "webhook:delete": ("webhook", "delete:webhook"),
    "pipeline:read": ("pipeline", "read:pipeline"),
    "pipeline:write": ("pipeline:write", "read:pipeline write:pipeline"),
    "runner:read": ("runner", "read:runner"),
    "runner:write": ("runner:write", "read:runner write:runner"),
    "issue:read": ("issue", "read:issue"),
    "issue:write": ("issue:write", "read:issue write:issue"),
    "ssh-key:read": ("account", "read:ssh-key"),
    "ssh-key:write": ("account:write", "write:ssh-key"),
}
NEEDS = tuple(_WAYS)
_PRODUCT = ":bitbucket"
_UNBOUND = ("read:account", "read:me")  # granular, of the Atlassian account and not of Bitbucket
_CHANGING = ("write:", "admin:", "delete:", "manage:")
_CHANGING_LEGACY = (":write", ":admin", ":delete", ":variable")
_CHANGING_BY_NATURE = ("webhook", "wiki")  # legacy scopes without a form for reading alone


@record
class Row:
    """One need against what is granted: met by some of the scopes, or short of some."""

    need: str
    by: tuple[str, ...] = ()  # the granted scopes that meet it
    missing: tuple[str, ...] = ()  # what has to be added; empty: it is met
    uses: frozenset[str] = frozenset()  # what meeting it takes at least


def vocabulary(granted: Iterable[str], credential: str = "") -> Vocabulary:
    """Which of the two a credential speaks: by its kind (X-Credential-Type) or by its scopes."""
    granular = credential == "api_token" or any(
        scope.endswith(_PRODUCT) or scope in _UNBOUND for scope in granted
    )
    return "granular" if granular else "legacy"


def expand(granted: Iterable[str]) -> frozenset[str]:
    """The scopes with all that they include. Granular ones include nothing."""
    todo, result = list(granted), set[str]()
    while todo:
        scope = todo.pop()
        if scope not in result:
            result.add(scope)
            todo.extend(_INCLUDES.get(scope, ()))
    return frozenset(result)


def judge(needs: Iterable[str], granted: Sequence[str], words: Vocabulary) -> tuple[Row, ...]:
    """Each of the needs against what is granted, in the vocabulary of the credential.

    Raises:
        KeyError: a need that is not in `NEEDS`.
    """
    effective = expand(granted)
    rows = []
    for need in needs:
        ways = ways_of(need, words)
        uses = min(ways, key=lambda way: len(set(way) - effective))  # the first of equals
        missing = tuple(scope for scope in uses if scope not in effective)
        by = tuple(dict.fromkeys(_giver(scope, granted) for scope in uses if scope in effective))
        rows.append(Row(need, by, missing, frozenset(uses)))
    return tuple(rows)


def ways_of(need: str, words: Vocabulary) -> tuple[tuple[str, ...], ...]:
    """The sets of scopes that meet a need, the least first."""
    text = _WAYS[need][words == "granular"]
    ways = (tuple(way.split()) for way in text.split("|"))
    return tuple(tuple(map(_full, way)) for way in ways) if words == "granular" else tuple(ways)


def superfluous(rows: Iterable[Row], granted: Iterable[str]) -> tuple[str, ...]:
    """The granted scopes that no need takes, not even as the least that meets it."""
    used = frozenset[str]().union(*(row.uses for row in rows))
    return tuple(scope for scope in granted if scope not in used)


def changes(scope: str) -> bool:
    """Whether it allows more than to read."""
    return (
        scope.startswith(_CHANGING)
        or scope.endswith(_CHANGING_LEGACY)
        or scope in _CHANGING_BY_NATURE
    )


def _full(scope: str) -> str:
    return scope if scope in _UNBOUND else scope + _PRODUCT


def _giver(scope: str, granted: Sequence[str]) -> str:
    """The granted scope that gives `scope`: itself, or one that includes it."""
    if scope in granted:
        return scope
    return next(one for one in granted if scope in expand([one]))
