"""Check `ports`: what the other usual ports say when the one of the URL does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from diag.api import (
    Addresses,
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    Target,
    bitbucket,
    fail,
    net,
    ok,
    skip,
)

if TYPE_CHECKING:
    Answer = net.doors.Answer

_TLS_FIRST = (443, 8443)  # the others usually speak plain HTTP
_BEST_FIRST = (*_TLS_FIRST, 7990, 80)
_PATIENCE = 1.0  # seconds
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
    after = (Channel,)

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
        if ctx.get(Channel):
            yield self.NOT_NEEDED(port=target.port)
            return
        ports = self._doors(ctx)
        if not ports:
            yield self.MAPPED()
            return
        answers: dict[int, Answer] = {}
        for answer in net.doors.knock(list(ports), timeout=min(_PATIENCE, ctx.timeout)):
            if answer.sock is not None:
                answer.sock.close()
            started = round((answer.started - ctx.run.started) * 1000)
            detail = f"{answer.address} {answer.port}"
            ctx.record("connect", detail, started, round(answer.elapsed_ms))
            port = ports[net.doors.Door(answer.address, answer.port)]
            known = answers.get(port)
            if known is None or (known.kind != "open" and answer.kind in _WORDS):
                answers[port] = answer
        yield self.SEEN(
            host=target.host,
            ports=[
                f"{port} {_WORDS.get(answer.kind, 'unreachable')}"
                for port, answer in sorted(answers.items())
            ],
            answers=[answer.evidence() for answer in answers.values()],
        )
        opened = {
            port: partial(self._bitbucket_at, ctx, port, answers[port].address)
            for port in _BEST_FIRST
            if port in answers and answers[port].kind == "open"
        }
        for port, found in ctx.parallel(opened).items():
            if found:
                url, marks = found
                path = bitbucket.datacenter.PROPERTIES
                yield self.WRONG_PORT(
                    port=target.port, found_url=url, found_port=port, marks=marks, path=path
                )
                return

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
            limit = min(2 * _PATIENCE, ctx.timeout)
            reply = ctx.http.get(url_asked, fresh=True, verify=False, timeout=limit)
            if marks := bitbucket.datacenter.marks(reply):
                return url, marks
            if reply.failure == "timeout":
                return None  # whatever accepts there says nothing
        return None
