"""Bitbucket Cloud: its addresses, how its answers are told, and what they say.

Its pages for people can hold the profile of the caller and a token: of an answer that is no JSON
nothing is ever taken but what it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from diag.bitbucket import datacenter
from diag.record import record
from diag.target import TOKEN_URL as TOKEN_URL  # noqa: PLC0414 - one of its addresses too

if TYPE_CHECKING:
    from diag.net.http import Answer

HOST, WEB_HOST, SSH_HOST = "api.bitbucket.org", "bitbucket.org", "altssh.bitbucket.org"
API, SITE = f"https://{HOST}", f"https://{WEB_HOST}"
HOOK_EVENTS = "/2.0/hook_events"  # open to everybody
REPOSITORY_EVENTS = "/2.0/hook_events/repository"
USER = "/2.0/user"


def workspace_path(workspace: str) -> str:
    return f"/2.0/workspaces/{quote(workspace, safe='')}"


def repositories_path(workspace: str) -> str:
    """The repositories of a workspace that the caller may see; takes `role` and `q`."""
    return f"/2.0/repositories/{quote(workspace, safe='')}"


def repository_path(workspace: str, slug: str) -> str:
    return f"{repositories_path(workspace)}/{quote(slug, safe='')}"


def git_url(workspace: str, slug: str) -> str:
    """Where git begins a clone over HTTPS: not at the host of the API."""
    return f"{SITE}/{quote(workspace, safe='')}/{quote(slug, safe='')}.git/info/refs"


# Who answers. Whatever Atlassian's edge passes on carries headers that no other proxy writes;
# tracing headers (X-B3-TraceId) and "server: envoy" are no mark, many send those.

_MARKS = (
    ("server", r"AtlassianEdge"),
    ("x-dc-location", r"Micros"),
    ("x-view-name", r"bitbucket\."),
    ("x-credential-type", r""),
    ("x-accepted-oauth-scopes", r""),
    ("x-used-mesh", r""),
    ("www-authenticate", r".*Bitbucket\.org HTTP"),
)
_TRACES = ("x-b3-traceid", "x-trace-id", "atl-traceid", "x-request-count")


def marks(answer: Answer) -> tuple[str, ...]:
    """What shows that Bitbucket Cloud wrote this answer, whatever its status; empty if nothing."""
    found = [
        name
        for name, pattern in _MARKS
        if any(re.match(pattern, value) for value in answer.headers.all(name))
    ]
    body = answer.json()
    if isinstance(body, dict) and body.get("type") == "error" and "error" in body:
        found.append("error body")
    return tuple(found)


def trace(answer: Answer) -> str | None:
    """Under this, Atlassian's support finds the request. From the network: quote before showing."""
    return next((f"{name} {text}" for name in _TRACES if (text := answer.header(name))), None)


# What an answer says.


@record
class ApiError:
    """An error body. The texts come from the network: quote before showing."""

    message: str = ""
    detail: str = ""
    required: tuple[str, ...] = ()  # scopes; only where that is what is missing
    granted: tuple[str, ...] = ()


def error(answer: Answer) -> ApiError:
    """The error an answer tells, empty where it tells none in JSON. `detail` is a text or a
    mapping, and each list in it may be a text: all of that was seen."""
    body = answer.json()
    inner = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(inner, str):
        return ApiError(inner)
    if not isinstance(inner, dict):
        return ApiError()
    message, detail = inner.get("message"), inner.get("detail")
    told = detail if isinstance(detail, dict) else {}
    return ApiError(
        message if isinstance(message, str) else "",
        detail if isinstance(detail, str) else "",
        scopes(told.get("required")),
        scopes(told.get("granted")),
    )


def scopes(value: object) -> tuple[str, ...]:
    """A list of scopes, as a list or as text with commas (as in X-OAuth-Scopes)."""
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value)
    if not isinstance(value, list):
        return ()
    return tuple(one for one in value if isinstance(one, str) and one)


Outcome = Literal[
    "allowed",
    "unauthorized",  # 401
    "lacks-scope",  # 403, and it says which scope
    "ip",  # the workspace's IP allowlist, in so many words
    "refused",  # 403 for any other reason
    "no-workspace",
    "missing",  # 404: not there, hidden, or somebody not signed in
    "removed",  # the API itself is gone
    "limited",  # 429
    "failing",  # 5xx
    "foreign",  # not written by Bitbucket Cloud
    "broken",  # no whole answer came
    "unclear",
]
_NO_API = re.compile(r"no API hosted at this URL", re.IGNORECASE)
_NO_WORKSPACE = re.compile(r"No workspace with identifier", re.IGNORECASE)
_GONE = re.compile(r"CHANGE-\d+|deprecated|removed", re.IGNORECASE)
_IP = re.compile(
    r"(?:white|allow).?list\w*.{0,40}\bIP\b|\bIP\b.{0,60}(?:white|allow).?list", re.IGNORECASE
)


def outcome(answer: Answer) -> Outcome:
    """What an answer comes down to, by its status and, where it is JSON, by its words."""
    status = answer.status
    if answer.failure is not None or status is None:
        return "broken"
    if status == 200 and isinstance(answer.json(), dict):
        return "allowed"
    if not marks(answer):
        return "foreign"
    told = error(answer)
    words = f"{told.message} {told.detail}"
    if status in {403, 404} and _IP.search(words):
        return "ip"
    if status == 403:
        return "lacks-scope" if told.required else "refused"
    if status == 404:
        if _NO_API.search(words):
            return "removed"
        return "no-workspace" if _NO_WORKSPACE.search(words) else "missing"
    if status == 410:
        return "removed" if not told.message or _GONE.search(words) else "unclear"
    if status >= 500:
        return "failing"
    simple: dict[int, Outcome] = {401: "unauthorized", 429: "limited"}
    return simple.get(status, "unclear")


def expired(answer: Answer) -> bool:
    """Whether a 401 says that an OAuth token has expired, and nothing else."""
    return bool(re.search(r"access token expired", error(answer).message, re.IGNORECASE))


def wants_no_passwords(answer: Answer) -> bool:
    """Whether a 401 says that the password of an account was sent. It says so in plain text."""
    return b"stopped supporting account passwords" in answer.body[:2000]


def retry_after(answer: Answer) -> int | None:
    """Seconds to wait before asking again; a date counts from now. None if it is not told."""
    if (seconds := datacenter.retry_after(answer)) is not None:
        return seconds
    moment = answer.moment("retry-after")
    return None if moment is None else max(0, round(moment - time.time()))


def near_limit(answer: Answer) -> str | None:
    """What is said about a rate limit that is nearly used up, None if it is not near.

    X-RateLimit-NearLimit is documented as a flag (less than 20 % are left), and was seen as the
    number of requests left.
    """
    text = (answer.header("x-ratelimit-nearlimit") or "").strip().lower()
    limit = (answer.header("x-ratelimit-limit") or "").strip()
    of_all = f"of {limit} an hour" if limit.isdecimal() else "of this hour"
    if text in {"true", "1"}:
        return f"less than 20 % {of_all} are left"
    if text.isdecimal() and text != "0" and limit.isdecimal() and int(text) < int(limit) / 5:
        return f"{text} {of_all} are left"
    return None


# Lists.


@record
class Page:
    """One page of a list; `following` is the URL of the next one. How many there are in all is
    not always told."""

    values: tuple[Mapping[str, object], ...]
    following: str | None


def page(answer: Answer) -> Page | None:
    """The page that an answer is, None if it is none."""
    body = answer.json()
    values = body.get("values") if isinstance(body, dict) else None
    if answer.status != 200 or not isinstance(body, dict) or not isinstance(values, list):
        return None
    following = body.get("next")
    own = isinstance(following, str) and following.startswith(f"{API}/2.0/")
    return Page(
        tuple(value for value in values if isinstance(value, dict)),
        following if own and isinstance(following, str) else None,
    )


def pages(get: Callable[[str], Answer], first: Answer, most: int) -> Iterator[Page]:
    """The first page of a list, and those that follow, at most so many; until one is none."""
    answer, seen = first, {first.url}
    for left in range(most - 1, -1, -1):
        found = page(answer)
        if found is None:
            return
        yield found
        if found.following is None or found.following in seen or not left:
            return
        seen.add(found.following)
        answer = get(found.following)


def full_names(values: Iterator[Mapping[str, object]]) -> list[str]:
    """The full names ("workspace/slug") of the repositories of a list."""
    names = (value.get("full_name") for value in values)
    return [name for name in names if isinstance(name, str)]
