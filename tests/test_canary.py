"""A canary for a secret: servers repeat it wherever an answer has room, no output may show it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from diag import registry
from diag.report import Report, Style

ROOT = Path(__file__).parents[1]
CANARY = "BBDC-c4n4ry/+=secret&<token>\"'%"  # all that spellings differ in, and may be sent
USER = "jdoe"
PAIR = base64.b64encode(f"{USER}:{CANARY}".encode()).decode()
SPELLINGS = {
    CANARY,
    CANARY[5:],
    quote(CANARY),
    quote(CANARY, safe=""),
    json.dumps(CANARY)[1:-1],
    json.dumps(CANARY, ensure_ascii=False)[1:-1],
    base64.b64encode(CANARY.encode()).decode(),
    PAIR,
    quote(PAIR, safe=""),
    CANARY.encode().hex(),
}
ANYTHING = re.compile(r".*")
Handler = Callable[[Request], Response]


def heard(request: Request) -> str:
    """What the request said, in as many spellings as a careless server may repeat."""
    given = request.headers.get("Authorization", "")
    texts = [given, quote(given, safe="")]
    if given.startswith("Basic "):
        texts.append(base64.b64decode(given[6:]).decode())
    if given.startswith("Bearer "):
        texts.append(base64.b64encode(given[7:].encode("latin-1")).decode())
    return " ".join(texts)


def headers(request: Request) -> dict[str, str]:
    text = heard(request).encode("latin-1", "replace").decode("latin-1").replace("\n", "")
    return {
        "X-AREQUESTID": "@1VT0CNLx453x5668x0",
        "X-AUSERNAME": quote(text),
        "X-AUSERID": text,
        "Server": text or "nginx",
        "WWW-Authenticate": f'OAuth realm="{quote("http://localhost:7990/" + text, safe="")}"',
    }


def echo(status: int, body: Any) -> Handler:
    """Answer everything with `body`, in which HEARD stands for what the request said."""

    def handle(request: Request) -> Response:
        text = body if isinstance(body, str) else json.dumps(body)
        spoken = json.dumps(heard(request))[1:-1] if not isinstance(body, str) else heard(request)
        kind = "text/html" if isinstance(body, str) else "application/json"
        return Response(text.replace("HEARD", spoken), status, headers(request), content_type=kind)

    return handle


REPOSITORY = {
    "slug": "app HEARD",
    "id": 1,
    "name": "HEARD",
    "project": {"key": "HEARD", "name": "HEARD"},
    "links": {
        "self": [{"href": "http://localhost:7990/HEARD"}],
        "clone": [
            {"href": "http://HEARD@localhost:7990/scm/HEARD.git", "name": "http"},
            {"href": "ssh://git@HEARD:7999/HEARD.git", "name": "ssh"},
        ],
    },
}
BEHAVIOURS: dict[str, Handler] = {
    "error bodies": echo(
        401, {"errors": [{"message": "HEARD", "exceptionName": "com.atlassian.HEARD"}]}
    ),
    "forbidden": echo(403, {"message": "HEARD"}),
    "crash": echo(500, {"errors": [{"message": "HEARD", "exceptionName": "HEARD"}]}),
    "page": echo(200, "<html><title>HEARD</title><h1>blocked: HEARD</h1>support id: HEARD</html>"),
    "login page": echo(401, "<html><title>HEARD</title><form><input type=password></form>"),
    "json": echo(
        200,
        {
            "state": "RUNNING",
            "version": "9.4.1 HEARD",
            "displayName": "Bitbucket HEARD",
            "buildNumber": "HEARD",
            "application": "stash",
            "links": {"self": "http://localhost:7990/HEARD"},
            "capabilities": {"HEARD": "http://localhost/HEARD"},
            "values": [REPOSITORY],
            "size": 1,
            "isLastPage": True,
            "start": 0,
            "limit": 25,
        },
    ),
    "broken json": echo(200, '{"HEARD'),
}


def redirect(request: Request) -> Response:
    target = f"http://localhost:1/{quote(heard(request))}?next={quote(heard(request))}"
    return Response("", 302, {**headers(request), "Location": target})


BEHAVIOURS["redirect"] = redirect


def selective(request: Request) -> Response:
    """Healthy until the secret comes, so that the run gets far."""
    path = request.path
    if path == "/status":
        return Response('{"state":"RUNNING"}', 200, headers(request), mimetype="application/json")
    return BEHAVIOURS["json" if "projects/" not in path else "error bodies"](request)


BEHAVIOURS["selective"] = selective


def leaks(text: str) -> list[str]:
    return [spelling for spelling in SPELLINGS if spelling.lower() in text.lower()]


@pytest.mark.parametrize("user", [None, USER])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_no_format_shows_it(
    behaviour: str, user: str | None, httpserver: HTTPServer, diagnose: Callable[..., Report]
) -> None:
    httpserver.expect_request(ANYTHING).respond_with_handler(BEHAVIOURS[behaviour])
    report = diagnose(
        httpserver.url_for("").rstrip("/") + "/projects/MOB/repos/app",
        token=CANARY,
        user=user,
        timeout=1.0,
        deadline=8.0,
    )
    assert not any(request.method not in ("GET", "HEAD") for request, _ in httpserver.log)
    for name in registry.formats():
        text = registry.renderer(name).render(report, Style(timings=True))
        assert leaks(text) == [], name


@pytest.mark.parametrize("behaviour", ["selective", "error bodies", "page"])
def test_no_stream_of_the_command_shows_it(
    behaviour: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    httpserver.expect_request(ANYTHING).respond_with_handler(BEHAVIOURS[behaviour])
    (tmp_path / "token").write_text(CANARY, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable, "-X", "dev", "-W", "ignore", "-m", "diag", "check",
            httpserver.url_for("/").rstrip("/"), "--token-file", str(tmp_path / "token"),
            "--user", USER, "--timings", "--output", f"json={tmp_path / 'report.json'}",
            "--timeout", "1", "--deadline", "8",
        ],
        cwd=ROOT,
        env={**os.environ, "BITBUCKET_TOKEN": CANARY},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )  # fmt: skip
    written = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert leaks(done.stdout + done.stderr + written) == []
    assert "schema_version" in written
