"""Check `steady`: what flaps, at which address, and how often."""

from __future__ import annotations

import itertools
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from diag import registry, runner
from diag.bitbucket.turns import CONNECTS_MOST
from diag.check import Check
from diag.context import Context
from diag.facts import Addresses, Channel, Fact, Instance, Reply, Route, Target
from diag.net.steady import LARGE
from diag.simulator.server import wrap
from tests.certificates import root, self_signed, server_context
from tests.conftest import make_settings
from tests.dns_server import DnsServer
from tests.dns_server import addresses as a
from tests.lab import SERVER4, SERVER6, http_answer

if TYPE_CHECKING:
    from pathlib import Path

    from diag.report import FindingResult, Problem, Report
    from tests.lab import Lab

pytestmark = pytest.mark.lab

HOST = "bb.lab.test"
OTHER4 = "10.77.2.3"  # a second address of the lab's server
Try = Callable[..., "Report"]
Talk = Callable[[socket.socket], object]

UP = http_answer(200, json.dumps({"state": "RUNNING"}), Content_Type="application/json")
BAD = http_answer(502, "<html>", Server="nginx")


class Given(Check):
    """Gives what the checks before would have found out."""

    id = "given"
    title = "what the test wants is given"
    provides = (Target, Route, Addresses, Channel, Instance)
    url = ""
    addresses: tuple[str, ...] = ()
    works = True
    kind: Any = "datacenter"

    def run(self, ctx: Context) -> Iterator[Fact]:
        scheme: Any = self.url.partition(":")[0]
        yield Target(self.url, scheme, HOST, {"http": 80, "https": 443}[scheme], kind=self.kind)
        yield Route()
        yield Addresses(HOST, self.addresses)
        yield Channel(HOST, 80, self.addresses[0])
        if self.works:
            yield Instance(self.url, ("X-AREQUESTID",), status=Reply(content={"state": "RUNNING"}))


@pytest.fixture
def try_(tmp_path: Path) -> Try:
    """Run `steady` alone: `try_("10.0.0.1", repeat=20, works=False, url="https://…")`."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(root().pem)

    def run(
        *addresses: str,
        url: str = f"http://{HOST}",
        works: bool = True,
        kind: str = "datacenter",
        **options: Any,
    ) -> Report:
        facts = {"url": url, "works": works, "kind": kind, "addresses": addresses}
        given = type("Given", (Given,), facts)
        checks = [given, *filter(None, [registry.checks().get("steady")])]
        return runner.execute(make_settings(url, ca_file=str(ca_file), **options), checks)

    return run


def finding(report: Report) -> FindingResult:
    (check,) = (check for check in report.checks if check.id == "steady")
    (found,) = check.findings
    return found


def problem(report: Report) -> Problem:
    """The one problem of the report, readable as it must be."""
    assert len(report.problems) == 1, [(one.code, one.message) for one in report.problems]
    found = report.problems[0]
    text = found.message + found.remedy + "".join(found.reproduce)
    assert "{" not in re.sub(r"%\{\w+\}", "", text)
    return found


def by_turns(*talks: Talk) -> Talk:
    """One after the other, for those who say anything."""
    turn = itertools.cycle(talks)

    def talk(sock: socket.socket) -> None:
        if sock.recv(1, socket.MSG_PEEK):
            next(turn)(sock)

    return talk


def test_it_costs_nothing_unless_asked_for(lab: Lab, try_: Try) -> None:
    report = lab.call("client", try_, SERVER4, OTHER4)
    assert finding(report).code == "steady-not-asked"
    assert report.run.requests == 0


def test_nothing_flaps(lab: Lab, try_: Try) -> None:
    lab.serve("server", 80, UP)
    report = lab.call("client", try_, SERVER4, SERVER6, repeat=5)
    found = finding(report)
    assert (found.code, report.verdict) == ("steady-ok", "ok")
    assert "0 of 10 (0 %, 95 % interval 0–28 %)" in found.message
    assert report.run.requests == 12  # two of them with long headers


# the port


@pytest.mark.parametrize(
    ("rule", "code", "status", "tries"),
    [
        ("ct state new ct count over 2 reject with tcp reset", "tcp-connection-limited", "fail", 6),
        ("tcp flags syn numgen inc mod 5 == 0 drop", "tcp-lossy", "warn", 15),
        (
            "tcp flags syn numgen inc mod 3 == 0 reject with tcp reset",
            "tcp-intermittent",
            "warn",
            15,
        ),
    ],
)
def test_connections_that_do_not_always_come_up(
    lab: Lab, try_: Try, rule: str, code: str, status: str, tries: int
) -> None:
    lab.rules("server", "input", f"tcp dport 80 {rule}")
    lab.serve("server", 80, UP)
    found = problem(lab.call("client", try_, SERVER4, repeat=6))
    assert (found.code, found.status) == (code, status)
    count, of = found.evidence["count"], found.evidence["of"]
    assert isinstance(of, int)
    assert of in {tries, tries - 2}  # one by one, connects are tried until one is lost
    if code == "tcp-connection-limited":
        assert (found.evidence["allowed"], count) == (2, 4)
    else:
        assert f"{count} of {of} (" in found.message


# TLS


def test_a_machine_with_another_certificate_behind_one_address(lab: Lab, try_: Try) -> None:
    good, old = server_context(root().issue(HOST)), server_context(self_signed(HOST))

    def secured(context: ssl.SSLContext) -> Talk:
        def talk(sock: socket.socket) -> None:
            with wrap(context, sock) as peer:
                peer.do_handshake()
                UP(peer)

        return talk

    lab.serve("server", 443, by_turns(secured(good), secured(good), secured(old)))
    found = problem(lab.call("client", try_, SERVER4, url=f"https://{HOST}", repeat=9))
    assert found.code == "tls-unsteady"
    assert "self" in found.message
    assert found.evidence["certificates"] == 2
    assert found.evidence["of"] == 9
    assert f"{found.evidence['count']} of 9 (" in found.message


# HTTP


def test_one_backend_of_two_is_ill(lab: Lab, try_: Try) -> None:
    lab.serve("server", 80, by_turns(UP, BAD))
    found = problem(lab.call("client", try_, SERVER4, repeat=8))
    assert found.code == "http-intermittent"
    assert "4 of 8 (50 %, 95 % interval 22–78 %)" in found.message
    assert "HTTP 502 from nginx" in found.message


def test_a_backend_that_answers_503_is_no_limit(lab: Lab, try_: Try) -> None:
    lab.serve("server", 80, by_turns(UP, http_answer(503, "<html>", Server="nginx")))
    found = problem(lab.call("client", try_, SERVER4, repeat=8))
    assert found.code == "http-intermittent"
    assert "HTTP 503 from nginx" in found.message


def test_a_limit_of_requests(lab: Lab, try_: Try) -> None:
    last = [0.0]

    def limited(sock: socket.socket) -> None:
        now = time.monotonic()
        passes = now - last[0] > 0.3
        last[0] = now if passes else last[0]
        (UP if passes else http_answer(503, "<html>", Server="nginx"))(sock)

    lab.serve("server", 80, limited)
    found = problem(lab.call("client", try_, SERVER4, repeat=12))
    assert found.code == "http-gateway-rate-limited"
    assert f"503 to {found.evidence['count']} of 12 (" in found.message


def test_one_machine_that_is_starting(lab: Lab, try_: Try) -> None:
    starting = http_answer(503, json.dumps({"state": "STARTING"}), Content_Type="application/json")
    lab.serve("server", 80, by_turns(UP, UP, starting))
    found = problem(lab.call("client", try_, SERVER4, repeat=6))
    assert found.code == "http-intermittent"
    assert "HTTP 503, STARTING" in found.message


def test_what_is_always_wrong_does_not_flap(lab: Lab, try_: Try) -> None:
    lab.serve("server", 80, BAD)
    report = lab.call("client", try_, SERVER4, repeat=4, works=False)
    assert report.verdict == "ok"  # it is for other checks to tell
    assert "HTTP 502 from nginx" in finding(report).message


def test_bitbuckets_own_limit_is_of_our_making(lab: Lab, try_: Try) -> None:
    own = http_answer(429, "{}", X_AREQUESTID="@1VT0CNLx1x1x0")
    lab.serve("server", 80, by_turns(UP, own))
    assert lab.call("client", try_, SERVER4, repeat=6).verdict == "ok"


def test_no_client_connects_so_often_at_once(lab: Lab, try_: Try) -> None:
    """A limit beyond what clients need is a protection, and no fault."""
    lab.serve("server", 80, UP)
    limit = f"tcp dport 80 ct state new ct count over {CONNECTS_MOST} reject with tcp reset"
    lab.rules("server", "input", limit)
    found = finding(lab.call("client", try_, SERVER4, repeat=40))
    assert found.code == "steady-ok"


def test_no_time_for_a_try(lab: Lab, try_: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diag.bitbucket.turns.RESERVE", 25.0)  # more than there is
    lab.serve("server", 80, UP)
    report = lab.call("client", try_, SERVER4, repeat=100)
    assert finding(report).code == "steady-no-time"
    assert report.run.requests == 0


def test_large_packets_from_here_vanish(lab: Lab, try_: Try) -> None:
    lab.serve("server", 80, UP)
    lab.rules("router", "forward", "tcp dport 80 ip length > 1400 drop")
    found = problem(lab.call("client", try_, SERVER4, repeat=3, timeout=1.0))
    assert (found.code, found.owner) == ("tcp-pmtu-blackhole", "network-admin")
    assert "long headers" in found.message


def test_long_headers_that_are_not_wanted_prove_nothing(lab: Lab, try_: Try) -> None:
    def talk(sock: socket.socket) -> None:
        if len(sock.recv(65536)) < LARGE:
            sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"state":"RUNNING"}')
        time.sleep(1.0)

    lab.serve("server", 80, talk)
    assert lab.call("client", try_, SERVER4, repeat=2, timeout=0.6).verdict == "ok"


def test_bitbucket_cloud_is_not_asked_too_often(lab: Lab, try_: Try) -> None:
    asked: list[int] = []

    def talk(sock: socket.socket) -> None:
        asked.append(len(sock.recv(65536)))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    lab.serve("server", 80, talk)
    report = lab.call("client", try_, SERVER4, SERVER6, repeat=30, kind="cloud")
    assert finding(report).code == "steady-ok"
    assert sum(size > 0 for size in asked) <= 22


# the addresses against one another


@pytest.fixture
def two(lab: Lab) -> Lab:
    lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
    return lab


@pytest.mark.parametrize("repeat", [1, 4])
def test_one_of_two_addresses_is_ill(two: Lab, try_: Try, repeat: int) -> None:
    """After a failure without being asked for, one try each."""
    two.serve("server", 80, BAD, address=SERVER4)
    two.serve("server", 80, UP, address=OTHER4)
    report = two.call("client", try_, SERVER4, OTHER4, works=False, repeat=repeat)
    found = problem(report)
    assert (found.code, found.owner, found.status) == ("dns-partial-broken", "server-admin", "warn")
    assert f"{SERVER4} (HTTP 502 from nginx); at {OTHER4} all is well" in found.message
    assert repeat > 1 or report.run.requests == 2


def test_one_of_two_addresses_has_a_wrong_certificate(two: Lab, try_: Try) -> None:
    two.serve("server", 443, UP, address=SERVER4, tls=server_context(self_signed(HOST)))
    two.serve("server", 443, UP, address=OTHER4, tls=server_context(root().issue(HOST)))
    url = f"https://{HOST}"
    found = problem(two.call("client", try_, SERVER4, OTHER4, url=url, works=False))
    assert found.code == "dns-partial-broken"
    assert f"{SERVER4} (TLS: " in found.message


@pytest.mark.parametrize(("works", "repeat"), [(True, 4), (False, 1)])
def test_bitbuckets_own_limit_at_one_address_is_no_ill_machine(
    two: Lab, try_: Try, *, works: bool, repeat: int
) -> None:
    two.serve("server", 80, http_answer(429, "{}", X_AREQUESTID="@1VT0CNLx1x1x0"), address=SERVER4)
    two.serve("server", 80, UP, address=OTHER4)
    report = two.call("client", try_, SERVER4, OTHER4, works=works, repeat=repeat)
    assert (report.verdict, finding(report).code) == ("ok", "steady-same")


def test_all_addresses_are_alike(two: Lab, try_: Try) -> None:
    two.serve("server", 80, BAD)
    report = two.call("client", try_, SERVER4, OTHER4, works=False)
    assert (report.verdict, finding(report).code) == ("ok", "steady-same")


def test_an_address_that_cannot_be_connected_to_is_no_matter_of_this_check(
    two: Lab, try_: Try
) -> None:
    two.serve("server", 80, UP, address=OTHER4)
    report = two.call("client", try_, SERVER4, OTHER4, works=False)
    assert report.verdict == "ok"


# the hosts file, with the whole program


@pytest.mark.parametrize("meant", [False, True])
def test_a_hosts_line_that_leads_to_another_machine(
    two: Lab, tmp_path: Path, *, meant: bool
) -> None:
    """Unless the certificate there is for this host: then it may be a new server."""
    name = HOST if meant else "wiki.lab.test"
    two.serve("server", 443, UP, address=OTHER4, tls=server_context(self_signed(name)))
    two.serve("server", 443, UP, address=SERVER4, tls=server_context(root().issue(HOST)))
    two.hosts("client", {HOST: [OTHER4]})
    two.resolv_conf("client", f"nameserver {SERVER4}\n")
    server = two.call("server", DnsServer, {HOST: a(SERVER4)}, address=SERVER4, port=53)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(root().pem)
    with server:
        report = two.bbdiag("client", "check", f"https://{HOST}", "--ca-file", str(ca_file))
    assert report["root_cause"] == ("tls-self-signed" if meant else "dns-hosts-override")
