"""Check `proxy-bypass`: the way is direct, and fails; would a proxy get there?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    Addresses,
    Check,
    Context,
    Fact,
    Finding,
    Knocked,
    Route,
    Target,
    fail,
    net,
    ok,
    skip,
    try_ways,
    warn,
)


class ProxyBypass(Check):
    """Where the direct way fails, try the proxies that this machine knows, without the secret.

    To everything else this looks like a dead server or a firewall: the name does not resolve, or
    the packets vanish. If NO_PROXY took the host past a proxy that gets there, neither is at fault,
    but an entry of NO_PROXY that covers too much. If another proxy gets there (git's configuration,
    Java's options, a variable for another scheme), that is a hint of how this network is left.
    """

    id = "proxy-bypass"
    title = "the direct way is the right one"
    order = 46
    requires = (Target, Route)
    after = (Addresses, Knocked)

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
        reproduce=(
            "{curl} -v --noproxy '' -x {proxy} {url}",
            "env | grep -i proxy | sed 's#//[^/]*@#//#'",
        ),
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
    WOULD_HELP = warn(
        "proxy-would-help",
        "directly {place} cannot be reached, but with --proxy {proxy} ({source}) the next layer "
        "passes: {proof}",
        remedy="If this machine is to leave its network by that proxy, name it in {variable}, "
        "which most clients go by: {variable}={proxy}.",
        owner="you",
        reproduce=("{curl} -v --noproxy '' -x {proxy} {url}", "bbdiag proxy {url}"),
    )
    NOT_NEEDED = skip("proxy-bypass-not-needed", "no proxy is known that could be tried")

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target, settings = ctx.target, ctx.settings
        question = (
            *(target.scheme, target.host, target.port if target.port_given else None),
            settings.environ,
        )
        choice = net.proxyenv.OWN.decide(*question)
        bypassed = choice.bypassed if settings.proxy == "env" else None
        spared: dict[str, Any] = {}
        if bypassed is not None:
            spared = {
                "entry": choice.entry,
                "variable": choice.bypass,
                "source": choice.source,
                "proxy": net.proxyenv.shown(bypassed),
            }
        knocked = ctx.get(Knocked)
        if ctx[Route].proxy is not None or (knocked is not None and knocked.is_open):
            yield self.RIGHT(**spared) if spared else self.NOT_NEEDED()
            return
        known = net.proxyclients.known(*question).values()
        done = try_ways(ctx, known, direct=False)
        host = f"[{target.host}]" if ":" in target.host else target.host
        seen: dict[str, Any] = {
            "place": f"{host}:{target.port}",
            "what_if": net.whatif.told(done, target),
        }
        helpful = {one.option: one for one in done if one.proof is not None}
        if spared and (same := helpful.get(f"--proxy {spared['proxy']}")) is not None:
            yield self.WRONG(**spared, **seen, proof=ctx.quote(same.proof or ""))
            return
        if spared:
            yield self.USELESS(**spared, **seen)
        for option, one in helpful.items():
            yield self.WOULD_HELP(
                **seen,
                proxy=option.removeprefix("--proxy "),
                source=ctx.quote(one.source),
                variable=f"{target.scheme.upper()}_PROXY",
                proof=ctx.quote(one.proof or ""),
            )
            return
        if not spared:
            yield self.NOT_NEEDED()
