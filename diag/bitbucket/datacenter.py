"""Bitbucket Server and Data Center: how its answers are told, and what they say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote

from diag.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diag.model import Json
    from diag.net.http import Answer

STATUS = "/status"
PROPERTIES = "/rest/api/latest/application-properties"
CAPABILITIES = "/rest/capabilities"
REPOS = "/rest/api/1.0/repos"  # as the products that connect ask it
USERS = "/rest/api/latest/users"


def project_path(project: str) -> str:
    """A project's resource; keys of personal projects begin with "~"."""
    return f"/rest/api/latest/projects/{quote(project, safe='~')}"


def repository_path(project: str, slug: str) -> str:
    return f"{project_path(project)}/repos/{quote(slug, safe='')}"


def webhooks_path(project: str, slug: str | None) -> str:
    """The webhooks of a repository, or of a project: only its administrators may see them, and
    they may hold secrets."""
    return (repository_path(project, slug) if slug else project_path(project)) + "/webhooks"


def webhook_path(project: str, slug: str, webhook: int) -> str:
    """One webhook of a repository; below it lies what Bitbucket noted down of its deliveries."""
    return f"{webhooks_path(project, slug)}/{webhook}"


def git_path(project: str, slug: str) -> str:
    """Where git begins a clone over HTTP, below the base URL."""
    return f"/scm/{quote(project.lower(), safe='~')}/{quote(slug, safe='')}.git/info/refs"


# Who answers. Jira and Confluence send X-AREQUESTID, X-AUSERNAME and a /status too: only what they
# do not send the same way is a mark.

_REQUEST_ID = re.compile(r"[@*]?[0-9A-Z]{5,12}x\d+x\d+x\d+")
_JIRAS_REQUEST_ID = re.compile(r"\d+x\d+x\d+")  # without the instance's hash in front
_LARGE = 100_000  # bytes: a longer body is a listing, whose headers tell as well
_COOKIES = ("BITBUCKETSESSIONID=", "_atl_bitbucket_remember_me=")
_EXCEPTIONS = ("com.atlassian.bitbucket.", "com.atlassian.stash.")
_PAGE = re.compile(
    r'name="application-name"\s+content="(?:Bitbucket|Stash)|com\.atlassian\.bitbucket\.server\.',
    re.IGNORECASE,
)
_BITBUCKET_ASSETS = re.compile(r"/s/[^\"'<> ]*/_/download/[^\"'<> ]*bitbucket", re.IGNORECASE)


def marks(answer: Answer) -> tuple[str, ...]:
    """What shows that Bitbucket itself wrote this answer, whatever its status; empty if nothing."""
    if "x-seraph-loginreason" in answer.headers or "x-anodeid" in answer.headers:
        return ()  # Jira and Confluence sign in with Seraph, Bitbucket does not
    if _JIRAS_REQUEST_ID.fullmatch(answer.header("x-arequestid") or ""):
        return ()
    small = len(answer.body) <= _LARGE
    return (*_header_marks(answer), *(_body_marks(answer) if small else ()))


def _header_marks(answer: Answer) -> Iterator[str]:
    if _REQUEST_ID.fullmatch(answer.header("x-arequestid") or ""):
        yield "X-AREQUESTID"
    for name in ("X-AUSERID", "X-AUSERNAME"):
        if name in answer.headers:
            yield name
    if "x-ausername" in (answer.header("vary") or "").lower():
        yield "Vary: x-ausername"
    if any(cookie.startswith(_COOKIES) for cookie in answer.headers.all("set-cookie")):
        yield "session cookie"


def _body_marks(answer: Answer) -> Iterator[str]:
    body = answer.json() if answer.body[:1] == b"{" else None
    if isinstance(body, dict):
        if properties(answer) is not None:
            yield "application-properties"
        if body.get("application") in {"stash", "bitbucket"} and "capabilities" in body:
            yield "capabilities"
        if any(error.exception.startswith(_EXCEPTIONS) for error in errors(answer)):
            yield "error body"
    elif answer.body:
        text = answer.text()
        if _PAGE.search(text) or _BITBUCKET_ASSETS.search(text):
            yield "page"


def properties(answer: Answer) -> dict[str, str] | None:
    """The content of application-properties (`version`, `buildNumber`, `displayName`, …), None if
    this is something else. The display name is free for the administrator to choose."""
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict):
        return None
    texts = {name: value for name, value in body.items() if isinstance(value, str)}
    return texts if {"version", "buildNumber", "displayName"} <= texts.keys() else None


def state(answer: Answer) -> str | None:
    """The state that /status tells ("RUNNING", "MAINTENANCE", …), whatever the HTTP status.

    Jira, Confluence and Bamboo answer in the same form: this alone proves no Bitbucket.
    """
    body = answer.json()
    value = body.get("state") if isinstance(body, dict) else None
    return value if isinstance(value, str) and re.fullmatch(r"[A-Z_]{2,30}", value) else None


# What an error body says.


@record
class ApiError:
    """One entry of `{"errors": […]}`. The texts come from the network: quote before showing."""

    message: str
    exception: str = ""  # full Java class name, "" where there is none
    context: str | None = None  # the field or parameter that is wrong

    @property
    def name(self) -> str:
        """The class without its package: "AuthorisationException"."""
        return self.exception.rpartition(".")[2]


def errors(answer: Answer) -> tuple[ApiError, ...]:
    """The errors an answer tells, whatever its status; empty if it is no error body.

    A bare `{"message": …}`, as Atlassian's authentication plug-in writes it, is one without class.
    """
    body = answer.json()
    if not isinstance(body, dict):
        return ()
    entries = body.get("errors")
    if isinstance(entries, list):
        return tuple(_error(entry) for entry in entries if isinstance(entry, dict))
    return (_error(body),) if isinstance(body.get("message"), str) else ()


def _error(entry: dict[str, Json]) -> ApiError:
    message, exception, context = (entry.get(k) for k in ("message", "exceptionName", "context"))
    return ApiError(
        message if isinstance(message, str) else "",
        exception if isinstance(exception, str) else "",
        context if isinstance(context, str) else None,
    )


# What a refusal means. Bitbucket answers 401 to a bad credential and to a good one without the
# right permission alike; 403 hardly ever.

Refusal = Literal[
    "foreign",  # not in Bitbucket's words: something in front of it refuses
    "basic-off",  # basic authentication is disabled on this instance
    "captcha",
    "unlicensed",
    "inactive",
    "password-expired",
    "directory",  # the user directory behind Bitbucket fails
    "rejected",  # the credential is wrong; which way is not told
    "not-sent",  # Bitbucket saw no credential
    "forbidden",  # signed in, but not permitted
    "nobody",  # not permitted to somebody without a name: anonymous, or a project's token
    "unclear",
]
_REFUSALS: tuple[tuple[str, Refusal], ...] = (  # part of an exception's class name; the first wins
    ("captcharequired", "captcha"),
    ("noaccessauthentication", "unlicensed"),
    ("inactiveuser", "inactive"),
    ("expiredpassword", "password-expired"),
    ("authenticationsystem", "directory"),
    ("authenticationrequired", "not-sent"),
    ("authenticationexception", "rejected"),
)


def refusal(answer: Answer) -> Refusal | None:
    """Why the answer is a 401 or 403, None if it is neither."""
    if answer.status not in (401, 403):
        return None
    found = errors(answer)
    if "CAPTCHA" in (answer.header("x-authentication-denied-reason") or ""):
        return "captcha"
    if not found:
        return "foreign"
    if any(re.search(r"basic auth\w* has been disabled", e.message, re.IGNORECASE) for e in found):
        return "basic-off"
    names = " ".join(error.name.lower() for error in found)
    for part, meaning in _REFUSALS:
        if part in names:
            return meaning
    if "authorisationexception" in names:
        return "forbidden" if user_name(answer) else "nobody"
    return "unclear"


def user_name(answer: Answer) -> str | None:
    """Whom Bitbucket takes us for: X-AUSERNAME, decoded. None proves nothing: the tokens of
    projects and repositories have no name."""
    return unquote(answer.header("x-ausername") or "") or None


def realm(answer: Answer) -> str | None:
    """The base URL in the OAuth realm of a 401."""
    for challenge in answer.headers.all("www-authenticate"):
        if match := re.search(r'OAuth realm="([^"]+)"', challenge, re.IGNORECASE):
            return unquote(match[1])
    return None


def retry_after(answer: Answer) -> int | None:
    """Seconds to wait before asking again, None if the answer does not say so in seconds."""
    text = answer.header("retry-after") or ""
    return int(text) if re.fullmatch(r"\d{1,6}", text) else None
