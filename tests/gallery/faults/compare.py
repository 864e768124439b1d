"""Told by reports from several places: the client and the router are the two, and the router's own
connections do not pass its filter for others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from diag.simulator.data import CREDENTIALS
from tests.certificates import DAY, Identity
from tests.certificates import root as make_root
from tests.dns_server import addresses
from tests.gallery.case import HOST, Call, Family
from tests.lab import CLIENT4, ROUTER4, SERVER4, SERVER6

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.gallery.town import Town

COMPARE = Family("compare", "Told by `bbdiag compare`, from several places")

INSIDE4 = "10.77.2.1"  # the router on the server's side
PUBLIC4, GONE4, OTHER4 = "203.0.113.7", "10.99.9.9", "10.77.2.3"
NOWHERE = [""]  # the name does not exist
ALL = ["from every place (client, router): "]
HERE, THERE = Call(), Call(place="router")
SPLIT, ADDRESS = "dns-split-horizon", "compare-other-address"
SOURCE, CUT = "tcp-source-not-allowlisted", "compare-cut-on-the-way"
FROM_CLIENT = f"ip saddr {CLIENT4} tcp dport 443 "
INSPECTED = 8443  # a second site on the server, where somebody else leads the client


def both(town: Town, here: Sequence[str] = (), there: Sequence[str] = ()) -> list[Call]:
    """The two places, each with a DNS server of its own, which know these addresses."""
    seen = {ROUTER4: here or [SERVER4], INSIDE4: there or here or [SERVER4]}
    for server, known in seen.items():
        zone = {HOST: addresses(*known)} if known != NOWHERE else {}
        town.dns_server(zone, "router", server)
    town.lab.resolv_conf("client", f"nameserver {ROUTER4}\n")
    town.lab.resolv_conf("router", f"nameserver {INSIDE4}\n")
    return [HERE, THERE]


def redirect(town: Town, port: int) -> None:
    """Lead what the client sends to port 443 to another port of the server."""
    rule = f'iifname "r0" tcp dport 443 dnat to {SERVER4}:{port}'
    chain = f"type nat hook prerouting priority -100;\n{rule}"
    town.lab.nft("router", f"table ip away {{ chain c {{\n{chain}\n}}; }}")


# names


@COMPARE.fault("D12-compare", SPLIT, "an inside address from outside", here=GONE4, there=PUBLIC4)
@COMPARE.fault("D12-name", SPLIT, "a name that only one place knows", here="", there=SERVER4)
@COMPARE.fault("D12-stale", ADDRESS, "an old address in one place", here=OTHER4, there=SERVER4)
@COMPARE.fault(
    "D12-outside",
    ADDRESS,
    "the outside address is not let in",
    here=PUBLIC4,
    there=SERVER4,
    told=[PUBLIC4, SERVER4],
)
@COMPARE.healthy(
    "compare-split", "an address of its own for each place", here=SERVER4, there=PUBLIC4
)
def names(town: Town, here: str, there: str) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    town.lab.ip("server", f"addr add {PUBLIC4}/32 dev eth0")
    town.lab.ip("router", f"route add {PUBLIC4}/32 via {SERVER4}")
    if here == PUBLIC4:
        town.lab.rules("router", "forward", f"ip daddr {PUBLIC4} tcp dport 443 drop")
    return both(town, [here], [there])


@COMPARE.fault("D17-compare", "dns-hosts-override", "a stale hosts line in one place")
def hosts(town: Town) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    town.lab.hosts("client", {HOST: [OTHER4]})
    return both(town)


# firewalls


@COMPARE.fault("T09-compare", SOURCE, "one place is let in", rule=FROM_CLIENT + "drop")
@COMPARE.fault(
    "T09-reset", SOURCE, "one place is reset", rule=FROM_CLIENT + "reject with tcp reset"
)
@COMPARE.fault(
    "T12-compare",
    CUT,
    "a tunnel of one place loses large packets",
    rule=f"ip saddr {SERVER4} tcp sport 443 ip length > 600 drop",
    told=["tcp-pmtu-blackhole"],
)
@COMPARE.fault(
    "T13-compare",
    CUT,
    "a device on the way of one place resets what it has let through",
    rule=f"{FROM_CLIENT} ip length > 120 reject with tcp reset",
    told=["tcp-reset-after-accept"],
)
@COMPARE.healthy("compare-firewall", "a rule for another port", rule="tcp dport 8000 drop")
def firewall(town: Town, rule: str, *, v6: bool = False) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    town.lab.rules("router", "forward", rule)
    return both(town, [SERVER6 if v6 else SERVER4])


@COMPARE.fault("P16-compare", "compare-proxy-not-used", "one place does not know the only way out")
def without_proxy(town: Town) -> list[Call]:
    town.healthy()
    env = town.squid()
    town.lab.rules("router", "forward", f"ip saddr {CLIENT4} drop")
    return [replace(HERE, options=("--label", "ci")), replace(HERE, env=env)]


@COMPARE.healthy("compare-proxy", "through squid, and without it")
def with_and_without(town: Town) -> list[Call]:
    town.healthy()
    return [replace(HERE, options=("--label", "ci")), replace(HERE, env=town.squid())]


# certificates


@COMPARE.fault(
    "L09-compare",
    "tls-interception",
    "one place gets the certificate of an inspection nobody has heard of",
    ca="Example Corp Network CA",
    told=["Example Corp Network CA"],
)
@COMPARE.fault(
    "L09-known", "tls-interception", "one place gets that of a known product", ca="Zscaler Root CA"
)
@COMPARE.fault(
    "L09+A01",
    "tls-interception",
    "one place is inspected, and the token is revoked",
    ca="Example Corp Network CA",
    who="revoked-token",
    seen=["auth-token-invalid"],
)
@COMPARE.fault(
    "L01-compare",
    "compare-certificate-half-renewed",
    "one of two machines has not got the new certificate",
    expired=True,
)
@COMPARE.healthy("compare-renewed", "two machines with a certificate each")
def another_certificate(
    town: Town, ca: str = "", who: str = "admin-token", *, expired: bool = False
) -> list[Call]:
    issuer: Identity = make_root(ca, organisation=None) if ca else town.ca
    identity = issuer.issue(HOST, ends=-DAY) if expired else issuer.issue(HOST)
    files = town.write("other.pem", identity.chain()), town.write("other.key", identity.key_pem)
    port = town.bitbucket()
    sites = (
        town.site(port),
        town.site(port, certificate=files, listen=f"listen {INSPECTED} ssl;"),
    )
    town.nginx(*sites)
    redirect(town, INSPECTED)
    town.token = CREDENTIALS[who].secret
    return both(town)


# who answers, and to whom


@COMPARE.fault("H09-compare", "compare-other-instance", "two Bitbuckets under one name")
def another_instance(town: Town) -> list[Call]:
    own, other = town.bitbucket(), town.bitbucket(ssh=None, version="10.9.1")
    town.lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
    town.nginx(
        "server { listen 80; return 404; }",
        town.site(own, listen=f"listen {SERVER4}:443 ssl;"),
        town.site(other, listen=f"listen {OTHER4}:443 ssl;"),
    )
    return both(town, [SERVER4], [OTHER4])


@COMPARE.fault(
    "A01-compare", "compare-other-secret", "an old token in one place", who="revoked-token"
)
@COMPARE.fault(
    "R03-compare", "compare-other-user", "another user in one place", who="developer-token"
)
@COMPARE.fault("R04-compare", "perm-token-scope-limited", "a smaller token", who="read-token")
@COMPARE.healthy("compare-tokens", "a token of its own for each place", who="project-token")
def another_secret(town: Town, who: str) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    usual = town.token or ""
    town.secrets.append(usual)
    town.token = CREDENTIALS[who].secret
    here, there = both(town)
    return [here, replace(there, env={"BITBUCKET_TOKEN": usual})]


@COMPARE.fault("I09-compare", "compare-anonymous", "no secret in one place")
def no_secret(town: Town) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    here, there = both(town)
    return [replace(here, prefix=("env", "-u", "BITBUCKET_TOKEN")), there]


# clocks


@COMPARE.fault("K01-compare", "clock-skew-ahead", "the clock of one place is ahead", by="+2h")
@COMPARE.fault("K02-compare", "clock-skew-behind", "the clock of one place is behind", by="-2h")
def clock(town: Town, by: str) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    here, there = both(town)
    return [replace(here, prefix=("faketime", "-f", by)), there]


# the same everywhere


@COMPARE.fault("T01-everywhere", "tcp-refused", "the server is down", told=ALL)
def down(town: Town) -> list[Call]:
    return both(town)


@COMPARE.fault("T02-everywhere", "tcp-filtered", "the server's own firewall", told=ALL)
def closed(town: Town) -> list[Call]:
    town.lab.rules("server", "input", "tcp dport 443 drop")
    return both(town)


@COMPARE.fault("D01-everywhere", "dns-nxdomain", "a name that nobody knows", told=ALL)
def nobody_knows(town: Town) -> list[Call]:
    return both(town, NOWHERE)


@COMPARE.fault("L01-everywhere", "tls-expired", "an expired certificate", told=ALL)
def expired_everywhere(town: Town) -> list[Call]:
    town.nginx(town.site(town.bitbucket(), certificate=town.ca.issue(HOST, ends=-DAY)))
    return both(town)


@COMPARE.fault("L06-everywhere", "tls-issuer-unknown", "a CA that nobody knows", told=ALL)
def unknown_everywhere(town: Town) -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    other = town.write("other-ca.pem", make_root("Another Root CA").pem)
    return [replace(call, ca_file=other) for call in both(town)]


@COMPARE.fault("A01-everywhere", "auth-token-invalid", "a revoked token everywhere", told=ALL)
@COMPARE.fault(
    "T09+A01",
    SOURCE,
    "one place is not let in, and the token is revoked",
    rule=FROM_CLIENT + "drop",
    seen=["auth-token-invalid"],
)
def revoked_everywhere(town: Town, rule: str = "") -> list[Call]:
    town.nginx(town.site(town.bitbucket()))
    town.token = CREDENTIALS["revoked-token"].secret
    if rule:
        town.lab.rules("router", "forward", rule)
    return both(town)


@COMPARE.healthy("compare", "from two places")
@COMPARE.healthy("compare-order", "two addresses in another order", more=True)
def well(town: Town, *, more: bool = False) -> list[Call]:
    town.lab.ip("server", f"addr add {OTHER4}/24 dev eth0")
    town.nginx(town.site(town.bitbucket()))
    known = [SERVER4, OTHER4] if more else [SERVER4]
    return both(town, known, known[::-1])


COMPARE.near_miss("no answer", "T09-compare", "T02-everywhere")
COMPARE.near_miss("no answer", "T12-compare", "T02-everywhere")
COMPARE.near_miss("no such name", "D12-name", "D01-everywhere")
COMPARE.near_miss("connection refused", "T09-reset", "T01-everywhere")
COMPARE.near_miss("a CA that is not known", "L09-compare", "L06-everywhere")
COMPARE.near_miss("an expired certificate", "L01-compare", "L01-everywhere")
COMPARE.near_miss("401", "A01-compare", "A01-everywhere")
