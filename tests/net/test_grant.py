"""The one POST: an OAuth consumer's key and secret for a token, and when it is not sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from diag.context import Run
from diag.facts import Credential, Target, Wire
from diag.net.http import Http
from diag.secret import Scrubber, Secret
from diag.simulator.server import Request, Response, talk_http
from diag.target import TOKEN_URL
from tests.certificates import Identity, root, server_context
from tests.conftest import make_settings
from tests.tls_server import serving

ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1")
GOOD, OTHER = CA.issue("*.bitbucket.org", "bitbucket.org"), CA.issue("elsewhere.example.com")
KEY, SECRET, TOKEN = "key", "consumer-secret-xyz", "granted-token-" + "q" * 40
CLOUD = Target("https://bitbucket.org/t/app", "https", "api.bitbucket.org", 443, kind="cloud")
GRANTED = {"access_token": TOKEN, "refresh_token": "r" * 40, "expires_in": 7200, "scope": "email"}
Opening = Callable[..., Any]


class Seen:
    """The website and the API on loopback; both answer the same, and remember the requests."""

    def __init__(self, status: int = 200, body: Any = GRANTED) -> None:
        self.status, self.body = status, body
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return Response(self.status, [("Content-Type", "application/json")], body)

    @property
    def sent(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


@pytest.fixture
def opened(tmp_path: Path) -> Opening:
    """A client of a Cloud run that signs in with a consumer, and the run behind it."""
    ca_file = tmp_path / "root.pem"
    ca_file.write_bytes(ROOT.pem)

    @contextmanager
    def open_(
        seen: Seen,
        *,
        target: Target = CLOUD,
        scheme: Literal["basic", "bearer", "grant"] = "grant",
        identity: Identity = GOOD,
        **options: Any,
    ) -> Iterator[tuple[Http, Run]]:
        with serving(talk_http(seen, server_context(identity))) as server:
            hosts = ("bitbucket.org", "api.bitbucket.org")
            rules = tuple(f"{host}:443:127.0.0.1:{server.port}" for host in hosts)
            options.setdefault("ca_file", str(ca_file))
            run = Run(make_settings("bitbucket.org", connect_to=rules, **options), Scrubber())
            run.facts[Target] = target
            run.facts[Wire] = Wire(secure=True, verified=True)
            run.facts[Credential] = Credential(Secret(SECRET), scheme, KEY)
            try:
                yield Http(run.http, lambda *_: None), run
            finally:
                run.close()

    return open_


def test_a_token_for_key_and_secret(opened: Opening) -> None:
    seen = Seen()
    with opened(seen) as (http, run):
        assert not http.granted
        answer = http.client_credentials_grant(TOKEN_URL)
        assert http.granted
        http.get("https://api.bitbucket.org/2.0/user", auth=True)
        shown = run.scrubber.text(f"{TOKEN} in {TOKEN_URL}")
    assert answer.json() == {"expires_in": 7200, "scope": "email"}
    assert TOKEN not in repr(answer)
    assert shown == f"*** in {TOKEN_URL}"
    assert seen.sent == ["POST /site/oauth2/access_token", "GET /2.0/user"]
    post, later = seen.requests
    assert post.body == b"grant_type=client_credentials"
    pair = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    assert post.headers["authorization"] == f"Basic {pair}"
    assert post.headers["content-type"] == "application/x-www-form-urlencoded"
    assert later.headers["authorization"] == f"Bearer {TOKEN}"
    assert run.http.requests == 2


@pytest.mark.parametrize("status", [200, 400, 503])
def test_it_is_sent_once(opened: Opening, status: int) -> None:
    seen = Seen(status, {"error": "unauthorized_client"})
    with opened(seen) as (http, _):
        assert http.client_credentials_grant(TOKEN_URL).status == status
        assert not http.granted
        assert http.client_credentials_grant(TOKEN_URL).failure == "withheld"
    assert len(seen.requests) == 1


def test_without_a_token_nothing_carries_the_secret(opened: Opening) -> None:
    seen = Seen()
    with opened(seen) as (http, _):
        answer = http.get("https://api.bitbucket.org/2.0/user", auth=True)
    assert answer.failure == "withheld"
    assert seen.requests == []


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://bitbucket.org/site/oauth2/other"),
        ({}, "https://api.bitbucket.org/site/oauth2/access_token"),
        ({}, "http://bitbucket.org/site/oauth2/access_token"),
        ({"scheme": "basic"}, TOKEN_URL),
        ({"scheme": "bearer"}, TOKEN_URL),
        ({"target": Target("https://bitbucket.org", "https", "bitbucket.org", 443)}, TOKEN_URL),
    ],
    ids=["path", "host", "http", "password", "token", "data-center"],
)
def test_when_it_is_not_sent(opened: Opening, options: dict[str, Any], url: str) -> None:
    seen = Seen()
    with opened(seen, **options) as (http, _):
        assert http.client_credentials_grant(url).failure == "withheld"
    assert seen.requests == []


@pytest.mark.parametrize(
    "options", [{"identity": OTHER}, {"ca_file": None}, {"ca_file": None, "insecure": True}]
)
def test_not_over_an_unverified_connection(opened: Opening, options: dict[str, Any]) -> None:
    seen = Seen()
    with opened(seen, **options) as (http, run):
        run.facts[Wire] = Wire(secure=True, verified=False)
        assert http.client_credentials_grant(TOKEN_URL).failure == "tls"
        assert not http.granted
    assert seen.requests == []


def test_not_after_a_401(opened: Opening) -> None:
    seen = Seen(401, b"")
    with opened(seen) as (http, run):
        assert http.client_credentials_grant(TOKEN_URL).status == 401
        assert run.http.fuse_blown


@pytest.mark.parametrize(
    "body", [b"<html>", [], {"access_token": ""}, {"access_token": 7}, {"access_token": None}]
)
def test_an_answer_without_a_token(opened: Opening, body: Any) -> None:
    with opened(Seen(200, body)) as (http, _):
        assert http.client_credentials_grant(TOKEN_URL).status == 200
        assert not http.granted
