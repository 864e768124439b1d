"""Check `dns`: what the host name resolves to, and who says so."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from diag.api import (
    Addresses,
    Check,
    Context,
    Fact,
    Finding,
    Owner,
    Route,
    Status,
    Target,
    Verdict,
    fail,
    net,
    ok,
    skip,
    unknown,
    warn,
)

_DIG = "dig @{server} {name} A"
_GETENT = "getent ahosts {name}"
_MUTE = ("timeout", "unreachable", "unsent")
_NO_WAY = (  # what a connection to a wrong address may end with
    "tcp-filtered",
    "tcp-host-down",
    "tcp-host-unreachable",
    "tcp-net-unreachable",
    "tcp-no-local-route",
    "tcp-refused",
)
_STRANGER = (  # what another machine than Bitbucket's may answer
    "tls-default-vhost-cert",
    "tls-hostname-mismatch",
    "tls-interception",
    "tls-issuer-unknown",
    "tls-self-signed",
    "http-block-page",
    "http-default-vhost",
    "http-other-product",
    "http-sso-login",
)


class Dns(Check):
    """Ask the system for the host's addresses, and each DNS server itself beside it.

    To a program, a name that does not exist, a DNS server that fails or refuses, and one that is
    silent are often one and the same error. They need different people: the servers of
    /etc/resolv.conf and of --resolver are asked for A and AAAA records directly, and what they say
    is compared with what the system makes of it, its hosts file and search domains included. With
    --repeat N each server is asked N times, to find one that fails only now and then.
    """

    id = "dns"
    title = "the host name resolves"
    order = 30
    requires = (Target, Route)
    provides = (Addresses,)

    RESOLVED = ok("dns-ok", "{name} is {addresses}{note}")
    LITERAL = ok("dns-not-needed", "{address} is an address: no name has to be resolved")
    MAPPED = ok("dns-connect-to", "{host}:{port} is {address}, as --connect-to says")
    BY_PROXY = skip("dns-by-proxy", "the proxy {proxy} resolves the name")
    NXDOMAIN = fail(
        "dns-nxdomain",
        "the name {name} does not exist ({said})",
        remedy="Check the spelling of the host name. If it is right, the zone lacks it, or only "
        "the DNS servers of another network know it (VPN, company network): compare with "
        "--resolver IP.",
        owner="dns-admin",
        reproduce=(_DIG, _GETENT),
    )
    NODATA = fail(
        "dns-nodata",
        "the name {name} exists but has no address, neither A nor AAAA ({said})",
        remedy="Add an A or AAAA record for the name, or use the name that has one.",
        owner="dns-admin",
        reproduce=(_DIG, "dig @{server} {name} AAAA"),
    )
    SERVFAIL = fail(
        "dns-servfail",
        "the DNS server cannot look up {name} ({said})",
        remedy="The DNS server could not get an answer from the servers of the zone: look into its "
        "log and its forwarders. The name itself may be right.",
        owner="dns-admin",
        reproduce=(_DIG, "dig +trace {name} A"),
    )
    REFUSED = fail(
        "dns-refused",
        "the DNS server refuses to answer this machine ({said})",
        remedy="Allow this machine's network to ask that server (recursion, access list), or enter "
        "the server that is meant for it in /etc/resolv.conf.",
        owner="dns-admin",
        reproduce=_DIG,
    )
    TIMEOUT = fail(
        "dns-timeout",
        "no DNS server answers ({said}); programs here notice after {patience_s} s",
        remedy="Check whether a firewall drops UDP port 53 between this machine and the server, "
        "whether the server runs, and whether its address is still right.",
        owner="dns-admin",
        reproduce="dig +tries=1 +time=2 @{server} {name} A",
    )
    UNREACHABLE = fail(
        "dns-resolver-unreachable",
        "no DNS server can be reached ({said})",
        remedy="Start the DNS service there, correct the address of the server, or let UDP port 53 "
        "pass where a firewall rejects it.",
        owner="dns-admin",
        reproduce=("dig +tries=1 @{server} {name} A", "cat /etc/resolv.conf"),
    )
    NO_RESOLVER = fail(
        "dns-no-resolver",
        "this machine has no DNS server to ask: {why}",
        remedy="Enter a DNS server (nameserver ADDRESS in /etc/resolv.conf, and dns in the hosts "
        "line of /etc/nsswitch.conf), or repair what should do so: DHCP, systemd-resolved, the "
        "container's settings.",
        owner="you",
        reproduce=("grep nameserver /etc/resolv.conf", "grep ^hosts /etc/nsswitch.conf"),
    )
    DANGLING = fail(
        "dns-cname-dangling",
        "{name} is an alias of {alias}, and that name does not exist",
        remedy="Point the alias (CNAME) to the name the service has now, or create that name.",
        owner="dns-admin",
        reproduce=("dig @{server} {name} CNAME", "dig @{server} {alias} A"),
    )
    LOOP = fail(
        "dns-cname-loop",
        "the aliases of {name} run in a circle: {circle}",
        remedy="One of these aliases (CNAME) must become a name with an address.",
        owner="dns-admin",
        reproduce=("dig @{server} {name} CNAME", "dig @{server} {alias} CNAME"),
    )
    LOOPBACK = fail(
        "dns-resolves-loopback",
        "{name} resolves to this machine itself: {addresses}, says {source}",
        remedy="Enter the server's real address for the name. If Bitbucket does run on this very "
        "machine, use http://localhost:PORT for a test.",
        owner="dns-admin",
        reproduce=(_GETENT, "grep -n {name} /etc/hosts"),
    )
    SINKHOLED = fail(
        "dns-sinkholed",
        "{name} resolves to {addresses}, which is how filters block a name, says {source}",
        remedy="Take the name off the blocklist of the DNS filter.",
        owner="dns-admin",
        reproduce=(_GETENT, "grep -n {name} /etc/hosts"),
    )
    SPLIT = fail(
        "dns-split-horizon",
        "the DNS servers disagree about {name}: {said}",
        remedy="Decide which of them who connects has to ask. Inside use the internal server (VPN, "
        "/etc/resolv.conf); outside, publish a public address of the name.",
        owner="dns-admin",
        reproduce=(_DIG, "dig @{other} {name} A"),
        explains=(*_NO_WAY, "dns-private-address"),
    )
    HIJACK = fail(
        "dns-search-domain-hijack",
        "{name} got the address of {found_as}, because the search domain {domain} answers for "
        "every name",
        remedy="Correct the host name; or take {domain} out of the search line of "
        "/etc/resolv.conf, or the catch-all record (*.{domain}) out of the zone.",
        owner="you",
        reproduce=("dig @{server} {name} A", "dig @{server} {found_as} A", _GETENT),
    )
    BOGUS = fail(
        "dns-dnssec-bogus",
        "the DNSSEC signatures of {name} are wrong ({said})",
        remedy="Sign the zone again, or correct its DS record: whoever validates does not get an "
        "answer. Check also whether the DNS server's clock is right.",
        owner="dns-admin",
        reproduce=(_DIG, "dig +cd @{server} {name} A", "delv {name} A"),
    )
    TCP_BLOCKED = fail(
        "dns-tcp-blocked",
        "the DNS answer is too long for UDP, and TCP is blocked ({said})",
        remedy="Allow TCP port 53 to the DNS server as well as UDP.",
        owner="dns-admin",
        reproduce=("dig +ignore @{server} {name} A", "dig +tcp @{server} {name} A"),
    )
    REWRITTEN = fail(
        "dns-rewritten",
        "the DNS server invents answers: {name} is {addresses}, and so is {invented}, which "
        "cannot exist",
        remedy="Use a DNS server that says so when a name does not exist. The host name itself is "
        "probably wrong, or unknown there.",
        owner="dns-admin",
        reproduce=(_DIG, "dig @{server} {invented} A"),
        explains=(*_NO_WAY, *_STRANGER, "dns-private-address"),
    )
    INTERMITTENT = warn(
        "dns-resolver-intermittent",
        "not every DNS server of this machine can resolve {name}: {said}",
        remedy="Repair that server or take it out of /etc/resolv.conf. Until then names resolve "
        "slowly or only now and then, depending on which server is asked first.",
        owner="dns-admin",
        reproduce=("dig @{server} {name} A", "dig @{other} {name} A"),
    )
    HOSTS = warn(
        "dns-hosts-override",
        "/etc/hosts of this machine says {name} is {addresses}, DNS says {dns_addresses}",
        remedy="Remove the line from /etc/hosts, unless it is meant. Other machines use what DNS "
        "says.",
        owner="you",
        reproduce=("grep -n {name} /etc/hosts", _DIG),
        explains=(*_NO_WAY, "dns-hosts-other-machine"),
    )
    SLOW = warn(
        "dns-slow",
        "resolving {name} took {took}; asked directly: {times}",
        remedy="Look for the delay where the times are: the DNS server and its forwarders, a lost "
        "IPv6 (AAAA) question, or another name service of this machine that is asked first.",
        owner="dns-admin",
        reproduce=("time getent ahosts {name}", _DIG),
    )
    UNCLEAR = unknown(
        "dns-unclear",
        "this machine cannot resolve {name}, for no visible reason: {said}",
        remedy="Try again. If it stays, look at the hosts line of /etc/nsswitch.conf and at the "
        "name service that runs here (systemd-resolved, nscd, mDNS for names in .local).",
        reproduce=(_GETENT, _DIG),
    )

    BY_OUTCOME: ClassVar[dict[str, Verdict]] = {
        "nodata": NODATA,
        "nxdomain": NXDOMAIN,
        "dangling": DANGLING,
        "loop": LOOP,
        "servfail": SERVFAIL,
        "error": SERVFAIL,
        "bogus": BOGUS,
        "refused": REFUSED,
        "tcp-blocked": TCP_BLOCKED,
        "timeout": TIMEOUT,
        "unreachable": UNREACHABLE,
        "unsent": UNREACHABLE,
        "answer": UNCLEAR,  # to us, but not to the system
    }

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target = ctx.target
        if proxy := ctx[Route].proxy:
            yield self.BY_PROXY(proxy=proxy)
            return
        mapped = ctx.dialer.mapped(target.host, target.port)
        host = mapped[0] if mapped else target.host
        address = net.dns.literal(host)
        if address is None:
            yield from self._ask(ctx, host, "connect-to" if mapped else None)
        elif mapped:
            yield self.MAPPED(address=address)
            yield Addresses(target.host, (address,), "connect-to")
        else:
            yield self.LITERAL(address=address)
            yield Addresses(target.host, (address,), "literal")

    def _ask(self, ctx: Context, name: str, source: str | None) -> Iterator[Finding | Fact]:
        began = ctx.run.elapsed_ms()
        survey = net.dns.Survey(name, ctx.settings.resolvers, ctx.timeout)
        with ctx.timed("dns", f"{name}, by the system"):
            addresses = survey.wait_for_system(ctx.timeout)
        # A good answer sets the next checks free at once; the servers' own words come meanwhile.
        good = bool(addresses) and not self._stray(name, addresses)
        early = good and not ("." in name and survey.found_as())
        if early:
            yield _fact(survey, addresses, source)
        calm = early and not survey.hosts and not _is_slow(survey)
        survey.settle(ctx.remaining, calm=calm)
        for reply in survey.replies:
            offset = round((reply.started - survey.started) * 1000)
            detail = f"{reply.name} {reply.kind}, by {reply.server}"
            ctx.record("dns", detail, began + offset, reply.elapsed_ms)
            ctx.run.echoed |= reply.from_outside

        opinions = survey.opinions()
        guide = net.dns.experienced(opinions)
        repeated = self._repeated(ctx, survey, addresses)
        if survey.answer and (survey.answer.addresses or not repeated):
            addresses = survey.answer.addresses
        elif guide and guide.addresses:
            addresses = guide.addresses  # the system will find them too, but too late
            source = source or "resolver"
        elif repeated:
            addresses = repeated[0].addresses  # at another time the system finds them
            source = source or "resolver"
        evidence = _evidence(survey, guide)
        if not addresses:
            yield self._unresolved(survey, evidence)
        elif stray := self._stray(name, addresses):
            evidence |= {"addresses": addresses, "source": survey.sources(addresses)}
            if survey.from_hosts(addresses):
                remedy = "Remove or correct the line in /etc/hosts."
                yield stray(owner="you", remedy=remedy, **evidence)
            else:
                yield stray(**evidence)
        elif hit := survey.search_wildcard(addresses, ctx.timeout):
            domain = hit.name.removeprefix(f"{survey.name}.")
            found_as = {"found_as": shlex.quote(hit.name), "domain": shlex.quote(domain)}
            yield self.HIJACK(**evidence | found_as)
        else:
            if not early:
                yield _fact(survey, addresses, source)
            evidence["addresses"] = addresses
            evidence["from_hosts"] = survey.from_hosts(addresses)
            troubles = list(self._troubles(survey, addresses, evidence, repeated))
            if not any(trouble.status is Status.FAIL for trouble in troubles):
                yield self.RESOLVED(**evidence | {"note": _note(survey, addresses)})
            yield from troubles

    def _stray(self, name: str, addresses: Sequence[str]) -> Verdict | None:
        """What is wrong with addresses that lead nowhere, or only back to this machine."""
        if net.dns.is_localhost(name):
            return None
        if all(map(net.dns.is_unspecified, addresses)):
            return self.SINKHOLED
        here = (net.dns.is_loopback(one) or net.dns.is_unspecified(one) for one in addresses)
        return self.LOOPBACK if all(here) else None

    def _unresolved(self, survey: net.dns.Survey, evidence: dict[str, Any]) -> Finding:
        """The one verdict on a name that the system cannot resolve."""
        opinions = survey.opinions()
        guide = net.dns.experienced(opinions)
        absent = survey.answer is not None and survey.answer.absent
        if not survey.asks_dns:
            why = "the hosts line of /etc/nsswitch.conf does not name dns"
            return self.NO_RESOLVER(**evidence | {"why": why})
        if pair := net.dns.disagreement(opinions, resolved=False):
            return self.SPLIT(**evidence | _comparison(*pair))
        if guide is None or (absent and not guide.reply.definite):
            return (self.NXDOMAIN if absent else self.UNCLEAR)(**evidence)
        if guide.outcome in _MUTE and not survey.configuration.servers:
            why = "/etc/resolv.conf names none, and none runs here"
            return self.NO_RESOLVER(**evidence | {"why": why})
        owner: Owner | None = "you" if guide.outcome == "unsent" else None
        return self.BY_OUTCOME[guide.outcome](owner=owner, **evidence)

    def _repeated(
        self, ctx: Context, survey: net.dns.Survey, addresses: Sequence[str]
    ) -> list[net.dns.Repeated]:
        """With --repeat, the DNS servers whose answers flap."""
        times = ctx.settings.repeat
        guide = net.dns.experienced(survey.opinions())
        if times == 1:
            return []
        only6 = bool(addresses) and all(":" in one for one in addresses)
        kind: Literal["A", "AAAA"] = "AAAA" if only6 else "A"
        name = guide.reply.name if guide else survey.found_as() or survey.name
        ask = partial(net.dns.repeat, name, kind)
        servers = (*survey.configured, *survey.named)
        seconds = ctx.remaining / 4
        tasks = {server: partial(ask, server, times, seconds) for server in servers}
        return [one for one in ctx.parallel(tasks).values() if one.odd]

    def _troubles(
        self,
        survey: net.dns.Survey,
        addresses: Sequence[str],
        evidence: dict[str, Any],
        repeated: Sequence[net.dns.Repeated],
    ) -> Iterator[Finding]:
        """What is wrong although the name resolves."""
        opinions = survey.opinions()
        if invention := survey.rewritten(addresses):
            told = {"invented": invention.name, "server": invention.dig}
            yield self.REWRITTEN(**evidence | told)
        elif pair := net.dns.disagreement(opinions, resolved=True):
            yield self.SPLIT(**evidence | _comparison(*pair))
        by_dns = {address for opinion in opinions for address in opinion.addresses}
        if survey.from_hosts(addresses) and by_dns and by_dns.isdisjoint(addresses):
            yield self.HOSTS(**evidence | {"dns_addresses": sorted(by_dns)})
        flapping = {one.resolver for one in repeated}
        bad = [one for one in net.dns.failing(opinions) if one.resolver not in flapping]
        if repeated:
            said = [*map(str, repeated), *map(str, bad)]
            told = {"said": "; ".join(said), "server": repeated[0].replies[0].dig}
            shares = [one.evidence() for one in repeated]
            yield self.INTERMITTENT(**evidence | told, other=told["server"], repeated=shares)
        elif bad:
            good = next(o for o in opinions if o.configured and o.outcome == "answer")
            yield self.INTERMITTENT(**evidence | _comparison(bad[0], good, *bad[1:]))
        if _is_slow(survey) and not any(opinion.outcome == "timeout" for opinion in bad):
            answer = survey.answer
            took = f"{answer.elapsed_ms / 1000:.1f} s" if answer else "too long to wait for"
            times = [
                f"{reply.server} {reply.kind} {reply.elapsed_ms} ms" for reply in survey.replies
            ]
            yield self.SLOW(**evidence | {"took": took, "times": times or "nobody"})


def _fact(survey: net.dns.Survey, addresses: Sequence[str], source: str | None) -> Addresses:
    own = "hosts" if survey.from_hosts(addresses) else "system"
    return Addresses(survey.name, tuple(addresses), source or own)


def _is_slow(survey: net.dns.Survey) -> bool:
    return survey.answer is None or survey.answer.elapsed_ms > net.dns.TOO_SLOW * 1000


def _evidence(survey: net.dns.Survey, guide: net.dns.Opinion | None) -> dict[str, Any]:
    """What every finding tells: who was asked and what each said."""
    answer = survey.answer
    opinions = survey.opinions()
    told = [str(opinion) for opinion in opinions if opinion.configured]
    if told:  # those that the user named are not the system's
        told += [f"asked too, {opinion}" for opinion in opinions if not opinion.configured]
    evidence: dict[str, Any] = {
        "name": survey.name,
        "system": {
            "addresses": answer.addresses if answer else (),
            "error": answer.error if answer else "no answer yet",
            "ms": answer.elapsed_ms if answer else None,
        },
        "asked": [reply.evidence() for reply in survey.replies],
        "said": "; ".join(told) or f"the system says: {answer.detail if answer else 'nothing yet'}",
        "patience_s": survey.configuration.patience,
        "server": guide.reply.dig if guide else "RESOLVER",
    }
    if guide and guide.reply.aliases:
        evidence["alias"] = shlex.quote(guide.reply.aliases[-1])
        evidence["circle"] = " → ".join((survey.name, *guide.reply.aliases))
    return evidence


def _comparison(
    one: net.dns.Opinion, other: net.dns.Opinion, *more: net.dns.Opinion
) -> dict[str, Any]:
    return {
        "said": "; ".join(map(str, (one, other, *more))),
        "server": one.reply.dig,
        "other": other.reply.dig,
    }


def _note(survey: net.dns.Survey, addresses: Sequence[str]) -> str:
    """What else is worth knowing about a name that resolves."""
    notes = []
    replies = survey.replies
    if found_as := survey.found_as():
        notes.append(f"found as {found_as}")
    absent = any(opinion.outcome == "nxdomain" for opinion in survey.opinions())
    if survey.from_hosts(addresses) and absent:
        notes.append("only /etc/hosts of this machine knows it")
    named = [opinion for opinion in survey.opinions() if not opinion.configured]
    for opinion in named:
        same = set(opinion.addresses) == set(addresses)
        notes.append(f"{opinion.reply.server} says the same" if same else str(opinion))
    asked = {opinion.resolver for opinion in named}
    unsure = [r for r in replies if not r.definite and r.resolver not in asked]
    notes.extend(sorted({f"{r.server} fails on {r.kind}" for r in unsure}))
    if unheard := survey.unheard():
        notes.append(f"not waited for: {', '.join(unheard)}")
    return f" ({'; '.join(notes)})" if notes else ""
