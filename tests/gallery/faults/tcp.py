"""Firewalls, routes, and what listens at the port."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from diag.net.tcp import abort
from tests.certificates import DAY
from tests.gallery.case import HOST, URL, Call, Family
from tests.lab import CLIENT4, ROUTER4, ROUTER6, ROUTERS4, SERVER4, SERVER6

if TYPE_CHECKING:
    from tests.gallery.town import Town
    from tests.lab import Place

TCP = Family("tcp", "TCP: firewalls, routes and ports")

AT_PORT = "tcp dport 443 "
REFUSED, FILTERED, PROHIBITED = "tcp-refused", "tcp-filtered", "tcp-admin-prohibited"
HOST_UNREACHABLE, NET_UNREACHABLE = "tcp-host-unreachable", "tcp-net-unreachable"
DEVICE, EGRESS, NO_ROUTE = (
    "tcp-reset-by-middlebox",
    "tcp-egress-blocked-local",
    "tcp-no-local-route",
)
DOWN, SOURCE, BLACK_HOLE = "tcp-host-down", "tcp-source-not-allowlisted", "tcp-pmtu-blackhole"
RESET, CLOSED, SILENT = (
    "tcp-reset-after-accept",
    "tcp-closed-after-accept",
    "tcp-silent-after-accept",
)
LOSSY, LIMITED = "tcp-lossy", "tcp-connection-limited"
# As any other user: no packets can be captured, no rules read.
ANYBODY = ("setpriv", "--bounding-set=-net_raw,-net_admin")
ADMIN = "reject with icmpx admin-prohibited"
CIRCLE = f"in circles between {ROUTERS4[1]} and {ROUTERS4[2]}"
REPEAT = ("--repeat", "8")
_FULL = """
import socket, time
busy = socket.create_server(("0.0.0.0", 443), backlog=0)
waiting = [socket.socket() for _ in range(4)]
for one in waiting:
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", 443))
ready = socket.create_server(("127.0.0.1", 80))
time.sleep(60)
"""
LOSS = "tcp dport 443 tcp flags & (syn | ack) == syn numgen inc mod 2 == 0 drop"


def _address(town: Town, *, v6: bool) -> None:
    """All of a Bitbucket in good health, which has this one address."""
    town.dns(addresses=(SERVER6 if v6 else SERVER4,))
    town.nginx(town.site(town.bitbucket()))


# what a firewall does to packets, and where it stands


@TCP.fault("T02", FILTERED, "a router drops what goes to the port", told=[f"{ROUTER4} (hop 1)"])
@TCP.fault(
    "T02-ipv6", FILTERED, "a router drops it, over IPv6", v6=True, told=[f"{ROUTER6} (hop 1)"]
)
@TCP.fault(
    "T02-host",
    FILTERED,
    "the server drops it",
    place="server",
    hook="input",
    told=["the last router before the host"],
)
@TCP.fault(
    "T02-far",
    FILTERED,
    "the second of three routers drops it",
    place="router2",
    more=2,
    told=[f"as far as {ROUTERS4[1]} (hop 2), but not to {ROUTERS4[2]} (hop 3)"],
)
@TCP.fault(
    "T02-anybody",
    FILTERED,
    "the second of two routers drops it, seen without privileges",
    place="router2",
    more=1,
    prefix=ANYBODY,
    told=[f"as far as {ROUTERS4[1]} (hop 2), the last router before the host"],
)
@TCP.fault(
    "T02-answers",
    FILTERED,
    "a router lets packets through to the server, and drops its answers",
    verdict="tcp sport 443 drop",
    told=["not one packet back"],
)
@TCP.fault("T03", PROHIBITED, "a router rejects", verdict=AT_PORT + ADMIN, told=["(hop 1) rejects"])
@TCP.fault("T03-ipv6", PROHIBITED, "a router rejects, over IPv6", verdict=AT_PORT + ADMIN, v6=True)
@TCP.fault(
    "T03-host",
    PROHIBITED,
    "the server rejects",
    place="server",
    hook="input",
    verdict=AT_PORT + "reject",
    told=["the host itself rejects"],
)
@TCP.fault(
    "T03-far",
    PROHIBITED,
    "the second of three routers rejects",
    place="router2",
    more=2,
    verdict=AT_PORT + ADMIN,
    told=[f"{ROUTERS4[1]} (hop 2) rejects", f"in the firewall of {ROUTERS4[1]}"],
)
@TCP.fault(
    "T03-port",
    PROHIBITED,
    "a router rejects as iptables does if not told otherwise",
    verdict=AT_PORT + "reject with icmpx port-unreachable",
)
@TCP.fault(
    "T03-host-prohibited",
    PROHIBITED,
    "a router rejects as firewalld does",
    verdict=AT_PORT + "reject with icmp host-prohibited",
)
@TCP.fault(
    "T03-anybody",
    PROHIBITED,
    "the second of two routers rejects, seen without privileges",
    place="router2",
    more=1,
    verdict=AT_PORT + ADMIN,
    prefix=ANYBODY,
    told=[f"{ROUTERS4[1]} (hop 2) rejects"],
)
@TCP.fault(
    "T04",
    HOST_UNREACHABLE,
    "a router says that the host is unreachable",
    verdict=AT_PORT + "reject with icmpx host-unreachable",
    told=[f"{ROUTER4} (hop 1) says"],
)
@TCP.fault(
    "T05",
    NET_UNREACHABLE,
    "a router says that it has no route",
    verdict=AT_PORT + "reject with icmpx no-route",
    told=[f"{ROUTER4} (hop 1) has no route"],
)
@TCP.fault("T06", DEVICE, "a router resets", verdict=AT_PORT + "reject with tcp reset")
@TCP.fault(
    "T06-far",
    DEVICE,
    "the first of three routers resets",
    more=2,
    verdict=AT_PORT + "reject with tcp reset",
)
@TCP.fault(
    "T10",
    EGRESS,
    "the client's own firewall rejects",
    place="client",
    hook="output",
    verdict=AT_PORT + "reject",
)
@TCP.fault(
    "T10-reset",
    EGRESS,
    "the client's own firewall resets",
    place="client",
    hook="output",
    verdict=AT_PORT + "reject with tcp reset",
)
@TCP.fault("T11", EGRESS, "the client's own firewall drops", place="client", hook="output")
@TCP.fault(
    "T12",
    BLACK_HOLE,
    "packets above 600 bytes are lost on the way back",
    verdict=f"ip saddr {SERVER4} tcp sport 443 ip length > 600 drop",
)
@TCP.fault(
    "T12-tunnel",
    BLACK_HOLE,
    "packets above 1300 bytes are lost: TLS and small answers pass",
    verdict=f"ip saddr {SERVER4} tcp sport 443 ip length > 1300 drop",
)
@TCP.fault(
    "R11-far",
    "git-ssh-unreachable",
    "the second of three routers drops what goes to SSH",
    place="router2",
    more=2,
    verdict="tcp dport 7999 drop",
    told=[f"as far as {ROUTERS4[1]} (hop 2), but not to {ROUTERS4[2]} (hop 3)"],
)
@TCP.fault(
    "R11-rejected",
    "git-ssh-unreachable",
    "the second of three routers rejects what goes to SSH",
    place="router2",
    more=2,
    verdict=f"tcp dport 7999 {ADMIN}",
    told=[f"{ROUTERS4[1]} (hop 2) rejects connects"],
)
@TCP.fault(
    "P03-far",
    "proxy-filtered",
    "the second of two routers drops what goes to the proxy",
    place="router2",
    more=1,
    verdict="tcp dport 3128 drop",
    env={"HTTPS_PROXY": f"http://{SERVER4}:3128"},
    told=[f"connects get as far as {ROUTERS4[1]} (hop 2)"],
    also=["proxy-bypass-missing"],
)
@TCP.healthy("far", "behind four routers", place="router4", more=3, verdict="tcp dport 1 drop")
@TCP.healthy(
    "mute",
    "behind routers that say nothing",
    more=1,
    hook="output",
    verdict="ip protocol icmp drop",
)
def firewall(
    town: Town,
    verdict: str = AT_PORT + "drop",
    place: Place = "router",
    hook: str = "forward",
    more: int = 0,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    v6: bool = False,
) -> Call:
    town.lab.lengthen(more)
    _address(town, v6=v6)
    town.lab.rules(place, hook, verdict)
    return Call(prefix=tuple(prefix), env=env or {})


# routes


@TCP.fault(
    "T02-route",
    FILTERED,
    "a router sends it nowhere, without a word",
    place="router2",
    route=["replace blackhole 10.77.2.2"],
)
@TCP.fault(
    "T04-circle",
    HOST_UNREACHABLE,
    "two routers send packets back and forth",
    place="router3",
    route=["replace 10.77.2.0/24 via 10.77.13.1"],
    told=[CIRCLE, "their routes point at each other"],
)
@TCP.fault(
    "T05-route",
    NET_UNREACHABLE,
    "a router has lost its route",
    place="router2",
    route=["add 10.77.1.0/24 via 10.77.12.1", "del default", "del 10.77.2.0/24"],
    told=[f"{ROUTERS4[1]} (hop 2) has no route"],
)
@TCP.fault(
    "T07", NO_ROUTE, "the client has none to the server", route=["add unreachable 10.77.2.0/24"]
)
@TCP.fault("T07-none", NO_ROUTE, "the client has no default route", route=["del default"])
@TCP.fault(
    "T08-gateway",
    DOWN,
    "the client's gateway is down",
    route=["replace 10.77.2.0/24 via 10.77.1.9"],
    told=["the gateway on the way"],
)
def routes(town: Town, route: Sequence[str], place: Place = "client") -> None:
    town.lab.lengthen(2)
    town.healthy()
    town.lab.ip(place, *(f"route {one}" for one in route))


@TCP.fault(
    "T08",
    DOWN,
    "nobody has the address, behind the router",
    address="10.77.2.9",
    told=[f"the router {ROUTER4} found no machine"],
)
@TCP.fault("T08-near", DOWN, "nobody has the address, on this network", address="10.77.1.9")
def nobody(town: Town, address: str) -> None:
    town.dns(addresses=(address,))


@TCP.fault("T09", SOURCE, "a router knows the client by its other address", verdict="drop")
@TCP.fault(
    "T09-prohibited", SOURCE, "a router rejects all but the client's other address", verdict=ADMIN
)
def allow_list(town: Town, verdict: str, place: Place = "router") -> None:
    town.healthy()
    town.lab.ip("client", "addr add 10.77.1.3/24 dev eth0")
    hook = "input" if place == "server" else "forward"
    town.lab.rules(place, hook, f"ip saddr {CLIENT4} tcp dport 443 {verdict}")


# what listens at the port


def _closes(_: socket.socket) -> None:
    """Which `Lab.serve` does."""


def _never_answers(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def _greets(sock: socket.socket) -> None:
    sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    sock.recv(65536)


@TCP.fault("T01", REFUSED, "nothing listens at the port")
@TCP.fault("T01-ipv6", REFUSED, "nothing listens at the port, over IPv6", v6=True)
@TCP.fault("T01-loopback", REFUSED, "it listens for its own machine alone", listens="127.0.0.1")
@TCP.fault(
    "T01-other-family",
    REFUSED,
    "it listens for IPv4 alone, and has an IPv6 address",
    v6=True,
    listens=SERVER4,
)
@TCP.fault("T13", RESET, "accepts and resets", talk=abort)
@TCP.fault("T14", CLOSED, "accepts and closes", talk=_closes)
@TCP.fault("T15", SILENT, "accepts and is silent", talk=_never_answers)
@TCP.fault("T17", "tcp-wrong-service-ssh", "SSH answers at port 443", talk=_greets)
def listener(
    town: Town,
    talk: Callable[[socket.socket], object] | None = None,
    listens: str = "",
    more: int = 0,
    prefix: Sequence[str] = (),
    *,
    v6: bool = False,
) -> Call:
    town.lab.lengthen(more)
    town.dns(addresses=(SERVER6 if v6 else SERVER4,))
    if talk or listens:
        town.lab.serve("server", 443, talk, address=listens or "::")
    return Call(prefix=tuple(prefix))


@TCP.fault("T14-balancer", CLOSED, "a load balancer has no machine behind it", backend="")
def load_balancer(town: Town, backend: str) -> None:
    town.dns()
    town.haproxy(f"listen tcp\n  bind :::443 v4v6\n  mode tcp\n  {backend}\n", 443)


@TCP.fault(
    "T17-url", "tcp-wrong-service-ssh", "the URL names the port of SSH", url=f"https://{HOST}:7999"
)
def wrong_port_given(town: Town, url: str) -> Call:
    town.healthy()
    return Call(url)


@TCP.fault("T16", "tcp-backlog-full", "the service takes no more connections, asked on its machine")
def full_queue(town: Town) -> Call:
    town.dns()
    town.lab.resolv_conf("server", f"nameserver {ROUTER4}\n")
    town.lab.spawn("server", [sys.executable, "-c", _FULL])
    town.lab.wait_for("server", 80)
    return Call(place="server")


@TCP.fault(
    "T20",
    "tcp-wrong-port",
    "Bitbucket is at its own port alone",
    port=7990,
    told=[f"http://{HOST}:7990"],
)
@TCP.fault(
    "T20-http", "tcp-wrong-port", "Bitbucket is at port 80 alone", port=80, told=[f"http://{HOST}"]
)
def plain_at(town: Town, port: int) -> None:
    town.dns()
    base_url = f"http://{HOST}" + ("" if port == 80 else f":{port}")
    town.lab.expose("server", port, town.bitbucket(base_url=base_url))


@TCP.fault("T20-tls", "tcp-wrong-port", "with TLS, at port 8443", told=[f"{URL}:8443"])
@TCP.fault(
    "T20-filtered",
    "tcp-wrong-port",
    "at port 8443, and a router drops what goes to 443",
    drop=True,
    told=[f"{URL}:8443"],
)
def tls_at_8443(town: Town, *, drop: bool = False) -> None:
    town.dns()
    port = town.bitbucket(base_url=f"{URL}:8443")
    town.nginx(
        "server { listen 80; return 404; }",
        town.site(port, listen="listen 8443 ssl;"),
    )
    town.lab.wait_for("server", 8443)
    if drop:
        town.lab.rules("router", "forward", "tcp dport 443 drop")


# several connects
#
# Of limits: `ct state new`, as the kernel counts a connection twice of which two packets come
# within a jiffy, and would then refuse those that stand.


@TCP.fault("T18", LOSSY, "every other connect loses its first packet", verdict=LOSS)
@TCP.fault(
    "T19",
    LIMITED,
    "two connections at a time",
    verdict="tcp dport 443 ct state new ct count over 2 reject with tcp reset",
)
@TCP.fault(
    "T19-drop",
    LIMITED,
    "three connections at a time",
    verdict="tcp dport 443 ct state new ct count over 3 drop",
)
def repeated(town: Town, verdict: str) -> Call:
    town.healthy()
    town.lab.rules("server", "input", verdict)
    return Call(options=REPEAT)


# two faults at once


@TCP.fault(
    "T02+I03",
    FILTERED,
    "a router drops it, and the URL is that of a page",
    seen=["input-url-has-page-path"],
    url=f"{URL}/projects/MOB/repos/app/browse",
)
@TCP.fault(
    "T02+I01",
    FILTERED,
    "a router drops it, and the URL has no https://",
    seen=["input-url-missing-scheme"],
    url=HOST,
)
def dropped_and_a_wrong_url(town: Town, url: str) -> Call:
    town.healthy()
    town.lab.rules("router", "forward", "tcp dport { 80, 443 } drop")
    return Call(url)


@TCP.fault(
    "T18+R11",
    LOSSY,
    "packets get lost, and a firewall drops those to SSH",
    seen=["git-ssh-unreachable"],
    verdict=LOSS,
)
@TCP.fault(
    "T19+R11",
    LIMITED,
    "two connections at a time, and none to SSH",
    seen=["git-ssh-unreachable"],
    verdict="tcp dport 443 ct state new ct count over 2 reject with tcp reset",
)
def flaps_and_ssh_is_dropped(town: Town, verdict: str) -> Call:
    town.healthy()
    town.lab.rules("server", "input", verdict, "tcp dport 7999 drop")
    return Call(options=REPEAT)


@TCP.fault(
    "L01+T19",
    "tls-expired",
    "the certificate has expired, and two connections at a time are let through",
    seen=[LIMITED],
)
def limited_and_expired(town: Town) -> Call:
    town.healthy(certificate=town.ca.issue(HOST, starts=-90 * DAY, ends=-DAY))
    town.lab.rules(
        "server", "input", "tcp dport 443 ct state new ct count over 2 reject with tcp reset"
    )
    return Call(options=REPEAT)


@TCP.fault(
    "L01+D13",
    "tls-expired",
    "the certificate has expired, and to one of two addresses a router drops packets",
    seen=["dns-partial-dead"],
    other="10.77.2.3",
)
@TCP.fault(
    "L01+D14",
    "tls-expired",
    "the certificate has expired, and packets to the IPv6 address are dropped",
    seen=["dns-aaaa-broken"],
    other=SERVER6,
)
def one_address_and_expired(town: Town, other: str) -> None:
    town.dns(addresses=(SERVER4, other))
    certificate = town.ca.issue(HOST, starts=-90 * DAY, ends=-DAY)
    town.nginx(town.site(town.bitbucket(), certificate=certificate))
    family = "ip6" if ":" in other else "ip"
    town.lab.rules("router", "forward", f"{family} daddr {other} drop")


TCP.near_miss("no answer", "T02", "T11")
TCP.near_miss("no answer", "T02", "T16")
TCP.near_miss("no answer", "T02", "T09")
TCP.near_miss("no answer", "T02", "T12")
TCP.near_miss("no answer", "T02", "T15")
TCP.near_miss("no answer", "T02-host", "T20-filtered")
TCP.near_miss("connection refused", "T01", "T06")
TCP.near_miss("connection refused", "T01", "T10")
TCP.near_miss("connection refused", "T01", "T20")
TCP.near_miss("no route to host", "T03", "T08")
TCP.near_miss("no route to host", "T04", "T03-host-prohibited")
TCP.near_miss("network is unreachable", "T05", "T07-none")
TCP.near_miss("no route to host", "T04-circle", "T07")
TCP.near_miss("TLS breaks off", "T13", "T14")
TCP.near_miss("TLS breaks off", "T14-balancer", "T17")
