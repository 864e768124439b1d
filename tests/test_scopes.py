"""The scopes of Bitbucket Cloud: what includes what, and what a need takes."""

from __future__ import annotations

import pytest

from diag import scopes
from diag.scopes import NEEDS, Row


def judge(need: str, *granted: str) -> Row:
    (row,) = scopes.judge([need], granted, scopes.vocabulary(granted))
    return row


@pytest.mark.parametrize(
    ("granted", "effective"),
    [
        ("project", {"project", "repository"}),
        ("project:admin", {"project:admin"}),
        ("repository:admin", {"repository:admin"}),
        ("repository:delete", {"repository:delete"}),
        ("repository:write", {"repository:write", "repository"}),
        ("pullrequest", {"pullrequest", "repository"}),
        (
            "pullrequest:write",
            {"pullrequest:write", "pullrequest", "repository:write", "repository"},
        ),
        ("account:write", {"account:write", "account", "email"}),
        ("pipeline:variable", {"pipeline:variable", "pipeline:write", "pipeline"}),
        ("webhook", {"webhook"}),
    ],
)
def test_what_an_older_scope_includes(granted: str, effective: set[str]) -> None:
    assert scopes.expand([granted]) == effective


@pytest.mark.parametrize(
    "granted", ["write:repository:bitbucket", "read:pullrequest:bitbucket", "admin:x:bitbucket"]
)
def test_a_granular_scope_includes_nothing(granted: str) -> None:
    assert scopes.expand([granted]) == {granted}


@pytest.mark.parametrize(
    ("granted", "credential", "expected"),
    [
        ((), "api_token", "granular"),
        ((), "oauth2", "legacy"),
        (("read:repository:bitbucket",), "", "granular"),
        (("read:account",), "", "granular"),
        (("repository", "webhook"), "", "legacy"),
        (("repository:write",), "repo_access_token", "legacy"),
    ],
)
def test_the_vocabulary(granted: tuple[str, ...], credential: str, expected: str) -> None:
    assert scopes.vocabulary(granted, credential) == expected


@pytest.mark.parametrize(
    ("need", "granted", "by"),
    [
        ("repository:read", ("project",), ("project",)),
        ("repository:read", ("webhook", "pullrequest:write"), ("pullrequest:write",)),
        ("account:email", ("account",), ("account",)),
        ("account:email", ("read:account",), ("read:account",)),
        ("workspace:read", ("account",), ("account",)),
        ("webhook:delete", ("webhook",), ("webhook",)),
        (
            "webhook:write",
            ("read:webhook:bitbucket", "write:webhook:bitbucket"),
            ("read:webhook:bitbucket", "write:webhook:bitbucket"),
        ),
    ],
)
def test_a_need_that_is_met(need: str, granted: tuple[str, ...], by: tuple[str, ...]) -> None:
    row = judge(need, *granted)
    assert (row.missing, row.by) == ((), by)


@pytest.mark.parametrize(
    ("need", "granted", "missing"),
    [
        ("repository:read", ("repository:admin",), ("repository",)),
        ("repository:read", ("write:repository:bitbucket",), ("read:repository:bitbucket",)),
        ("repository:read", ("read:pullrequest:bitbucket",), ("read:repository:bitbucket",)),
        ("webhook:write", ("read:webhook:bitbucket",), ("write:webhook:bitbucket",)),
        ("webhook:delete", ("write:webhook:bitbucket",), ("delete:webhook:bitbucket",)),
        ("webhook:write", ("repository",), ("webhook",)),
        ("workspace:read", ("repository",), ("team",)),
        ("account:email", ("read:me",), ("read:user:bitbucket",)),
    ],
)
def test_a_need_that_is_short_of_something(
    need: str, granted: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    assert judge(need, *granted).missing == missing


@pytest.mark.parametrize("need", NEEDS)
def test_what_is_named_as_missing_meets_the_need(need: str) -> None:
    for kind in ("api_token", "oauth2"):
        words = scopes.vocabulary((), kind)
        (short,) = scopes.judge([need], (), words)
        assert short.missing
        (met,) = scopes.judge([need], short.missing, words)
        assert met.missing == ()
        assert scopes.superfluous([met], short.missing) == ()


def test_more_than_is_needed() -> None:
    granted = ("repository:write", "pullrequest", "webhook", "email")
    rows = scopes.judge(["repository:read", "pullrequest:read"], granted, "legacy")
    more = scopes.superfluous(rows, granted)
    assert more == ("repository:write", "webhook", "email")
    assert [scope for scope in more if scopes.changes(scope)] == ["repository:write", "webhook"]


@pytest.mark.parametrize(
    ("scope", "changing"),
    [
        ("read:repository:bitbucket", False),
        ("write:webhook:bitbucket", True),
        ("delete:webhook:bitbucket", True),
        ("admin:repository:bitbucket", True),
        ("repository:admin", True),
        ("pipeline:variable", True),
        ("account", False),
        ("wiki", True),
    ],
)
def test_what_allows_more_than_to_read(scope: str, changing: bool) -> None:
    assert scopes.changes(scope) is changing
