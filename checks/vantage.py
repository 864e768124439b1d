"""Check `vantage`: can the product of the profile get here from where it runs?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import Addresses, Check, Context, Fact, Finding, Route, Target, net, ok, skip, warn


class Vantage(Check):
    """Compare where this machine finds Bitbucket with where the product of the profile comes from.

    That a connection works from here proves little for a product that runs on the internet: it
    cannot reach a private address, and it comes from other addresses than this machine. For a
    product that publishes its addresses, this check prints the firewall request, ready to hand
    over; for Bitbucket Cloud, what has to be on the workspace's list of allowed IP addresses.
    """

    id = "vantage"
    title = "the product can get here from where it runs"
    order = 130
    requires = (Target,)
    after = (Route, Addresses)

    PRIVATE = warn(
        "dns-private-address",
        "{profile} comes from the internet, where private addresses cannot be reached: {place}",
        remedy="Publish Bitbucket under a name with a public address (reverse proxy, port "
        "forwarding), or use the product's own way into a private network. If the name has "
        "another address outside, see it with --resolver 1.1.1.1.",
        owner="network-admin",
        reproduce=("getent ahosts {host}", "dig @1.1.1.1 {host} A"),
    )
    ALLOWLIST = ok(
        "vantage-allowlist",
        "firewall request: allow {profile}, from {sources}, to {destination} over TCP",
    )
    CLOUD = ok(
        "vantage-cloud-allowlist",
        "if the workspace allows only listed IP addresses, these of {profile} must be on its list:"
        " {sources}; whether {profile} gets to Bitbucket Cloud cannot be tested from here",
    )
    NOT_NEEDED = skip("vantage-not-needed", "{profile} does not connect from the internet")
    UNPUBLISHED = skip(
        "vantage-unpublished", "{profile} does not publish where it comes from: ask its support"
    )
    UNTOLD = skip("vantage-untold", "the address of {host} is not known")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target, profile = ctx.target, ctx.profile
        if not profile.from_internet:
            yield self.NOT_NEEDED()
            return
        if target.kind == "cloud":
            published = profile.egress or profile.egress_source
            yield self.CLOUD(**self._sources(ctx)) if published else self.UNPUBLISHED()
            return
        addresses = self._addresses(ctx)
        if addresses is None:
            yield self.UNTOLD()
        elif addresses and all(map(net.dns.is_private, addresses)):
            typed = addresses == (target.host,)
            place = target.host if typed else f"{target.host} is {', '.join(addresses)} here"
            # An address has no other one outside.
            lines = ["ip route get {host}"] if typed else None
            yield self.PRIVATE(addresses=addresses, place=place, reproduce=lines)
        else:
            host = f"[{target.host}]" if ":" in target.host else target.host
            yield self.ALLOWLIST(
                **self._sources(ctx),
                destination=f"{host}:{target.port}",
                addresses=addresses,
            )

    @staticmethod
    def _sources(ctx: Context) -> dict[str, Any]:
        """Where the product comes from, as a firewall takes it and as it was published."""
        profile = ctx.profile
        unknown = (
            f"the addresses at {profile.egress_source}" if profile.egress_source else "anywhere"
        )
        return {
            "sources": [egress.cidr for egress in profile.egress] or unknown,
            "published_as": [egress.published_as for egress in profile.egress],
            "published_at": profile.egress_source,
        }

    @staticmethod
    def _addresses(ctx: Context) -> tuple[str, ...] | None:
        """The addresses that the world is to reach: none where that cannot be seen from here,
        because a rule of this run or a proxy decides; None where the name did not resolve."""
        target, route, found = ctx.target, ctx.get(Route), ctx.get(Addresses)
        if ctx.dialer.mapped(target.host, target.port):
            return ()
        if address := net.dns.literal(target.host):
            return (address,)
        if net.dns.is_localhost(target.host):
            return ("127.0.0.1",)
        if route and route.proxy:
            return ()
        return found.addresses if found else None
