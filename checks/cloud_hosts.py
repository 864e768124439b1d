"""Check `cloud-hosts`: the other hosts of Bitbucket Cloud, beside that of its API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
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
    Wire,
    bitbucket,
    fail,
    net,
    ok,
    skip,
    ssh_greeting,
    verdicts,
    warn,
    why_no_ssh,
)

LAYERS = {"dns": "DNS", "tcp": "TCP", "tls": "TLS"}


class CloudHosts(Check):
    """Look at the website and at both ports of SSH, while the way to the API is examined.

    Bitbucket Cloud has three hosts: api.bitbucket.org for programs, bitbucket.org for people, git
    and OAuth, altssh.bitbucket.org for SSH on port 443. A filter that knows only the website lets
    people work while every program fails. For SSH it is seen whether a server greets.
    """

    id = "cloud-hosts"
    title = "the other hosts of Bitbucket Cloud can be reached"
    order = 46
    kinds = frozenset({"cloud"})
    requires = (Target, Route)
    after = (Addresses, Channel, Wire)

    OK = ok("cloud-hosts-ok", "{web_host} answers on port 443")
    SSH_OK = ok("cloud-ssh-ok", "an SSH server answers at {ssh_at}: {banner}")
    SSH_CLOSED = ok("cloud-altssh-closed", "SSH on {ssh_at} does not answer: {reason}")
    NEITHER = skip(
        "cloud-hosts-neither", "the website, {web_host}, cannot be reached either: {why}"
    )
    API_BLOCKED = fail(
        "cloud-api-host-blocked",
        "the website {web_host} can be reached from here, but not {host}, the host for programs:"
        " {layer} fails ({why})",
        remedy="Have {host}, port 443, allowed wherever {web_host} is: in the firewall, the DNS"
        " filter, the proxy. Browsers need only the one, programs the other.",
        owner="network-admin",
        reproduce=(
            "{curl} -o /dev/null -D - https://{host}/2.0/hook_events",
            "{curl} -o /dev/null -D - https://{web_host}/",
        ),
        explains=(
            *("dns-nxdomain", "dns-nodata", "dns-servfail", "dns-refused", "dns-timeout"),
            *("dns-cname-dangling", "dns-cname-loop", "dns-resolves-loopback", "dns-sinkholed"),
            *("dns-unclear", "tcp-refused", "tcp-filtered", "tcp-admin-prohibited"),
            *("tcp-host-unreachable", "tcp-net-unreachable", "tcp-reset-by-middlebox"),
            *("tcp-host-down", "tcp-source-not-allowlisted", "tcp-unclear"),
            *("tcp-reset-after-accept", "tcp-closed-after-accept", "tcp-silent-after-accept"),
            *("tls-handshake-timeout", "tls-blocked-by-sni", "tls-sni-rejected", "tls-unclear"),
        ),
    )
    WEBSITE = warn(
        "cloud-website-unreachable",
        "the API can be reached, but not {web_host}: {layer} fails ({why}); git over HTTPS and the"
        " sign-in with OAuth need it",
        remedy="Have {web_host}, port 443, allowed wherever {host} is. If nobody clones from here,"
        " only {profile} needs it, where that runs.",
        owner="network-admin",
        reproduce="{curl} -o /dev/null -D - https://{web_host}/",
    )
    SSH_UNREACHABLE = verdicts.GIT_SSH_UNREACHABLE
    AAAA = verdicts.AAAA_BROKEN

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        cloud = bitbucket.cloud
        reached = ctx.get(Wire) is not None
        patience = ctx.timeout if reached else min(ctx.timeout, net.patience.REPEAT)
        look = partial(net.reach.reach, ctx.dialer, ctx.trust.context(), port=443)
        tasks: dict[str, Callable[[], Any]] = {
            "web": partial(look, host=cloud.WEB_HOST, timeout=patience),
            "ssh": partial(ssh_greeting, ctx, cloud.WEB_HOST, 22, net.patience.SSH),
            "altssh": partial(ssh_greeting, ctx, cloud.SSH_HOST, 443, net.patience.SSH),
        }
        if not reached and ctx.get(Channel):  # is it the certificate? that has verdicts of its own
            tasks["api"] = partial(look, host=ctx.target.host, timeout=patience)
        with ctx.timed("connect", f"{cloud.WEB_HOST}, {cloud.SSH_HOST}"):
            found = ctx.parallel(tasks, wait=3 * ctx.timeout)
        web = found.get("web")
        ssh = list(self._ssh(ctx, found.get("ssh"), found.get("altssh")))
        if web is not None:
            told = self._told(ctx, web)
            if web.stage == "ok":
                ctx.dialer.park(web.host, web.port, web.sock)
                if dead := web.dead6:
                    address = dead[0].split()[0]
                    yield self.AAAA(host=web.host, port=web.port, address=address, dead=dead)
            if not reached:
                yield from self._no_api(ctx, web, found.get("api"), told)
            elif web.stage != "ok":
                yield self.WEBSITE(**told)
            else:
                yield self.OK(**told)
        if reached or (web is not None and web.stage == "ok"):
            yield from ssh

    def _told(self, ctx: Context, web: net.reach.Reach) -> dict[str, Any]:
        return {
            "web_host": web.host,
            "layer": LAYERS.get(web.stage),
            "why": ctx.quote(web.why),
            "answers": [one.evidence() for one in web.answers],
        }

    def _no_api(
        self,
        ctx: Context,
        web: net.reach.Reach,
        api: net.reach.Reach | None,
        told: dict[str, Any],
    ) -> Iterator[Finding]:
        """The way to the API is not there: does that to the website tell why?"""
        if web.stage != "ok":
            yield self.NEITHER(**told)
            return
        if ctx[Route].proxy is not None:  # its own words say whom it does not let pass
            return
        if ctx.get(Channel):
            if api is None or api.stage == "ok" or api.certificate:
                return
            told |= {"layer": LAYERS[api.stage], "why": ctx.quote(api.why)}
        elif ctx.get(Addresses):
            told |= {"layer": "TCP", "why": "no connection to port 443"}
        else:
            told |= {"layer": "DNS", "why": "the name does not resolve to an address of its own"}
        yield self.API_BLOCKED(**told)

    def _ssh(
        self, ctx: Context, usual: net.ssh.Banner | None, other: net.ssh.Banner | None
    ) -> Iterator[Finding]:
        """The usual port of SSH, and the one that passes firewalls made for the web."""
        cloud = bitbucket.cloud
        places = ((cloud.WEB_HOST, 22, usual), (cloud.SSH_HOST, 443, other))
        for host, port, banner in places:
            if banner is None:
                continue
            evidence: dict[str, Any] = {"ssh_at": f"{host}, port {port}"}
            if banner.text is not None:
                yield self.SSH_OK(banner=ctx.quote(banner.text), **evidence)
                continue
            evidence["reason"] = why_no_ssh(ctx, banner)
            if banner is not usual:
                yield self.SSH_CLOSED(**evidence)
                continue
            remedy = "Have port 22 of {ssh_host} opened to where clones are made, or clone over"
            if other is not None and other.text is not None:
                url = f"ssh://git@{cloud.SSH_HOST}:443/"
                remedy += f" SSH on port 443, which works from here ({url}…), or over HTTPS."
            else:
                remedy += " HTTPS."
            yield self.SSH_UNREACHABLE(remedy=remedy, ssh_host=host, ssh_port=port, **evidence)
