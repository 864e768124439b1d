"""The words in which Bitbucket Cloud refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from diag.simulator.cloud_data import BOT, TEAM, embedded_token
from diag.simulator.dialect import RefusedError, as_json
from diag.simulator.server import Response

CHALLENGE = ("WWW-Authenticate", 'Basic realm="Bitbucket.org HTTP"')
CHANGELOG = "https://developer.atlassian.com/cloud/bitbucket/changelog#CHANGE-2770"
NO_ACCESS = (
    "You may not have access to this repository or it no longer exists in this workspace. If you"
    " think this repository exists and you have access, make sure you are authenticated."
)
LACKS_SCOPES = "Your credentials lack one or more required privilege scopes."
ROLE_TOO_LOW = "Access denied. You must have write or admin access."
IP_BLOCKED = "To access this repository, an admin must whitelist your IP."
TOO_MANY = "Rate limit for this resource has been exceeded"


def refused(status: int, message: str, **more: object) -> RefusedError:
    """An error in the envelope of all JSON answers; `more` is detail, fields or data."""
    return RefusedError(as_json(status, {"type": "error", "error": {"message": message, **more}}))


def text(status: int, words: str, *headers: tuple[str, str]) -> Response:
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status, [kind, *headers], words.encode())


def bad_token() -> RefusedError:
    """The token is none, was revoked, has expired, or was sent in the wrong way."""
    return refused(401, "Token is invalid, expired, or not supported for this endpoint.")


def oauth_expired() -> RefusedError:
    words = "Access token expired. Use your refresh token to obtain a new access token."
    return refused(401, words)


def bad_pair() -> RefusedError:
    """Nothing is said about what is wrong with a user name and its secret."""
    return RefusedError(text(401, ""))


def account_password() -> RefusedError:
    words = (
        "Bitbucket Cloud recently stopped supporting account passwords for API authentication.\n"
        "See the documentation of API authentication for what to use instead.\n"
    )
    return RefusedError(text(401, words))


def lacks_scopes(
    required: Sequence[str], granted: Sequence[str], *, as_text: bool = False
) -> RefusedError:
    """`as_text`: some resources name what they require in one string."""
    wanted: object = ", ".join(required) if as_text else list(required)
    return refused(403, LACKS_SCOPES, detail={"required": wanted, "granted": list(granted)})


def forbidden(detail: str | None = None) -> RefusedError:
    return refused(403, "Forbidden", **({"detail": detail} if detail else {}))


def no_api() -> RefusedError:
    detail = (
        "There is no API hosted at this URL.\n\nFor information about our API's, please refer to"
        " the documentation at: https://developer.atlassian.com/bitbucket/api/2/reference/"
    )
    return refused(404, "Resource not found", detail=detail)


def gone() -> RefusedError:
    return refused(
        410,
        "CHANGE-2770 - Functionality has been deprecated",
        detail="Please read the changelog entry for more details.",
        data={"announcement_url": CHANGELOG},
    )


def no_workspace(slug: str) -> RefusedError:
    return refused(404, f"No workspace with identifier '{slug}'.")


def invalid(message: str, fields: Mapping[str, Sequence[str]]) -> RefusedError:
    return refused(400, message, fields=fields)


def page(status: int) -> Response:
    """The page that some errors come as: some 25 KB, with the caller's profile and a token."""
    profile = json.dumps({"displayName": BOT.display_name, "email": BOT.email, "team": TEAM})
    filler = "".join(f'<li class="nav-{n}"><a href="/{n}">item {n}</a></li>\n' for n in range(500))
    html = (
        "<!DOCTYPE html>\n<html lang=en><head><title>Bitbucket</title>"
        f"<meta id=\"bb-bootstrap\" data-current-user='{profile}'></head>"
        f'<body><script>window.__token__ = "{embedded_token()}";</script><ul>{filler}</ul>'
        "<h1>Repository not found</h1></body></html>\n"
    )
    return Response(status, [("Content-Type", "text/html; charset=utf-8")], html.encode())
