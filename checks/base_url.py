"""Where Bitbucket believes to be, as its links tell, against where it was reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

from diag.api import (
    Addresses,
    Check,
    Clone,
    Context,
    Fact,
    Finding,
    Identity,
    Instance,
    Link,
    Realm,
    Repositories,
    Route,
    Target,
    Verdict,
    bitbucket,
    fail,
    net,
    ok,
    skip,
    ssh_greeting,
    warn,
    why_no_ssh,
)

PATIENCE = 1.5  # seconds for names
REMEDY = (
    "Set the base URL to {expected} (Administration > Server settings > Base URL). Behind a reverse"
    " proxy tell Bitbucket of it too, in bitbucket.properties: server.proxy-name={expected_host},"
    " server.proxy-port={expected_port}, server.scheme={expected_scheme}, server.secure={secure},"
    " and restart it."
)
SEE_LINKS = "{curl} '{expected}/rest/capabilities'"


class BaseUrl(Check):
    """Compare the links that Bitbucket writes about itself with the URL that it was reached at.

    Every link of the listing, of /rest/capabilities and in the realm of a 401 begins with the base
    URL that is configured, or with what the reverse proxy lets Bitbucket know. Whatever connects
    clones from those links: when they say localhost, listing works and cloning does not. SSH links
    are told apart, for their host may well be another one.
    """

    id = "base-url"
    title = "Bitbucket's links lead back to it"
    order = 100
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Instance)
    after = (Repositories, Clone, Identity, Realm, Route, Addresses)

    OK = ok("base-url-ok", "all {count} links that were seen begin with {expected}")
    NO_LINKS = skip("base-url-no-links", "no link of Bitbucket to itself could be read")

    LOCALHOST = fail(
        "base-url-localhost",
        "Bitbucket's links point to localhost, which is another machine for everybody who reads"
        " them: {wrong}, instead of {expected} ({count} links, as {example})",
        remedy=REMEDY,
        owner="bitbucket-admin",
        reproduce=SEE_LINKS,
    )
    LOOPBACK = fail(
        "base-url-loopback",
        "Bitbucket's links point to a loopback address, which is another machine for everybody who"
        " reads them: {wrong}, instead of {expected} ({count} links, as {example})",
        remedy=REMEDY,
        owner="bitbucket-admin",
        reproduce=SEE_LINKS,
    )
    PRIVATE_IP = fail(
        "base-url-private-ip",
        "Bitbucket's links point to a private address: {wrong}, instead of {expected} ({count}"
        " links, as {example})",
        remedy=REMEDY,
        owner="bitbucket-admin",
        reproduce=SEE_LINKS,
    )
    UNRESOLVABLE = fail(
        "base-url-unresolvable",
        "Bitbucket's links use a name that does not resolve here: {wrong}, instead of {expected}"
        " ({count} links, as {example})",
        remedy=REMEDY,
        owner="bitbucket-admin",
        reproduce=(SEE_LINKS, "getent hosts {wrong_host}"),
    )
    SCHEME = fail(
        "base-url-scheme-mismatch",
        "Bitbucket's links begin with {wrong_scheme}://, but it is reached by {expected_scheme}://:"
        " {wrong}, instead of {expected} ({count} links, as {example})",
        remedy=REMEDY,
        owner="bitbucket-admin",
        reproduce=SEE_LINKS,
    )
    PORT = fail(
        "base-url-port-mismatch",
        "Bitbucket's links use port {wrong_port}, but it is reached on port {expected_port}:"
        " {wrong}, instead of {expected} ({count} links, as {example})",
        remedy=REMEDY,
        owner="bitbucket-admin",
        reproduce=SEE_LINKS,
    )
    CONTEXT = fail(
        "base-url-context-mismatch",
        "Bitbucket's links have another context path than it is reached under: {wrong}, instead of"
        " {expected} ({count} links, as {example})",
        remedy=REMEDY + " The path itself is server.context-path.",
        owner="bitbucket-admin",
        reproduce=SEE_LINKS,
    )
    HOST = warn(
        "base-url-host-mismatch",
        "Bitbucket's links use another name than the one it was reached by: {wrong}, instead of"
        " {expected} ({count} links, as {example})",
        remedy="Give whatever connects the URL that the links have, if it works from there. Else: "
        + REMEDY,
        owner="bitbucket-admin",
        reproduce=(SEE_LINKS, "{curl} -i '{wrong}/status'"),
    )
    SSH = warn(
        "base-url-ssh-unreachable",
        "the SSH clone links point to {ssh_host}, port {ssh_port}, where no SSH server can be"
        " reached: {reason}",
        remedy="Correct the SSH base URL (Administration > SSH server; plugin.ssh.baseurl), or"
        " have the way there opened. Cloning over HTTP is not affected.",
        owner="bitbucket-admin",
        reproduce="nc -vz {ssh_host} {ssh_port}",
    )
    # The first of these that a link deserves is its verdict, and the first of all links is told.
    RANKED = (LOCALHOST, LOOPBACK, PRIVATE_IP, UNRESOLVABLE, SCHEME, PORT, CONTEXT, HOST)

    def ahead(self, ctx: Context) -> Iterator[tuple[type[Fact], ...]]:
        yield (Instance,)
        ctx.http.ahead(bitbucket.datacenter.CAPABILITIES)

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        listing = bitbucket.listing
        links = self._links(ctx)
        web = [link for link in links if link.kind != "ssh"]
        expected = listing.place(ctx[Instance].base_url)
        if expected is None or not links:
            yield self.NO_LINKS()
            return
        exists = self._which_exist(ctx, web)
        judged = [(self._verdict(ctx, link, exists), link) for link in web]
        wrong = [(verdict, link) for verdict, link in judged if verdict is not None]
        if wrong:
            wrong.sort(key=lambda pair: self.RANKED.index(pair[0]))
            yield self._tell(ctx, wrong)
        elif web:
            yield self.OK(count=sum(link.count for link in web), expected=ctx[Instance].base_url)
        yield from self._ssh(ctx, [link for link in links if link.kind == "ssh"])

    def _links(self, ctx: Context) -> Sequence[Link]:
        """One link of each kind and base, and how many there are."""
        datacenter, listing = bitbucket.datacenter, bitbucket.listing
        found = listing.Links()
        if (repositories := ctx.get(Repositories)) is not None:
            for link in repositories.links:
                found.add(link)
        answer = ctx.http.get(datacenter.CAPABILITIES)
        for link in listing.capability_links(answer.json() if answer.status == 200 else None):
            found.add(link)
        realm = ctx.get(Realm)
        for one in (realm.link if realm else None, listing.realm_link(answer)):
            if one is not None:
                found.add(one)
        return found.all()

    def _which_exist(self, ctx: Context, links: Sequence[Link]) -> dict[str, bool]:
        """The host names in the links, and whether each exists; without those that nobody knows."""
        route = ctx.get(Route)
        by_dns = _by_dns(ctx)
        mapped = {rule.host.lower() for rule in ctx.settings.connect_to}
        tasks = {}
        for link in links:
            place = bitbucket.listing.place(link.base)
            if place is None or place.host in mapped | {ctx.target.host}:
                continue
            if net.dns.literal(place.host) or net.dns.is_localhost(place.host):
                continue
            tasks[place.host] = partial(self._exists, place.host, ctx.timeout, by_dns)
        if route is not None and route.proxy is not None:
            return {}  # the proxy may know other names
        told = ctx.parallel(tasks, wait=PATIENCE)
        return {host: exists for host, exists in told.items() if exists is not None}

    @staticmethod
    def _exists(host: str, timeout: float, dns_works: bool) -> bool | None:
        if host.rsplit(".", 1)[-1] == "invalid":  # reserved for names that do not exist: RFC 6761
            return False
        addresses = net.dns.resolves(host, min(timeout, PATIENCE), dns_works=dns_works)
        return None if addresses is None else bool(addresses)

    def _verdict(self, ctx: Context, link: Link, exists: dict[str, bool]) -> Verdict | None:
        """What is wrong with a link, None if it leads to where Bitbucket was reached, or typed."""
        place = bitbucket.listing.place(link.base)
        reached = bitbucket.listing.place(ctx[Instance].base_url)
        typed = bitbucket.listing.place(ctx.target.base_url)
        if place is None or reached is None or place == typed:
            return None
        if place.host != reached.host:
            kind, own = _kind(place.host), _kind(reached.host)
            if own != "here" and kind == "here":
                return self.LOCALHOST if net.dns.is_localhost(place.host) else self.LOOPBACK
            if own == "name" and kind == "private":
                return self.PRIVATE_IP
            return self.UNRESOLVABLE if exists.get(place.host) is False else self.HOST
        if place.scheme != reached.scheme:
            return self.SCHEME
        if place.port != reached.port:
            return self.PORT
        return self.CONTEXT if place.context != reached.context else None

    def _tell(self, ctx: Context, wrong: Sequence[tuple[Verdict, Link]]) -> Finding:
        """The worst of what is wrong, with everything that is wrong as evidence: one setting is
        behind it all."""
        verdict, worst = wrong[0]
        expected = bitbucket.listing.place(ctx[Instance].base_url)
        place = bitbucket.listing.place(worst.base)
        assert expected is not None  # noqa: S101 - compared before
        assert place is not None  # noqa: S101
        evidence: dict[str, Any] = {
            "expected": ctx[Instance].base_url,
            "expected_scheme": expected.scheme,
            "expected_host": expected.host,
            "expected_port": expected.port,
            "secure": "true" if expected.scheme == "https" else "false",
            "wrong": ctx.quote(worst.base),
            "wrong_scheme": place.scheme,
            "wrong_host": ctx.quote(place.host),
            "wrong_port": place.port,
            "example": ctx.quote(worst.href),
            "count": sum(link.count for _, link in wrong if link.base == worst.base),
            "links": [
                {
                    "kind": link.kind,
                    "base": ctx.quote(link.base),
                    "count": link.count,
                    "example": ctx.quote(link.href),
                    "where": ctx.quote(link.where),
                }
                for _, link in wrong
            ],
        }
        return verdict(**evidence)

    def _ssh(self, ctx: Context, links: Sequence[Link]) -> Iterator[Finding]:
        """SSH links to another host than the web's: right, if an SSH server is there. Whether the
        port is open on the same host is a question of check `git`."""
        for link in links:
            place = bitbucket.listing.place(link.base)
            if place is None or place.host == ctx.target.host:
                continue
            if _kind(place.host) == "here" and _kind(ctx.target.host) != "here":
                reason = "that is this machine itself, whoever reads it"
            else:
                banner = ssh_greeting(
                    ctx, place.host, place.port, net.patience.SSH, dns_works=_by_dns(ctx)
                )
                if banner is None or banner.text is not None:
                    continue
                reason = why_no_ssh(ctx, banner)
            yield self.SSH(
                ssh_host=ctx.quote(place.host),
                ssh_port=place.port,
                reason=reason,
                example=ctx.quote(link.href),
                count=link.count,
            )


def _by_dns(ctx: Context) -> bool:
    """Whether DNS works here, as the name of the host shows."""
    found = ctx.get(Addresses)
    return found is not None and found.source == "system"


def _kind(host: str) -> Literal["here", "private", "public", "name"]:
    """What a host in a URL is, as far as its text tells."""
    if net.dns.is_localhost(host):
        return "here"
    address = net.dns.literal(host)
    if address is None:
        return "name"
    if net.dns.is_loopback(address) or net.dns.is_unspecified(address):
        return "here"
    return "public" if net.dns.is_public(address) else "private"
