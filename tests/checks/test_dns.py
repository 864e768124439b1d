"""Check `dns` against real servers, in a network of its own where the system resolver is real too.

The client's /etc/resolv.conf names one or two servers, which run on the lab's server; what they say
to which name is the zone of each test.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.dns_server import (
    Behaviour,
    DnsServer,
    addresses,
    alias,
    badly_signed,
    by_turns,
    first,
    later,
    only,
    rcode,
    silent,
    too_long,
)
from tests.lab import SERVER4, Lab

pytestmark = pytest.mark.lab

NAME = "bb.lab.test"
OTHER4 = "10.77.2.3"  # a second address of the lab's server
HERE = addresses("10.20.30.40")
PUBLIC = addresses("93.184.215.14")
SERVFAIL, REFUSED, NXDOMAIN = rcode("SERVFAIL"), rcode("REFUSED"), rcode("NXDOMAIN")


class World:
    """The lab, its DNS servers, and bbdiag on the client."""

    def __init__(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        self.lab = lab
        self._stack = stack
        lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
        self.resolv_conf(f"nameserver {SERVER4}")

    def resolv_conf(self, *lines: str) -> None:
        self.lab.resolv_conf("client", "".join(f"{line}\n" for line in lines))

    def nsswitch(self, text: str) -> None:
        Path("/etc/netns", self.lab.name("client"), "nsswitch.conf").write_text(text)

    def serve(
        self,
        zone: Mapping[str, Behaviour] | Behaviour,
        address: str = SERVER4,
        tcp: Literal["serve", "refuse", "ignore"] = "serve",
    ) -> DnsServer:
        if not isinstance(zone, Mapping):
            zone = {NAME: zone}
        make = self.lab.call("server", DnsServer, zone, address=address, port=53, tcp=tcp)
        return self._stack.enter_context(make)

    def check(self, name: str = NAME, *options: str) -> dict[str, Any]:
        return self.lab.bbdiag("client", "check", f"https://{name}", "--only", "dns", *options)


@pytest.fixture
def world(lab: Lab) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(lab, stack)


def finding(report: dict[str, Any], code: str) -> dict[str, Any]:
    (check,) = (check for check in report["checks"] if check["id"] == "dns")
    codes = [found["code"] for found in check["findings"]]
    assert code in codes, report
    found = check["findings"][codes.index(code)]
    assert isinstance(found, dict)
    return found


def problem(report: dict[str, Any], code: str) -> dict[str, Any]:
    """The root cause, which must be this one, and the only failure."""
    assert [found["code"] for found in report["problems"]] == [code], report["problems"]
    found = report["problems"][0]
    assert isinstance(found, dict)
    assert "{" not in found["message"] + found["remedy"] + "".join(found["reproduce"])
    return found


def test_a_name_that_resolves(world: World) -> None:
    server = world.serve(addresses("10.20.30.40", "fd77:9::9"))
    report = world.check()
    assert report["verdict"] == "ok"
    found = finding(report, "dns-ok")
    assert set(found["evidence"]["addresses"]) == {"10.20.30.40", "fd77:9::9"}
    told = {(asked["type"], asked["result"]) for asked in found["evidence"]["asked"]}
    assert told == {("A", "answer"), ("AAAA", "answer")}
    assert {name for name, _, _ in server.asked if not name.endswith(".invalid")} == {NAME}
    (check,) = (check for check in report["checks"] if check["id"] == "dns")
    assert {timing["what"] for timing in check["timings"]} == {"dns"}
    assert len(check["timings"]) == 3


@pytest.mark.parametrize(
    ("zone", "code", "said"),
    [
        (NXDOMAIN, "dns-nxdomain", "NXDOMAIN"),
        (addresses(), "dns-nodata", "neither A nor AAAA"),
        (SERVFAIL, "dns-servfail", "SERVFAIL"),
        (rcode("NOTIMP"), "dns-servfail", "NOTIMP"),
        (REFUSED, "dns-refused", "REFUSED"),
        (alias("gone.lab.test"), "dns-cname-dangling", "alias of gone.lab.test"),
        (
            {NAME: alias("b.lab.test"), "b.lab.test": alias(NAME)},
            "dns-cname-loop",
            "bb.lab.test → b.lab.test → bb.lab.test",
        ),
        (addresses("127.0.0.1"), "dns-resolves-loopback", f"127.0.0.1, says {SERVER4}"),
        (addresses("127.0.1.1", "::1"), "dns-resolves-loopback", "127.0.1.1"),
        (addresses("0.0.0.0", "::"), "dns-sinkholed", "0.0.0.0"),
        (badly_signed(HERE), "dns-dnssec-bogus", "told not to validate"),
    ],
)
def test_a_fault_of_the_zone(
    world: World, zone: Mapping[str, Behaviour] | Behaviour, code: str, said: str
) -> None:
    world.serve(zone)
    found = problem(world.check(), code)
    assert said in found["message"]
    assert found["owner"] == "dns-admin"
    assert NAME in found["reproduce"][0]
    assert found["evidence"]["asked"]
    assert found["evidence"]["system"]


def test_a_dropped_question(world: World) -> None:
    world.serve(HERE)
    world.lab.rules("router", "forward", "udp dport 53 drop")
    report = world.check(NAME, "--timeout", "1")
    found = problem(report, "dns-timeout")
    assert "10 s" in found["message"]
    assert report["run"]["duration_ms"] < 9000


def test_a_closed_port(world: World) -> None:
    report = world.check()
    found = problem(report, "dns-resolver-unreachable")
    assert "Connection refused" in found["message"]
    assert report["run"]["duration_ms"] < 9000


def test_a_server_this_machine_has_no_way_to(world: World) -> None:
    world.lab.ip("client", "route del default")
    found = problem(world.check(), "dns-resolver-unreachable")
    assert "cannot be asked from here" in found["message"]
    assert found["owner"] == "you"


def test_a_firewall_of_this_machine(world: World) -> None:
    world.serve(HERE)
    world.lab.rules("client", "output", "udp dport 53 drop")
    found = problem(world.check(), "dns-resolver-unreachable")
    assert "firewall" in found["message"]
    assert found["owner"] == "you"


def test_no_resolver(world: World) -> None:
    world.resolv_conf("# nothing here")
    found = problem(world.check(), "dns-no-resolver")
    assert "/etc/resolv.conf names none" in found["message"]


def test_a_local_server_without_a_line_in_resolv_conf(world: World) -> None:
    """The library asks 127.0.0.1 then."""
    world.resolv_conf()
    with world.lab.call("client", DnsServer, {NAME: HERE}, port=53):
        assert world.check()["verdict"] == "ok"


def test_a_long_answer_and_dropped_tcp(world: World) -> None:
    world.serve(too_long(HERE))
    world.lab.rules("router", "forward", "tcp dport 53 drop")
    report = world.check(NAME, "--timeout", "1")
    assert "only over TCP, and there: timed out" in problem(report, "dns-tcp-blocked")["message"]
    assert report["run"]["duration_ms"] < 9000


def test_a_long_answer_and_tcp(world: World) -> None:
    world.serve(too_long(HERE))
    assert world.check()["verdict"] == "ok"


def test_a_slow_server(world: World) -> None:
    world.serve(later(1.4, HERE))
    found = problem(world.check(), "dns-slow")
    assert re.search(r"took 1\.[4-9] s", found["message"])
    assert found["status"] == "warn"


def test_a_quick_server_that_loses_ipv6_questions(world: World) -> None:
    """The system waits for both answers for 5 s; the address is known all the same."""
    world.serve(only("A", HERE, silent))
    report = world.check(NAME, "--timeout", "1")
    found = problem(report, "dns-slow")
    assert f"{SERVER4} AAAA 1" in found["message"]
    assert finding(report, "dns-ok")["evidence"]["addresses"] == ["10.20.30.40"]
    assert report["run"]["duration_ms"] < 9000


# two servers


@pytest.mark.parametrize("bad", [SERVFAIL, REFUSED], ids=["SERVFAIL", "REFUSED"])
@pytest.mark.parametrize("order", [1, -1], ids=["first", "second"])
def test_one_of_two_servers_fails(world: World, bad: Behaviour, order: int) -> None:
    world.serve(HERE)
    world.serve(bad, OTHER4)
    world.resolv_conf(*[f"nameserver {one}" for one in (OTHER4, SERVER4)][::order])
    report = world.check()
    found = problem(report, "dns-resolver-intermittent")
    assert f"dig @{OTHER4} {NAME} A" in found["reproduce"]
    assert finding(report, "dns-ok")


def test_the_first_of_two_servers_is_silent(world: World) -> None:
    """The system would take 5 s; the other server's word is enough to go on."""
    world.serve(HERE)
    world.serve(silent, OTHER4)
    world.resolv_conf(f"nameserver {OTHER4}", f"nameserver {SERVER4}")
    report = world.check()
    assert f"{OTHER4} does not answer" in problem(report, "dns-resolver-intermittent")["message"]
    assert report["run"]["duration_ms"] < 9000


def test_a_silent_second_server_is_not_waited_for(world: World) -> None:
    world.serve(HERE)
    world.serve(silent, OTHER4)
    world.resolv_conf(f"nameserver {SERVER4}", f"nameserver {OTHER4}")
    report = world.check()
    assert report["verdict"] == "ok"
    assert f"not waited for: {OTHER4}" in finding(report, "dns-ok")["message"]
    assert report["run"]["duration_ms"] < 9000


def test_a_server_on_ipv6_that_this_machine_does_not_have(world: World) -> None:
    world.serve(HERE)
    world.resolv_conf("nameserver fd99::53", f"nameserver {SERVER4}")
    world.lab.ip("client", "-6 route del default")
    report = world.check()
    assert report["verdict"] == "ok"
    assert "fd99::53 fails on A" in finding(report, "dns-ok")["message"]


def test_what_the_system_experiences_decides(world: World) -> None:
    """After a refusal it asks the next server, and believes that one."""
    world.serve({})
    world.serve(REFUSED, OTHER4)
    world.resolv_conf(f"nameserver {OTHER4}", f"nameserver {SERVER4}")
    found = problem(world.check(), "dns-nxdomain")
    assert found["evidence"]["server"] == SERVER4
    assert "REFUSED" in found["message"]


def test_two_servers_that_know_different_names(world: World) -> None:
    world.serve({})
    world.serve(HERE, OTHER4)
    world.resolv_conf(f"nameserver {SERVER4}", f"nameserver {OTHER4}")
    found = problem(world.check(), "dns-split-horizon")
    assert found["reproduce"] == [f"dig @{SERVER4} {NAME} A", f"dig @{OTHER4} {NAME} A"]


# --resolver


def test_a_private_address_here_and_a_public_one_elsewhere(world: World) -> None:
    world.serve(HERE)
    world.serve(PUBLIC, OTHER4)
    found = problem(world.check(NAME, "--resolver", OTHER4), "dns-split-horizon")
    assert f"{SERVER4} says 10.20.30.40; {OTHER4} says 93.184.215.14" in found["message"]


def test_public_addresses_may_differ(world: World) -> None:
    world.serve(addresses("93.184.215.15"))
    world.serve(PUBLIC, OTHER4)
    assert world.check(NAME, "--resolver", OTHER4)["verdict"] == "ok"


def test_a_name_that_only_the_other_server_knows(world: World) -> None:
    world.serve({})
    world.serve(PUBLIC, OTHER4)
    found = problem(world.check(NAME, "--resolver", OTHER4), "dns-split-horizon")
    assert "NXDOMAIN" in found["message"]


def test_a_resolver_that_the_user_names_is_waited_for(world: World) -> None:
    world.serve(HERE)
    world.serve(later(0.7, PUBLIC), OTHER4)
    problem(world.check(NAME, "--resolver", OTHER4), "dns-split-horizon")


def test_the_next_check_does_not_wait_for_the_comparison(world: World) -> None:
    world.serve(HERE)
    world.serve(later(0.9, HERE), OTHER4)
    options = ("--resolver", OTHER4, "--only", "tcp", "--timeout", "1")
    checks = {check["id"]: check for check in world.check(NAME, *options)["checks"]}
    assert checks["dns"]["duration_ms"] >= 880
    ended = checks["dns"]["started_ms"] + checks["dns"]["duration_ms"]
    assert checks["tcp"]["started_ms"] < ended


def test_what_the_other_server_says_is_told_even_if_nothing_follows(world: World) -> None:
    world.serve(addresses("93.184.215.15"))
    world.serve(PUBLIC, OTHER4)
    asked = ("--resolver", OTHER4, "--resolver", SERVER4)
    found = finding(world.check(NAME, *asked), "dns-ok")
    assert f"({OTHER4} says 93.184.215.14)" in found["message"]
    world.resolv_conf(f"nameserver {OTHER4}")
    assert "says the same" not in finding(world.check(), "dns-ok")["message"]


def test_the_other_server_fails(world: World) -> None:
    world.serve(HERE)
    world.serve(SERVFAIL, OTHER4)
    report = world.check(NAME, "--resolver", OTHER4)
    assert report["verdict"] == "ok"  # this machine does not use it
    assert f"{OTHER4} says SERVFAIL" in finding(report, "dns-ok")["message"]


def test_only_the_other_server_works(world: World) -> None:
    world.serve(SERVFAIL)
    world.serve(PUBLIC, OTHER4)
    found = problem(world.check(NAME, "--resolver", OTHER4), "dns-servfail")
    assert f"{SERVER4} says SERVFAIL; asked too, {OTHER4} says 93.184.215.14" in found["message"]


# --repeat


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (SERVFAIL, "says SERVFAIL"),
        (NXDOMAIN, "says NXDOMAIN"),
        (PUBLIC, "gives 93.184.215.14"),
        (silent, "gives no answer"),
    ],
)
def test_a_server_that_fails_now_and_then(world: World, bad: Behaviour, said: str) -> None:
    one_run = 4  # questions about the name: the system's two, and two asked directly
    flapping = by_turns(HERE, HERE, bad)
    server = world.serve({NAME: first(2 * one_run, HERE, flapping), "*": NXDOMAIN})
    assert world.check()["verdict"] == "ok"
    assert [name for name, _, _ in server.asked].count(NAME) == one_run
    found = problem(world.check(NAME, "--repeat", "6"), "dns-resolver-intermittent")
    assert f"{SERVER4} {said} to 2 of 6 (33 %, 95 % interval 10–70 %) questions" in found["message"]
    assert found["evidence"]["repeated"][0]["interval"] == [0.097, 0.7]


def test_the_one_answer_of_an_ordinary_run_was_bad_luck(world: World) -> None:
    world.serve(first(20, SERVFAIL, HERE))
    found = problem(world.check(NAME, "--repeat", "30"), "dns-resolver-intermittent")
    assert f"{SERVER4} says SERVFAIL to" in found["message"]


def test_addresses_by_turns_are_no_fault(world: World) -> None:
    world.serve(by_turns(HERE, addresses("10.20.30.41")))
    assert world.check(NAME, "--repeat", "6")["verdict"] == "ok"


# files of the machine


def test_a_stale_line_in_the_hosts_file(world: World) -> None:
    world.serve(HERE)
    world.lab.hosts("client", {NAME: ["10.99.99.99"]})
    report = world.check()
    found = problem(report, "dns-hosts-override")
    assert "10.99.99.99, DNS says 10.20.30.40" in found["message"]
    assert (found["status"], found["owner"]) == ("warn", "you")
    assert finding(report, "dns-ok")["evidence"]["addresses"] == ["10.99.99.99"]


@pytest.mark.parametrize("zone", [NXDOMAIN, addresses("10.99.99.99"), SERVFAIL])
def test_a_hosts_file_that_contradicts_nobody(world: World, zone: Behaviour) -> None:
    world.serve(zone)
    world.lab.hosts("client", {NAME: ["10.99.99.99"]})
    report = world.check()
    assert report["verdict"] == "ok"
    alone = "only /etc/hosts" in finding(report, "dns-ok")["message"]
    assert alone is (zone is NXDOMAIN)


@pytest.mark.parametrize(
    ("address", "code"), [("127.0.0.1", "dns-resolves-loopback"), ("0.0.0.0", "dns-sinkholed")]
)
def test_the_hosts_file_leads_back_here(world: World, address: str, code: str) -> None:
    world.serve(HERE)
    world.lab.hosts("client", {NAME: [address]})
    found = problem(world.check(), code)
    assert found["owner"] == "you"
    assert "/etc/hosts" in found["message"]
    assert "/etc/hosts" in found["remedy"]


def test_a_system_that_is_not_to_ask_dns(world: World) -> None:
    world.serve(HERE)
    world.nsswitch("hosts: files\n")
    assert "nsswitch" in problem(world.check(), "dns-no-resolver")["message"]


def test_a_failure_without_a_visible_reason(world: World) -> None:
    """The hosts line ends after a no of `files`: DNS is named there, but never asked."""
    world.serve(HERE)
    world.nsswitch("hosts: files [NOTFOUND=return] dns\n")
    report = world.check()
    assert problem(report, "dns-unclear")["status"] == "unknown"
    assert report["verdict"] == "unknown"


# search domains

WILD = {"*.wild.test": addresses("10.66.66.66")}


def test_a_catch_all_search_domain(world: World) -> None:
    world.serve(WILD)
    world.resolv_conf(f"nameserver {SERVER4}", "search corp.test wild.test")
    found = problem(world.check("bb.exampel.test"), "dns-search-domain-hijack")
    assert "bb.exampel.test.wild.test" in found["message"]
    assert f"dig @{SERVER4} bb.exampel.test.wild.test A" in found["reproduce"]
    assert found["owner"] == "you"


def test_a_catch_all_alias(world: World) -> None:
    """The system's canonical name does not show it then."""
    world.serve({"*.wild.test": alias("portal.corp.test"), "portal.corp.test": HERE})
    world.resolv_conf(f"nameserver {SERVER4}", "search wild.test")
    problem(world.check("bb.exampel.test"), "dns-search-domain-hijack")


def test_a_catch_all_search_domain_before_a_name_that_exists(world: World) -> None:
    world.serve({NAME: HERE, **WILD})
    world.resolv_conf(f"nameserver {SERVER4}", "search wild.test", "options ndots:5")
    problem(world.check(), "dns-search-domain-hijack")


@pytest.mark.parametrize("name", ["bitbucket", "bitbucket.tools"])
def test_a_name_that_is_meant_to_be_completed(world: World, name: str) -> None:
    world.serve({f"{name}.svc.test": HERE})
    world.resolv_conf(f"nameserver {SERVER4}", "search app.svc.test svc.test")
    report = world.check(name)
    assert report["verdict"] == "ok"
    assert f"found as {name}.svc.test" in finding(report, "dns-ok")["message"]


def test_a_short_name_in_a_catch_all_domain(world: World) -> None:
    world.serve(WILD)
    world.resolv_conf(f"nameserver {SERVER4}", "search wild.test")
    assert world.check("bitbucket")["verdict"] == "ok"


@pytest.mark.parametrize(
    ("zone", "code"), [({}, "dns-nxdomain"), ({"bitbucket.b.test": SERVFAIL}, "dns-servfail")]
)
def test_a_short_name_that_does_not_resolve(
    world: World, zone: Mapping[str, Behaviour], code: str
) -> None:
    world.serve(zone)
    world.resolv_conf(f"nameserver {SERVER4}", "search a.test b.test")
    problem(world.check("bitbucket"), code)


# invented answers


def test_a_server_that_invents_answers(world: World) -> None:
    world.serve({"*": addresses("10.66.66.66")})
    found = problem(world.check(), "dns-rewritten")
    assert ".invalid A" in found["reproduce"][1]


def test_an_inventor_that_really_knows_the_name(world: World) -> None:
    world.serve({NAME: HERE, "*": addresses("10.66.66.66")})
    assert world.check()["verdict"] == "ok"


def test_a_wildcard_of_ones_own_zone_is_no_invention(world: World) -> None:
    world.serve({"*.lab.test": HERE})
    assert world.check()["verdict"] == "ok"


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="needs dnsmasq")
def test_a_real_forwarder(world: World) -> None:
    """dnsmasq: a catch-all, a name of its own, and a name that does not exist."""
    base = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"]
    base += ["--bind-interfaces", "--conf-file=/dev/null", "--pid-file"]
    world.lab.spawn("server", [*base, f"--listen-address={SERVER4}", "--address=/#/10.66.66.66"])
    own = ["--host-record=bb.lab.test,10.20.30.40", "--local=/test/"]
    world.lab.spawn("server", [*base, f"--listen-address={OTHER4}", *own])
    for address in (SERVER4, OTHER4):
        world.lab.wait_for("server", 53, address)
    problem(world.check(), "dns-rewritten")
    world.resolv_conf(f"nameserver {OTHER4}")
    assert world.check()["verdict"] == "ok"
    problem(world.check("cc.lab.test"), "dns-nxdomain")
