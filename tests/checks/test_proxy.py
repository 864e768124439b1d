"""Checks `proxy` and `proxy-bypass`, against proxies on loopback and a real squid."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from diag.facts import Channel, Fact, Route, Target
from diag.report import Problem, Report
from diag.simulator import Simulator
from tests.certificates import Identity, server_context
from tests.certificates import root as make_root
from tests.given import result, run_check
from tests.proxy_server import (
    ProxyServer,
    Socks,
    answering,
    black_hole,
    http,
    page,
    passing,
    running_squid,
    serving,
    silent_to_connect,
    squid,
    within_tls,
)

HOST = "bitbucket.invalid"  # RFC 6761: no resolver knows it, so that only the proxy gets there
TARGET = Target(f"https://{HOST}", "https", HOST, 443)
PLAIN = Target(f"http://{HOST}", "http", HOST, 80)
Talk = Callable[..., None]


@pytest.fixture
def proxies() -> Iterator[Callable[[Talk], ProxyServer]]:
    """Start proxies: `proxies(answering(…)).address`."""
    with ExitStack() as stack:
        yield lambda talk: stack.enter_context(serving(talk))


def look(target: Target, value: str, **options: Any) -> tuple[Report, list[Fact]]:
    """Run check `proxy` with the proxy of the environment."""
    environ = {f"{target.scheme}_proxy": value, **options.pop("environ", {})}
    options = {"timeout": 2.0, **options}
    return run_check("proxy", [target], url=target.text, environ=environ, **options)


def problem(report: Report) -> Problem:
    """The one problem of the report, which must be readable."""
    assert len(report.problems) == 1, [(one.code, one.message) for one in report.problems]
    (one,) = report.problems
    for text in (one.message, one.remedy, *one.reproduce):
        assert "{" not in text
        assert "None" not in text
    return one


def codes(report: Report, check: str = "proxy") -> list[str]:
    return [finding.code for finding in result(report, check).findings]


# which way


def test_without_variables_the_way_is_direct_and_nothing_else_is_done() -> None:
    report, facts = run_check("proxy", [TARGET], url=TARGET.text)
    assert facts == [Route(None, "no proxy variable applies")]
    assert codes(report) == ["proxy-none"]
    assert result(report, "proxy").timings == ()


def test_no_proxy_switches_it_off_and_is_named() -> None:
    report, facts = look(TARGET, "http://127.0.0.1:9", environ={"NO_PROXY": "a.com, .invalid"})
    assert facts == [Route(None, "'.invalid' in $NO_PROXY")]
    assert "proxy-none" in codes(report)


def test_the_option_none_leaves_the_environment_alone() -> None:
    _, facts = look(TARGET, "http://127.0.0.1:9", proxy="none")
    assert facts == [Route(None, "--proxy none")]


def test_the_option_beats_the_environment_and_its_no_proxy(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        server = proxies(passing({f"{HOST}:443": web.getsockname()[1]}))
        url = f"http://{server.address}"
        environ = {"NO_PROXY": "*"}
        _, facts = look(TARGET, "http://127.0.0.1:9", proxy=url, environ=environ)
    assert facts[0] == Route(url, "--proxy")
    assert server.asked == [f"CONNECT {HOST}:443"]


def ways(report: Report) -> dict[str, tuple[str, str]]:
    """What the evidence says that the clients do: way and reason."""
    told: list[Any] = [
        finding.evidence.get("clients") for finding in result(report, "proxy").findings
    ]
    (clients,) = filter(None, told)
    return {one["client"]: (one["way"], one["because"]) for one in clients}


def test_who_goes_another_way_is_told() -> None:
    report, _ = run_check(
        "proxy", [TARGET], url=TARGET.text, environ={"https_proxy": "http://p:1", "no_proxy": "x,*"}
    )
    (found,) = (f for f in result(report, "proxy").findings if f.code == "proxy-clients-differ")
    assert found.message.endswith("directly: Python httpx, Go, Node axios, Node, Java")
    assert ways(report)["Python httpx"] == ("direct", "'*' in $no_proxy")
    assert ways(report)["Python requests, pip"] == ("http://p:1", "$https_proxy")


def test_git_s_own_configuration_is_told(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    config = tmp_path / ".gitconfig"
    config.write_text(f'[http "https://{HOST}"]\n\tproxy = http://me:hidden@gitproxy:3128\n')
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    report, facts = run_check("proxy", [TARGET], url=TARGET.text, environ=environ)
    assert facts == [Route(None, "no proxy variable applies")]
    (found,) = (f for f in result(report, "proxy").findings if f.code == "proxy-clients-differ")
    assert found.message.endswith("http://gitproxy:3128: git")
    assert ways(report)["git"] == ("http://gitproxy:3128", "git config http.proxy")
    assert "hidden" not in json.dumps(report.to_json())


def test_contradicting_variables(proxies: Callable[[Talk], ProxyServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        server = proxies(passing({f"{HOST}:443": web.getsockname()[1]}))
        url = f"http://{server.address}"
        report, facts = look(TARGET, url, environ={"HTTPS_PROXY": "http://other:3128"})
        assert problem(report).code == "proxy-env-conflict"
        assert facts[0] == Route(url, "$https_proxy")
        same, _ = look(TARGET, url, environ={"HTTPS_PROXY": url + "/"})
        assert same.problems == ()
        elsewhere, _ = look(
            TARGET, url, environ={"http_proxy": "http://a:1", "HTTP_PROXY": "http://b"}
        )
        assert elsewhere.problems == ()
        lists = {"no_proxy": "x", "NO_PROXY": HOST}
        report, _ = look(TARGET, url, environ=lists)
        assert problem(report).code == "proxy-env-conflict"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("http://10.77.1.1:31x8", "port is no number"),
        ("http://127.0.0.1:70000", "port is no number"),
        ("http://proxy.example.com:3128 ", "blank"),
        ('"http://proxy.example.com:3128"', "quotes"),
        ("$CORPORATE_PROXY", "nobody expanded"),
        ("http//proxy.example.com:3128", "colon of its scheme"),
        ("http:proxy.example.com:3128", "not followed by ://"),
        ("ftp://proxy.example.com:3128", "scheme is none of"),
        ("http://:3128", "names no host"),
        ("http://a:1,http://b:2", "more than one"),
        ("http://proxy.example.com/wpad.dat", "script (PAC)"),
        ("http://user:pa#ssword1@proxy.example.com:3128", "# as %23"),
        ("http://user:pa@ssword1@proxy.example.com:3128", "@ as %40"),
    ],
)
def test_a_malformed_url(value: str, reason: str) -> None:
    report, facts = look(TARGET, value)
    found = problem(report)
    assert found.code == "proxy-url-invalid"
    assert found.evidence["source"] == "$https_proxy"
    assert reason in found.message
    assert facts == []
    assert "ssword1" not in json.dumps(report.to_json())


# reaching it


def test_a_proxy_that_does_not_resolve() -> None:
    report, facts = look(TARGET, "http://proxy.invalid:3128")
    assert problem(report).code == "proxy-dns-failure"
    assert facts == []


def test_a_closed_port() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        report, _ = look(TARGET, f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert problem(report).code == "proxy-refused"


def test_a_proxy_that_answers_no_packet() -> None:
    with black_hole() as port:
        report, _ = look(TARGET, f"http://127.0.0.1:{port}", timeout=0.4)
    assert problem(report).code == "proxy-filtered"


# what it answers

VIA = "Via: 1.1 proxy.example.com"
NGINX = "Server: nginx"
ANSWERS = [
    (
        http("407 Proxy Authentication Required", "", 'Proxy-Authenticate: Basic realm="p"'),
        "auth-required",
    ),
    (
        http("407 x", "", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"),
        "auth-required",
    ),
    (squid("403 Forbidden", "ERR_ACCESS_DENIED 0"), "denied"),
    (http("403 Forbidden"), "denied"),
    (page("403 Forbidden", "Access denied", "Category: unknown", VIA), "denied"),
    (http("405 Method Not Allowed", "", VIA), "denied"),
    (http("502 Bad Gateway", "", "Proxy-Status: p; error=http_request_denied"), "denied"),
    (squid("503 Service Unavailable", "ERR_DNS_FAIL 0"), "upstream-dns-failure"),
    (http("502 Bad Gateway", "lookup bb on 10.0.0.1:53: no such host"), "upstream-dns-failure"),
    (page("502 Bad Gateway", "x", "DNS lookup failure for: bb"), "upstream-dns-failure"),
    (http("502 Bad Gateway", "", "Proxy-Status: p; error=dns_error"), "upstream-dns-failure"),
    (page("404 Not Found", "No such domain", "", VIA), "upstream-dns-failure"),
    (squid("503 Service Unavailable", "ERR_CONNECT_FAIL 111"), "upstream-refused"),
    (squid("503 Service Unavailable", "ERR_CONNECT_FAIL 61"), "upstream-refused"),
    (http("502 Bad Gateway", "connect ECONNREFUSED 10.0.0.7:443"), "upstream-refused"),
    (
        http("502 Bad Gateway", "", 'Proxy-Status: p; error="connection_refused"'),
        "upstream-refused",
    ),
    (squid("503 Service Unavailable", "ERR_CONNECT_FAIL 110"), "upstream-timeout"),
    (squid("503 Service Unavailable", "ERR_CONNECT_FAIL 113"), "upstream-timeout"),
    (http("504 Gateway Timeout"), "upstream-timeout"),
    (http("503 Service Unavailable", "dial tcp 10.0.0.7:443: i/o timeout"), "upstream-timeout"),
    (http("501 Not Implemented"), "not-a-proxy"),
    (page("405 Not Allowed", "405 Not Allowed", "", NGINX), "not-a-proxy"),
    (page("400 Bad Request", "400 Bad Request", "", NGINX), "not-a-proxy"),
    (page("404 Not Found", "Not Found", "", "Server: Apache"), "not-a-proxy"),
    (http("302 Found", "", "Location: https://intranet.example.com/"), "not-a-proxy"),
    (page("200 OK", "Welcome to nginx!", "", NGINX), "not-a-proxy"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "not-a-proxy"),
    (http("401 Unauthorized", "", "Server: tinyproxy/1.11.1"), "auth-required"),
    (page("500 Unable to connect", "x", "", "Server: tinyproxy/1.11.1"), "upstream-dns-failure"),
]
UNCLEAR = [
    http("503 Service Unavailable"),
    http("502 Bad Gateway", "", VIA),
    http("400 Bad Request"),
    http("500 Internal Server Error", "DNS error or connection timed out"),  # it names several
    page("403 Forbidden", "403 Forbidden", "", NGINX),  # a web server, or nginx as a proxy
    squid("503 Service Unavailable", "ERR_CONNECT_FAIL 0"),
    squid("500 Internal Server Error", "ERR_SOMETHING_NEW 0"),
]


@pytest.mark.parametrize(("answer", "code"), ANSWERS)
def test_the_answer_to_connect_is_understood(
    answer: bytes, code: str, proxies: Callable[[Talk], ProxyServer]
) -> None:
    server = proxies(answering(answer))
    report, facts = look(TARGET, f"http://{server.address}", timeout=1.0)
    assert problem(report).code == f"proxy-{code}"
    assert server.asked[0] == f"CONNECT {HOST}:443"
    assert facts == []


@pytest.mark.parametrize("answer", UNCLEAR)
def test_an_answer_that_proves_nothing_is_no_failure(
    answer: bytes, proxies: Callable[[Talk], ProxyServer]
) -> None:
    report, _ = look(TARGET, f"http://{proxies(answering(answer)).address}")
    assert problem(report).code == "proxy-unclear"
    assert report.verdict == "unknown"


def test_the_words_of_the_proxy_are_kept(proxies: Callable[[Talk], ProxyServer]) -> None:
    challenge = 'Proxy-Authenticate: Negotiate, NTLM, Basic realm="a, b=c", charset="UTF-8"'
    report, _ = look(
        TARGET, f"http://{proxies(answering(http('407 Login', '', challenge))).address}"
    )
    found = problem(report)
    assert found.evidence["schemes"] == ["Negotiate", "NTLM", "Basic"]
    assert "Negotiate, NTLM, Basic" in found.message
    assert found.evidence["reason"] == "Login"


def test_no_answer_to_connect(proxies: Callable[[Talk], ProxyServer]) -> None:
    report, _ = look(TARGET, f"http://{proxies(silent_to_connect).address}", timeout=0.9)
    found = problem(report)
    assert found.code == "proxy-upstream-timeout"
    assert "other requests are answered at once" in found.message


def test_no_answer_to_anything_is_not_blamed_on_the_target(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    server = proxies(lambda connection, _server: connection.wait())
    report, _ = look(TARGET, f"http://{server.address}", timeout=0.9)
    assert problem(report).code == "proxy-unclear"


def test_a_proxy_that_hangs_up(proxies: Callable[[Talk], ProxyServer]) -> None:
    report, _ = look(TARGET, f"http://{proxies(lambda _connection, _server: None).address}")
    assert problem(report).code == "proxy-unclear"


# the login


def test_a_login_is_sent_once_and_shown_nowhere(proxies: Callable[[Talk], ProxyServer]) -> None:
    server = proxies(passing({}, login="user:s3cret/pass"))
    report, _ = look(TARGET, f"http://user:s3cret%2Fwrong@{server.address}")
    found = problem(report)
    assert found.code == "proxy-auth-rejected"
    assert server.logins == ["Basic dXNlcjpzM2NyZXQvd3Jvbmc="]
    text = json.dumps(report.to_json())
    for spelling in ("s3cret/wrong", "s3cret%2Fwrong", "dXNlcjpzM2NyZXQvd3Jvbmc"):
        assert spelling not in text


def test_tinyproxy_refuses_a_login_in_words_of_its_own(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    server = proxies(answering(http("401 Unauthorized", "", "Server: tinyproxy/1.11.1")))
    report, _ = look(TARGET, f"http://user:wrong@{server.address}")
    assert problem(report).code == "proxy-auth-rejected"


def test_a_web_server_without_a_name(proxies: Callable[[Talk], ProxyServer]) -> None:
    """It says 404 to whatever it is asked; a proxy would not say it to a request for itself."""
    server = proxies(answering(http("404 Not Found"), otherwise=http("404 Not Found")))
    report, _ = look(TARGET, f"http://{server.address}", timeout=1.0)
    assert problem(report).code == "proxy-not-a-proxy"
    server = proxies(answering(http("404 Not Found")))
    report, _ = look(TARGET, f"http://{server.address}", timeout=1.0)
    assert problem(report).code == "proxy-unclear"


def test_tinyproxy_is_refused_as_we_are(proxies: Callable[[Talk], ProxyServer]) -> None:
    server = proxies(answering(page("500 Unable to connect", "x", "", "Server: tinyproxy/1.11.1")))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = at("https", "127.0.0.1", closed.getsockname()[1])
        report, _ = look(target, f"http://{server.address}")
    found = problem(report)
    assert found.code == "proxy-upstream-refused"
    assert "from here the connection is refused as well" in found.evidence["why"]  # type: ignore[operator]


def test_a_login_that_the_proxy_cannot_take(proxies: Callable[[Talk], ProxyServer]) -> None:
    challenge = "Proxy-Authenticate: NTLM"
    server = proxies(answering(http("407 x", "", challenge)))
    report, _ = look(TARGET, f"http://user:secret@{server.address}")
    found = problem(report)
    assert found.code == "proxy-auth-required"
    assert "Basic" in found.message


def test_the_option_with_a_password_is_not_shown_either(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    server = proxies(answering(squid("403 Forbidden", "ERR_ACCESS_DENIED 0")))
    url = f"http://user:s3cret@{server.address}"
    report, _ = run_check("proxy", [TARGET], url=TARGET.text, proxy=url)
    assert problem(report).code == "proxy-denied"
    assert "s3cret" not in json.dumps(report.to_json())


# the wrong language


def test_https_for_a_proxy_without_tls(proxies: Callable[[Talk], ProxyServer]) -> None:
    server = proxies(answering(http("200 OK")))
    report, _ = look(TARGET, f"https://user:s3cret@{server.address}", timeout=0.9)
    found = problem(report)
    assert found.code == "proxy-scheme-mismatch"
    assert found.evidence["right"] == "http"
    assert server.logins.count(None) == len(server.logins)


def test_http_for_a_proxy_with_tls(
    proxies: Callable[[Talk], ProxyServer], proxy_tls: ssl.SSLContext
) -> None:
    server = proxies(within_tls(proxy_tls, passing({})))
    report, _ = look(TARGET, f"http://{server.address}")
    found = problem(report)
    assert found.code == "proxy-scheme-mismatch"
    assert found.evidence["right"] == "https"


def test_an_https_proxy_whose_certificate_is_not_trusted(
    proxies: Callable[[Talk], ProxyServer], proxy_tls: ssl.SSLContext
) -> None:
    server = proxies(within_tls(proxy_tls, passing({})))
    report, _ = look(TARGET, f"https://user:s3cret@{server.address}")
    assert problem(report).code == "proxy-tls-failed"
    assert server.requests == []


def test_http_for_a_socks_proxy(proxies: Callable[[Talk], ProxyServer]) -> None:
    report, _ = look(TARGET, f"http://{proxies(Socks()).address}")
    found = problem(report)
    assert found.code == "proxy-protocol-mismatch"
    assert found.evidence["right"] == "socks5h"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_socks_for_an_http_proxy(scheme: str, proxies: Callable[[Talk], ProxyServer]) -> None:
    server = proxies(answering(http("200 OK")))
    target = Target("https://127.0.0.1", "https", "127.0.0.1", 443)
    report, _ = look(target, f"{scheme}://{server.address}", timeout=0.9)
    found = problem(report)
    assert found.code == "proxy-protocol-mismatch"
    assert found.evidence["right"] == "http"


# SOCKS5


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (Socks(reply=2), "proxy-denied"),
        (Socks(reply=5), "proxy-upstream-refused"),
        (Socks(reply=6), "proxy-upstream-timeout"),
        (Socks(reply=1), "proxy-unclear"),
        (Socks(reply=4), "proxy-unclear"),
        (Socks(silent=True), "proxy-upstream-timeout"),
        (Socks(login="user:right"), "proxy-auth-rejected"),
    ],
)
def test_what_a_socks_proxy_answers(
    talk: Socks, code: str, proxies: Callable[[Talk], ProxyServer]
) -> None:
    server = proxies(talk)
    report, _ = look(TARGET, f"socks5h://user:wrong@{server.address}", timeout=0.9)
    assert problem(report).code == code


def test_a_socks_proxy_that_wants_a_login(proxies: Callable[[Talk], ProxyServer]) -> None:
    report, _ = look(TARGET, f"socks5h://{proxies(Socks(login='a:b')).address}")
    assert problem(report).code == "proxy-auth-required"


def test_socks5_resolves_here_and_says_so(proxies: Callable[[Talk], ProxyServer]) -> None:
    report, _ = look(TARGET, f"socks5://{proxies(Socks()).address}")
    found = problem(report)
    assert found.code == "proxy-unclear"
    assert "socks5h:// leaves it to the proxy" in found.message


def test_socks4_is_not_spoken_here() -> None:
    report, _ = look(TARGET, "socks4://127.0.0.1:1080")
    assert problem(report).code == "proxy-unclear"


# http:// URLs go to the proxy whole


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (squid("403 Forbidden", "ERR_ACCESS_DENIED 0"), "block-page"),
        (
            page(
                "403 Forbidden", "Blocked", "Access to this site is blocked. Category: games", VIA
            ),
            "block-page",
        ),
        (
            page("200 OK", "Web Page Blocked", "The URL category is not allowed: blocked."),
            "block-page",
        ),
        (http("403 Forbidden", "", "Server: Zscaler/6.2"), "denied"),
        (squid("503 Service Unavailable", "ERR_DNS_FAIL 0"), "upstream-dns-failure"),
        (http("502 Bad Gateway", f"lookup {HOST}: no such host"), "upstream-dns-failure"),
        (squid("503 Service Unavailable", "ERR_CONNECT_FAIL 111"), "upstream-refused"),
        (squid("504 Gateway Timeout", "ERR_CONNECT_FAIL 110"), "upstream-timeout"),
        (http("407 x", "", "Proxy-Authenticate: Basic"), "auth-required"),
    ],
)
def test_the_answer_to_a_whole_request_is_understood(
    answer: bytes, code: str, proxies: Callable[[Talk], ProxyServer]
) -> None:
    server = proxies(answering(answer))
    report, facts = look(PLAIN, f"http://{server.address}")
    assert problem(report).code == f"proxy-{code}"
    assert server.asked[0] == f"GET http://{HOST}/status"
    assert report.run.requests == 1
    assert facts == []


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", '{"state":"RUNNING"}', "X-AREQUESTID: x", VIA),
        page(
            "503 Service Unavailable", "Bitbucket is down", "DNS lookup failure for: backend", VIA
        ),
        page("502 Bad Gateway", "502 Bad Gateway", "", NGINX, VIA),
        page("403 Forbidden", "Access Denied", "Your request was blocked.", VIA),
        page("404 Not Found", "404", "", NGINX),
    ],
)
def test_what_may_come_from_beyond_the_proxy_is_left_to_others(
    answer: bytes, proxies: Callable[[Talk], ProxyServer]
) -> None:
    server = proxies(answering(answer))
    report, facts = look(PLAIN, f"http://{server.address}")
    assert report.problems == ()
    assert [type(fact) for fact in facts] == [Route, Channel]


def test_a_web_server_that_takes_whole_requests_for_its_own(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    welcome = page("404 Not Found", "404 Not Found", "", NGINX)
    server = proxies(answering(welcome, otherwise=page("200 OK", "Welcome to nginx!", "", NGINX)))
    report, _ = look(PLAIN, f"http://{server.address}")
    assert problem(report).code == "proxy-not-a-proxy"


# the whole run


SITE = "bitbucket.example.com"


def run_all(site: Simulator, proxy: str, diagnose: Callable[..., Report], **options: Any) -> Report:
    """Diagnose the simulated Bitbucket with all checks, through the proxy alone: no rule leads to
    it, and its name is not looked up."""
    scenario = site.scenario
    options = {"ca_file": scenario.ca_file, **options}
    environ = {"http_proxy": proxy, "https_proxy": proxy, **options.pop("environ", {})}
    return diagnose(
        scenario.url, token=scenario.token, repo=scenario.repo, environ=environ, **options
    )


def assert_healthy(report: Report, site: Simulator, *expected: str) -> None:
    assert [found.code for found in report.problems] == [*expected]
    assert {result(report, check).status for check in ("proxy", "http", "repos")} == {"ok"}
    assert len(site.requests) == report.run.requests <= 12


@pytest.mark.parametrize("kind", ["http", "http with a login", "socks5h", "https"])
def test_a_healthy_bitbucket_behind_a_proxy(
    kind: str,
    proxies: Callable[[Talk], ProxyServer],
    proxy_tls: ssl.SSLContext,
    proxy_root: Identity,
    diagnose: Callable[..., Report],
    tmp_path: Path,
) -> None:
    with Simulator() as site:
        routes = {f"{SITE}:443": site.port}
        ca_file = tmp_path / "roots.pem"
        ca_file.write_text(site.ca_pem + proxy_root.pem.decode())
        kinds: dict[str, tuple[Talk, str]] = {
            "http": (passing(routes), "http://{}"),
            "http with a login": (passing(routes, "me:my%20own"), "http://me:my%2520own@{}"),
            "socks5h": (Socks(routes, login="me:own"), "socks5h://me:own@{}"),
            "https": (within_tls(proxy_tls, passing(routes)), "https://{}"),
        }
        talk, url = kinds[kind]
        server = proxies(talk)
        report = run_all(site, url.format(server.address), diagnose, ca_file=str(ca_file))
        assert_healthy(report, site)
        assert result(report, "dns").status == "skip"
        assert all(request.secure for request in site.requests)
        assert set(server.asked) == {f"{'SOCKS' if kind == 'socks5h' else 'CONNECT'} {SITE}:443"}


def test_a_healthy_bitbucket_on_http_behind_a_proxy(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator(tls=False) as site:
        server = proxies(passing({f"{SITE}:80": site.port}, "me:own"))
        report = run_all(site, f"http://me:own@{server.address}", diagnose)
        assert_healthy(report, site, "auth-token-in-cleartext")
        assert all(asked.startswith(f"GET http://{SITE}/") for asked in server.asked)
        assert None not in server.logins


def test_a_login_that_is_refused_halfway_is_not_sent_on(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator(tls=False) as site:
        server = proxies(passing({f"{SITE}:80": site.port}, "me:own", broken_after=1))
        run_all(site, f"http://me:own@{server.address}", diagnose)
        assert len(site.requests) == 1
        assert server.logins[0] is not None
        assert server.logins[-1] is None


def test_a_tunnel_to_the_address_of_a_rule(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    """As curl does: with --connect-to the proxy is asked for the address of the rule."""
    with Simulator() as site:
        place = f"127.0.0.1:{site.port}"
        server = proxies(passing({place: site.port}))
        rules = (f"{SITE}:443:{place}",)
        report = run_all(site, f"http://{server.address}", diagnose, connect_to=rules)
        assert_healthy(report, site)
        assert set(server.asked) == {f"CONNECT {place}"}


# past the proxy, or not


def test_the_proxy_fails_but_directly_it_works(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator() as site:
        server = proxies(answering(squid("503 Service Unavailable", "ERR_CONNECT_FAIL 110")))
        report = run_all(
            site,
            f"http://{server.address}",
            diagnose,
            connect_to=site.scenario.connect_to,
        )
        found = problem(report)
        assert found.code == "proxy-bypass-missing"
        assert "its certificate is good" in found.message
        assert site.requests == []
        assert codes(report)[:2] == ["proxy-upstream-timeout", "proxy-bypass-missing"]


def test_an_entry_that_was_meant_to_help_is_named(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    server = proxies(answering(http("403 Forbidden")))
    with Simulator() as site:
        target = Target(site.scenario.url, "https", SITE, 443)
        report, _ = look(
            target,
            f"http://{server.address}",
            environ={"no_proxy": "localhost,*.example.com"},
            connect_to=site.scenario.connect_to,
        )
    found = problem(report)
    assert found.code == "proxy-bypass-missing"
    assert "*.example.com" in found.remedy


def test_who_accepts_every_connection_proves_nothing(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    mute = proxies(lambda connection, _server: connection.swallow())
    server = proxies(answering(http("403 Forbidden")))
    rule = f"{HOST}:443:{mute.address}"
    report, _ = look(TARGET, f"http://{server.address}", connect_to=(rule,), timeout=0.5)
    assert problem(report).code == "proxy-denied"


def test_no_proxy_covers_what_only_the_proxy_reaches(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator(tls=False) as site:
        server = proxies(passing({f"{HOST}:80": site.port}))
        environ = {"http_proxy": f"http://{server.address}", "NO_PROXY": "localhost,.invalid"}
        report = diagnose(f"http://{HOST}", environ=environ)
        assert report.root_cause == "proxy-bypass-wrong"
        found = problem(report)
        assert "'.invalid' in $NO_PROXY" in found.message
        assert "dns-nxdomain" in codes(report, "dns") or codes(report, "dns") != []


def test_no_proxy_is_not_blamed_where_the_proxy_does_not_get_there_either(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    server = proxies(passing({}))
    environ = {"https_proxy": f"http://{server.address}", "no_proxy": "*"}
    report = diagnose(f"https://{HOST}", environ=environ)
    assert codes(report, "proxy-bypass") == ["proxy-bypass-useless"]
    assert report.root_cause is not None
    assert report.root_cause.startswith("dns-")


def test_no_proxy_is_right(
    proxies: Callable[[Talk], ProxyServer], run_demo: Callable[..., Report]
) -> None:
    environ = {"https_proxy": "http://127.0.0.1:9", "no_proxy": "example.com"}
    report = run_demo(options={"environ": environ})
    assert codes(report, "proxy-bypass") == ["proxy-bypass-ok"]
    assert report.problems == ()


# what if


def what_if(found: Problem) -> list[dict[str, Any]]:
    """The trials in the evidence."""
    trials: Any = found.evidence["what_if"]
    return list(trials)


def test_a_dead_proxy_and_what_would_work(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    """The other proxy of the environment is tried with its login, Bitbucket without the secret."""
    with Simulator() as site:
        place = site.scenario.connect_to[0].split(":", 2)[2]
        server = proxies(passing({place: site.port}, "me:S3cretive"))
        report = run_all(
            site,
            "http://127.0.0.1:9",
            diagnose,
            connect_to=site.scenario.connect_to,
            environ={"all_proxy": f"http://me:S3cretive@{server.address}"},
        )
        found = problem(report)
        assert found.code == "proxy-refused"
        assert what_if(found) == [
            {"with": "--proxy none", "next_layer": "tls", "passes": True},
            {"with": f"--proxy http://{server.address}", "next_layer": "tls", "passes": True},
        ]
        assert "With --proxy none the next layer passes" in found.remedy
        assert f"with --proxy http://{server.address} the next layer passes" in found.remedy
        assert site.requests == []
        assert "S3cretive" not in json.dumps(report.to_json())


def test_what_if_is_silent_where_nothing_helps() -> None:
    report, _ = look(TARGET, "http://127.0.0.1:9", environ={"all_proxy": "http://127.0.0.1:10"})
    found = problem(report)
    assert what_if(found) == [
        {"with": "--proxy none", "next_layer": "tls", "passes": False},
        {"with": "--proxy http://127.0.0.1:10", "next_layer": "tls", "passes": False},
    ]
    assert "next layer" not in found.remedy


def test_a_run_that_is_nearly_over_still_ends_with_its_verdict() -> None:
    with black_hole() as port:
        report, _ = look(TARGET, f"http://127.0.0.1:{port}", timeout=0.9, deadline=1.2)
    found = problem(report)
    assert found.code == "proxy-filtered"
    assert what_if(found) == []


def test_a_refusal_by_policy_is_no_fault_of_no_proxy(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator() as site:
        server = proxies(answering(squid("403 Forbidden", "ERR_ACCESS_DENIED 0")))
        rules = site.scenario.connect_to
        report = run_all(site, f"http://{server.address}", diagnose, connect_to=rules)
        found = problem(report)
        assert found.code == "proxy-denied"
        assert "if that is allowed" in found.remedy


@pytest.mark.parametrize("scheme", ["https", "socks5h"])
def test_the_scheme_that_would_work_is_tried_without_the_login(
    scheme: str, proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator() as site:
        server = proxies(passing({f"{SITE}:443": site.port}))
        url = f"{scheme}://me:secretive@{server.address}"
        found = problem(run_all(site, url, diagnose, timeout=1.5))
        assert found.code.endswith("-mismatch")
        assert f"With --proxy http://{server.address} the next layer passes" in found.remedy
        assert set(server.logins) == {None}


def test_an_explicit_proxy_that_fails_and_the_environment_s(
    proxies: Callable[[Talk], ProxyServer],
) -> None:
    with Simulator() as site:
        server = proxies(passing({f"{HOST}:443": site.port}))
        report, _ = look(TARGET, f"http://{server.address}", proxy="http://127.0.0.1:9")
        passing_way = {"with": f"--proxy http://{server.address}", "next_layer": "tls"}
        assert {**passing_way, "passes": True} in what_if(problem(report))


def test_the_direct_way_fails_and_a_proxy_is_known_to_git_alone(
    proxies: Callable[[Talk], ProxyServer], tmp_path: Path, diagnose: Callable[..., Report]
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    with Simulator(tls=False) as site:
        server = proxies(passing({f"{HOST}:80": site.port}))
        proxy = f"http://{server.address}"
        (tmp_path / ".gitconfig").write_text(f"[http]\n\tproxy = {proxy}\n")
        environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
        report = diagnose(f"http://{HOST}", environ=environ)
        assert (report.root_cause or "").startswith("dns-")
        found = report.problems[-1]
        assert (found.code, found.status) == ("proxy-would-help", "warn")
        assert f"with --proxy {proxy} (git config http.proxy) the next layer passes" in (
            found.message
        )
        assert f"HTTP_PROXY={proxy}" in found.remedy
        assert what_if(found) == [
            {"with": f"--proxy {proxy}", "next_layer": "http", "passes": True}
        ]
        assert [request.authorization for request in site.requests] == ["none"]


def test_the_direct_way_works_and_nothing_else_is_tried(
    proxies: Callable[[Talk], ProxyServer], run_demo: Callable[..., Report]
) -> None:
    server = proxies(passing({}))
    environ = {"http_proxy": f"http://{server.address}"}
    report = run_demo(options={"environ": environ})
    assert report.problems == ()
    assert server.connections == 0
    assert codes(report, "proxy-bypass") == ["proxy-bypass-not-needed"]


def test_without_a_proxy_that_is_asked_for_those_of_the_environment_are_tried(
    proxies: Callable[[Talk], ProxyServer], diagnose: Callable[..., Report]
) -> None:
    with Simulator(tls=False) as site:
        server = proxies(passing({f"{HOST}:80": site.port}))
        environ = {"http_proxy": f"http://{server.address}"}
        report = diagnose(f"http://{HOST}", environ=environ, proxy="none")
        assert report.problems[-1].code == "proxy-would-help"


# the real squid


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    names = ("refused.invalid", "silent.invalid", "secured.invalid", SITE)
    with running_squid(dict.fromkeys(names, "127.0.0.1")) as address:
        yield address


def at(scheme: str, host: str, port: int) -> Target:
    assert scheme in ("http", "https")
    return Target(f"{scheme}://{host}:{port}", scheme, host, port, port_given=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_squid_asks_for_a_login(scheme: str, real: str) -> None:
    target = at(scheme, "secured.invalid", 443)
    report, _ = look(target, f"http://{real}")
    assert problem(report).code == "proxy-auth-required"
    assert problem(report).evidence["schemes"] == ["Basic"]
    report, _ = look(target, f"http://user:wrong@{real}")
    assert problem(report).code == "proxy-auth-rejected"


def test_squid_accepts_the_right_login(real: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        target = at("https", "secured.invalid", web.getsockname()[1])
        report, facts = look(target, f"http://user:right@{real}")
    assert report.problems == ()
    assert facts[0] == Route(f"http://{real}", "$https_proxy")
    assert isinstance(facts[1], Channel)
    assert facts[1].address == f"proxy http://{real}"


@pytest.mark.parametrize(("scheme", "code"), [("https", "denied"), ("http", "block-page")])
def test_squid_denies(scheme: str, code: str, real: str) -> None:
    report, _ = look(at(scheme, "denied.invalid", 443), f"http://{real}")
    assert problem(report).code == f"proxy-{code}"
    assert "ERR_ACCESS_DENIED" in problem(report).message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_squid_cannot_resolve(scheme: str, real: str) -> None:
    """Squid 5 says ERR_CANNOT_FORWARD or ERR_READ_ERROR here: it takes a closer look."""
    report, _ = look(at(scheme, "unknown.invalid", 443), f"http://{real}", timeout=3.0)
    assert problem(report).code == "proxy-upstream-dns-failure"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_squid_is_refused(scheme: str, real: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = at(scheme, "refused.invalid", closed.getsockname()[1])
        report, _ = look(target, f"http://{real}")
    assert problem(report).code == "proxy-upstream-refused"


@pytest.mark.parametrize(("timeout", "why"), [(3.0, "timed out"), (0.6, "answered at once")])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_squid_gets_no_answer(scheme: str, timeout: float, why: str, real: str) -> None:
    """Whether squid gives up first, or we do."""
    with black_hole() as port:
        target = at(scheme, "silent.invalid", port)
        report, _ = look(target, f"http://{real}", timeout=timeout)
    found = problem(report)
    assert found.code == "proxy-upstream-timeout"
    assert why in found.message


def test_squid_speaks_neither_tls_nor_socks(real: str) -> None:
    report, _ = look(TARGET, f"https://{real}", timeout=1.5)
    assert problem(report).code == "proxy-scheme-mismatch"
    report, _ = look(TARGET, f"socks5h://{real}", timeout=1.5)
    assert problem(report).code == "proxy-protocol-mismatch"


@pytest.mark.parametrize("tls", [True, False])
def test_a_healthy_bitbucket_behind_squid(
    tls: bool, real: str, diagnose: Callable[..., Report]
) -> None:
    with Simulator(tls=tls) as site:
        scheme = "https" if tls else "http"
        report = diagnose(
            f"{scheme}://{SITE}:{site.port}",
            token=site.scenario.token,
            environ={f"{scheme}_proxy": f"http://{real}"},
            ca_file=site.scenario.ca_file,
        )
        expected = {"base-url-port-mismatch", "auth-token-in-cleartext"}  # as it is set up here
        assert {found.code for found in report.problems} <= expected
        assert result(report, "repos").status == "ok"
        assert len(site.requests) == report.run.requests


# fixtures


@pytest.fixture(scope="module")
def proxy_root() -> Identity:
    return make_root("Proxy Root CA")


@pytest.fixture(scope="module")
def proxy_tls(proxy_root: Identity) -> ssl.SSLContext:
    return server_context(proxy_root.issue("127.0.0.1"))
