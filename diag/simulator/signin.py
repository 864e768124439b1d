"""Who a request comes from, as Bitbucket Data Center finds out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
from typing import TYPE_CHECKING

from diag.simulator import errors
from diag.simulator.data import ANONYMOUS, Caller, Instance, User
from diag.simulator.dialect import RefusedError
from diag.simulator.server import Response

if TYPE_CHECKING:
    from diag.simulator.server import Request

SESSION_COOKIE = "BITBUCKETSESSIONID"
TOKEN_PATHS = ("/rest/", "/scm/")  # HTTP access tokens are good for nothing else


class SignIn:
    """Checks credentials, counts failed logins, keeps sessions."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._lock = threading.Lock()
        self._sessions: dict[str, Caller] = {}

    def caller(self, request: Request, path: str) -> Caller:
        """Who calls `path`, which is without the context path.

        Raises:
            RefusedError: Bitbucket's answer to a credential it does not take.
        """
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if path == "/status":
            return ANONYMOUS
        if scheme.lower() == "bearer" and self._instance.numbers >= (5, 5):
            return self._by_token(value.strip(), path)
        if scheme.lower() == "basic":
            return self._by_password(value.strip(), path)
        session = re.search(rf"{SESSION_COOKIE}=(\w+)", request.headers.get("cookie", ""))
        return self._sessions.get(session[1], ANONYMOUS) if session else ANONYMOUS

    def start_session(self, caller: Caller) -> str:
        """A session for the caller. Who sends its cookie needs no credential."""
        session = hashlib.sha256(repr(caller).encode()).hexdigest()
        self._sessions[session] = caller
        return session

    def _by_token(self, secret: str, path: str) -> Caller:
        if not path.startswith(TOKEN_PATHS):
            location = f"{self._instance.base_url}/login?next={path}"
            raise RefusedError(Response(302, [("Location", location)]))
        token = self._instance.tokens.get(secret)
        if token is None or not token.valid:
            if self._instance.ignores_bad_tokens:
                return ANONYMOUS
            raise errors.bad_credential()
        if token.owner is None:
            return Caller(token=token)
        return Caller(usable(self._instance.users[token.owner]), token)

    def _by_password(self, encoded: str, path: str) -> Caller:
        if not self._instance.basic_auth:
            raise errors.basic_disabled()
        try:
            name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
            user = self._instance.users[name]
        except (binascii.Error, UnicodeDecodeError, KeyError):
            raise errors.bad_credential() from None
        with self._lock:
            failures = self._instance.captcha_failures.setdefault(name, 0)
            if failures >= self._instance.captcha_after:
                raise errors.captcha_required()
            if secret == user.password:
                self._instance.captcha_failures[name] = 0
                return Caller(usable(user))
            token = self._instance.tokens.get(secret)
            own = token is not None and token.valid and token.owner == name
            if own and path.startswith(TOKEN_PATHS):
                return Caller(usable(user), token)
            self._instance.captcha_failures[name] += 1
        raise errors.bad_credential()


def usable(user: User) -> User:
    """The user. Raises RefusedError for one who may not work with Bitbucket."""
    if not user.active:
        raise errors.inactive_user()
    if not user.licensed:
        raise errors.no_licence()
    return user
