"""Names, the servers that resolve them, and the files of the machine that say otherwise; clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dns.dnssec
import dns.dnssectypes
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import DAY, root, self_signed
from tests.dns_server import (
    Behaviour,
    addresses,
    alias,
    by_turns,
    first,
    later,
    only,
    rcode,
    silent,
    too_long,
)
from tests.gallery.case import HOST, URL, Call, Family
from tests.lab import ROUTER4, ROUTER6, SERVER4, SERVER6

if TYPE_CHECKING:
    from typing import Literal

    from dns.rdtypes.ANY.DNSKEY import DNSKEY

    from tests.certificates import Identity
    from tests.gallery.town import Town
    from tests.lab import Place

    Tcp = Literal["serve", "refuse", "ignore"]

DNS = Family("dns", "DNS and clocks; what differs by resolver, by address and by try")

OTHER4 = "10.77.2.3"  # a second address of the server
NOBODY4, NOBODY6 = "10.77.2.99", "fd77:2::99"  # in the server's network, but of no machine
FAR4, PUBLIC4 = "10.99.9.9", "93.184.215.14"  # no router knows the way there
HERE = addresses(SERVER4)
SERVFAIL, REFUSED, NXDOMAIN = rcode("SERVFAIL"), rcode("REFUSED"), rcode("NXDOMAIN")
INTERMITTENT, AAAA, SPLIT = "dns-resolver-intermittent", "dns-aaaa-broken", "dns-split-horizon"
PARTIAL, BROKEN, HOSTS = "dns-partial-dead", "dns-partial-broken", "dns-hosts-override"
FLAPS, LIMIT = "http-intermittent", "http-gateway-rate-limited"
BLACK_HOLE = "tcp-pmtu-blackhole"


def resolver(
    town: Town,
    zone: Behaviour | Mapping[str, Behaviour],
    place: Place = "router",
    address: str = ROUTER4,
    tcp: Tcp = "serve",
) -> None:
    """A DNS server that does as it is told; the client asks it, after those it asks already."""
    known = zone if isinstance(zone, Mapping) else {HOST: zone}
    town.dns_server(known, place, address, tcp=tcp)
    file = Path("/etc/netns", town.lab.name("client"), "resolv.conf")
    town.lab.resolv_conf("client", f"{file.read_text()}nameserver {address}\n")


def bitbucket(town: Town) -> None:
    """nginx and Bitbucket, in good health."""
    town.nginx(town.site(town.bitbucket()))


# what the resolver says


@DNS.fault("D01", "dns-nxdomain", "dnsmasq does not have the name")
@DNS.fault(
    "D02",
    "dns-nodata",
    "dnsmasq has the name, without an address",
    options=["--host-record=other.lab.test,10.1.1.1", f"--txt-record={HOST},x"],
)
@DNS.fault(
    "D08", "dns-cname-dangling", "an alias to nowhere", options=[f"--cname={HOST},gone.lab.test"]
)
@DNS.fault(
    "D11", "dns-sinkholed", "a blocklist of dnsmasq, A and AAAA", options=[f"--address=/{HOST}/#"]
)
@DNS.fault(
    "D11-ipv4",
    "dns-sinkholed",
    "a blocklist that answers 0.0.0.0",
    options=[f"--host-record={HOST},0.0.0.0"],
)
@DNS.fault(
    "D11-ipv6", "dns-sinkholed", "a blocklist that answers ::", options=[f"--host-record={HOST},::"]
)
@DNS.fault(
    "D10",
    "dns-resolves-loopback",
    "the name is 127.0.0.1",
    options=[f"--host-record={HOST},127.0.0.1"],
)
@DNS.fault(
    "D10-ipv6", "dns-resolves-loopback", "the name is ::1", options=[f"--host-record={HOST},::1"]
)
def dnsmasq(town: Town, options: Sequence[str] = ()) -> None:
    town.dns(*options, addresses=())


@DNS.fault(
    "D01-spelling",
    "dns-nxdomain",
    "a slip of the pen, beside a Bitbucket in good health",
    url="https://bitbuket.lab.test",
)
@DNS.fault(
    "D04-zone",
    "dns-refused",
    "dnsmasq knows one zone alone, and the name is in another",
    url="https://bb.corp.example",
)
def another_name(town: Town, url: str) -> Call:
    town.healthy()
    return Call(url)


@DNS.fault("D02-own", "dns-nodata", "no address of any kind", zone=addresses())
@DNS.fault("D03", "dns-servfail", "SERVFAIL", zone=SERVFAIL)
@DNS.fault("D04", "dns-refused", "REFUSED", zone=REFUSED)
@DNS.fault(
    "D08-chain",
    "dns-cname-dangling",
    "the second of two aliases leads nowhere",
    zone={HOST: alias("lb.lab.test"), "lb.lab.test": alias("gone.cloud.test")},
    told=["gone.cloud.test"],
)
@DNS.fault(
    "D09",
    "dns-cname-loop",
    "two aliases that lead to one another",
    zone={HOST: alias("lb.lab.test"), "lb.lab.test": alias(HOST)},
)
@DNS.fault("D09-self", "dns-cname-loop", "an alias of itself", zone={HOST: alias(HOST)})
@DNS.fault("D20-closed", "dns-tcp-blocked", "TC, tcp/53 closed", zone=too_long(HERE), tcp="refuse")
def a_server_that_misbehaves(
    town: Town, zone: Behaviour | Mapping[str, Behaviour], tcp: Tcp = "serve"
) -> None:
    resolver(town, zone, tcp=tcp)


@DNS.fault("D16", "dns-slow", "an answer after 1.8 s", zone=later(1.8, HERE))
@DNS.fault("D16-aaaa", "dns-slow", "questions for AAAA are lost", zone=only("A", HERE, silent))
@DNS.healthy("dns-half-second", "an answer after half a second", zone=later(0.5, HERE))
@DNS.healthy("dns-long", "an answer that only fits into TCP", zone=too_long(HERE))
@DNS.healthy("dns-no-aaaa", "NOTIMP for AAAA", zone=only("A", HERE, rcode("NOTIMP")))
@DNS.healthy(
    "dns-chain",
    "three aliases, one after the other",
    zone={
        HOST: alias("lb.lab.test"),
        "lb.lab.test": alias("eu.lab.test"),
        "eu.lab.test": alias("node7.lab.test"),
        "node7.lab.test": HERE,
    },
)
@DNS.healthy("dns-wildcard", "a zone that has every name", zone={"*.lab.test": HERE})
def a_server_that_answers(town: Town, zone: Behaviour | Mapping[str, Behaviour]) -> None:
    resolver(town, zone)
    bitbucket(town)


@DNS.fault("D20", "dns-tcp-blocked", "forty addresses, and tcp/53 dropped")
def forty_addresses(town: Town) -> None:
    """More than a datagram without extensions takes: dnsmasq cuts it short."""
    town.dns(addresses=[f"10.77.3.{number}" for number in range(1, 41)])
    town.lab.rules("router", "input", "tcp dport 53 drop")


# no resolver


@DNS.fault("D05", "dns-timeout", "a firewall drops udp/53", rule="udp dport 53 drop")
@DNS.fault(
    "D06-rejected",
    "dns-resolver-unreachable",
    "a firewall rejects udp/53",
    rule="udp dport 53 reject with icmpx admin-prohibited",
)
@DNS.fault(
    "D06-route",
    "dns-resolver-unreachable",
    "a router has no way to the resolver",
    rule="udp dport 53 reject with icmpx no-route",
    told=["Network is unreachable"],
)
def a_firewall(town: Town, rule: str, hook: str = "input", place: Place = "router") -> None:
    town.dns()
    town.lab.rules(place, hook, rule)


@DNS.fault("D05-gone", "dns-timeout", "the only resolver is a machine that is gone", at=NOBODY4)
@DNS.fault("D06", "dns-resolver-unreachable", "nothing listens on udp/53", at=ROUTER4)
@DNS.fault("D06-ipv6", "dns-resolver-unreachable", "nothing listens, on IPv6", at=ROUTER6)
@DNS.fault("D07", "dns-no-resolver", "no resolver is entered", at=None)
def no_resolver(town: Town, at: str | None) -> None:
    town.lab.resolv_conf("client", f"nameserver {at}\n" if at else "# by hand\n")


@DNS.fault("D07-nsswitch", "dns-no-resolver", "nsswitch.conf does not name dns", told=["nsswitch"])
def files_alone(town: Town) -> None:
    town.dns()
    Path("/etc/netns", town.lab.name("client"), "nsswitch.conf").write_text("hosts: files\n")


@DNS.fault(
    "B09-refused",
    "base-url-ssh-unreachable",
    "SSH links with a name that the resolver refuses to look up",
    told=["ssh.corp.example", "does not resolve"],
)
def links_to_another_zone(town: Town) -> None:
    town.dns()
    town.nginx(town.site(town.bitbucket(ssh="ssh.corp.example")))


# several resolvers


@DNS.fault("D22", INTERMITTENT, "the first of two says SERVFAIL", zones=[SERVFAIL, HERE])
@DNS.fault("D22-second", INTERMITTENT, "the second of two says SERVFAIL", zones=[HERE, SERVFAIL])
@DNS.fault("D22-silent", INTERMITTENT, "the first of two is silent", zones=[silent, HERE])
@DNS.fault("D12-two", SPLIT, "only the second of two has the name", zones=[NXDOMAIN, HERE])
@DNS.healthy("dns-two", "two resolvers that agree", zones=[HERE, HERE])
def two_resolvers(town: Town, zones: Sequence[Behaviour | str]) -> None:
    for zone, (place, address) in zip(zones, _TWO, strict=True):
        resolver(town, addresses(zone) if isinstance(zone, str) else zone, place, address)
    bitbucket(town)


_TWO: tuple[tuple[Place, str], ...] = (("router", ROUTER4), ("server", SERVER4))


@DNS.fault("D12", SPLIT, "inside a private address, outside a public one", inside=addresses(FAR4))
@DNS.fault("D12-absent", SPLIT, "the name exists only outside", inside=NXDOMAIN)
@DNS.fault(
    "D03-asked", "dns-servfail", "SERVFAIL, and another knows", inside=SERVFAIL, told=[PUBLIC4]
)
@DNS.healthy("dns-asked", "another resolver, which agrees", inside=HERE, outside=HERE)
@DNS.healthy("dns-asked-fails", "another resolver, which fails", inside=HERE, outside=SERVFAIL)
def another_resolver_is_asked(
    town: Town, inside: Behaviour, outside: Behaviour | None = None
) -> Call:
    resolver(town, inside)
    town.dns_server({HOST: outside or addresses(PUBLIC4)}, "server", SERVER4)
    bitbucket(town)
    return Call(options=("--resolver", SERVER4))


@DNS.fault(
    "D22-flaps",
    INTERMITTENT,
    "one of three answers is SERVFAIL",
    zone=first(4, HERE, by_turns(HERE, HERE, SERVFAIL)),
    told=["to 4 of 12 (33 %, 95 % interval 14–61 %) questions"],
)
@DNS.fault(
    "D22-lossy",
    INTERMITTENT,
    "one of four questions gets lost",
    zone=by_turns(HERE, HERE, silent, HERE),
)
@DNS.healthy(
    "dns-by-turns",
    "by turns one of two addresses",
    requests=26,
    zone=by_turns(HERE, addresses(OTHER4)),
)
def asked_again(town: Town, zone: Behaviour) -> Call:
    town.lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
    resolver(town, zone)
    bitbucket(town)
    return Call(options=("--repeat", "12"))


# who invents


@DNS.fault(
    "D21",
    "dns-rewritten",
    "a name that does not exist leads to a portal",
    options=[f"--address=/#/{SERVER4}"],
)
@DNS.fault(
    "D21-dead",
    "dns-rewritten",
    "… to a portal that is not there",
    options=[f"--address=/#/{NOBODY4}"],
)
def a_portal_for_every_name(town: Town, options: Sequence[str]) -> Call:
    town.dns(*options, addresses=())
    page = "default_type text/html; return 200 '<title>Did you mean</title>';"
    town.nginx(town.site(1, certificate=town.ca.issue("portal.lab.test"), location=page))
    return Call("https://bb.corp.example")


@DNS.healthy("dns-catch-all", "an inventor that really knows the name")
def an_inventor_that_knows(town: Town) -> None:
    town.dns(f"--address=/#/{NOBODY4}")
    bitbucket(town)


@DNS.fault("D18", "dns-search-domain-hijack", "a search domain has every name")
@DNS.fault(
    "D18-ndots",
    "dns-search-domain-hijack",
    "… and is tried before the name itself, which exists",
    url=URL,
    more="options ndots:5\n",
)
@DNS.healthy("dns-search", "the same search domain, which is not needed", url=URL)
def a_search_domain(town: Town, url: str = "https://bitbuket.lab.test", more: str = "") -> Call:
    town.dns(f"--address=/wild.test/{NOBODY4}")
    town.lab.resolv_conf("client", f"search wild.test\nnameserver {ROUTER4}\n{more}")
    bitbucket(town)
    return Call(url)


@DNS.healthy("dns-short", "a short name, completed by the second search domain")
def a_short_name(town: Town) -> Call:
    town.dns(addresses=())
    resolver(town, {"bb.tools.lab.test": HERE, "*": NXDOMAIN}, "server", SERVER4)
    town.lab.resolv_conf("client", f"search corp.test tools.lab.test\nnameserver {SERVER4}\n")
    port = town.bitbucket(base_url="https://bb", ssh="bb")
    town.nginx(town.site(port, certificate=town.ca.issue("bb")))
    return Call("https://bb")


# DNSSEC: unbound validates a zone that was really signed


@DNS.fault("D19", "dns-dnssec-bogus", "signed with another key than the parent's", wrong=True)
@DNS.fault("D19-old", "dns-dnssec-bogus", "the signatures ended yesterday", starts=-9, ends=-1)
@DNS.fault("D19-early", "dns-dnssec-bogus", "the signatures begin in five days", starts=5)
@DNS.healthy("dns-dnssec", "a signed zone, and a resolver that validates")
def a_signed_zone(town: Town, starts: int = -1, ends: int = 30, wrong: bool = False) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    file = town.write("lab.test.zone", _signed(key, starts * DAY, ends * DAY))
    anchor = _public(other if wrong else key)
    town.unbound(
        f'  local-zone: "test." nodefault\n  trust-anchor: "lab.test. DNSKEY {anchor}"\n'
        f'auth-zone:\n  name: "lab.test."\n  zonefile: "{file}"\n'
        "  for-downstream: no\n  for-upstream: yes\n"
    )
    town.lab.resolv_conf("client", f"nameserver {ROUTER4}\n")
    bitbucket(town)


def _public(key: ec.EllipticCurvePrivateKey) -> DNSKEY:
    return dns.dnssec.make_dnskey(
        key.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257
    )


def _signed(key: ec.EllipticCurvePrivateKey, starts: timedelta, ends: timedelta) -> str:
    text = f"@ 60 SOA ns root 1 60 60 60 60\n@ 60 NS ns\nns 60 A {ROUTER4}\nbb 60 A {SERVER4}\n"
    zone = dns.zone.from_text(text, "lab.test.")
    now = datetime.now(UTC)
    dns.dnssec.sign_zone(
        zone,
        keys=[(key, _public(key))],
        inception=now + starts,
        expiration=now + ends,
        dnskey_ttl=60,
    )
    return zone.to_text(relativize=False)


# the addresses


@DNS.fault("D13", PARTIAL, "the second address is of no machine", dead=NOBODY4)
@DNS.fault("D13-closed", PARTIAL, "nothing listens at the second address", dead=OTHER4)
@DNS.fault("D14", AAAA, "the IPv6 address is of no machine", dead=NOBODY6)
@DNS.fault("D14-closed", AAAA, "nothing listens on IPv6", dead=SERVER6)
@DNS.fault(
    "D14-dropped",
    AAAA,
    "a firewall drops IPv6 alone",
    dead=SERVER6,
    listen="listen 443 ssl; listen [::]:443 ssl;",
    rule=f"ip6 daddr {SERVER6} drop",
)
def a_dead_address(
    town: Town, dead: str, listen: str = f"listen {SERVER4}:443 ssl;", rule: str = ""
) -> None:
    if dead == OTHER4:
        town.lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
    town.dns(addresses=(SERVER4, dead))
    certificate = town.ca.issue(HOST)
    waited_for = "listen 127.0.0.1:80;"
    site = town.site(town.bitbucket(), certificate=certificate, listen=f"{listen} {waited_for}")
    town.nginx(site)
    if rule:
        town.lab.rules("router", "forward", rule)


@DNS.fault("D15", "dns-ipv6-only", "only IPv6 is published, and the client has no route")
@DNS.fault(
    "D15-address",
    "dns-ipv6-only",
    "… and the client has no address for it",
    command="-6 addr flush dev eth0 scope global",
)
def ipv6_alone(town: Town, command: str = "-6 route del default") -> None:
    town.dns(addresses=(SERVER6,))
    town.lab.ip("client", command)


def two_nodes(town: Town, bad: str, certificate: Identity | None = None, repeat: int = 3) -> Call:
    """One of two machines behind the name is ill; `bad` is what it does with requests."""
    town.lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
    town.dns(addresses=(SERVER4, OTHER4))
    port, good = town.bitbucket(), town.ca.issue(HOST)
    mine = town.site(port, certificate=good, listen="listen 443 ssl;")
    pair = (
        town.write("bad.pem", (certificate or good).chain()),
        town.write("bad.key", (certificate or good).key_pem),
    )
    ill = town.site(port, certificate=pair, listen=f"listen {OTHER4}:443 ssl;", location=bad)
    town.nginx(mine, ill)
    return Call(options=("--repeat", str(repeat)) if repeat > 1 else ())


@DNS.fault("D13-502", BROKEN, "the machine at the second address answers 503", bad="return 503;")
def an_ill_machine(town: Town, bad: str) -> Call:
    return two_nodes(town, bad)


@DNS.fault("D13-expired", BROKEN, "the machine at the second address has an old certificate")
def an_old_certificate(town: Town) -> Call:
    return two_nodes(town, "", root().issue(HOST, starts=-90 * DAY, ends=-DAY))


@DNS.fault(
    "D13-taken",
    BROKEN,
    "the machine at the address that is taken has a certificate of its own making",
)
def the_address_that_is_taken(town: Town) -> Call:
    """Without --repeat: the first packet to the good one gets lost, so that the other is taken."""
    first_packet = "tcp dport 443 tcp flags syn numgen inc mod 1000 == 0"
    town.lab.rules("router", "forward", f"ip daddr {SERVER4} {first_packet} drop")
    return two_nodes(town, "", self_signed(HOST), repeat=1)


# the hosts file


@DNS.fault("D17", HOSTS, "an old line leads to an address without a way", line=FAR4)
@DNS.fault("D17-gone", HOSTS, "… to a machine that is gone", line=NOBODY4)
@DNS.fault("D10-hosts", "dns-resolves-loopback", "the line says 127.0.0.1", line="127.0.0.1")
@DNS.healthy("dns-hosts", "a line that says what DNS says", line=SERVER4)
def a_hosts_line(town: Town, line: str) -> None:
    town.healthy()
    town.lab.hosts("client", {HOST: [line]})


@DNS.healthy("dns-hosts-alone", "a name that only the hosts file has")
def the_hosts_file_alone(town: Town) -> None:
    town.dns(addresses=())
    town.lab.hosts("client", {HOST: [SERVER4]})
    bitbucket(town)


@DNS.fault("D17-machine", HOSTS, "a line leads to another machine that lives")
@DNS.fault(
    "L05-hosts",
    "tls-self-signed",
    "a line leads to a new server, whose certificate is not yet there: it may be meant",
    also=[HOSTS],
    name=HOST,
)
def another_machine(town: Town, name: str = "wiki.lab.test") -> None:
    two_nodes(town, "return 404;", self_signed(name))
    town.lab.hosts("client", {HOST: [OTHER4]})
    resolver(town, HERE, "server", SERVER4)
    town.lab.resolv_conf("client", f"nameserver {SERVER4}\n")


# what flaps behind one address


@DNS.fault("H10-flaps", FLAPS, "one of three backends is not there", told=["HTTP 503 from"])
@DNS.healthy("repeat", "asked fifteen times, and all is well", requests=30, dead=0)
def backends(town: Town, dead: int = 1) -> Call:
    town.dns()
    port = town.bitbucket()
    crt = town.bundle(town.ca.issue(HOST))
    servers = "".join(f"server good{n} 127.0.0.1:{port}\n" for n in range(2))
    servers += "server dead 127.0.0.1:1\n" * dead
    town.haproxy(
        f"frontend web\nbind :443 ssl crt {crt}\ndefault_backend bitbucket\n"
        f"backend bitbucket\nbalance roundrobin\nretries 0\n{servers}",
        443,
    )
    return Call(options=("--repeat", "15"))


@DNS.fault(
    "Q02-flaps",
    LIMIT,
    "a limit that an ordinary run does not reach",
    told=["of 30 ("],
)
def a_limit_beyond_an_ordinary_run(town: Town) -> Call:
    town.dns()
    town.nginx(
        town.site(town.bitbucket(), location="limit_req zone=lab burst=12 nodelay;"),
        http="limit_req_zone $server_port zone=lab:1m rate=2r/s;",
    )
    return Call(options=("--repeat", "30"))


@DNS.fault("L01-flaps", "tls-unsteady", "one of two machines has an old certificate")
def a_certificate_by_turns(town: Town) -> Call:
    """haproxy shares connections out, unopened."""
    town.dns()
    port = town.bitbucket()
    old = root().issue(HOST, starts=-90 * DAY, ends=-DAY)
    pair = town.write("old.pem", old.chain()), town.write("old.key", old.key_pem)
    town.nginx(
        town.site(port, listen="listen 127.0.0.1:80; listen 127.0.0.1:8441 ssl;"),
        town.site(port, certificate=pair, listen="listen 127.0.0.1:8442 ssl;"),
    )
    town.haproxy(
        "frontend web\nmode tcp\nbind :443\ndefault_backend nodes\nbackend nodes\nmode tcp\n"
        "balance roundrobin\nserver new 127.0.0.1:8441\nserver old 127.0.0.1:8442\n",
        443,
    )
    return Call(options=("--repeat", "10"))


@DNS.healthy("repeat-squid", "asked ten times through squid, and all is well", requests=22)
def again_through_squid(town: Town) -> Call:
    town.healthy()
    return Call(options=("--repeat", "10"), env=town.squid())


# large packets


@DNS.fault("T12-sent", BLACK_HOLE, "large packets to the server vanish", told=["long headers"])
def large_packets_that_are_sent(town: Town) -> Call:
    """An ordinary run sends none; whoever pushes a commit does."""
    town.healthy()
    town.lab.rules("router", "forward", "tcp dport 443 ip length > 700 drop")
    return Call(options=("--repeat", "3"))


# two faults


@DNS.fault("D22+D14", INTERMITTENT, "a bad resolver, and IPv6 is dead", seen=[AAAA], v6=NOBODY6)
@DNS.fault(
    "D22+L25",
    INTERMITTENT,
    "a bad resolver, and the end is near",
    seen=["tls-expiring-soon"],
    ends=5,
)
@DNS.fault(
    "D22+L01", "tls-expired", "a bad resolver, and it has ended", seen=[INTERMITTENT], ends=-5
)
def a_bad_resolver_and_more(town: Town, v6: str | None = None, ends: int = 60) -> None:
    both = [SERVER4] if v6 is None else [SERVER4, v6]
    resolver(town, SERVFAIL)
    resolver(town, addresses(*both), "server", SERVER4)
    certificate = town.ca.issue(HOST, starts=-90 * DAY, ends=ends * DAY)
    town.nginx(town.site(town.bitbucket(), certificate=certificate))


@DNS.fault("D16+D14", "dns-slow", "slow names, and IPv6 is dead", seen=[AAAA])
def slow_and_dead(town: Town) -> None:
    resolver(town, later(1.6, addresses(SERVER4, NOBODY6)))
    bitbucket(town)


@DNS.fault("D14+D13", AAAA, "IPv6 is dead, and a second address", seen=[PARTIAL])
def two_dead(town: Town) -> None:
    town.dns(addresses=(SERVER4, NOBODY4, NOBODY6))
    bitbucket(town)


@DNS.fault("D17+D22", HOSTS, "an old hosts line, and a bad resolver", seen=[INTERMITTENT])
def a_line_and_a_bad_resolver(town: Town) -> None:
    resolver(town, SERVFAIL)
    resolver(town, HERE, "server", SERVER4)
    town.lab.hosts("client", {HOST: [FAR4]})
    bitbucket(town)


@DNS.fault(
    "D14+R03", "perm-admin-missing", "IPv6 is dead, and the token may only read", seen=[AAAA]
)
def dead_and_not_allowed(town: Town) -> None:
    town.dns(addresses=(SERVER4, NOBODY6))
    town.nginx(town.site(town.bitbucket("perm-admin-missing")))


# clocks


@DNS.fault(
    "K02-plain",
    "clock-skew-behind",
    "this machine is a day behind, and no TLS",
    also=["auth-token-in-cleartext"],
    shift="-1d",
)
@DNS.fault(
    "K03-client",
    "clock-skew-server",
    "it is a day ahead, and no certificate tells which of the two clocks is wrong",
    also=["auth-token-in-cleartext"],
    told=["If this machine's is wrong"],
    shift="+1d",
)
def another_day(town: Town, shift: str) -> Call:
    town.plain()
    return Call(f"http://{HOST}", prefix=("faketime", "-f", shift))


@DNS.fault(
    "K03", "clock-skew-server", "the server's clock is two hours ahead", shift=timedelta(hours=2)
)
@DNS.fault("K03-behind", "clock-skew-server", "the server's clock is a day behind", shift=-DAY)
def the_servers_clock(town: Town, shift: timedelta) -> None:
    town.dns()
    port, crt = town.bitbucket(), town.bundle(town.ca.issue(HOST))
    date = format_datetime(datetime.now(UTC) + shift, usegmt=True)
    town.haproxy(
        f"frontend web\nbind :443 ssl crt {crt}\ndefault_backend bitbucket\nbackend bitbucket\n"
        f'http-response set-header Date "{date}"\nserver one 127.0.0.1:{port}',
        443,
    )


DNS.near_miss("the name does not resolve", "D01", "D02")
DNS.near_miss("the name does not resolve", "D01", "D08")
DNS.near_miss("the name does not resolve", "D03", "D04")
DNS.near_miss("the name does not resolve", "D03", "D19")
DNS.near_miss("the name does not resolve", "D05", "D20")
DNS.near_miss("the name does not resolve", "D06", "D07")
DNS.near_miss("no connection", "D10", "D11-ipv4")
DNS.near_miss("all is well", "D13", "D14")
DNS.near_miss("all is well", "D22", "D16")
