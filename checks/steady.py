"""Check `steady`: does it go well at each address, and each time?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from diag.api import (
    Addresses,
    Channel,
    Check,
    CloneTried,
    CloudHooks,
    CloudReads,
    Context,
    Fact,
    Finding,
    Identity,
    Instance,
    Repositories,
    Route,
    Running,
    Target,
    Webhooks,
    Wire,
    bitbucket,
    fail,
    net,
    ok,
    skip,
    verdicts,
    warn,
)

if TYPE_CHECKING:
    Answer = net.http.Answer
    Tally = bitbucket.turns.Tally
    Tour = bitbucket.turns.Tour
    Trip = net.steady.Trip

LOST = {"silent", "resent"}
WORDS = {
    "refused": "refused",
    "reset": "reset at once",
    "silent": "no answer",
    "unreachable": "unreachable",
    "prohibited": "rejected by a firewall",
    "host-unreachable": "host unreachable",
    "net-unreachable": "network unreachable",
    "host-down": "nobody there",
}
_NO_CONNECTION = (
    "tcp-refused",
    "tcp-filtered",
    "tcp-admin-prohibited",
    "tcp-host-unreachable",
    "tcp-net-unreachable",
    "tcp-reset-by-middlebox",
    "tcp-host-down",
    "tcp-unclear",
)
_CUT = ("tcp-reset-after-accept", "tcp-closed-after-accept", "tcp-silent-after-accept")
_NO_TLS = (
    *_CUT,
    "tcp-wrong-service-ssh",
    "tls-blocked-by-sni",
    "tls-chain-incomplete",
    "tls-client-cert-required",
    "tls-default-vhost-cert",
    "tls-expired",
    "tls-handshake-timeout",
    "tls-hostname-mismatch",
    "tls-intermediate-expired",
    "tls-intermittent",
    "tls-issuer-unknown",
    "tls-no-common-cipher",
    "tls-no-san",
    "tls-not-yet-valid",
    "tls-plaintext-port",
    "tls-self-signed",
    "tls-sni-rejected",
    "tls-unclear",
    "tls-version-too-old",
    "tls-weak-key",
    "tls-weak-signature",
    "tls-wrong-key-usage",
)
_NO_HTTP = (
    *_CUT,
    "http-bad-gateway",
    "http-block-page",
    "http-body-truncated",
    "http-default-vhost",
    "http-empty-reply",
    "http-gateway-auth",
    "http-gateway-rate-limited",
    "http-gateway-timeout",
    "http-invalid-json",
    "http-other-product",
    "http-response-timeout",
    "http-slow-body",
    "http-sso-login",
    "http-unclear",
    "http-upstream-unavailable",
    "http-waf-blocked",
    "server-error",
    "server-maintenance",
    "server-starting",
    "version-unknown",
)
_CURLS = "for i in $(seq 20); do {curl} -o /dev/null -w '%{{http_code}} %{{errormsg}}\\n' {asked}"


class Steady(Check):
    """With --repeat N, go the whole way N times to each address, and tell what flaps, how often.

    A single run meets one machine of those behind a name or a load balancer, once. Each try here
    has a connection of its own: TCP, TLS with verification, one anonymous request; a few at a time,
    after all other checks are through. Of how many tries fail it is told how far that can be
    chance. Without --repeat the addresses are compared only after a failure, one try each: passes
    another one, then it is one machine that is ill.
    """

    id = "steady"
    title = "it goes well at each address, and each time"
    order = 65
    requires = (Target,)
    # The last check of all: what it does to the limits of a gateway must not fall on the others.
    after = (
        *(Route, Addresses, Channel, Wire, Instance, Running),
        *(Identity, Repositories, CloneTried, Webhooks, CloudReads, CloudHooks),
    )

    OK = ok(
        "steady-ok", "{failed} tries failed, at {places}; half of them took {median} ms or less"
    )
    SAME = ok("steady-same", "nothing comes and goes in {count} tries, at {places}: {how}")
    NOT_ASKED = skip("steady-not-asked", "--repeat N goes the whole way N times to each address")
    NO_WAY = skip("steady-no-way", "there is no address to try")
    NO_TIME = skip("steady-no-time", "no time was left to try; a longer --deadline gives some")
    LOSSY = warn(
        "tcp-lossy",
        "packets to {address} get lost: {failed} connects met loss",
        remedy="Look for the loss on the way: an overloaded line, a bad cable or WLAN, a failing "
        "device, a rate limit. Connections come up slowly, and some not at all.",
        owner="network-admin",
        reproduce="mtr -n -T -P {port} -r -c 20 {address}",
        explains=("tcp-filtered", "tcp-unclear"),
    )
    LIMITED = fail(
        "tcp-connection-limited",
        "{address} port {port} lets only {allowed} connections through at once: of {of} the "
        "others failed ({how})",
        remedy="Raise or lift the limit on connections, or on new connections a second, for this "
        "client in the firewall or load balancer in front of the server. Clients and build agents "
        "open several at a time.",
        owner="network-admin",
        reproduce="for i in $(seq {of}); do nc -w 3 {address} {port} & done; wait",
    )
    CONNECTS = warn(
        "tcp-intermittent",
        "{address} port {port} can be connected to only now and then: {failed} connects failed "
        "({how})",
        remedy="Behind this address stand several machines, or one that restarts: look at each, "
        "and at the health checks of the load balancer before them.",
        owner="server-admin",
        reproduce="for i in $(seq 20); do nc -vz -w 3 {address} {port}; done",
        explains=_NO_CONNECTION,
    )
    HANDSHAKES = warn(
        "tls-unsteady",
        "TLS with {address} fails only now and then: {failed} handshakes failed ({how})",
        remedy="Several machines answer at this address, and not all are set up alike: compare "
        "certificate, chain and TLS settings of each behind the load balancer.",
        owner="server-admin",
        reproduce=_CURLS + "; done",
        explains=_NO_TLS,
    )
    ANSWERS = warn(
        "http-intermittent",
        "Bitbucket answers at {address} only now and then: {failed} requests went wrong ({how})",
        remedy="Behind the reverse proxy or load balancer stand several machines, or one that "
        "comes and goes: look at each of them, and at the health checks, which should have taken "
        "the ill one out.",
        owner="server-admin",
        reproduce=_CURLS + "; done",
        explains=_NO_HTTP,
    )
    RATE_LIMITED = verdicts.GATEWAY_RATE_LIMITED
    BLACK_HOLE = verdicts.PMTU_BLACK_HOLE
    ONE_NODE = warn(
        "dns-partial-broken",
        "of the addresses of {host}, not all lead to a working Bitbucket: {bad}; at {good} all "
        "is well",
        remedy="Repair the machine there, or take its address out of DNS until then. Whether a "
        "client works depends on the address it takes first.",
        owner="server-admin",
        reproduce=(
            "dig +short {host} A {host} AAAA",
            "{curl} -o /dev/null -w '%{{http_code}}\\n' --resolve {host}:{port}:{address} {asked}",
        ),
        explains=(*_NO_TLS, *_NO_HTTP, "tcp-pmtu-blackhole"),
    )
    OTHER_MACHINE = fail(
        "dns-hosts-other-machine",
        "at {address}, where the hosts file of this machine leads, another machine answers, whose "
        "certificate is not for {host} ({how}); at {good}, where DNS leads, Bitbucket answers",
        remedy="Remove the line of {host} from the hosts file.",
        owner="you",
        reproduce="grep -n {host} /etc/hosts",
        explains=(*_NO_TLS, "tls-interception", "tls-trust-store-stale"),
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        times = ctx.settings.repeat
        broken = ctx.get(Channel) is not None and ctx.get(Instance) is None
        places = self._places(ctx) if times > 1 or broken else {}
        if times > 1 and not places:
            yield self.NO_WAY()
        elif times == 1 and len(places) < 2:
            yield self.NOT_ASKED()
        else:
            ctx.trust.complete()
            tour = bitbucket.turns.Tour(ctx, places)
            tour.go(times)
            findings = list(self._across(ctx, tour))
            if times > 1:
                findings += [one for tally in tour.tallies for one in self._flaps(ctx, tour, tally)]
            yield from findings or [self._summary(ctx, tour)]

    def _places(self, ctx: Context) -> bitbucket.turns.Places:
        """Where to try; a failure is compared with what DNS says behind the hosts file's back."""
        target, route, addresses = ctx.target, ctx.get(Route), ctx.get(Addresses)
        if route is not None and route.proxy is not None:
            return {f"proxy {route.proxy}": None} if ctx.get(Channel) else {}
        if addresses is None:
            return {}
        _, port = ctx.dialer.mapped(target.host, target.port) or (target.host, target.port)
        found = addresses.addresses
        if addresses.source == "hosts" and ctx.settings.repeat == 1:
            found += net.dns.by_dns(target.host, ctx.timeout)
        return {address: (address, port) for address in found}

    def _across(self, ctx: Context, tour: Tour) -> Iterator[Finding]:
        """At some addresses Bitbucket answers, at others never, although they accept
        connections."""
        good = [tally for tally in tour.tallies if tally.passes]
        bad = [tally for tally in tour.tallies if tour.is_ill(tally)]
        if not good or not bad:
            return
        addresses = ctx.get(Addresses)
        own = addresses.addresses if addresses else ()
        evidence = tour.evidence(bad[0]) | {
            "good": [tally.place for tally in good],
            "bad": [f"{tally.place} ({ctx.quote(tally.how)})" for tally in bad],
            "how": ctx.quote(bad[0].how),
        }
        if any(tally.place in own for tally in good):
            yield self.ONE_NODE(**evidence)
        elif bad[0].place in own and any(
            trip.is_for(ctx.target.host) is False for trip in bad[0].trips
        ):
            yield self.OTHER_MACHINE(**evidence)

    def _flaps(self, ctx: Context, tour: Tour, tally: Tally) -> Iterator[Finding]:
        """What goes well only now and then at one place."""
        kinds = self._kinds(tally)
        yield from self._connects(tour, tally, kinds)
        lossy = bool(LOST & set(kinds))
        # Where packets get lost, handshakes and answers are late, and that is all.
        trips = [trip for trip in tally.trips if trip.stage != "connect"]
        trips = [trip for trip in trips if not (lossy and trip.late)]
        wrong = [trip.why for trip in trips if trip.stage == "tls"]
        if told := _told(ctx, wrong, len(trips)):
            certificates = len({trip.leaf for trip in trips if trip.leaf})
            yield self.HANDSHAKES(**tour.evidence(tally) | told, certificates=certificates)
        yield from self._answers(ctx, tour, tally, tour.answers(trips))
        if tally.passes and not lossy and tour.swallows(tally.place):
            what = {"what": f"a request with long headers to {tally.place}"}
            more = {**bitbucket.reception.SWALLOWED, **what}
            yield self.BLACK_HOLE(**tour.evidence(tally) | more)

    @staticmethod
    def _kinds(tally: Tally) -> list[str]:
        """How each connect ended. Where their number is limited, those alone that show it."""
        found = tally.connects
        if found is None:
            return []
        if found.allowed is not None:
            return list(found.together)
        ends = ("resent" if trip.resent else "open" for trip in tally.trips)
        ends = (
            trip.why if trip.stage == "connect" else end
            for trip, end in zip(tally.trips, ends, strict=True)
        )
        return [*found.together, *found.alone, *ends]

    def _connects(self, tour: Tour, tally: Tally, kinds: Sequence[str]) -> Iterator[Finding]:
        if not {"open", "resent"} & set(kinds):
            return
        evidence = tour.evidence(tally)
        if tally.connects is not None and (allowed := tally.connects.allowed) is not None:
            others = [kind for kind in kinds if kind != "open"]
            yield self.LIMITED(**evidence | _share(others, len(kinds)), allowed=allowed)
            return
        if lost := [kind for kind in kinds if kind in LOST]:
            yield self.LOSSY(**evidence | _share(lost, len(kinds)))
        if wrong := [kind for kind in kinds if kind not in LOST | {"open"}]:
            yield self.CONNECTS(**evidence | _share(wrong, len(kinds)))

    def _answers(
        self, ctx: Context, tour: Tour, tally: Tally, answers: Sequence[tuple[Answer, str | None]]
    ) -> Iterator[Finding]:
        wrong = [(answer, text) for answer, text in answers if text]
        told = _told(ctx, [text for _, text in wrong], len(answers))
        if not told:
            return
        evidence = tour.evidence(tally) | told
        refusals = [answer for answer, _ in wrong]
        if tour.is_limit(tally.place, refusals, len(answers)):
            seen = {"status": refusals[0].status, "before": len(answers) - len(wrong)}
            asked = f"{told['failed']} requests of {tour.journey.url}"
            yield self.RATE_LIMITED(**evidence | seen, request=asked)
        else:
            yield self.ANSWERS(**evidence)

    def _summary(self, ctx: Context, tour: Tour) -> Finding:
        """Nothing flaps."""
        trips = [trip for tally in tour.tallies for trip in tally.trips]
        if not trips:
            return self.NO_TIME()
        told: dict[str, Any] = {
            "places": [tally.place for tally in tour.tallies],
            "tries": [tour.evidence(tally) for tally in tour.tallies],
            "count": len(trips),
        }
        if bad := [tally for tally in tour.tallies if not tally.passes]:
            return self.SAME(**told, how=[ctx.quote(f"{one.place}: {one.how}") for one in bad])
        median = sorted(trip.elapsed_ms for trip in trips)[len(trips) // 2]
        return self.OK(**told | _share([], len(trips)), median=median)


def _told(ctx: Context, wrong: Sequence[str], of: int) -> dict[str, Any]:
    """What is told of something that failed in some of the tries; nothing where it did in none or
    in all of them."""
    return _share([ctx.quote(text) for text in wrong], of) if 0 < len(wrong) < of else {}


def _share(wrong: Sequence[str], of: int) -> dict[str, Any]:
    ratio = net.ratio.Ratio(len(wrong), of)
    how = bitbucket.turns.most_common([WORDS.get(text, text) for text in wrong])
    return {**ratio.evidence(), "failed": str(ratio), "how": how}
