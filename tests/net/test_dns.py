"""One resolver asked over real sockets, the machine's files, and what answers add up to."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diag.net import dns, resolvconf
from diag.net.resolver import Kind, Outcome, Reply, examine, query
from diag.settings import Resolver
from tests.dns_server import (
    Behaviour,
    DnsServer,
    addresses,
    alias,
    badly_signed,
    first,
    later,
    only,
    rcode,
    silent,
    too_long,
    unreadable,
)
from tests.ports import free_port

NAME = "bb.lab.test"
HERE = addresses("10.0.0.7")


def ask(server: DnsServer, name: str = NAME, kind: Kind = "A", timeout: float = 2.0) -> Reply:
    return examine(name, kind, Resolver(server.address, server.port), timeout, edns=False)


# one resolver


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (HERE, "answer"),
        (addresses("fd00::7"), "nodata"),
        (rcode("NXDOMAIN"), "nxdomain"),
        (rcode("SERVFAIL"), "servfail"),
        (rcode("REFUSED"), "refused"),
        (rcode("NOTIMP"), "error"),
        (badly_signed(HERE), "bogus"),
        (badly_signed(rcode("NXDOMAIN")), "bogus"),
        (alias("gone.lab.test"), "dangling"),
        (alias("empty.lab.test"), "nodata"),
        (alias("here.lab.test"), "answer"),
    ],
)
def test_an_outcome(behaviour: Behaviour, outcome: Outcome) -> None:
    zone = {NAME: behaviour, "empty.lab.test": addresses(), "here.lab.test": HERE}
    with DnsServer(zone) as server:
        reply = ask(server)
    assert reply.outcome == outcome
    assert reply.addresses == (("10.0.0.7",) if outcome == "answer" else ())


def test_ipv6_addresses_and_a_resolver_on_ipv6() -> None:
    with DnsServer({NAME: addresses("fd00::7", "10.0.0.7")}, address="::1") as server:
        reply = ask(server, kind="AAAA")
    assert reply.addresses == ("fd00::7",)
    assert reply.server == f"[::1]:{server.port}"
    assert reply.dig == f"::1 -p {server.port}"


def test_the_chain_of_aliases_is_told() -> None:
    zone = {NAME: alias("b.lab.test"), "b.lab.test": alias("c.lab.test"), "c.lab.test": HERE}
    with DnsServer(zone) as server:
        reply = ask(server)
    assert reply.aliases == ("b.lab.test", "c.lab.test")
    assert reply.addresses == ("10.0.0.7",)


def test_a_server_that_gives_only_the_alias_is_asked_for_its_target() -> None:
    zone = {NAME: alias("gone.lab.test", follow=False)}
    with DnsServer(zone) as server:
        reply = ask(server)
        assert (reply.outcome, reply.aliases) == ("dangling", ("gone.lab.test",))
        assert ("gone.lab.test", "A", "udp") in server.asked


def test_a_complete_negative_answer_is_not_asked_about_again() -> None:
    zone = {NAME: alias("here.lab.test"), "here.lab.test": HERE}
    with DnsServer(zone) as server:
        assert ask(server, kind="AAAA").outcome == "nodata"
        assert server.asked == [(NAME, "AAAA", "udp")]


LOOP = {NAME: alias("b.lab.test"), "b.lab.test": alias(NAME)}


@pytest.mark.parametrize("hides", [False, True], ids=["tells", "says-SERVFAIL"])
def test_a_loop_of_aliases(hides: bool) -> None:
    """Some resolvers give the circle, some say SERVFAIL and give the aliases only when asked."""
    zone = dict(LOOP)
    if hides:
        zone = {name: only("CNAME", then, rcode("SERVFAIL")) for name, then in LOOP.items()}
    with DnsServer(zone) as server:
        reply = ask(server)
    assert reply.outcome == "loop"
    assert reply.aliases == ("b.lab.test", NAME)


def test_an_alias_behind_a_servfail_is_told() -> None:
    zone = {NAME: only("CNAME", alias("b.lab.test"), rcode("SERVFAIL"))}
    with DnsServer(zone) as server:
        reply = ask(server)
    assert (reply.outcome, reply.aliases) == ("servfail", ("b.lab.test",))


def test_a_servfail_that_passes_is_no_signature_fault() -> None:
    with DnsServer({NAME: first(1, rcode("SERVFAIL"), HERE)}) as server:
        reply = ask(server)
    assert reply.outcome == "answer"
    assert "SERVFAIL" in reply.detail


def test_a_silent_server_is_asked_again_and_given_up() -> None:
    with DnsServer({NAME: silent}) as server:
        reply = ask(server, timeout=0.6)
    assert reply.outcome == "timeout"
    assert reply.elapsed_ms >= 550
    assert len(server.asked) == 2  # at 0 and 0.4 s


def test_a_lost_packet_is_no_dead_resolver() -> None:
    with DnsServer({NAME: first(1, silent, HERE)}) as server:
        reply = ask(server)
    assert reply.outcome == "answer"
    assert reply.elapsed_ms >= 350


def test_a_late_answer_counts() -> None:
    with DnsServer({NAME: later(0.6, HERE)}) as server:
        reply = ask(server)
    assert reply.outcome == "answer"
    assert reply.elapsed_ms >= 590


def test_garbage_and_a_reset_question_are_no_answer() -> None:
    with DnsServer({NAME: first(1, unreadable, HERE)}) as server:
        assert ask(server).outcome == "answer"


def test_an_answer_to_another_question_is_not_believed() -> None:
    """The identifier and the question must match."""
    zone = {NAME: HERE}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar, DnsServer(zone) as server:
        liar.bind(("127.0.0.1", 0))

        def lie() -> None:
            data, peer = liar.recvfrom(512)
            for tampered in (bytes([data[0] ^ 1]) + data[1:], data.replace(b"\x02bb", b"\x02xx")):
                with socket.create_connection((server.address, server.port)) as sock:
                    sock.sendall(len(tampered).to_bytes(2, "big") + tampered)
                    liar.sendto(sock.recv(512)[2:], peer)

        thread = threading.Thread(target=lie)
        thread.start()
        reply = query(NAME, "A", Resolver(*liar.getsockname()), 0.3)
        thread.join()
    assert reply.outcome == "timeout"


def test_nothing_listens() -> None:
    reply = query(NAME, "A", Resolver("127.0.0.1", free_port()), 2.0)
    assert (reply.outcome, reply.detail) == ("unreachable", "Connection refused")


def test_a_long_answer_comes_over_tcp() -> None:
    many = [f"10.0.{index // 250}.{index % 250 + 1}" for index in range(500)]
    with DnsServer({NAME: too_long(addresses(*many))}) as server:
        reply = ask(server)
    assert reply.outcome == "answer"
    assert set(reply.addresses) == set(many)
    assert [how for _, _, how in server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize(("tcp", "detail"), [("refuse", "refused"), ("ignore", "timed out")])
def test_a_long_answer_without_tcp(tcp: str, detail: str) -> None:
    with DnsServer({NAME: too_long(HERE)}, tcp=tcp) as server:  # type: ignore[arg-type]
        reply = ask(server, timeout=5 if tcp == "refuse" else 0.5)
    assert reply.outcome == "tcp-blocked"
    assert detail in reply.detail


def test_a_tcp_connection_that_closes_is_no_answer() -> None:
    with DnsServer(
        {NAME: lambda question: not question.tcp and too_long(HERE)(question)}
    ) as server:
        reply = ask(server)
    assert (reply.outcome, reply.detail) == ("tcp-blocked", "closed without an answer")


def test_what_is_no_name_is_not_asked() -> None:
    reply = query("a..b", "A", Resolver("127.0.0.1", 9), 1.0)
    assert (reply.outcome, reply.detail) == ("error", "not a legal host name")


def test_the_checking_disabled_bit_and_edns() -> None:
    with DnsServer({NAME: badly_signed(HERE)}) as server:
        resolver = Resolver(server.address, server.port)
        assert query(NAME, "A", resolver, 2.0, edns=True).outcome == "servfail"
        assert query(NAME, "A", resolver, 2.0, validate=False).outcome == "answer"


# the system


def test_the_system_knows_localhost() -> None:
    found = dns.lookup("localhost")
    assert set(found.addresses) <= {"127.0.0.1", "::1"}
    assert found.addresses
    assert not found.error
    assert dns.resolves("localhost", 5.0) == found.addresses


def test_a_text_that_can_be_no_name_does_not_exist() -> None:
    assert dns.lookup("a" * 64 + ".test").error == "EAI_NONAME"
    if sys.platform == "linux":
        assert dns.resolves("a" * 64 + ".test", 5.0) == ()


def test_dnspython_is_not_imported_before_somebody_asks() -> None:
    code = "import sys, diag.net.dns; sys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# names and addresses


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("FD00:0::7", "fd00::7"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("bitbucket", None),
        ("10.example.com", None),
        ("1.2.3.4.5", None),
    ],
)
def test_literal(host: str, address: str | None) -> None:
    assert dns.literal(host) == address


PRIVATE = """
    10.1.2.3 172.31.0.1 192.168.1.1 100.64.9.9 169.254.1.1 127.8.8.8
    ::1 fd12::1 fe80::1%eth0 ::ffff:10.0.0.1
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses(address: str) -> None:
    assert dns.is_private(address)
    assert not dns.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "172.32.0.1", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert dns.is_public(address)
    assert not dns.is_private(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "198.18.0.9", "203.0.113.7", "224.0.0.1"])
def test_addresses_that_are_neither(address: str) -> None:
    """A proxy client's made-up 198.18.… says nothing about where the machine is."""
    assert not dns.is_public(address)
    assert not dns.is_private(address)


def test_localhost_and_its_names() -> None:
    for name in ("localhost", "LOCALHOST.", "localhost.localdomain", "app.localhost"):
        assert dns.is_localhost(name)
    for name in ("localhosts", "bb.localhost.example.com", "example.com"):
        assert not dns.is_localhost(name)


# the machine's files


def test_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# by DHCP\n"
        "nameserver 10.0.0.53\n"
        "nameserver fe80::1%eth0 ; the router\n"
        "nameserver ns.example.com\n"
        "nameserver 10.0.0.55\nnameserver 10.0.0.56\n"
        "domain old.example\n"
        "search Corp.Example. lab.test\n"
        "options ndots:5 timeout:2 attempts:3 edns0 rotate\n"
    )
    read = resolvconf.configuration(path)
    assert read.servers == ("10.0.0.53", "fe80::1%eth0", "10.0.0.55")
    assert read.search == ("corp.example", "lab.test")
    assert (read.ndots, read.timeout, read.attempts, read.edns) == (5, 2, 3, True)
    assert read.suffixed("bb") == ("bb.corp.example", "bb.lab.test")
    assert read.suffixed("bb.") == ()
    assert read.search_first("bb.example.com")
    assert not read.search_first("a.b.c.d.e.f")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("nameserver 10.0.0.1", 10),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.2", 20),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3", 28),
        ("nameserver 10.0.0.1\noptions timeout:1 attempts:1", 1),
    ],
)
def test_the_patience_of_the_library(tmp_path: Path, text: str, seconds: int) -> None:
    """5 s for the first server; for the others the double and the fourfold, shared; twice."""
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert resolvconf.configuration(path).patience == seconds


def test_no_nameserver_means_this_machine_and_no_file_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert resolvconf.configuration(path).asked == ()
    path.write_text("options ndots:many timeout:\n")
    read = resolvconf.configuration(path)
    assert (read.servers, read.asked) == ((), ("127.0.0.1",))
    assert (read.ndots, read.timeout) == (1, 5)


def test_the_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(
        "127.0.0.1 localhost\n"
        "10.0.0.7  app BB.lab.test # old\n"
        "FD00:0::7 bb.lab.test.\n"
        "# 10.0.0.9 bb.lab.test\n"
        "garbage bb.lab.test\n"
    )
    assert resolvconf.hosts_addresses(NAME, path) == ("10.0.0.7", "fd00::7")
    assert resolvconf.hosts_addresses("old", path) == ()
    assert resolvconf.hosts_addresses(NAME, tmp_path / "none") == ()


def test_nsswitch(tmp_path: Path) -> None:
    path = tmp_path / "nsswitch.conf"
    assert resolvconf.name_services(path) == ("files", "dns")
    path.write_text(
        "passwd: files\n#hosts: nis\n"
        "hosts: files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns\n"
    )
    assert resolvconf.name_services(path) == ("files", "mdns4_minimal", "resolve", "dns")


# what answers add up to


def opinion(
    outcome: Outcome, *found: str, server: str = "10.0.0.53", configured: bool = True
) -> dns.Opinion:
    return dns.Opinion(configured, Reply(Resolver(server), NAME, "A", outcome, found), found)


INSIDE = opinion("answer", "10.0.0.7")
OUTSIDE = opinion("answer", "8.8.8.8", server="1.1.1.1", configured=False)
ABSENT = opinion("nxdomain", server="10.0.0.54")


def test_the_system_goes_by_the_first_server_that_knows() -> None:
    refused, mute = opinion("refused"), opinion("timeout")
    assert dns.experienced([refused, ABSENT, INSIDE]) is ABSENT
    assert dns.experienced([mute, refused]) is mute
    assert dns.experienced([opinion("unsent"), refused]) is refused
    assert dns.experienced([OUTSIDE]) is None


def test_a_private_and_a_public_address_are_two_worlds() -> None:
    assert dns.disagreement([INSIDE, OUTSIDE], resolved=True) == (INSIDE, OUTSIDE)


@pytest.mark.parametrize(
    "other",
    [
        opinion("answer", "9.9.9.9", "8.8.4.4", server="1.1.1.1", configured=False),
        opinion("servfail", server="1.1.1.1", configured=False),
        opinion("answer", "8.8.8.8", "10.0.0.7", server="1.1.1.1", configured=False),
        opinion("answer", "198.18.0.7", server="1.1.1.1", configured=False),
    ],
    ids=["by-turn", "broken", "both", "neither"],
)
def test_what_is_no_disagreement(other: dns.Opinion) -> None:
    public = opinion("answer", "8.8.8.8")
    assert dns.disagreement([public, other], resolved=True) is None


def test_a_name_that_one_server_does_not_know() -> None:
    named = opinion("nodata", server="1.1.1.1", configured=False)
    assert dns.disagreement([INSIDE, named], resolved=True) == (INSIDE, named)
    assert dns.disagreement([ABSENT, INSIDE], resolved=False) == (ABSENT, INSIDE)
    assert dns.disagreement([INSIDE, ABSENT], resolved=True) is None  # the server is a bad one
    assert dns.disagreement([ABSENT, named], resolved=False) is None


def test_servers_that_fail_while_another_knows() -> None:
    broken, no_route = opinion("servfail"), opinion("unsent")
    assert dns.failing([INSIDE, broken, no_route, OUTSIDE]) == (broken,)
    assert dns.failing([broken, ABSENT]) == ()


def test_a_survey_of_localhost_asks_no_resolver() -> None:
    survey = dns.Survey("localhost", [Resolver("127.0.0.1", 9)])
    assert set(survey.wait_for_system(5.0)) <= {"127.0.0.1", "::1"}
    before = time.monotonic()
    survey.settle(50.0, calm=True)
    assert time.monotonic() - before < 25.0
    assert survey.opinions() == ()


@pytest.mark.parametrize(
    ("server", "outcome", "outside"),
    [
        ("192.0.2.53", "answer", True),
        ("192.0.2.53", "servfail", True),
        ("fe80::53%eth0", "nxdomain", True),
        ("192.0.2.53", "timeout", False),
        ("192.0.2.53", "unreachable", False),
        ("127.0.0.53", "answer", False),  # it may have had it in its cache
        ("::1", "answer", False),
    ],
)
def test_whether_the_network_answers_at_all(server: str, outcome: Outcome, outside: bool) -> None:
    assert Reply(Resolver(server), NAME, "A", outcome).from_outside is outside
