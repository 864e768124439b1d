"""Check `cloud-hosts`: which of the three hosts of Bitbucket Cloud can be reached."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from diag.api import Fact, Route, Target
from diag.model import Status
from diag.report import Report
from diag.simulator import Simulator
from diag.simulator.cloud_data import ALTSSH, API, SITE
from diag.simulator.scenario import Setup
from diag.simulator.server import Request, Response
from tests.checks.cloud import ask
from tests.checks.conftest import Meet
from tests.given import result, run_check

TARGET = Target("https://bitbucket.org/t/app", "https", API, 443, kind="cloud")


def leading(**routes: int) -> Callable[[Setup], None]:
    """Bitbucket Cloud with some of its hosts elsewhere; 0: where nothing listens."""
    places = {"api": f"{API}:443", "site": f"{SITE}:443", "ssh": f"{SITE}:22"}

    def change(setup: Setup) -> None:
        for name, port in routes.items():
            setup.routes[places[name]] = port or setup.closed_port

    return change


@pytest.fixture
def hangs_up() -> Iterator[int]:
    """The port of a server that closes whatever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_all_of_them(meet: Meet) -> None:
    met = ask(meet)
    assert met.codes("cloud-hosts") == ["cloud-hosts-ok", "cloud-ssh-ok", "cloud-ssh-ok"]
    told = [finding.message for finding in met.check("cloud-hosts").findings]
    assert f"{SITE}, port 22" in told[1]
    assert f"{ALTSSH}, port 443" in told[2]


class TestTheApiAlone:
    """The website works, and the host for programs does not."""

    def test_a_closed_port(self, meet: Meet) -> None:
        met = ask(meet, leading(api=0))
        assert met.problems == ["cloud-api-host-blocked"]
        assert met.problem("cloud-api-host-blocked").owner == "network-admin"
        because = met.check("cloud-auth").skipped_because
        assert because is not None
        assert because.code == "cloud-api-host-blocked"
        assert met.check("tcp").status is Status.SKIP

    def test_a_handshake_that_is_cut(self, meet: Meet, hangs_up: int) -> None:
        met = ask(meet, leading(api=hangs_up))
        assert met.problems == ["cloud-api-host-blocked"]
        assert "TLS fails" in met.problem("cloud-api-host-blocked").message

    def test_a_bad_certificate_is_no_block(self, meet: Meet) -> None:
        with Simulator("tls-interception", cloud=True) as other:
            met = ask(meet, leading(api=other.port))
        assert met.problems == ["tls-interception"]

    def test_a_name_that_does_not_resolve(self) -> None:
        report = run_alone(TARGET, Route())
        (problem,) = report.problems
        assert problem.code == "cloud-api-host-blocked"
        assert "DNS fails" in problem.message

    def test_a_proxy_has_words_of_its_own(self) -> None:
        report = run_alone(TARGET, Route("http://proxy.example.com:3128"))
        assert report.problems == ()


def run_alone(*facts: Fact, rules: tuple[str, ...] | None = None) -> Report:
    """The check without those before it, while the website can be reached."""
    with Simulator(cloud=True) as simulator:
        scenario = simulator.scenario
        to = scenario.connect_to if rules is None else rules
        report, _ = run_check("cloud-hosts", facts, connect_to=to, ca_file=scenario.ca_file)
    return report


def test_neither_the_api_nor_the_website(meet: Meet) -> None:
    met = ask(meet, leading(api=0, site=0, ssh=0))
    assert met.problems == ["tcp-refused"]
    assert met.codes("cloud-hosts") == ["cloud-hosts-neither"]


def test_the_website_alone(meet: Meet) -> None:
    met = ask(meet, leading(site=0))
    assert met.problems == ["cloud-website-unreachable"]
    assert met.report.verdict is Status.WARN
    assert met.codes("cloud-git") == ["cloud-git-not-reached"]


def test_what_a_rule_leads_elsewhere_is_not_looked_up() -> None:
    report = run_alone(
        TARGET, Route(), rules=(f"{SITE}:8443:127.0.0.1:1", f"{ALTSSH}:1:127.0.0.1:1")
    )
    assert result(report, "cloud-hosts").findings == ()


class TestSsh:
    """Port 22 is often closed where the web is open; then there is the other one."""

    def test_the_other_port_works(self, meet: Meet) -> None:
        met = ask(meet, "git-ssh-unreachable")
        assert met.problems == ["git-ssh-unreachable"]
        problem = met.problem("git-ssh-unreachable")
        assert f"ssh://git@{ALTSSH}:443/" in problem.remedy
        assert "port 22" in problem.message

    def test_neither_works(self, meet: Meet) -> None:
        met = ask(meet, "git-ssh-unreachable/both")
        assert met.problems == ["git-ssh-unreachable"]
        assert ALTSSH not in met.problem("git-ssh-unreachable").remedy
        assert "cloud-altssh-closed" in met.codes("cloud-hosts")


class TestThroughAProxy:
    """All hosts go through it; SSH does not, and is not tried."""

    @staticmethod
    def proxied(*denied: str) -> Callable[[Setup], None]:
        def policy(request: Request) -> Response | None:
            return Response(403) if request.target in denied else None

        def change(setup: Setup) -> None:
            setup.proxy = policy
            setup.routes = {}
            setup.environ = {"https_proxy": f"http://127.0.0.1:{setup.proxy_port}"}

        return change

    def test_all_of_them(self, meet: Meet) -> None:
        met = ask(meet, self.proxied())
        assert met.problems == []
        assert met.codes("cloud-hosts") == ["cloud-hosts-ok"]
        assert met.codes("cloud-git") == ["cloud-git-deduced"]

    def test_only_the_website(self, meet: Meet) -> None:
        """The proxy's own words say more."""
        met = ask(meet, self.proxied(f"{API}:443"))
        assert met.problems == ["proxy-denied"]

    def test_only_the_api(self, meet: Meet) -> None:
        met = ask(meet, self.proxied(f"{SITE}:443"))
        assert met.problems == ["cloud-website-unreachable"]
