"""Check `tcp`: every way in which a connection fails, brought about with real routers and rules."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, get_args

import pytest

from diag import registry, runner
from diag.check import Check
from diag.context import Context
from diag.facts import Addresses, Fact, Route, Target
from diag.net.doors import Kind
from tests.conftest import make_settings
from tests.lab import CLIENT4, ROUTER4, ROUTERS4, ROUTERS6, SERVER4, SERVER6, http_answer

if TYPE_CHECKING:
    from diag.report import Problem, Report
    from tests.lab import Lab

Try = Callable[..., "Report"]
HOST = "bitbucket.example.com"


class Given(Check):
    """Gives what `input` and `dns` would have found out: a host with the addresses of the test."""

    id = "given"
    title = "the addresses are given"
    provides = (Target, Route, Addresses)
    addresses: tuple[str, ...] = ()
    port = 443
    source = "system"

    def run(self, ctx: Context) -> Iterator[Fact]:
        yield Target(ctx.settings.url, "https", HOST, self.port)
        yield Route()
        yield Addresses(HOST, self.addresses, self.source)


@pytest.fixture
def try_() -> Try:
    """Run `tcp` and `ports` alone: `try_("10.0.0.1", "10.0.0.2", port=443, timeout=3)`."""

    def run(*addresses: str, port: int = 443, source: str = "system", **options: Any) -> Report:
        given = type("Given", (Given,), {"addresses": addresses, "port": port, "source": source})
        checks = [registry.checks().get("tcp"), registry.checks().get("ports")]
        return runner.execute(
            make_settings(f"https://{HOST}", **options), [given, *filter(None, checks)]
        )

    return run


def problem(report: Report) -> Problem:
    """The one problem of the report, readable as it must be."""
    assert len(report.problems) == 1, [one.code for one in report.problems]
    [found] = report.problems
    for text in (found.message, found.remedy, *found.reproduce):
        assert "None" not in text
        assert "{" not in text
    return found


def status(report: Report, check: str) -> str:
    return next(str(one.status) for one in report.checks if one.id == check)


def timings(report: Report) -> list[tuple[str, str]]:
    return [
        (one.what, one.detail)
        for check in report.checks
        if check.id == "tcp"
        for one in check.timings
    ]


def test_every_way_to_fail_has_its_verdict() -> None:
    tcp = registry.checks().get("tcp")
    assert set(vars(tcp)["BY_KIND"]) == set(get_args(Kind)) - {"open"}


# on loopback


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_a_healthy_port_costs_two_connects(try_: Try) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        report = try_("127.0.0.1", port=port)
        assert report.verdict == "ok"
        assert (status(report, "tcp"), status(report, "ports")) == ("ok", "skip")
        assert timings(report) == [("connect", f"127.0.0.1 {port}")]
        server.settimeout(0.3)
        for _ in range(2):  # the observed one, and one ahead for requests side by side
            server.accept()[0].close()
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_closed_port(try_: Try, closed_port: int) -> None:
    report = try_("127.0.0.1", port=closed_port)
    found = problem(report)
    assert (found.code, found.owner) == ("tcp-refused", "server-admin")
    assert found.evidence["errno"] == "ECONNREFUSED"
    assert f"nc -vz -w 3 127.0.0.1 {closed_port}" in found.reproduce


def test_connect_to_is_followed_and_nothing_else_of_the_host_is_touched(
    try_: Try, closed_port: int
) -> None:
    rule = f"{HOST}:443:127.0.0.1:{closed_port}"
    report = try_("127.0.0.1", source="connect-to", connect_to=(rule,))
    found = problem(report)
    assert found.code == "tcp-refused"
    assert found.evidence["port"] == closed_port
    assert timings(report) == [("connect", f"127.0.0.1 {closed_port}")]
    assert status(report, "ports") == "skip"


def test_a_full_queue_of_this_machine(try_: Try) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        found = problem(try_("127.0.0.1", port=port, timeout=1))
    assert (found.code, found.owner) == ("tcp-backlog-full", "server-admin")
    overflows = found.evidence["overflows"]
    assert isinstance(overflows, int)
    assert overflows > 0


# between client and server


@pytest.mark.lab
@pytest.mark.parametrize("address", [SERVER4, SERVER6])
@pytest.mark.parametrize(
    ("rule", "code", "owner"),
    [
        ("drop", "tcp-filtered", "network-admin"),
        ("reject with icmpx admin-prohibited", "tcp-admin-prohibited", "network-admin"),
        ("reject with icmpx host-unreachable", "tcp-host-unreachable", "network-admin"),
        ("reject with icmpx no-route", "tcp-net-unreachable", "network-admin"),
        ("reject with tcp reset", "tcp-reset-by-middlebox", "network-admin"),
    ],
)
def test_a_router_that_lets_nothing_through(
    lab: Lab, try_: Try, address: str, rule: str, code: str, owner: str
) -> None:
    lab.rules("router", "forward", f"tcp dport 443 {rule}")
    report = lab.call("client", try_, address)
    found = problem(report)
    assert (found.code, found.owner) == (code, owner)
    assert report.run.duration_ms < 10_000
    assert status(report, "ports") == "ok"


@pytest.mark.lab
@pytest.mark.parametrize(
    ("address", "routers"), [(SERVER4, ROUTERS4), (SERVER6, ROUTERS6)], ids=["IPv4", "IPv6"]
)
def test_the_hop_is_named(lab: Lab, try_: Try, address: str, routers: tuple[str, ...]) -> None:
    lab.lengthen(2)
    lab.rules(
        "router2",
        "forward",
        "tcp dport 443 drop",
        "tcp dport 444 reject with icmpx admin-prohibited",
        "tcp dport 445 reject with icmpx host-unreachable",
        "tcp dport 446 reject with icmpx no-route",
    )
    with ThreadPoolExecutor() as pool:
        silent, *rejected = pool.map(
            lambda port: problem(lab.call("client", try_, address, port=port)), range(443, 447)
        )
    assert silent.code == "tcp-filtered"
    # To a port that answers, or to UDP where no answer had come when it was to be chosen.
    assert (
        f"connects get as far as {routers[1]} (hop 2), but not to {routers[2]} (hop 3), which"
        " answers to " in silent.message
    )
    assert f"Ask who runs {routers[1]} and {routers[2]} (hop 3)" in silent.remedy
    assert silent.evidence["path"] == {
        "connects": [{"hop": at, "from": [routers[at - 1]]} for at in (1, 2)],
        "reference": silent.evidence["path"]["reference"],  # type: ignore[index,call-overload]
        "others": [{"hop": at, "from": [routers[at - 1]]} for at in (1, 2, 3)],
        "host_hop": 4,
    }
    assert f"tracepath -n {address}" in silent.reproduce[-1]
    for found, code, middle in zip(
        rejected,
        ("tcp-admin-prohibited", "tcp-host-unreachable", "tcp-net-unreachable"),
        ("rejects connections", "says that the host", "has no route"),
        strict=True,
    ):
        assert found.code == code
        assert found.message.startswith(f"{routers[1]} (hop 2) {middle}")


@pytest.mark.lab
def test_the_way_is_looked_at_only_after_a_failure(lab: Lab, try_: Try) -> None:
    lab.serve("server", 443)
    lab.nft(
        "client",
        "table ip count { counter low {}; chain c { type filter hook output priority -1;"
        " ip ttl < 64 counter name low; }; }",
    )
    assert lab.call("client", try_, SERVER4).verdict == "ok"
    shown = lab.run("client", ["nft", "list", "counters"], check=True).stdout
    assert "packets 0 " in shown


@pytest.mark.lab
def test_a_rule_for_one_port_of_connect_to_keeps_the_others_untouched(lab: Lab, try_: Try) -> None:
    lab.rules("server", "input", "tcp dport 443 drop")
    lab.nft(
        "client",
        "table ip count { counter other {}; chain c { type filter hook output priority 0;"
        f" ip daddr {SERVER4} tcp dport != 443 counter name other;"
        f" ip daddr {SERVER4} meta l4proto != tcp counter name other; }}; }}",
    )
    rule = f"{HOST}:443:{SERVER4}:443"
    found = problem(
        lab.call("client", try_, SERVER4, source="connect-to", connect_to=(rule,), timeout=1)
    )
    assert f"connects get as far as {ROUTER4} (hop 1); nothing answers" in found.message
    shown = lab.run("client", ["nft", "list", "counters"], check=True).stdout
    assert "packets 0 " in shown


@pytest.mark.lab
def test_a_short_deadline_leaves_the_verdict_without_the_hop(lab: Lab, try_: Try) -> None:
    lab.rules("router", "forward", "tcp dport 443 drop")
    found = problem(lab.call("client", try_, SERVER4, deadline=1.9))
    assert found.code == "tcp-filtered"
    assert "path" not in found.evidence


@pytest.mark.lab
def test_packets_that_go_round_in_circles(lab: Lab, try_: Try) -> None:
    lab.lengthen(1)
    lab.ip("router2", "route replace 10.77.2.0/24 via 10.77.12.1")
    found = problem(lab.call("client", try_, SERVER4))
    assert found.code == "tcp-host-unreachable"
    assert f"in circles between {ROUTER4} and {ROUTERS4[1]}" in found.message


@pytest.mark.lab
def test_a_silence_is_told_with_what_other_ports_say(lab: Lab, try_: Try) -> None:
    lab.rules("router", "forward", "tcp dport { 443, 8443 } drop")
    lab.serve("server", 80, http_answer(404))
    found = problem(lab.call("client", try_, SERVER4))
    assert found.code == "tcp-filtered"
    assert "it does on port 80" in found.message
    assert found.evidence["tries"] == 4
    assert CLIENT4 in found.remedy


@pytest.mark.lab
def test_a_host_that_rejects_by_its_own_firewall(lab: Lab, try_: Try) -> None:
    lab.rules("server", "input", "tcp dport 443 reject")
    found = problem(lab.call("client", try_, SERVER4))
    assert (found.code, found.owner) == ("tcp-admin-prohibited", "server-admin")
    assert found.message.startswith("the host itself rejects")


@pytest.mark.lab
def test_a_closed_port_behind_a_router_is_the_hosts_own_word(lab: Lab, try_: Try) -> None:
    found = problem(lab.call("client", try_, SERVER4))
    assert (found.code, found.owner) == ("tcp-refused", "server-admin")
    assert "as root" not in found.remedy  # it was watched: nobody else answered


@pytest.mark.lab
def test_a_timeout_too_short_to_tell_is_no_verdict(lab: Lab, try_: Try) -> None:
    lab.rules("router", "forward", "ip daddr 10.77.2.2 drop")
    report = lab.call("client", try_, SERVER4, timeout=0.2)
    assert problem(report).code == "tcp-unclear"
    assert report.verdict == "unknown"


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole"])
def test_no_route_from_here(lab: Lab, try_: Try, kind: str) -> None:
    lab.ip("client", f"route add {kind} 10.9.0.0/16")
    found = problem(lab.call("client", try_, "10.9.1.1"))
    assert (found.code, found.owner) == ("tcp-no-local-route", "you")
    assert str(found.evidence["errno"]) in found.message


@pytest.mark.lab
def test_nobody_has_the_address(lab: Lab, try_: Try) -> None:
    lab.sysctl("client", "net.ipv4.neigh.eth0.retrans_time_ms=400")  # gives up after the third
    found = problem(lab.call("client", try_, "10.77.1.9"))
    assert found.code == "tcp-host-down"
    assert found.evidence["neighbour"] == "10.77.1.9"


@pytest.mark.lab
def test_a_router_finds_nobody_with_the_address(lab: Lab, try_: Try) -> None:
    lab.sysctl("router", "net.ipv4.neigh.r1.retrans_time_ms=400")  # gives up after the third
    found = problem(lab.call("client", try_, "10.77.2.9"))
    assert found.code == "tcp-host-down"
    assert f"the router {ROUTER4} found no machine" in found.message


@pytest.mark.lab
def test_the_gateway_is_down(lab: Lab, try_: Try) -> None:
    lab.ip("client", "route replace default via 10.77.1.9")
    found = problem(lab.call("client", try_, SERVER4, timeout=1))
    assert found.code == "tcp-host-down"
    assert found.evidence["neighbour"] == "10.77.1.9"
    assert "gateway" in found.message


@pytest.mark.lab
@pytest.mark.parametrize(
    "rule",
    ["drop", "reject", "reject with tcp reset", "reject with icmpx admin-prohibited"],
)
def test_this_machines_own_firewall(lab: Lab, try_: Try, rule: str) -> None:
    lab.rules("client", "output", f"tcp dport 443 {rule}")
    found = problem(lab.call("client", try_, SERVER4, timeout=1))
    assert (found.code, found.owner) == ("tcp-egress-blocked-local", "you")


@pytest.mark.lab
def test_silence_of_this_very_machine_has_nobody_on_the_way(lab: Lab, try_: Try) -> None:
    lab.rules("client", "input", "tcp dport 443 drop")
    found = problem(lab.call("client", try_, CLIENT4, timeout=1))
    assert (found.code, found.owner) == ("tcp-filtered", "you")


@pytest.mark.lab
@pytest.mark.parametrize("rule", ["drop", "reject with icmpx admin-prohibited"])
def test_another_source_address_is_let_through(lab: Lab, try_: Try, rule: str) -> None:
    lab.ip("client", "addr add 10.77.1.3/24 dev eth0", "addr add 10.77.1.4/24 dev eth0")
    lab.rules("router", "forward", f"tcp dport 443 ip saddr != 10.77.1.4 {rule}")
    lab.serve("server", 443)
    found = problem(lab.call("client", try_, SERVER4))
    assert found.code == "tcp-source-not-allowlisted"
    assert (found.evidence["source"], found.evidence["working_source"]) == (CLIENT4, "10.77.1.4")


# several addresses


@pytest.mark.lab
def test_one_dead_address_beside_a_living_one(lab: Lab, try_: Try) -> None:
    lab.ip("server", "addr add 10.77.2.3/24 dev eth0")
    lab.rules("router", "forward", "ip daddr 10.77.2.3 drop")
    lab.serve("server", 443)
    report = lab.call("client", try_, "10.77.2.3", SERVER4)
    found = problem(report)
    assert (found.code, str(found.status)) == ("dns-partial-dead", "warn")
    assert found.evidence["address"] == "10.77.2.3"
    assert report.run.duration_ms < 2800
    assert status(report, "ports") == "skip"


@pytest.mark.lab
def test_a_dead_ipv6_address_beside_a_living_ipv4_one(lab: Lab, try_: Try) -> None:
    lab.rules("router", "forward", "ip6 daddr fd77:2::2 drop")
    lab.serve("server", 443)
    report = lab.call("client", try_, SERVER6, SERVER4)
    found = problem(report)
    assert (found.code, str(found.status)) == ("dns-aaaa-broken", "warn")
    assert found.evidence["address"] == SERVER6


@pytest.mark.lab
def test_a_machine_without_ipv6_is_healthy(lab: Lab, try_: Try) -> None:
    lab.serve("server", 443)
    lab.ip("client", "-6 route del default")
    assert lab.call("client", try_, SERVER6, SERVER4).verdict == "ok"
    lab.ip("client", "-6 route add default via fd77:1::1")
    lab.ip("router", "-6 route del fd77:2::/64")  # the network lacks it, not the server
    assert lab.call("client", try_, SERVER6, SERVER4).verdict == "ok"


@pytest.mark.lab
def test_only_ipv6_and_a_client_without(lab: Lab, try_: Try) -> None:
    lab.ip("client", "-6 route del default")
    found = problem(lab.call("client", try_, SERVER6))
    assert (found.code, found.owner) == ("dns-ipv6-only", "network-admin")
    typed = problem(lab.call("client", try_, SERVER6, source="literal"))
    assert (typed.code, typed.owner) == ("tcp-no-local-route", "you")


@pytest.mark.lab
def test_of_two_failures_ipv4_tells_more_than_no_ipv6(lab: Lab, try_: Try) -> None:
    lab.ip("client", "-6 route del default")
    lab.rules("router", "forward", "tcp dport 443 drop")
    assert problem(lab.call("client", try_, SERVER6, SERVER4)).code == "tcp-filtered"


# the whole program


@pytest.mark.lab
def test_the_program_meets_a_healthy_bitbucket_over_a_router(lab: Lab) -> None:
    sim = lab.simulator("server")
    lab.hosts("client", {HOST: [SERVER4]})
    scenario = sim.scenario
    assert scenario.token
    assert scenario.ca_file
    report = lab.bbdiag(
        "client",
        *("check", scenario.url, "--ca-file", scenario.ca_file),
        env={"BITBUCKET_TOKEN": scenario.token},
    )
    # Which a product that comes from the internet does not reach; nothing else is wrong.
    assert [one["code"] for one in report["problems"]] == ["dns-private-address"]


@pytest.mark.lab
def test_the_program_tells_firewalls_without_privileges_too(lab: Lab) -> None:
    """The kernel gives ICMP errors to any user; what only root sees is not guessed at."""
    lab.hosts("client", {HOST: [SERVER4]})
    lab.rules(
        "router",
        "forward",
        "tcp dport 8001 reject with icmpx admin-prohibited",
        "tcp dport 8002 reject with tcp reset",
    )
    lab.rules("client", "output", "tcp dport 8003 drop")
    causes = {
        port: lab.bbdiag("client", "check", f"https://{HOST}:{port}", privileged=False)[
            "root_cause"
        ]
        for port in (8001, 8002, 8003)
    }
    assert causes == {8001: "tcp-admin-prohibited", 8002: "tcp-refused", 8003: "tcp-filtered"}
