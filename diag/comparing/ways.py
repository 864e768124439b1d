"""What differs on the way to the server: time, proxies, addresses, firewalls, certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from diag.comparing.aspect import Aspect, Case, Proof
from diag.comparing.sight import TOLERANCE, Certificate, Sight, common_name
from diag.model import Finding, Owner, Verdict, fail, ok, skip, unknown, warn
from diag.report import Problem, Report
from diag.texts import span

UNKNOWN_NAME = ("dns-nxdomain", "dns-nodata")
KEPT_OUT = (  # what a rule for the source address may look like
    "tcp-admin-prohibited",
    "tcp-filtered",
    "tcp-refused",
    "tcp-reset-by-middlebox",
)
NO_WAY = (  # what it may look like where only the proxy leads out
    *KEPT_OUT,
    *UNKNOWN_NAME,
    "dns-refused",
    "dns-resolver-unreachable",
    "dns-servfail",
    "dns-timeout",
    "tcp-host-unreachable",
    "tcp-net-unreachable",
)
CUT = (  # the connection came up, and then somebody who need not be the server ended it
    "http-block-page",
    "http-empty-reply",
    "http-response-timeout",
    "http-sso-login",
    "http-user-agent-blocked",
    "http-waf-blocked",
    "tcp-closed-after-accept",
    "tcp-pmtu-blackhole",
    "tcp-reset-after-accept",
    "tcp-silent-after-accept",
    "tls-blocked-by-sni",
    "tls-handshake-timeout",
)
ELSEWHERE = (
    "tcp",
    "ports",
    "tls",
    "http",
    "cloud-http",
)  # checks that fail where the address is wrong
STRANGER = ("tls-issuer-unknown", "tls-self-signed")
PRIVATE = "dns-private-address"
EXPIRED = "tls-expired"  # of the right name, so it is not the address that is wrong
_AGAIN = "bbdiag check {url} --label PLACE --format json"
_DIG = "dig +short {host}  # in each place"
_ISSUER = (
    "openssl s_client -connect {host}:{port} -servername {host} </dev/null 2>/dev/null"
    " | openssl x509 -noout -issuer -fingerprint -sha256  # in each place"
)


class Places(Aspect):
    """Say from where and when the runs were made, and what became of each place over time.

    Two runs differ because of the place only where they are not far apart: what one saw yesterday
    may look otherwise today from everywhere. Differences that the time could explain as well are
    therefore concluded only from runs within half an hour. Several reports of one place (the same
    --label, else the same host name) tell since when it fails; then its latest one is compared.
    """

    id = "places"
    title = "the runs can be compared"

    RUNS = ok("compare-places", "{runs}")
    HISTORY = ok("compare-history", "{place} over time: {story}")
    ASKED = ok("compare-asked-differently", "the runs were not asked for the same: {differences}")
    APART = unknown(
        "compare-runs-apart",
        "the run from {bad} fails and that from {good} does not, but they are {apart} apart:"
        " either the place makes the difference, or the time",
        remedy="Run bbdiag in both places within half an hour, and compare these reports.",
        reproduce=_AGAIN,
    )
    INCOMPLETE = unknown(
        "compare-run-incomplete",
        "the run from {place} did not come to its end ({why}): what is missing there is not"
        " compared",
        remedy="Run it again in that place.",
        reproduce=_AGAIN,
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        yield self.RUNS(runs=[f"{sight.place} at {sight.at}" for sight in case.sights])
        for sight in case.sights:
            if sight.earlier:
                story = [f"{one.at} {_outcome(one)}" for one in (*sight.earlier, sight)]
                yield self.HISTORY(place=sight.place, story=story)
        if differences := list(_asked(case)):
            yield self.ASKED(differences="; ".join(differences))
        for sight in case.sights:
            if sight.report.run.interrupted:
                yield self.INCOMPLETE(place=sight.place, why="it was interrupted")
            elif broken := [one.id for one in sight.report.checks if one.status == "error"]:
                why = f"bbdiag itself failed in {', '.join(broken)}"
                yield self.INCOMPLETE(place=sight.place, why=why)
        for bad, failure in case.failing():
            others = list(case.past(failure, bad))
            if others and not any(bad.is_near(good) for good in others):
                good = min(others, key=lambda one: abs(one.when - bad.when))
                seconds = abs(good.when - bad.when).total_seconds()
                yield self.APART(
                    bad=bad.place, good=good.place, hours=round(seconds / 3600), apart=span(seconds)
                )


def _outcome(sight: Sight) -> str:
    return sight.report.root_cause or "all is well"


def _asked(case: Case) -> Iterator[str]:
    """What the runs were asked for, where that differs: "stage: setup (laptop), steady (ci)"."""
    questions: dict[str, Callable[[Report], str]] = {
        "URL": lambda one: one.target.base_url or one.target.input,
        "repository": lambda one: f"{one.target.project or '–'}/{one.target.repository or '–'}",
        "product": lambda one: one.profile,
        "stage": lambda one: one.stage,
    }
    for name, question in questions.items():
        answers: dict[str, list[str]] = {}
        for sight in case.sights:
            answers.setdefault(question(sight.report), []).append(sight.place)
        if len(answers) > 1:
            told = ", ".join(f"{answer} ({', '.join(at)})" for answer, at in answers.items())
            yield f"{name}: {told}"


class Clocks(Aspect):
    """Compare how far each place's clock is from the server's.

    Two clocks that disagree do not tell which of them is wrong; a third one does. Where one place
    is off and another agrees with the server, the clock of the first is wrong; where all are off,
    it is the server's.
    """

    id = "clocks"
    title = "the clocks agree with the server's everywhere"

    AGREE = ok("compare-clocks-agree", "{skews}")
    NOT_KNOWN = skip("compare-clocks-unknown", "no two runs saw the server's time")
    AHEAD = warn(
        "clock-skew-ahead",
        "the clock of {place} is {skew} ahead: that of {witness} agrees with the server's",
        remedy="Set the clock of {place} and keep it right (NTP); the server needs no change.",
        owner="you",
        reproduce="date -u  # in each place",
    )
    BEHIND = warn(
        "clock-skew-behind",
        "the clock of {place} is {skew} behind: that of {witness} agrees with the server's",
        remedy="Set the clock of {place} and keep it right (NTP); the server needs no change.",
        owner="you",
        reproduce="date -u  # in each place",
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        skews = {sight.place: sight.skew for sight in case.sights if sight.skew is not None}
        right = [place for place, skew in skews.items() if abs(skew) <= TOLERANCE]
        told = [f"{place} {_off(skew)}" for place, skew in skews.items()]
        if len(skews) < 2:
            yield self.NOT_KNOWN()
            return
        yield self.AGREE(skews=told)
        for sight in case.sights:
            skew = skews.get(sight.place, 0)
            known = {"clock-skew-ahead", "clock-skew-behind"} & sight.codes("clock")
            if abs(skew) > TOLERANCE and right and not known:
                verdict = self.AHEAD if skew > 0 else self.BEHIND
                finding = verdict(
                    place=sight.place,
                    seconds=abs(skew),
                    skew=span(skew),
                    witness=right[0],
                    skews=skews,
                )
                yield Proof(finding, frozenset({(sight.place, "clock-skew-server")}))


def _off(skew: int) -> str:
    return f"{span(skew)} {'ahead' if skew > 0 else 'behind'}" if skew else "exact"


class Ways(Aspect):
    """Compare the way out of each place: directly, or through which proxy.

    Different ways are no fault. But where only the proxy leads out, a place that does not use it
    sees what looks like a firewall or a DNS outage.
    """

    id = "ways"
    title = "each place has a way out"

    WAYS = ok("compare-ways", "{ways}")
    NOT_USED = fail(
        "compare-proxy-not-used",
        "through the proxy {proxy}, {good} gets to {host}; {bad} tries it without a proxy, and that"
        " ends with {code}",
        remedy="If {bad} is in the same network, set HTTPS_PROXY={proxy} there too, or take {host}"
        " out of its NO_PROXY. Else let {bad} connect directly.",
        owner="you",
        reproduce="curl -sS -o /dev/null -v -x {proxy} {url}  # from {bad}",
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        known = [sight for sight in case.sights if sight.reached("proxy")]
        yield self.WAYS(ways=[f"{sight.place}: {sight.way}" for sight in known])
        for bad, failure in case.failing(NO_WAY):
            others = [good for good in case.past(failure, bad) if good.is_near(bad)]
            if bad.proxy or not others or not all(good.proxy for good in others):
                continue
            good = others[0]
            yield Proof(
                self.NOT_USED(
                    good=good.place,
                    bad=bad.place,
                    proxy=good.proxy,
                    code=failure.code,
                    found=failure.evidence,
                ),
                frozenset({(bad.place, failure.code)}),
            )


class Addresses(Aspect):
    """Compare where the name leads to from each place.

    Several addresses in another order, or other ones of a large site, are no fault. It is one where
    the way ends at an address that the others do not have: then it is the name that leads wrong
    there, and no firewall is to blame.
    """

    id = "addresses"
    title = "the name leads to the same server everywhere"

    SAME = ok("compare-addresses-same", "{host} is {addresses} from every place")
    DIFFER = ok("compare-addresses-differ", "{host} is not the same everywhere: {told}{note}")
    NOT_KNOWN = skip("compare-addresses-unknown", "no two runs know the addresses of {host}")
    SPLIT = fail(
        "dns-split-horizon",
        "the DNS servers disagree about {host}: for {good} it is {theirs}, for {bad} {ours}",
        remedy="Have {bad} ask the DNS servers that {good} asks; or, if it stands outside the"
        " network where {host} is, publish a name with an address that can be reached from there.",
        owner="dns-admin",
        reproduce=_DIG,
    )
    OTHER = fail(
        "compare-other-address",
        "the name {host} leads {bad} to {ours}, where the way ends ({code}), and {good} to"
        " {theirs}, where it does not",
        remedy="Find out which address is meant for {bad}. If it is that of {good}, correct the DNS"
        " that {bad} asks (a stale record?); else the one it has must be made to work.",
        owner="dns-admin",
        reproduce=(
            _DIG,
            "bbdiag check {url} --connect-to {host}:{port}:{other}:{port}  # from {bad}",
        ),
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        known = [s for s in case.sights if s.addresses and not s.proxy]
        proofs = [*self._unknown(case, known), *self._elsewhere(case, known)]
        if len(known) < 2:
            yield self.NOT_KNOWN()
        elif all(set(one.addresses) == set(known[0].addresses) for one in known):
            yield self.SAME(addresses=sorted(known[0].addresses))
        else:
            told = [f"{one.place}: {', '.join(one.addresses)}{_by_hand(one)}" for one in known]
            apart = any(_disjoint(one, other) for one in known for other in known)
            note = "" if apart or proofs else " (but they have addresses in common)"
            outside = any(one.is_resolved_here and not _is_inside(one) for one in known)
            yield Proof(
                self.DIFFER(told="; ".join(told), note=note),
                # Who comes from the internet need not use what is seen from inside.
                frozenset((one.place, PRIVATE) for one in known if outside and _is_inside(one)),
            )
        yield from proofs

    def _unknown(self, case: Case, known: list[Sight]) -> Iterator[Proof]:
        """The name does not exist in one place, and does in the DNS of another."""
        for bad, failure in case.failing(UNKNOWN_NAME):
            good = next((one for one in known if one.is_resolved_here and one is not bad), None)
            if good:
                ours = "no name at all" if failure.code == "dns-nxdomain" else "without address"
                yield self._proof(self.SPLIT, bad, good, failure, ours=ours)

    def _elsewhere(self, case: Case, known: list[Sight]) -> Iterator[Proof]:
        """The way ends in one place, at an address that those who get further do not have."""
        for bad, failure in case.failing():
            strange = failure.check in ELSEWHERE and failure.code != EXPIRED
            if bad not in known or not bad.is_resolved_here or not strange:
                continue
            others = [one for one in case.past(failure, bad) if one in known]
            if not others or not all(_disjoint(bad, one) for one in others):
                continue
            good = others[0]
            if _is_inside(bad) and not _is_inside(good):
                yield self._proof(self.SPLIT, bad, good, failure)
            elif good.is_near(bad):
                alike = _is_inside(bad) == _is_inside(good)
                owner: Owner = "dns-admin" if alike else "network-admin"
                yield self._proof(self.OTHER, bad, good, failure, owner=owner)

    @staticmethod
    def _proof(
        verdict: Verdict,
        bad: Sight,
        good: Sight,
        failure: Problem,
        *,
        ours: str = "",
        owner: Owner | None = None,
    ) -> Proof:
        finding = verdict(
            owner=owner,
            bad=bad.place,
            good=good.place,
            ours=ours or ", ".join(bad.addresses),
            theirs=", ".join(good.addresses),
            other=good.addresses[0],
            code=failure.code,
            found=failure.evidence,
        )
        return Proof(finding, frozenset({(bad.place, failure.code), (bad.place, PRIVATE)}))


def _disjoint(one: Sight, other: Sight) -> bool:
    """Whether both know where the name leads to, and it is not the same machine."""
    known = one.addresses and other.addresses and not one.proxy and not other.proxy
    return bool(known) and set(one.addresses).isdisjoint(other.addresses)


def _is_inside(sight: Sight) -> bool:
    """Whether the name leads to where only the own network gets."""
    from diag.net import dns

    return all(dns.literal(one) and dns.is_private(one) for one in sight.addresses)


def _by_hand(sight: Sight) -> str:
    return "" if sight.is_resolved_here else " (not by DNS)"


class Reach(Aspect):
    """Compare what came of connecting to the same address.

    Where one place connects and another gets no answer, or a rejection, the server and its port are
    in order: somebody on the way makes a difference between the two source addresses. The same
    holds for connections that come up and are then cut, or answered by somebody else.
    """

    id = "reach"
    title = "whoever knocks is let in"

    SAME = ok("compare-reach", "{told}")
    NOT_KNOWN = skip("compare-reach-unknown", "no two runs tried to connect by themselves")
    NOT_ALLOWLISTED = fail(
        "tcp-source-not-allowlisted",
        "{address} port {port} lets {good} in ({working_source}), and not {bad} ({source}): there"
        " it ends with {code}, so a firewall makes a difference between the two",
        remedy="Have TCP port {port} of {address} opened for {bad}: on the allow-list of the"
        " firewall in front of the server, or in the firewall that lets {bad} out. {source} is what"
        " it calls itself; behind address translation the server's side sees another one. If the"
        " service was just being restarted, run both again at the same moment.",
        owner="network-admin",
        reproduce="nc -vz -w 3 {address} {port}  # from {good} and from {bad}",
    )
    CUT = fail(
        "compare-cut-on-the-way",
        "the server answers {good} as it should, but what {bad} gets is {code} ({message}): that is"
        " done on the way from {bad}, or by a rule for its address",
        remedy="Look at what stands between {bad} and {host} only (firewall, proxy, VPN, intrusion"
        " prevention), and at rules of the server's side for the address of {bad}. If it comes and"
        " goes, one of several machines behind the name may be ill instead.",
        owner="network-admin",
        reproduce="curl -sS -v -o /dev/null {url}  # from {good} and from {bad}",
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        tried = {sight.place: _doors(sight) for sight in case.sights if sight.doors}
        if len(tried) < 2:
            yield self.NOT_KNOWN()
        else:
            yield self.SAME(told=[f"{place}: {told}" for place, told in tried.items()])
        yield from self._kept_out(case)
        yield from self._cut(case)

    def _kept_out(self, case: Case) -> Iterator[Proof]:
        for bad, failure in case.failing(KEPT_OUT):
            for good in case.past(failure, bad):
                shut = [at for at, door in bad.doors.items() if door.result != "open"]
                shut = [at for at in shut if not _is_loopback(at[0])]  # of each its own machine
                at = next((at for at in shut if _is_open(good, at)), None)
                if at and good.is_near(bad):
                    address, port = at
                    finding = self.NOT_ALLOWLISTED(
                        address=address,
                        port=port,
                        good=good.place,
                        bad=bad.place,
                        working_source=good.doors[at].source,
                        source=bad.doors[at].source,
                        code=failure.code,
                        found=failure.evidence,
                    )
                    yield Proof(finding, frozenset({(bad.place, failure.code)}))
                    break

    def _cut(self, case: Case) -> Iterator[Proof]:
        for bad, failure in case.failing(CUT):
            for good in case.past(failure, bad):
                if good.is_near(bad) and not _disjoint(good, bad):
                    owner: Owner = (
                        "proxy-admin" if bad.proxy not in {None, good.proxy} else "network-admin"
                    )
                    finding = self.CUT(
                        owner=owner,
                        good=good.place,
                        bad=bad.place,
                        code=failure.code,
                        message=failure.message,
                        ways={sight.place: sight.way for sight in (good, bad)},
                        found=failure.evidence,
                    )
                    yield Proof(finding, frozenset({(bad.place, failure.code)}))
                    break


def _is_loopback(address: str) -> bool:
    from diag.net import dns

    return dns.literal(address) is not None and dns.is_loopback(address)


def _is_open(sight: Sight, at: tuple[str, int]) -> bool:
    return at in sight.doors and sight.doors[at].result == "open"


def _doors(sight: Sight) -> str:
    told = [f"{address} port {port} {door.result}" for (address, port), door in sight.doors.items()]
    return ", ".join(told)


class Certificates(Aspect):
    """Compare the certificates that were presented.

    A server has one certificate, or a few of the same CA. Where one place gets another CA's,
    trusted there or not, somebody on its way opens the connection. An expired certificate in one
    place and its successor in another come from several machines, of which not all were renewed.
    """

    id = "certificates"
    title = "the server shows the same certificate everywhere"

    SAME = ok("compare-certificates-same", "every place gets the same: {told}")
    DIFFER = ok(
        "compare-certificates-differ",
        "not every place gets the same certificate: {told}",
    )
    NOT_KNOWN = skip("compare-certificates-unknown", "no two runs saw a certificate")
    INTERCEPTION = fail(
        "tls-interception",
        "the certificate that {bad} gets is by {ours}, that of {good} by {theirs}: somebody on the"
        " way from {bad} opens the connection and presents one of his own",
        remedy="Ask for an exception from TLS inspection for {host}; or get the CA certificate of"
        " the inspection and trust it in {bad} (--ca-file), and in every program there. The server"
        " and its certificate are in order.",
        owner="network-admin",
        reproduce=_ISSUER,
    )
    INSPECTED = warn(
        "compare-inspected",
        "the certificate that {bad} gets is by {ours}, the server's own, as {good} gets it, by"
        " {theirs}: somebody on the way from {bad} opens the connection, and is trusted there",
        remedy="Nothing fails for that now, but programs with their own list of CAs (Java, Node,"
        " Python, containers) will, and secrets can be read on the way: ask for an exception from"
        " TLS inspection for {host}, or give them that CA.",
        owner="network-admin",
        reproduce=_ISSUER,
    )
    HALF_RENEWED = fail(
        "compare-certificate-half-renewed",
        "the certificate that {bad} gets has expired ({ours}), and {good} gets its successor"
        " ({theirs}): not every machine behind {host} has the new one",
        remedy="Put the new certificate on every machine and reload it: each node, load balancer"
        " and reverse proxy, at each address of {host}.",
        owner="server-admin",
        reproduce=_ISSUER,
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        seen = [(sight, sight.certificate) for sight in case.sights if sight.certificate]
        if len(seen) < 2:
            yield self.NOT_KNOWN()
            return
        first = seen[0][1]
        if all(first.sha256 == other.sha256 for _, other in seen):
            yield self.SAME(told=first.told)
            return
        yield self.DIFFER(
            told=[f"{sight.place}: {certificate.told}" for sight, certificate in seen]
        )
        for bad, presented in seen:
            for good, own in seen:
                if good.passed("tls") and good.is_near(bad) and own.sha256 != presented.sha256:
                    proof = self._prove(case, bad, presented, good, own)
                    if proof:
                        yield proof
                        break

    def _prove(
        self, case: Case, bad: Sight, presented: Certificate, good: Sight, own: Certificate
    ) -> Proof | None:
        """What it proves that `bad` gets another certificate than `good`, which trusts its own."""
        failure = case.failure(bad)
        code = failure.code if failure else ""
        kin = own.issuer == presented.issuer
        told: dict[str, Any] = {"good": good.place, "bad": bad.place}
        ours, theirs = common_name(presented.issuer), common_name(own.issuer)
        if code == EXPIRED and own.subject == presented.subject:
            finding = self.HALF_RENEWED(ours=presented.told, theirs=own.told, **told)
        elif kin or _disjoint(bad, good) or "tls-inspected" in good.codes("tls"):
            return None
        elif code in STRANGER:
            finding = self.INTERCEPTION(ours=ours, theirs=theirs, **told)
        elif bad.passed("tls") and good.is_public and not bad.is_public:
            finding = self.INSPECTED(ours=ours, theirs=theirs, **told)
        else:
            return None
        proves = code in (EXPIRED, *STRANGER)
        return Proof(finding, frozenset({(bad.place, code)} if proves else ()))
