"""Check `ports`: what the other usual ports say when the one of the URL does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from diag.api import (
    Addresses,
    Check,
    Context,
    Fact,
    Finding,
    Knocked,
    Target,
    bitbucket,
    fail,
    net,
    ok,
    skip,
)

_TLS_FIRST = (443, 8443)  # the others usually speak plain HTTP
_BEST_FIRST = (*_TLS_FIRST, 7990, 80)
_WORDS = {"open": "open", "refused": "refused", "silent": "no answer", "prohibited": "rejected"}


class Ports(Check):
    """Knock at the ports where Bitbucket usually is, when that of the URL cannot be connected to.

    443 and 80 belong to a reverse proxy, 7990 and 8443 to Bitbucket itself, 7999 to git over SSH.
    An open port proves little: only when Bitbucket itself answers a request there (anonymous, the
    certificate not verified, no secret sent) is the port in the URL called wrong.
    """

    id = "ports"
    title = "no other port is the right one"
    order = 45
    kinds = frozenset({"datacenter", "unknown"})  # Bitbucket Cloud has but one
    requires = (Target, Addresses)
    after = (Knocked,)

    NOT_NEEDED = skip("ports-not-needed", "port {port} accepts connections")
    MAPPED = skip("ports-not-probed", "--connect-to has no rule for another usual port")
    SEEN = ok("ports-seen", "on {host}: {ports}")
    WRONG_PORT = fail(
        "tcp-wrong-port",
        "Bitbucket is not on port {port} of {host}, but answers at {found_url}",
        remedy="Use {found_url} as the URL. If port {port} is meant to work, have it opened in the "
        "firewall and the reverse proxy on it started.",
        owner="you",
        reproduce="{curl} -k {found_url}{path}",
        explains=(
            "tcp-refused",
            "tcp-filtered",
            "tcp-admin-prohibited",
            "tcp-host-unreachable",
            "tcp-net-unreachable",
            "tcp-reset-by-middlebox",
            "tcp-unclear",
        ),
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target = ctx.target
        knocked = ctx.get(Knocked) or Knocked(is_open=False)
        if knocked.is_open:
            yield self.NOT_NEEDED(port=target.port)
            return
        ports = self._doors(ctx)
        if not ports:
            yield self.MAPPED()
            return
        answers: dict[int, tuple[str, str]] = {}  # address and kind, by port
        for (address, to_port), kind in self._knock(ctx, list(ports), knocked).items():
            port = ports[net.doors.Door(address, to_port)]
            known = answers.get(port)
            if known is None or (known[1] != "open" and kind in _WORDS):
                answers[port] = address, kind
        yield self.SEEN(
            host=target.host,
            ports=[
                f"{port} {_WORDS.get(kind, 'unreachable')}"
                for port, (_, kind) in sorted(answers.items())
            ],
            answers=[
                {"address": address, "port": port, "result": kind}
                for port, (address, kind) in answers.items()
            ],
        )
        opened = {
            port: partial(self._bitbucket_at, ctx, port, answers[port][0])
            for port in _BEST_FIRST
            if port in answers and answers[port][1] == "open"
        }
        for port, found in ctx.parallel(opened).items():
            if found:
                url, marks = found
                path = bitbucket.datacenter.PROPERTIES
                yield self.WRONG_PORT(
                    port=target.port, found_url=url, found_port=port, marks=marks, path=path
                )
                return

    @staticmethod
    def _knock(
        ctx: Context, doors: list[net.doors.Door], knocked: Knocked
    ) -> dict[tuple[str, int], str]:
        """What comes of each: check `tcp` has knocked at some of them already."""
        found = dict(knocked.others)
        left = [one for one in doors if (one.address, one.port) not in found]
        patience = min(net.patience.OTHER_PORT, ctx.timeout)
        for answer in net.doors.knock(left, timeout=patience):
            if answer.sock is not None:
                answer.sock.close()
            started = round((answer.started - ctx.run.started) * 1000)
            detail = f"{answer.address} {answer.port}"
            ctx.record("connect", detail, started, round(answer.elapsed_ms))
            found[answer.address, answer.port] = answer.kind
        return {(d.address, d.port): found[d.address, d.port] for d in doors}

    def _doors(self, ctx: Context) -> dict[net.doors.Door, int]:
        """Where to knock for each of the ports, on the first two addresses, or where --connect-to
        leads: beyond its rules nothing of that host is touched."""
        target, door = ctx.target, net.doors.Door
        others = [port for port in net.tcp.PORTS if port != target.port]
        if ctx.dialer.mapped(target.host, target.port) is None:
            addresses = ctx[Addresses].addresses[:2]
            return {door(one, port): port for port in others for one in addresses}
        mapped = {port: ctx.dialer.mapped(target.host, port) for port in others}
        return {
            door(*to): port
            for port, to in mapped.items()
            if to and net.dns.literal(to[0]) is not None
        }

    def _bitbucket_at(
        self, ctx: Context, port: int, address: str
    ) -> tuple[str, tuple[str, ...]] | None:
        """The base URL at which Bitbucket answers on that port, and what it is recognised by."""
        target = ctx.target
        ctx.dialer.prefer(target.host, [address])
        host = f"[{target.host}]" if ":" in target.host else target.host
        schemes = ("https", "http") if port in _TLS_FIRST else ("http", "https")
        for scheme in schemes:
            usual = {"https": 443, "http": 80}[scheme] == port
            url = f"{scheme}://{host}{'' if usual else f':{port}'}{target.context}"
            url_asked = url + bitbucket.datacenter.PROPERTIES
            limit = min(net.patience.REPEAT, ctx.explaining)
            reply = ctx.http.get(url_asked, fresh=True, verify=False, timeout=limit)
            if marks := bitbucket.datacenter.marks(reply):
                return url, marks
            if reply.failure == "timeout":
                return None  # whatever accepts there says nothing
        return None
