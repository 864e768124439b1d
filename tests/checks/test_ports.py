"""Check `ports`: is Bitbucket on another port of the host?"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from diag import registry, runner
from diag.check import Check
from diag.context import Context
from diag.facts import Addresses, Fact, Knocked, Target
from tests.conftest import make_settings
from tests.lab import SERVER4, SERVER6, http_answer

if TYPE_CHECKING:
    from diag.report import Report
    from tests.conftest import Diagnose
    from tests.lab import Lab

HOST = "bitbucket.example.com"
BITBUCKET = http_answer(
    200,
    '{"version":"9.4.0","buildNumber":"9004000","buildDate":"1","displayName":"Bitbucket"}',
    X_AREQUESTID="@1VT0CNLx453x5668x0",
    Content_Type="application/json",
)
ONLY = ("tcp", "ports")


def codes(report: Report) -> list[str]:
    return [one.code for one in report.problems]


def message(report: Report, code: str) -> str:
    return next(
        one.message for check in report.checks for one in check.findings if one.code == code
    )


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.mark.lab
@pytest.mark.parametrize("rule", ["drop", "reject with icmpx admin-prohibited", None])
def test_bitbucket_on_another_port_explains_the_failure(
    lab: Lab, diagnose: Diagnose, rule: str | None
) -> None:
    if rule:
        lab.rules("router", "forward", f"tcp dport 443 {rule}")
    lab.serve("server", 7990, BITBUCKET)
    report = lab.call("client", diagnose, f"https://{SERVER4}", only=ONLY)
    assert codes(report) == ["tcp-wrong-port"]
    [found] = report.problems
    assert (found.owner, found.evidence["found_port"]) == ("you", 7990)
    assert f"http://{SERVER4}:7990" in found.remedy
    assert report.run.requests == 1


@pytest.mark.lab
def test_the_context_path_and_ipv6_are_kept(lab: Lab, diagnose: Diagnose) -> None:
    lab.serve("server", 7990, BITBUCKET)
    report = lab.call("client", diagnose, f"https://[{SERVER6}]/bitbucket", only=ONLY)
    assert report.problems[0].evidence["found_url"] == f"http://[{SERVER6}]:7990/bitbucket"


@pytest.mark.lab
def test_http_typed_and_only_https_there(lab: Lab, diagnose: Diagnose) -> None:
    sim = lab.simulator("server")
    report = lab.call("client", diagnose, f"http://{SERVER4}", only=ONLY, token="s3cret-token-here")
    assert codes(report)[0] == "tcp-wrong-port"
    assert report.problems[0].evidence["found_url"] == f"https://{SERVER4}"
    assert {one.authorization for one in sim.requests} == {"none"}  # its certificate proves nothing


@pytest.mark.lab
def test_an_open_port_proves_nothing(lab: Lab, diagnose: Diagnose) -> None:
    lab.serve("server", 80, http_answer(200, "<html>It works</html>", Content_Type="text/html"))
    lab.serve("server", 7990)  # accepts and says nothing
    lab.serve("server", 7999)
    report = lab.call("client", diagnose, f"https://{SERVER4}", only=ONLY, timeout=0.8)
    assert codes(report) == ["tcp-refused"]
    seen = "80 open, 7990 open, 7999 open, 8443 refused"
    assert message(report, "ports-seen") == f"on {SERVER4}: {seen}"


@pytest.mark.lab
def test_what_was_seen_is_told_port_by_port(lab: Lab, diagnose: Diagnose) -> None:
    lab.rules(
        "router",
        "forward",
        "tcp dport { 443, 8443 } drop",
        "tcp dport 7990 reject with icmpx admin-prohibited",
        "tcp dport 7999 reject with icmpx host-unreachable",
    )
    report = lab.call("client", diagnose, f"https://{SERVER4}", only=ONLY)
    assert codes(report) == ["tcp-filtered"]
    assert message(report, "ports-seen").endswith(
        "80 refused, 7990 rejected, 7999 unreachable, 8443 no answer"
    )
    assert report.run.duration_ms < 6000


class Told(Check):
    """Gives what `input`, `dns` and `tcp` would have found at an address for documentation."""

    id = "told"
    title = "it was told"
    provides = (Target, Addresses, Knocked)

    def run(self, ctx: Context) -> Iterator[Fact]:
        yield Target(ctx.settings.url, "https", "192.0.2.1", 443)
        yield Addresses("192.0.2.1", ("192.0.2.1",), "literal")
        kinds = {80: "refused", 7990: "silent", 7999: "open", 8443: "host-unreachable"}
        yield Knocked(is_open=False, others={("192.0.2.1", n): kind for n, kind in kinds.items()})


def test_what_check_tcp_has_knocked_at_is_not_asked_again() -> None:
    ports = registry.checks().get("ports")
    assert ports is not None
    report = runner.execute(make_settings("https://192.0.2.1"), [Told, ports])
    seen = "80 refused, 7990 no answer, 7999 open, 8443 unreachable"
    assert message(report, "ports-seen") == f"on 192.0.2.1: {seen}"
    assert report.run.requests == 0


def test_not_needed_when_the_port_answers(diagnose: Diagnose) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        report = diagnose(url, only=ONLY)
    assert report.verdict == "ok"
    assert "accepts connections" in message(report, "ports-not-needed")


def test_with_connect_to_only_its_rules_are_tried(
    diagnose: Diagnose, closed_port: int, answering: Callable[[], int]
) -> None:
    rules = [f"{HOST}:443:127.0.0.1:{closed_port}"]
    report = diagnose(f"https://{HOST}", only=ONLY, connect_to=tuple(rules))
    assert codes(report) == ["tcp-refused"]
    assert message(report, "ports-not-probed")
    rules.append(f"{HOST}:8443:127.0.0.1:{answering()}")
    report = diagnose(f"https://{HOST}", only=ONLY, connect_to=tuple(rules))
    assert codes(report) == ["tcp-wrong-port"]
    assert report.problems[0].evidence["found_url"] == f"http://{HOST}:8443"


@pytest.fixture
def answering() -> Iterator[Callable[[], int]]:
    """Start a Bitbucket that answers one question after the other on loopback: its port."""
    import threading

    with ExitStack() as stack:

        def start() -> int:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work() -> None:
                while True:
                    try:
                        sock, _ = server.accept()
                    except OSError:
                        return
                    with sock:
                        try:
                            BITBUCKET(sock)
                        except OSError:
                            pass

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            return int(server.getsockname()[1])

        yield start
