"""Check `tcp`: can a connection be had, to which addresses, and if not, who stands in the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from diag.api import (
    Addresses,
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    Knocked,
    Owner,
    Target,
    Verdict,
    fail,
    net,
    ok,
    unknown,
    verdicts,
    warn,
)

if TYPE_CHECKING:
    Answer = net.doors.Answer
    Door = net.doors.Door
    Inquiry = net.silence.Inquiry

_NC = "nc -vz -w 3 {address} {port}"
_TRACE = (
    "sudo traceroute -n -T -p {port} {address}",
    "tracepath -n {address}  # needs no root, but asks with UDP, not on port {port}",
)
_UNWATCHED = " If it does run there, a device may answer in its place: run bbdiag as root to see."
_TOO_SHORT = 800  # milliseconds: a shorter silence proves nothing
_LEFT_OVER = 1.0  # seconds that finding the hop leaves to the rest of the run
_REJECTED = {"prohibited", "host-unreachable", "net-unreachable"}
_SAYS_LITTLE = {"no-route", "unclear"}
_WORDS = {
    "refused": "refuses",
    "reset": "resets at once",
    "silent": "does not answer",
    "prohibited": "is rejected by a firewall",
    "host-unreachable": "is unreachable",
    "net-unreachable": "is unreachable",
    "host-down": "is down",
}


class Tcp(Check):
    """Open a TCP connection to every address of the host, IPv4 and IPv6, side by side.

    To most programs a refusal, a silence and a firewall's rejection are one and the same "cannot
    connect". They need different people: who rejects is read from the ICMP error itself, a port is
    called filtered only after four unanswered connects, and run as root, one more connect is
    watched to see whether it leaves this machine and from how far away a reset comes.
    On Linux, more connects with a rising time to live tell which router, hop by hop, is the last to
    get them, and which hop rejects. All that begins as soon as the port is suspiciously quiet.
    """

    id = "tcp"
    title = "the port accepts connections"
    order = 40
    requires = (Target, Addresses)
    provides = (Channel, Knocked)

    CONNECTED = ok("tcp-ok", "port {port} of {addresses} accepts connections ({elapsed_ms} ms)")
    REFUSED = fail(
        "tcp-refused",
        "{address} refuses connections on port {port}{note}",
        remedy="The machine can be reached, but nothing listens on that port: start the service, "
        "or correct the port in the URL.{unwatched}",
        owner="server-admin",
        reproduce=(_NC, "ss -ltn 'sport = :{port}'  # on the server"),
    )
    RESET = verdicts.RESET_AFTER_ACCEPT
    FILTERED = fail(
        "tcp-filtered",
        "{address} does not answer on port {port}: {tries} connects, not one packet back{note}"
        "{where}",
        remedy="Most likely a firewall on the way, or on the server, drops the packets: let TCP "
        "port {port} from this machine ({source}) to {address} through.{whom} A server that is "
        "off, or too busy to accept connections (full backlog), looks the same from here.",
        owner="network-admin",
        reproduce=(_NC, *_TRACE),
    )
    PROHIBITED = fail(
        "tcp-admin-prohibited",
        "{by} rejects connections to {address} port {port}: a firewall rule ({icmp})",
        remedy="Let TCP port {port} from this machine ({source}) to {address} through in the "
        "firewall of {by}.",
        owner="network-admin",
        reproduce=(_NC, "sudo tcpdump -n icmp or icmp6  # meanwhile"),
    )
    HOST_UNREACHABLE = fail(
        "tcp-host-unreachable",
        "{by} says that the host {address} is unreachable ({icmp}){where}",
        remedy="Ask whoever runs {by}: it has no way to that host, or hides it on purpose. Check "
        "too whether {address} is still the right address.",
        owner="network-admin",
        reproduce=(_NC, *_TRACE),
    )
    NET_UNREACHABLE = fail(
        "tcp-net-unreachable",
        "{by} has no route to the network of {address} ({icmp})",
        remedy="A route is missing in {by}, or the VPN that leads there is down on its side.",
        owner="network-admin",
        reproduce=(_NC, *_TRACE, "ip route get {address}"),
    )
    MIDDLEBOX = fail(
        "tcp-reset-by-middlebox",
        "a device on the way, not the host, resets connections to {address} port {port}: its "
        "resets pass {reset_hops} routers, what the host sends ({reference}) passes {host_hops}",
        remedy="The server did not refuse. Have the firewall, load balancer or intrusion "
        "prevention in front of {address} let TCP port {port} through.",
        owner="network-admin",
        reproduce=("sudo tcpdump -nv host {address}  # compare the ttl", _NC),
    )
    NO_ROUTE = fail(
        "tcp-no-local-route",
        "this machine has no route to {address} ({errno})",
        remedy="Add the route, or bring up the interface or the VPN that leads there.",
        owner="you",
        reproduce="ip route get {address}",
    )
    HOST_DOWN = fail(
        "tcp-host-down",
        "nobody answers at {neighbour}: {asked}",
        remedy="If {neighbour} is the server, check that it runs and that its address is right; if "
        "it is a gateway, the network behind it cannot be reached until it is back.",
        owner="network-admin",
        reproduce=("ip neigh show {neighbour}", _NC),
    )
    NOT_ALLOWLISTED = fail(
        "tcp-source-not-allowlisted",
        "{address} port {port} answers connects from {working_source}, but not from {source}, the "
        "address this machine uses",
        remedy="Add {source} to the firewall's allow-list, or use {working_source} as the source "
        "address towards {address}.",
        owner="network-admin",
        reproduce=(
            "nc -vz -w 3 -s {source} {address} {port}",
            "nc -vz -w 3 -s {working_source} {address} {port}",
        ),
    )
    EGRESS = fail(
        "tcp-egress-blocked-local",
        "this machine itself keeps connections to {address} port {port} from leaving: {proof}",
        remedy="Look at this machine's own firewall for outgoing connections (nftables, iptables, "
        "security software, container policy) and allow TCP port {port}.",
        owner="you",
        reproduce=("sudo nft list ruleset", "sudo iptables -S OUTPUT", _NC),
    )
    BACKLOG = fail(
        "tcp-backlog-full",
        "the service on {address} port {port} is too busy: its queue of new connections is full "
        "({overflows} connects dropped just now)",
        remedy="It does not take connections out of its queue: look for a hang or an overload "
        "(threads, open files), or restart it.",
        owner="server-admin",
        reproduce=("ss -ltn 'sport = :{port}'", "nstat -az TcpExtListenOverflows"),
    )
    UNCLEAR = unknown(
        "tcp-unclear",
        "connecting to {address} port {port} fails, for no reason that can be told: {why}",
        remedy="Try again, with a longer --timeout or as root; {why} is all that is known.",
        reproduce=_NC,
    )
    PARTIAL = warn(
        "dns-partial-dead",
        "{host} has {count} addresses, and not all of them work: {dead}",
        remedy="Take the dead address out of DNS, or repair the machine there. Until then "
        "connections fail or hang now and then, depending on the address a client takes first.",
        owner="dns-admin",
        reproduce=("dig +short {host} A {host} AAAA", _NC),
    )
    AAAA = verdicts.AAAA_BROKEN
    IPV6_ONLY = fail(
        "dns-ipv6-only",
        "{host} has only IPv6 addresses ({addresses}), and this machine has no IPv6",
        remedy="Give this machine IPv6, or have an IPv4 address (A record) published for {host}.",
        owner="network-admin",
        reproduce=("dig +short {host} A {host} AAAA", "ip -6 route get {address}"),
    )

    BY_KIND: ClassVar[dict[str, Verdict]] = {
        "refused": REFUSED,
        "reset": RESET,
        "silent": FILTERED,
        "prohibited": PROHIBITED,
        "host-unreachable": HOST_UNREACHABLE,
        "net-unreachable": NET_UNREACHABLE,
        "no-route": NO_ROUTE,
        "host-down": HOST_DOWN,
        "blocked-here": EGRESS,
        "unclear": UNCLEAR,
    }

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target, addresses = ctx.target, ctx[Addresses].addresses
        mapped = ctx.dialer.mapped(target.host, target.port)
        host, port = mapped or (target.host, target.port)
        others = [] if mapped else [other for other in net.tcp.PORTS if other != port]
        door = net.doors.Door
        doors = [door(address, port) for address in addresses]
        siblings = [door(address, other) for address in addresses for other in others]
        good: list[Answer] = []
        bad: list[Answer] = []
        aside: list[Answer] = []
        inquiry = self._inquiry(ctx, doors, siblings, (good, bad, aside))
        for answer in net.doors.knock(
            doors, siblings, timeout=ctx.timeout, rumours=inquiry, asked=ctx.run.awaited.set
        ):
            if answer.port != port:
                aside.append(answer)
                continue
            started = round((answer.started - ctx.run.started) * 1000)
            ctx.record("connect", f"{answer.address} {port}", started, round(answer.elapsed_ms))
            if answer.sock is None:
                bad.append(answer)
                continue
            good.append(answer)
            ctx.dialer.prefer(host, [one.address for one in good])
            if len(good) == 1:
                ctx.dialer.park(target.host, target.port, answer.sock)
                answer.sock.settimeout(ctx.timeout)
                ctx.http.open_ahead(answer.address, ctx.timeout, 1)  # only now: it may be limited
                yield Channel(target.host, target.port, answer.address, answer.elapsed_ms)
                yield Knocked(is_open=True)
            else:
                net.tcp.abort(answer.sock)
        evidence: dict[str, Any] = {
            "host": target.host,
            "answers": [answer.evidence() for answer in (*good, *bad, *aside)],
        }
        if not good:
            knocked = Knocked(is_open=False, others={(a.address, a.port): a.kind for a in aside})
            # Routers limit how often they say no: where one did, the trace comes first.
            told = any(one.kind in _REJECTED for one in bad)
            if not told:
                yield knocked
            yield self._failed(ctx, bad, aside, others, inquiry, evidence)
            if told:
                yield knocked
            return
        yield self.CONNECTED(
            **evidence,
            addresses=[answer.address for answer in good],
            port=port,
            elapsed_ms=round(good[0].elapsed_ms, 1),
        )
        yield from self._partly(good, bad, evidence)

    @staticmethod
    def _inquiry(
        ctx: Context,
        doors: Sequence[Door],
        siblings: Sequence[Door],
        seen: tuple[Sequence[Answer], Sequence[Answer], Sequence[Answer]],
    ) -> Inquiry:
        """What is to be begun when the doors stay quiet, for the one that the verdict would be on.
        Beside the connects go others to a port that answers, else UDP; nothing but the port itself
        where its siblings are not to be touched."""
        good, bad, aside = seen
        door = min(doors, key=lambda one: ":" in one.address)  # the first of these

        def answered() -> bool:
            said = (one.kind for one in bad if one.address == door.address)
            return bool(good) or not net.doors.MUTE.issuperset(said)

        def beside() -> int:
            best = {one.kind: one.port for one in aside if one.address == door.address}
            return best.get("open", best.get("refused", net.hops.UDP))

        return net.silence.Inquiry(
            door,
            _time_to_trace(ctx),
            beside=beside if siblings else None,
            answered=answered,
            others_answered=lambda: ctx.run.echoed,
        )

    def _failed(
        self,
        ctx: Context,
        bad: Sequence[Answer],
        aside: Sequence[Answer],
        others: Sequence[int],
        inquiry: Inquiry,
        evidence: dict[str, Any],
    ) -> Finding:
        """No address can be connected to: the one verdict, on the address that tells most."""
        order = ctx[Addresses].addresses.index
        main = min(
            bad, key=lambda one: (one.kind in _SAYS_LITTLE, ":" in one.address, order(one.address))
        )
        if main.kind == "silent" and inquiry.door.address != main.address:
            door = net.doors.Door(main.address, main.port)
            siblings = [net.doors.Door(main.address, other) for other in others]
            inquiry = self._inquiry(ctx, [door], siblings, ((), bad, aside))
            inquiry.begin()
        told = evidence | _told(main) | {"note": _note(main, aside)}
        named = ctx[Addresses].source not in {"literal", "connect-to"}
        homeless = main.kind in {"no-route", "net-unreachable"} and ":" in main.address
        if homeless and named and net.tcp.lacks_ipv6():
            return self.IPV6_ONLY(**told, addresses=[one.address for one in bad])
        if main.kind == "silent" and main.elapsed_ms < _TOO_SHORT:
            why = f"no answer within {main.elapsed_ms:.0f} ms, too short a time to tell"
            return self.UNCLEAR(**told, why=why)
        owner: Owner | None = None
        if (
            main.kind == "silent"
            and (lost := net.tcp.overflows(main.address, main.port)) is not None
        ):
            if lost:
                return self.BACKLOG(**told, overflows=lost)
            owner = "you"  # this very machine: nobody else is on the way
        if main.kind == "prohibited" and main.icmp and main.icmp.sender == main.address:
            owner = "server-admin"
        if deeper := self._looked_into(ctx, main, others, inquiry, told):
            return deeper
        told |= {"where": "", "whom": ""}
        remedy = None
        trace = inquiry.trace if main.kind == "silent" else _trace(ctx, main)
        if trace:
            if main.kind == "silent" and trace.answered:
                return self.UNCLEAR(**told, why="a moment later it did answer")
            told |= _on_the_way(main, trace)
            remedy = trace.stop.whom if trace.connects.loop else None
        return self.BY_KIND[main.kind](owner=owner, remedy=remedy, **told)

    def _looked_into(
        self,
        ctx: Context,
        main: Answer,
        others: Sequence[int],
        inquiry: Inquiry,
        told: dict[str, Any],
    ) -> Finding | None:
        """A more precise verdict, from the packets themselves or from another source address."""
        told["unwatched"] = _UNWATCHED
        silent = main.kind == "silent"
        look = inquiry.look if silent else None
        if main.kind == "refused":
            look = net.tcp.look(main, others)
        if look:
            told["unwatched"] = ""
            if look.blocked_here:
                return self.EGRESS(**told, proof="they were not seen on any network interface")
            if look.reference:
                told |= {"reset_hops": look.reset_hops, "host_hops": look.host_hops}
                return self.MIDDLEBOX(**told, reference=look.reference)
        if silent or main.kind == "prohibited":
            if silent:
                sources = inquiry.sources
            else:
                with ctx.timed("connect", f"{main.address} {main.port}, from each own address"):
                    sources = net.tcp.by_source(main.address, main.port, ctx.explaining)
            if sources and sources[0].kind == "open":
                return self.UNCLEAR(**told, why="a moment later it did answer")
            if sources and sources[1].kind == "open":
                return self.NOT_ALLOWLISTED(**told, working_source=sources[1].source)
        return None

    def _partly(
        self, good: Sequence[Answer], bad: Sequence[Answer], evidence: dict[str, Any]
    ) -> Iterator[Finding]:
        """Some addresses can be connected to, others cannot."""
        if net.dns.is_localhost(evidence["host"]):
            return  # ::1 stands beside 127.0.0.1 on every machine, whoever listens there
        dead = [one for one in bad if one.kind in _WORDS and one.neighbour in {None, one.address}]
        if not any(":" in one.address for one in good):
            # Where a router has no route for it, it is this network that lacks IPv6.
            dead6 = [one for one in dead if ":" in one.address and one.kind != "net-unreachable"]
            dead = [one for one in dead if ":" not in one.address]
            if dead6:
                yield self.AAAA(**evidence | _told(dead6[0]), dead=_list(dead6))
        if dead:
            count = len(good) + len(bad)
            yield self.PARTIAL(**evidence | _told(dead[0]), dead=_list(dead), count=count)


def _told(answer: Answer) -> dict[str, Any]:
    """What a message says about one answer."""
    seconds = f"{answer.elapsed_ms / 1000:.1f} s"
    told: dict[str, Any] = {
        "address": answer.address,
        "port": answer.port,
        "errno": answer.error,
        "elapsed_ms": round(answer.elapsed_ms, 1),
        "tries": answer.tries,
        "source": answer.source,
    }
    icmp = answer.icmp
    if answer.kind in {"prohibited", "host-unreachable", "net-unreachable"}:
        told["by"] = answer.says
        told["icmp"] = (
            f"ICMP type {icmp.type} code {icmp.code}" if icmp else f"{answer.error} after {seconds}"
        )
    elif answer.kind == "host-down":
        told["neighbour"] = answer.neighbour or answer.address
        told["asked"] = "no machine of the local network has that address"
        if told["neighbour"] != answer.address:
            told["asked"] = f"the gateway on the way to {answer.address} is silent"
        elif icmp and icmp.sender != answer.source:
            told["asked"] = f"the router {answer.says} found no machine with that address"
    elif answer.kind == "blocked-here":
        told["proof"] = "it rejects them itself" if icmp else f"its kernel says {answer.error}"
    elif answer.kind == "unclear":
        told["why"] = answer.error
    return told


def _time_to_trace(ctx: Context) -> float:
    return min(net.patience.TRACE, ctx.remaining - _LEFT_OVER)


def _trace(ctx: Context, main: Answer) -> net.hops.Trace | None:
    """How far connects get that a device on the way rejects."""
    if main.kind not in _REJECTED or main.says == "the host itself":
        return None
    with ctx.timed("connect", f"{main.address} {main.port}, hop by hop"):
        return net.hops.trace(main.address, main.port, _time_to_trace(ctx))


def _on_the_way(main: Answer, trace: net.hops.Trace) -> dict[str, Any]:
    """What a trace adds to a message: where connects stop, or the hop of who rejects them."""
    told: dict[str, Any] = {"path": trace.evidence()}
    if main.icmp is not None:
        told["by"] = trace.place(main.icmp.sender)
    if main.kind == "silent" or trace.connects.loop:
        where, whom = trace.stop
        told |= {"where": f"; {where}", "whom": whom and f" {whom}"}
    return told


def _note(main: Answer, aside: Sequence[Answer]) -> str:
    """What other ports of the same address say."""
    beside = [one for one in aside if one.address == main.address]
    if opened := [str(one.port) for one in beside if one.kind == "open"]:
        return f"; it does on port {' and '.join(opened)}"
    if any(one.kind == "refused" for one in beside):
        return "; the machine itself is up: other ports answer with a refusal"
    return "; nor on any other port that was tried" if main.kind == "silent" else ""


def _list(dead: Sequence[Answer]) -> list[str]:
    return [f"{one.address} {_WORDS[one.kind]}" for one in dead]
