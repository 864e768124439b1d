"""Who a request comes from, as Bitbucket Cloud finds out: the API and git each in its own way."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from diag.simulator import cloud_errors as errors
from diag.simulator.cloud_data import (
    API_TOKEN_USER,
    TOKEN_USER,
    USERS,
    Grant,
)
from diag.simulator.data import password
from diag.simulator.dialect import RefusedError
from diag.simulator.server import Request

APP_PASSWORD = "ATBB"  # noqa: S105 - how they begin


def basic_pair(request: Request) -> tuple[str, str] | None:
    """User and secret of basic authentication, None where there is none that can be read."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, secret) if colon else None


def for_api(request: Request, grants: Mapping[str, Grant]) -> Grant | None:
    """Who calls the API; None for nobody, which a header without a known scheme means too.

    API tokens are a password that goes with an e-mail address; all other tokens go as Bearer.

    Raises:
        RefusedError: Bitbucket's answer to a credential it does not take.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        grant = grants.get(value.strip())
        if grant is not None and grant.kind == "oauth2" and grant.expired:
            raise errors.oauth_expired()
        if grant is None or grant.granular or not grant.usable:
            raise errors.bad_token()
        return grant
    if scheme.lower() != "basic":
        return None
    return _by_email(basic_pair(request) or ("", ""), grants)


def _by_email(pair: tuple[str, str], grants: Mapping[str, Grant]) -> Grant:
    name, secret = pair[0].lower(), pair[1]
    owner = next((user for user in USERS if user.email == name), None)
    if owner is None or secret.startswith(APP_PASSWORD):
        raise errors.bad_pair()
    if secret == password(owner.email):
        raise errors.account_password()
    grant = grants.get(secret)
    if grant is not None and grant.granular and grant.owner == owner and grant.usable:
        return grant
    raise errors.bad_token()


def for_git(request: Request, grants: Mapping[str, Grant]) -> Grant | None:
    """Who clones. Here API tokens go with the user name, and all others with `x-token-auth`.

    Raises:
        RefusedError: as `for_api`.
    """
    if "authorization" not in request.headers:
        return None
    user, secret = basic_pair(request) or ("", "")
    if secret.startswith(APP_PASSWORD):
        words = "App passwords are deprecated and must be replaced with API tokens."
        raise RefusedError(errors.text(410, words))
    grant = grants.get(secret)
    if grant is None or not grant.usable:
        raise RefusedError(errors.text(401, errors.NO_ACCESS))
    names = {TOKEN_USER}
    if grant.granular and grant.owner is not None:
        names = {API_TOKEN_USER, grant.owner.username}
    if user not in names:
        raise RefusedError(errors.text(401, errors.NO_ACCESS))
    return grant
