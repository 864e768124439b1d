"""What the answers of Bitbucket Cloud say, whatever form they have."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from diag.bitbucket import cloud
from diag.net.http import Answer, Headers

EDGE = ("Server", "AtlassianEdge")


def answer(status: int, body: Any = None, *headers: tuple[str, str], marked: bool = True) -> Answer:
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    raw = [*headers, *([EDGE] if marked else [])]
    return Answer(f"{cloud.API}/2.0/x", "GET", status, Headers(raw), content)


def refusal(status: int, message: str = "", **more: Any) -> Answer:
    return answer(status, {"type": "error", "error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Server", "AtlassianEdge")], True),
        ([("X-Credential-Type", "oauth2")], True),
        ([("X-Accepted-OAuth-Scopes", "")], True),
        ([("X-View-Name", "bitbucket.apps.repo2.api")], True),
        ([("WWW-Authenticate", 'Basic realm="Bitbucket.org HTTP"')], True),
        ([("WWW-Authenticate", "BitbucketCustom realm=Bitbucket.org HTTP")], True),
        ([("WWW-Authenticate", 'Basic realm="proxy"')], False),
        ([("Server", "envoy"), ("X-B3-TraceId", "27fa68fa2b7e2251")], False),
        ([("Server", "nginx"), ("X-Served-By", "cache-1")], False),
    ],
)
def test_who_wrote_it(headers: list[tuple[str, str]], expected: bool) -> None:
    assert bool(cloud.marks(answer(200, b"", *headers, marked=False))) is expected


def test_an_error_body_is_a_mark() -> None:
    body = {"type": "error", "error": {"message": "Forbidden"}}
    assert cloud.marks(answer(403, body, marked=False)) == ("error body",)
    assert cloud.marks(answer(403, {"error": "forbidden"}, marked=False)) == ()


@pytest.mark.parametrize(
    ("detail", "required", "granted"),
    [
        ({"required": ["project"], "granted": ["account"]}, ("project",), ("account",)),
        ({"required": "project, team", "granted": None}, ("project", "team"), ()),
        ({"required": [1, "project"]}, ("project",), ()),
        ("Please read the changelog.", (), ()),
        ([], (), ()),
        (None, (), ()),
    ],
)
def test_the_scopes_of_a_refusal(
    detail: Any, required: tuple[str, ...], granted: tuple[str, ...]
) -> None:
    told = cloud.error(refusal(403, "lacking", detail=detail))
    assert (told.message, told.required, told.granted) == ("lacking", required, granted)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "app is not a valid hook"}, "app is not a valid hook"),
        ({"error": "invalid_grant", "error_description": "x"}, "invalid_grant"),
        ({"type": "error", "error": None}, ""),
        (["x"], ""),
        (b"<!DOCTYPE html><script>window.__token__='eyJ'</script>", ""),
        (b"Not Found", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_any_other_error_body(body: Any, message: str) -> None:
    assert cloud.error(answer(404, body)) == cloud.ApiError(message)


NO_API = "There is no API hosted at this URL.\n\nFor information about our API's, please refer to"


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(200, {}), "allowed"),
        (answer(200, {}, marked=False), "allowed"),
        (answer(200, b"<html>", marked=False), "foreign"),
        (answer(200, b"<html>"), "unclear"),
        (refusal(401, "Token is invalid"), "unauthorized"),
        (refusal(403, "Forbidden"), "refused"),
        (refusal(403, "lacking", detail={"required": ["webhook"]}), "lacks-scope"),
        (refusal(403, "To access this repository, an admin must whitelist your IP."), "ip"),
        (refusal(403, "Your IP address is not on the allowlist"), "ip"),
        (refusal(404, "You may not have access to this repository"), "missing"),
        (answer(404, b"Not Found", ("Content-Type", "text/plain")), "missing"),
        (refusal(404, "No workspace with identifier 'x'."), "no-workspace"),
        (refusal(404, "Resource not found", detail=NO_API), "removed"),
        (refusal(410, "CHANGE-2770 - Functionality has been deprecated"), "removed"),
        (refusal(410, "The account was marked as spam"), "unclear"),
        (answer(429, b"Rate limit for this resource has been exceeded"), "limited"),
        (answer(503, b"upstream connect error"), "failing"),
        (answer(503, b"upstream connect error", marked=False), "foreign"),
        (Answer("https://x", failure="timeout"), "broken"),
        (refusal(400, "Bad request", fields={"q": ["?"]}), "unclear"),
    ],
)
def test_what_it_comes_down_to(given: Answer, outcome: str) -> None:
    assert cloud.outcome(given) == outcome


def test_when_to_come_back() -> None:
    assert cloud.retry_after(answer(429, None, ("Retry-After", "1800"))) == 1800
    then = formatdate(time.time() + 600, usegmt=True)
    assert 590 <= (cloud.retry_after(answer(429, None, ("Retry-After", then))) or 0) <= 600
    past = formatdate(time.time() - 600, usegmt=True)
    assert cloud.retry_after(answer(429, None, ("Retry-After", past))) == 0
    assert cloud.retry_after(answer(429, None, ("Retry-After", "soon"))) is None
    assert cloud.retry_after(answer(429)) is None


@pytest.mark.parametrize(
    ("near", "limit", "told"),
    [
        ("true", "1000", "less than 20 % of 1000 an hour are left"),
        ("True", "", "less than 20 % of this hour are left"),
        ("1", "1000", "less than 20 % of 1000 an hour are left"),
        ("150", "1000", "150 of 1000 an hour are left"),
        ("600", "1000", None),
        ("150", "", None),
        ("0", "1000", None),
        ("false", "1000", None),
        ("", "1000", None),
    ],
)
def test_a_rate_limit_that_is_near(near: str, limit: str, told: str | None) -> None:
    headers = (("X-RateLimit-NearLimit", near), ("X-RateLimit-Limit", limit))
    assert cloud.near_limit(answer(200, {}, *headers)) == told


def test_the_scopes_of_the_header() -> None:
    assert cloud.scopes("pullrequest, account,webhook") == ("pullrequest", "account", "webhook")
    assert cloud.scopes("") == ()
    assert cloud.scopes(None) == ()


class TestPages:
    """Lists: how many there are is not always told, and the next page must be Bitbucket's own."""

    def test_from_page_to_page(self) -> None:
        urls = [f"{cloud.API}/2.0/x?page={number}" for number in (2, 3)]
        later = {
            urls[0]: answer(200, {"values": [{"full_name": "t/b"}, "junk"], "next": urls[1]}),
            urls[1]: answer(200, {"values": [{"full_name": "t/c"}, {"name": "d"}]}),
        }
        first = answer(200, {"values": [{"full_name": "t/a"}], "next": urls[0]})
        found = list(cloud.pages(later.__getitem__, first, 5))
        assert cloud.full_names(value for page in found for value in page.values) == [
            *("t/a", "t/b", "t/c")
        ]
        assert len(list(cloud.pages(later.__getitem__, first, 2))) == 2

    def test_a_circle_ends(self) -> None:
        url = f"{cloud.API}/2.0/x?page=2"
        page = answer(200, {"values": [], "next": url})
        assert len(list(cloud.pages(lambda _url: page, page, 9))) == 2

    @pytest.mark.parametrize("following", ["https://evil.example.com/2.0/x", "/2.0/x", 7, None])
    def test_a_next_page_elsewhere_is_not_followed(self, following: Any) -> None:
        page = cloud.page(answer(200, {"values": [], "next": following}))
        assert page == cloud.Page((), None)

    @pytest.mark.parametrize("body", [{"values": {}}, {"size": 3}, [], b"<html>", None])
    def test_what_is_no_page(self, body: Any) -> None:
        assert cloud.page(answer(200, body)) is None
        assert list(cloud.pages(lambda _url: answer(200, body), answer(200, body), 3)) == []


def test_addresses_are_quoted() -> None:
    assert cloud.repository_path("my team", "a/b") == "/2.0/repositories/my%20team/a%2Fb"
    assert cloud.git_url("team", "app") == "https://bitbucket.org/team/app.git/info/refs"
