"""Check `proxy`: which way out of this network applies to the URL, and does it let us through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from diag.api import (
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    Json,
    Route,
    Target,
    Verdict,
    fail,
    net,
    ok,
    replace,
    try_ways,
    unknown,
)

if TYPE_CHECKING:
    Choice = net.proxyenv.Choice
    Trial = net.whatif.Trial
    Outcome = net.passage.Outcome
    Proxy = net.proxyenv.Proxy

_CURL = "{curl} -v -x {proxy} {url}"
_ENV = "env | grep -i proxy | sed 's#//[^/]*@#//#'"  # without passwords: it goes into tickets
_LEFT_OVER = 1.0  # seconds that finding the hop leaves to the rest of the run
_BEYOND = (  # the proxy is there, but does not get us to the target
    "proxy-denied",
    "proxy-block-page",
    "proxy-upstream-dns-failure",
    "proxy-upstream-refused",
    "proxy-upstream-timeout",
    "proxy-unclear",
)
_BY_POLICY = ("proxy-denied", "proxy-block-page")  # not unable, but told to


class ProxyWay(Check):
    """Find out which proxy applies to the URL and what decided that, then go through it.

    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are read as curl and git read them, in capitals
    or not (HTTP_PROXY too, which curl only takes in small letters). Where Java, Python or git's own
    configuration lead elsewhere, that is told: "git works, pip does not" has its reason here.
    Then the proxy is asked to connect to Bitbucket, and its own answer is kept: a 403 or 503 of a
    proxy is easily taken for one of Bitbucket's. Its password is sent once, and to nobody else.
    """

    id = "proxy"
    title = "the way out is clear"
    order = 20
    requires = (Target,)
    provides = (Route, Channel)

    DIRECT = ok("proxy-none", "no proxy: {decided_by}")
    TUNNEL = ok("proxy-ok", "the proxy {proxy} ({source}) connects to {place}")
    FORWARD = ok("proxy-forwards", "the proxy {proxy} ({source}) passes requests for {place} on")
    OTHERS = ok("proxy-clients-differ", "not every client goes this way: {differences}")
    URL_INVALID = fail(
        "proxy-url-invalid",
        "{source} is no proxy URL: {reason} ({value})",
        remedy="Write it as http://proxy.example.com:3128, with user name and password URL-encoded "
        "if it needs them: http://user:password@proxy.example.com:3128.",
        owner="you",
        reproduce=_ENV,
    )
    ENV_CONFLICT = fail(
        "proxy-env-conflict",
        "the proxy variables contradict each other: {lower} by the names in small letters, "
        "{upper} by those in capitals",
        remedy="Give both spellings the same value, or unset one: curl, git and Python take the "
        "small letters first, other programs the capitals.",
        owner="you",
        reproduce=_ENV,
    )
    DNS_FAILURE = fail(
        "proxy-dns-failure",
        "the name of the proxy, {proxy_host} ({source}), does not resolve: {why}",
        remedy="Correct the name in {source}, or ask for the right one. Bitbucket's own name was "
        "not even looked up.",
        owner="proxy-admin",
        reproduce=("getent ahosts {proxy_host}", _ENV),
    )
    REFUSED = fail(
        "proxy-refused",
        "nothing listens at the proxy's address {proxy} ({source}): connection refused",
        remedy="Start the proxy, or correct the port in {source}.",
        owner="proxy-admin",
        reproduce=("nc -vz {proxy_host} {proxy_port}", _ENV),
    )
    FILTERED = fail(
        "proxy-filtered",
        "the proxy {proxy} ({source}) cannot be reached: {why}",
        remedy="Check the address in {source} and whether this machine may connect there: a "
        "firewall on the way drops or rejects it, or the proxy is down.",
        owner="proxy-admin",
        reproduce=("nc -vz -w 3 {proxy_host} {proxy_port}", _ENV),
    )
    AUTH_REQUIRED = fail(
        "proxy-auth-required",
        "the proxy {proxy} ({source}) wants a login, and {why}; it offers {schemes}",
        remedy="Put user name and password into {source}, URL-encoded: "
        "http://user:password@{proxy_host}:{proxy_port}. If it only offers NTLM, Negotiate or "
        "Kerberos, most tools cannot use it: ask for an exception for this machine, or run a "
        "local helper such as cntlm or px and name that as the proxy.",
        owner="you",
        reproduce=_CURL,
    )
    AUTH_REJECTED = fail(
        "proxy-auth-rejected",
        "the proxy {proxy} ({source}) does not accept the user name or the password",
        remedy="Correct them in {source}; characters such as @ : / # % must be URL-encoded. They "
        "are the proxy's, not Bitbucket's.",
        owner="you",
        reproduce="{curl} -v -x {proxy} --proxy-user NAME {url}",
    )
    DENIED = fail(
        "proxy-denied",
        "the proxy {proxy} ({source}) does not let us through to {place}: {why} ({answer})",
        remedy="Have {place} allowed in the proxy's rules for this machine. It is not Bitbucket "
        "that answered.",
        owner="proxy-admin",
        reproduce=_CURL,
    )
    UPSTREAM_DNS = fail(
        "proxy-upstream-dns-failure",
        "the proxy {proxy} ({source}) cannot resolve {host}: {why} ({answer})",
        remedy="Have the name made known to the proxy's resolver. If only the internal DNS knows "
        "it, the host belongs into NO_PROXY.",
        owner="proxy-admin",
        reproduce=_CURL,
    )
    UPSTREAM_REFUSED = fail(
        "proxy-upstream-refused",
        "{place} refuses the connections of the proxy {proxy} ({source}), which answers {answer}",
        remedy="Seen from the proxy, the host is there but nothing listens on that port: check "
        "the port, start the service, or let the proxy's address through.",
        owner="proxy-admin",
        reproduce=_CURL,
    )
    UPSTREAM_TIMEOUT = fail(
        "proxy-upstream-timeout",
        "the proxy {proxy} ({source}) is there, but gets no answer from {place}: {why} ({answer})",
        remedy="A firewall between the proxy and Bitbucket drops its packets, the host is down, "
        "or it has no route: let the proxy's address through to {place}, or put the host into "
        "NO_PROXY if it is reached directly. A slow resolver of the proxy can look the same.",
        owner="proxy-admin",
        reproduce=_CURL,
    )
    NOT_A_PROXY = fail(
        "proxy-not-a-proxy",
        "what answers at {proxy} ({source}) is no proxy: {why} ({answer})",
        remedy="Correct the address in {source}: host, or more often the port, are another "
        "server's.",
        owner="you",
        reproduce=(_CURL, _ENV),
    )
    SCHEME_MISMATCH = fail(
        "proxy-scheme-mismatch",
        "{source} says {given}://, but the proxy at {address} speaks {speaks}",
        remedy="Write {right}://{address} in {source}. The scheme is that of the way to the proxy: "
        "it has nothing to do with the https:// of Bitbucket's URL.",
        owner="you",
        reproduce=(_CURL, _ENV),
    )
    PROTOCOL_MISMATCH = fail(
        "proxy-protocol-mismatch",
        "{source} says {given}://, but the proxy at {address} speaks {speaks}",
        remedy="Write {right}://{address} in {source}.",
        owner="you",
        reproduce=(_CURL, _ENV),
    )
    BLOCK_PAGE = fail(
        "proxy-block-page",
        "the proxy {proxy} ({source}) answers with a page of its own in place of {host}: "
        "{title} ({answer})",
        remedy="Have {host} allowed in the proxy's filter, or use https://. It is not Bitbucket "
        "that answered, and no token helps.",
        owner="proxy-admin",
        reproduce=_CURL,
    )
    BYPASS_MISSING = fail(
        "proxy-bypass-missing",
        "the proxy {proxy} ({source}) does not get to {place}, but with --proxy none the next "
        "layer passes: {proof}",
        remedy="Add {host} to NO_PROXY.",
        owner="you",
        reproduce=("{curl} -v --noproxy '*' {url}", _CURL),
        explains=_BEYOND,
    )
    TLS_FAILED = unknown(
        "proxy-tls-failed",
        "{source} says https://, but TLS with the proxy {address} itself fails: {why}",
        remedy="Have the proxy's certificate put right, or trust its CA with --ca-file. "
        "Bitbucket's own certificate has not been seen yet.",
        owner="proxy-admin",
        reproduce="openssl s_client -connect {address} -servername {proxy_host} </dev/null",
    )
    UNCLEAR = unknown(
        "proxy-unclear",
        "the proxy {proxy} ({source}) opens no way to {place}, and why cannot be told: {why} "
        "({answer})",
        remedy="Ask who runs the proxy for its log of this moment; likely are its rules, its "
        "resolver, or a firewall between it and Bitbucket.",
        owner="proxy-admin",
        reproduce=_CURL,
    )

    _STOPS: ClassVar[dict[str, Verdict]] = {
        verdict.code.removeprefix("proxy-"): verdict
        for verdict in (
            DNS_FAILURE,
            REFUSED,
            FILTERED,
            TLS_FAILED,
            SCHEME_MISMATCH,
            PROTOCOL_MISMATCH,
            NOT_A_PROXY,
            AUTH_REQUIRED,
            AUTH_REJECTED,
            DENIED,
            BLOCK_PAGE,
            UPSTREAM_DNS,
            UPSTREAM_REFUSED,
            UPSTREAM_TIMEOUT,
            UNCLEAR,
        )
    }

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        environ = ctx.settings.environ
        proxies = net.proxyenv.configured(environ)
        choice = self._choose(ctx)
        by_environment = ctx.settings.proxy == "env"
        _learn(ctx, ctx.settings.proxy, *proxies)
        if by_environment and (both := net.proxyenv.conflict(*self._question(ctx))):
            yield self.ENV_CONFLICT(lower=str(both[0]), upper=str(both[1]))
        if choice.proxy is None:
            yield Route(None, choice.because)  # the others may go on
        clients = net.proxyclients.choices(*self._question(ctx))
        _learn(ctx, *(one.proxy or one.bypassed or "" for one in clients))
        seen: dict[str, Any] = {"clients": _quoted(ctx, [one.to_json() for one in clients])}
        if choice.proxy is None:
            yield self.DIRECT(decided_by=choice.because, **seen)
        else:
            yield from self._through(ctx, choice, choice.proxy, seen)
        if by_environment and proxies:  # a redirect may lead through one of them
            ctx.dialer.route(net.tunnel.router(environ, ctx.dialer, ctx.trust.context))
        if by_environment and (differences := net.proxyclients.differing(choice, clients)):
            texts = [f"{way}: {', '.join(names)}" for way, names in differences.items()]
            yield self.OTHERS(differences=ctx.quote("; ".join(texts)))

    @staticmethod
    def _question(ctx: Context) -> tuple[str, str, int | None, Mapping[str, str]]:
        target = ctx.target
        port = target.port if target.port_given else None
        return target.scheme, target.host, port, ctx.settings.environ

    def _choose(self, ctx: Context) -> Choice:
        given = ctx.settings.proxy
        if given == "env":
            return net.proxyenv.OWN.decide(*self._question(ctx))
        if given == "none":
            return net.proxyenv.Choice("bbdiag", None, "--proxy none")
        return net.proxyenv.Choice("bbdiag", given, "--proxy")

    def _through(
        self, ctx: Context, choice: Choice, text: str, seen: Mapping[str, Any]
    ) -> Iterator[Finding | Fact]:
        try:
            proxy = net.proxyenv.parse(text)
        except net.proxyenv.BadProxyUrlError as error:
            value = ctx.quote(net.proxyenv.shown(text))
            known = {**seen, "source": choice.source, "reason": str(error), "value": value}
            yield self._with_note(ctx, self.URL_INVALID, known, self._try_others(ctx))
            return
        target, dialer = ctx.target, ctx.dialer
        way = net.tunnel.Way(proxy, dialer, ctx.trust.context)
        others = net.beside.Task(lambda: self._try_others(ctx, proxy))
        seconds = min(net.patience.TRACE, ctx.remaining - _LEFT_OVER)
        passage = net.passage.Passage(
            way, target, dialer, ctx.timed, lambda: ctx.timeout, others.start, seconds
        )
        outcome = passage.attempt()
        if passage.requests:
            ctx.count_request()
        if outcome.stop == "filtered" and (where := passage.dead_end):
            outcome = replace(outcome, why=f"{outcome.why}; {where}")
        known = {**self._known(ctx, choice, proxy, outcome), **seen}
        if outcome.carrier is None:
            tried = others.wait() or ()
            if right := str(outcome.evidence.get("right") or ""):
                again = net.whatif.without_login(proxy, right), "what its port speaks"
                tried = (*try_ways(ctx, [again], direct=False), *tried)
            yield from self._stopped(ctx, self._STOPS[outcome.stop], known, tried)
            return
        if isinstance(outcome.carrier, net.dial.Forwarder):
            dialer.forward(target.host, target.port, outcome.carrier)
        else:
            dialer.tunnel(target.host, target.port, outcome.carrier)
        if outcome.tunnel is not None:
            dialer.park(target.host, target.port, outcome.tunnel)
        if ctx.settings.proxy != "env":
            dialer.route(way.carry)
        yield Route(proxy.url, choice.because)
        yield Channel(target.host, target.port, f"proxy {proxy.url}", outcome.elapsed_ms)
        yield (self.FORWARD if outcome.tunnel is None else self.TUNNEL)(**known)

    @staticmethod
    def _known(ctx: Context, choice: Choice, proxy: Proxy, outcome: Outcome) -> dict[str, Any]:
        """What every finding about the proxy says, and what came from it, fit to be shown."""
        host = f"[{ctx.target.host}]" if ":" in ctx.target.host else ctx.target.host
        return {
            **{name: _quoted(ctx, value) for name, value in outcome.evidence.items()},
            "proxy": proxy.url,
            "source": choice.source,
            "address": proxy.address,
            "proxy_host": proxy.host,
            "proxy_port": proxy.port,
            "given": proxy.scheme,
            "place": f"{host}:{ctx.target.port}",
            "why": ctx.quote(outcome.why),
            "answer": ctx.quote(outcome.answer) or None,
        }

    def _try_others(self, ctx: Context, failed: Proxy | None = None) -> tuple[Trial, ...]:
        """Try the other ways out that are known here."""
        others = net.proxyclients.known(*self._question(ctx)).items()
        proxies = [pair for url, pair in others if failed is None or url != failed.url]
        return try_ways(ctx, proxies, direct=True)

    @staticmethod
    def _with_note(
        ctx: Context, verdict: Verdict, known: Mapping[str, Any], others: Sequence[Trial]
    ) -> Finding:
        """The verdict, with the ways that would lead further."""
        note = ctx.quote(net.whatif.note(others, ctx.target), limit=400)
        what_if = net.whatif.told(others, ctx.target)
        remedy = f"{verdict.remedy} {_literally(note)}" if note else verdict.remedy
        return verdict(**known, what_if=what_if, remedy=remedy)

    def _stopped(
        self, ctx: Context, verdict: Verdict, known: dict[str, Any], others: Sequence[Trial]
    ) -> Iterator[Finding]:
        """The proxy opened no way; would it work without the proxy?"""
        proofs = [one.proof for one in others if one.option == "--proxy none" and one.proof]
        if verdict.code not in _BEYOND or not proofs:
            yield self._with_note(ctx, verdict, known, others)
            return
        by_environment = ctx.settings.proxy == "env"
        entry = net.proxyenv.HOPEFUL.decide(*self._question(ctx)).entry if by_environment else None
        without = (
            "add {host} to NO_PROXY" if by_environment else "leave the proxy out: --proxy none"
        )
        known |= {"proof": ctx.quote(proofs[0]), "what_if": net.whatif.told(others, ctx.target)}
        if verdict.code in _BY_POLICY and entry is None:
            passes = "With --proxy none the next layer passes ({proof})"
            more = f" {passes}: if that is allowed, {without}."
            yield verdict(**known, remedy=verdict.remedy + more)
            return
        yield verdict(**known)
        remedy = without[0].upper() + without[1:] + "."
        if entry is not None:
            remedy += " Its entry {entry} was meant to do it, but curl and git ignore that."
        yield self.BYPASS_MISSING(**known, entry=entry, remedy=remedy)


def _learn(ctx: Context, *texts: str) -> None:
    """Passwords of proxies are secrets as well."""
    for text in texts:
        for secret, user in net.proxyenv.secrets(text):
            ctx.learn(secret, user)


def _quoted(ctx: Context, value: Json) -> Json:
    """Evidence with its texts fit to be shown."""
    if isinstance(value, str):
        return ctx.quote(value)
    if isinstance(value, Mapping):
        return {name: _quoted(ctx, item) for name, item in value.items()}
    return [_quoted(ctx, item) for item in value] if isinstance(value, list) else value


def _literally(text: str) -> str:
    """Text that stands in a template as it is."""
    return text.replace("{", "{{").replace("}", "}}")
