"""Check `proxy-bypass`: NO_PROXY took the host past the proxy; was that right?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    Addresses,
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    Route,
    Target,
    fail,
    net,
    ok,
    skip,
)


class ProxyBypass(Check):
    """Where NO_PROXY takes the host past the proxy and the direct way fails, try the proxy.

    To everything else this looks like a dead server or a firewall: the name does not resolve, or
    the packets vanish. If the proxy gets there, neither is at fault, but an entry of NO_PROXY that
    covers too much.
    """

    id = "proxy-bypass"
    title = "NO_PROXY is right about this host"
    order = 46
    requires = (Target, Route)
    after = (Addresses, Channel)

    RIGHT = ok("proxy-bypass-ok", "{entry!r} in {variable} leads past the proxy, and that works")
    USELESS = ok(
        "proxy-bypass-useless",
        "{entry!r} in {variable} leads past the proxy {proxy} ({source}), but that does not get "
        "there either",
    )
    WRONG = fail(
        "proxy-bypass-wrong",
        "{entry!r} in {variable} leads past the proxy, directly {place} cannot be reached, but the "
        "proxy {proxy} ({source}) gets there: {proof}",
        remedy="Take the entry out of {variable}, or make it narrower so that it spares {host}.",
        owner="you",
        reproduce=("{curl} -v --noproxy '' -x {proxy} {url}", "env | grep -i proxy"),
        explains=(
            "dns-nxdomain",
            "dns-nodata",
            "dns-servfail",
            "dns-refused",
            "dns-timeout",
            "dns-resolver-unreachable",
            "dns-no-resolver",
            "dns-cname-dangling",
            "dns-cname-loop",
            "dns-resolves-loopback",
            "dns-sinkholed",
            "dns-split-horizon",
            "dns-ipv6-only",
            "tcp-refused",
            "tcp-filtered",
            "tcp-admin-prohibited",
            "tcp-host-unreachable",
            "tcp-net-unreachable",
            "tcp-reset-by-middlebox",
            "tcp-no-local-route",
            "tcp-host-down",
            "tcp-egress-blocked-local",
        ),
    )
    NOT_NEEDED = skip("proxy-bypass-not-needed", "NO_PROXY decides nothing here")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target, settings = ctx.target, ctx.settings
        port = target.port if target.port_given else None
        choice = net.proxyenv.OWN.decide(target.scheme, target.host, port, settings.environ)
        if settings.proxy != "env" or choice.bypassed is None:
            yield self.NOT_NEEDED()
            return
        known: dict[str, Any] = {
            "entry": choice.entry,
            "variable": choice.bypass,
            "source": choice.source,
            "proxy": net.proxyenv.shown(choice.bypassed),
        }
        if ctx.get(Channel) is not None:
            yield self.RIGHT(**known)
            return
        host = f"[{target.host}]" if ":" in target.host else target.host
        try:
            way = net.tunnel.Way(net.proxyenv.parse(choice.bypassed), ctx.dialer, ctx.trust.context)
        except net.proxyenv.BadProxyUrlError:
            yield self.USELESS(**known)
            return
        passage = net.passage.Passage(way, target, ctx.dialer, ctx.timed, lambda: ctx.timeout)
        outcome = passage.attempt()
        proof = outcome.answer or None
        if passage.requests:
            ctx.count_request()
        if outcome.tunnel is not None:  # some proxies open it before they have tried
            proof = net.passage.prove(outcome.tunnel, target, ctx.trust.context(), ctx.timeout)
        if outcome.stop != "open" or proof is None:
            yield self.USELESS(**known)
            return
        yield self.WRONG(**known, place=f"{host}:{target.port}", proof=ctx.quote(proof))
