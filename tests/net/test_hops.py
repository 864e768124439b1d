"""Where packets stop, over several real routers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from diag.net import hops
from diag.net.hops import UDP, Hop, Trace
from tests.lab import (
    CLIENT4,
    ROUTER4,
    ROUTER6,
    ROUTERS4,
    ROUTERS6,
    SERVER4,
    SERVER6,
)

if TYPE_CHECKING:
    from tests.lab import Lab

pytestmark = pytest.mark.lab
FAMILIES = ((SERVER4, ROUTERS4), (SERVER6, ROUTERS6))
Asked = tuple[str, int, int | None]  # address, port, beside


def follow(lab: Lab, *asked: Asked) -> list[Trace]:
    """All traces at once, from the client."""

    def one(each: Asked) -> Trace | None:
        address, port, beside = each
        return lab.call("client", hops.trace, address, port, 1.8, beside)

    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(one, asked))
    assert all(found)
    return [trace for trace in found if trace]


def numbers(trace: Trace) -> Mapping[int, str]:
    return {hop.number: " ".join(hop.addresses) for hop in trace.connects.hops}


def mute(lab: Lab, *places: str) -> None:
    """Routers that never say that a packet ran out of time to live."""
    for place in places:
        lab.rules(
            place,  # type: ignore[arg-type]
            "output",
            "icmp type time-exceeded drop",
            "icmpv6 type time-exceeded drop",
        )


def test_the_last_router_before_the_silence_and_the_first_behind_it(lab: Lab) -> None:
    lab.lengthen(3)
    lab.serve("server", 80)
    lab.rules("router2", "forward", "tcp dport 443 drop")
    asked = [(address, 443, beside) for address, _ in FAMILIES for beside in (None, UDP, 80)]
    traces = iter(follow(lab, *asked))
    for address, routers in FAMILIES:
        for reference in ("", "UDP", "port 80"):
            trace = next(traces)
            assert trace.words == trace.stop.where
            assert numbers(trace) == {1: routers[0], 2: routers[1]}
            assert trace.last == Hop(2, (routers[1],))
            assert trace.reference == reference
            if not reference:
                assert trace.stop.where.endswith(
                    f"{routers[1]} (hop 2); nothing answers from beyond"
                )
                continue
            assert trace.distance == 5
            assert trace.beyond == Hop(3, (routers[2],))
            assert (
                f"but not to {routers[2]} (hop 3), which answers to {reference}" in trace.stop.where
            )
            assert routers[1] in trace.stop.whom
            assert trace.evidence()["host_hop"] == 5, address


def test_what_is_dropped_before_it_is_counted(lab: Lab) -> None:
    """As many firewalls do: the router that drops is the first that does not answer."""
    lab.lengthen(2)
    lab.rules("router2", "prerouting", "tcp dport 443 drop")
    for trace, (_, routers) in zip(
        follow(lab, *((address, 443, UDP) for address, _ in FAMILIES)), FAMILIES, strict=True
    ):
        assert numbers(trace) == {1: routers[0]}
        assert trace.beyond == Hop(2, (routers[1],))
        assert f"{routers[0]} and {routers[1]} (hop 2): one of these" in trace.stop.whom


def test_a_silent_router_is_not_accused(lab: Lab) -> None:
    lab.lengthen(3)
    mute(lab, "router2", "router3")
    lab.rules("router4", "forward", "tcp dport 443 drop")
    lab.rules("server", "input", "tcp dport 444 drop")
    for trace, (_, routers) in zip(
        follow(lab, *((address, 443, UDP) for address, _ in FAMILIES)), FAMILIES, strict=True
    ):
        assert numbers(trace) == {1: routers[0], 4: routers[3]}
        assert trace.stop.where.endswith(f"{routers[3]} (hop 4), the last router before the host")
        assert "and who runs the host" in trace.stop.whom
    mute(lab, "router4")
    for trace, (_, routers) in zip(
        follow(lab, *((address, 444, UDP) for address, _ in FAMILIES)), FAMILIES, strict=True
    ):
        assert trace.beyond is None
        assert trace.stop.where == (
            f"connects get as far as {routers[0]} (hop 1); the host is hop 5, and no router between"
            " them answers"
        )


def test_where_no_router_answers_nothing_is_concluded(lab: Lab) -> None:
    lab.lengthen(2)
    mute(lab, "router", "router2", "router3")
    lab.rules("server", "input", "tcp dport 443 drop")
    for trace in follow(lab, (SERVER4, 443, UDP), (SERVER6, 443, None)):
        assert trace.last is None
        assert trace.stop == ("no router on the way tells how far connects get", "")


def test_a_firewall_of_this_machine_or_of_the_first_router(lab: Lab) -> None:
    lab.lengthen(1)
    lab.rules("client", "output", "tcp dport 443 drop")
    for trace, router in zip(
        follow(lab, (SERVER4, 443, UDP), (SERVER6, 443, UDP)), (ROUTER4, ROUTER6), strict=True
    ):
        assert numbers(trace) == {}
        assert trace.stop.where == (
            f"connects do not even get to {router} (hop 1), which answers to UDP"
        )
        assert trace.stop.whom.endswith("or this machine does.")


def test_other_packets_that_may_not_be_sent_tell_nothing(lab: Lab) -> None:
    lab.rules("client", "output", "udp dport > 33000 drop")
    lab.rules("router", "forward", "tcp dport 443 drop")
    [trace] = follow(lab, (SERVER4, 443, UDP))
    assert trace.reference == ""
    assert trace.last == Hop(1, (ROUTER4,))


def test_no_router_between(lab: Lab) -> None:
    lab.rules("router", "input", "tcp dport 443 drop")
    for trace in follow(lab, (ROUTER4, 443, UDP), (ROUTER6, 443, 80)):
        assert trace.neighbour
        assert trace.stop.where == "no router lies between"


def test_nobody_there(lab: Lab) -> None:
    for trace in follow(lab, ("10.77.1.9", 443, UDP), ("fd77:1::9", 443, None)):
        assert not trace.neighbour
        assert trace.stop.where == f"nobody has the address {trace.address} on the local network"


@pytest.mark.parametrize("hook", ["forward", "prerouting"])
def test_the_hop_of_who_rejects(lab: Lab, hook: str) -> None:
    lab.lengthen(2)
    lab.rules("router2", hook, "tcp dport 443 reject with icmpx admin-prohibited")
    for address, routers in FAMILIES:
        [trace] = follow(lab, (address, 443, None))
        assert trace.connects.icmp is not None
        assert trace.place(routers[1]) == f"{routers[1]} (hop 2)"
        assert trace.place("10.1.1.1") == "10.1.1.1"
        assert trace.words.startswith(f"{routers[1]} (hop 2) rejects connects (ICMP type ")
        assert not trace.answered


def test_a_router_that_rejects_and_says_nothing_else(lab: Lab) -> None:
    """Whether it looks at packets before it counts them cannot be known."""
    lab.lengthen(2)
    mute(lab, "router2")
    lab.rules("router2", "forward", "tcp dport 443 reject with icmpx admin-prohibited")
    [trace] = follow(lab, (SERVER4, 443, None))
    assert trace.place(ROUTERS4[1]) == f"{ROUTERS4[1]} (hop 2 or 3)"


def test_packets_that_go_round_in_circles(lab: Lab) -> None:
    lab.lengthen(2)
    lab.ip("router3", "route replace 10.77.2.0/24 via 10.77.13.1")
    [trace] = follow(lab, (SERVER4, 443, None))
    assert trace.connects.loop == (ROUTERS4[1], ROUTERS4[2])
    assert "in circles between 10.77.12.2 and 10.77.13.2" in trace.stop.where


def test_the_address_itself_passes_packets_on(lab: Lab) -> None:
    """A port forwarding into nothing."""
    lab.sysctl("server", "net.ipv4.ip_forward=1")
    lab.ip(
        "server",
        "link add dead type veth peer name end",
        "link set dead up",
        "link set end up",
        "route add 10.9.0.0/16 dev dead",
    )
    lab.nft(
        "server",
        "table ip n { chain c { type nat hook prerouting priority -100;"
        " tcp dport 443 dnat to 10.9.0.1; }; }",
    )
    [trace] = follow(lab, (SERVER4, 443, UDP))
    assert trace.stop.where == f"connects get to {SERVER4} (hop 2) itself, and no farther"


def test_two_ways_of_unequal_length_accuse_nobody_else(lab: Lab) -> None:
    """Packets go by turns over router2 or past it; the last router drops."""
    lab.lengthen(2)
    lab.ip(
        "router",
        f"link add past type veth peer name past netns {lab.name('router3')}",
        "addr add 10.77.30.1/24 dev past",
        "link set past up",
    )
    lab.ip("router3", "addr add 10.77.30.2/24 dev past", "link set past up")
    lab.ip(
        "router",
        "route replace 10.77.2.0/24 nexthop via 10.77.12.2 nexthop via 10.77.30.2",
    )
    lab.sysctl("router", "net.ipv4.fib_multipath_hash_policy=1")
    lab.sysctl("router3", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.past.rp_filter=0")
    lab.rules("router3", "forward", "tcp dport 443 drop")
    traces = list(follow(lab, *[(SERVER4, 443, UDP)] * 5))
    for trace in traces:
        assert {address for hop in trace.connects.hops for address in hop.addresses} <= {
            *ROUTERS4[:3]
        }
    # Which way a packet goes is left to chance: a trace may see but one of the two.
    assert any(ROUTERS4[2] in trace.stop.whom for trace in traces)


def test_who_answers_is_not_silent(lab: Lab) -> None:
    lab.serve("server", 443)
    opened, refused = follow(lab, (SERVER4, 443, None), (SERVER6, 444, None))
    for trace, routers in ((opened, ROUTERS4), (refused, ROUTERS6)):
        assert trace.answered
        assert numbers(trace) == {1: routers[0]}


def test_no_privileges_are_needed(lab: Lab) -> None:
    lab.lengthen(1)
    lab.rules("router2", "forward", "tcp dport 443 drop")
    # Somebody else may not be able to read this Python: it becomes nobody once it is loaded.
    code = (
        "import os, encodings.idna; from diag.net import hops; os.setgroups([]);"
        " os.setgid(65534); os.setuid(65534);"
        f" print(hops.trace({SERVER4!r}, 443, 1.8, hops.UDP).stop[0])"
    )
    done = lab.run("client", [sys.executable, "-c", code], privileged=False)
    assert f"{ROUTERS4[1]} (hop 2)" in done.stdout, done.stderr


def test_what_cannot_be_traced(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    trace: Callable[..., Trace | None] = hops.trace
    assert lab.call("client", trace, CLIENT4, 443, 1.8) is None  # itself
    assert lab.call("client", trace, SERVER4, 443, 0.5) is None  # no time
    lab.ip("client", "route add unreachable 10.9.0.0/16")
    assert lab.call("client", trace, "10.9.0.1", 443, 1.8) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert lab.call("client", trace, SERVER4, 443, 1.8) is None


def test_several_addresses_of_a_hop_are_all_named() -> None:
    assert str(Hop(3, ("10.1.1.1", "10.1.2.1"))) == "10.1.1.1 or 10.1.2.1 (hop 3)"
