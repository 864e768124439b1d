"""Check `tls`: the encryption, and whether the certificate is one to trust."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from diag.api import (
    CertificateDates,
    Channel,
    Check,
    Context,
    Fact,
    Finding,
    Json,
    ServerTime,
    Target,
    Verdict,
    Wire,
    bitbucket,
    fail,
    net,
    ok,
    skip,
    unknown,
    verdicts,
    warn,
)

if TYPE_CHECKING:
    Fault = net.tls_issuer.Fault
    Handshake = net.tls.Handshake
    Peer = net.tls.Peer
    Way = net.tls_way.Way

DAY = 86400.0
SOON = 21 * DAY  # seconds before its end at which a certificate should have been renewed
_SHOW = "openssl s_client -connect {connect} -servername {host} -showcerts </dev/null"
_READ = "openssl s_client -connect {connect} -servername {host} </dev/null 2>/dev/null"
_NAMES = _READ + " | openssl x509 -noout -subject -ext subjectAltName"
_DATES = _READ + " | openssl x509 -noout -dates"
_SWALLOWED = (
    "Something on the way swallows the TLS greeting, which never arrives: look at the firewalls and"
    " the intrusion prevention between here and {host}."
)
_ISSUER = _READ + " | openssl x509 -noout -subject -issuer"
_SEE_OCSP = (  # the certificates as `-showcerts` shows them
    "openssl ocsp -issuer issuer.pem -cert server.pem -url {source} -noverify -resp_text",
)
# {ca} and {order} are filled in by `_finding`.
_IMPORT = (
    "Get {ca} as ca.pem from whoever runs it, and have every program that connects trust it"
    " ({profile}, too); the server needs no change.\n"
) + net.stores.LINES


class Tls(Check):
    """Shake hands once, and read the certificates as sent and as verified.

    Only when that fails the server is asked again: with another name, without looking at the
    dates, with everything old switched on, with small packets, in plain HTTP. So an expired
    certificate is told from an expired intermediate and from a wrong clock, a missing intermediate
    from an unknown CA and from an inspecting proxy, and a server that refuses from a network that
    cuts. No secret is ever sent over a connection that did not pass verification.
    """

    id = "tls"
    title = "TLS works and the certificate is trusted"
    order = 50
    requires = (Target, Channel)
    provides = (Wire, CertificateDates, ServerTime)

    NOT_NEEDED = skip("tls-not-needed", "the URL begins with http://: nothing is encrypted")
    OK = ok(
        "tls-ok",
        "{version}; the certificate for {subject}, by {issuer}, is valid until {not_after}",
    )
    PRIVATE_CA = ok(
        "tls-private-ca",
        "trusted here, but {issuer} is not on Mozilla's list of CAs: {profile} must be given it",
    )
    INSPECTED = ok(
        "tls-inspected",
        "{product} opens the connection and encrypts it anew (by the name of its CA, {issuer}):"
        " trusted here, yet not the server's own certificate",
    )
    CHAIN_UNTIDY = ok(
        "tls-chain-untidy",
        "the server sends its certificates {disorder}; most clients cope, but it should send just:"
        " {order}",
    )
    CHAIN_HELPED = ok(
        "tls-chain-helped",
        "the server does not send the intermediate certificate {issuer}: trusted here only because"
        " {basis}",
    )
    UNCLEAR = unknown(
        "tls-unclear",
        "TLS fails in a way that has no better explanation: {openssl}",
        remedy="Compare with what openssl says, and look into the log of the server or of its"
        " load balancer for this moment.",
        owner="server-admin",
        reproduce=_SHOW,
    )
    INTERMITTENT = unknown(
        "tls-intermittent",
        "the first TLS handshake failed ({cut}), the next one passed: some of several machines"
        " behind this address may be ill",
        remedy="Try several times (--repeat 10), and check each machine behind the load balancer.",
        owner="server-admin",
        reproduce="for i in 1 2 3 4 5 6 7 8 9; do {curl} -o /dev/null -w '%{{errormsg}}\\n' {url};"
        " done",
    )

    # the certificate

    INTERCEPTION = fail(
        "tls-interception",
        "{product} opens the connection and presents a certificate of its own CA, {issuer}, which"
        " is not trusted here (judged by the name of the CA)",
        remedy="Ask for an exception from TLS inspection for {host}. Else: " + _IMPORT,
        owner="network-admin",
        reproduce=_ISSUER,
    )
    DEFAULT_VHOST = fail(
        "tls-default-vhost-cert",
        "another site than {host} answers, with its certificate for {certificate}: {sign}",
        remedy="On the server or reverse proxy add {host} to the names of Bitbucket's site (nginx:"
        " server_name, Apache: ServerName and ServerAlias), with its certificate. Do not have the"
        " certificate issued anew before that.",
        owner="server-admin",
        reproduce=_NAMES,
    )
    HOSTNAME = fail(
        "tls-hostname-mismatch",
        "the certificate is not for {host}: it names {names}",
        remedy="Use a name that the certificate has, if one of them is the right one; else have it"
        " issued with {host} among its names (subject alternative names). If it is not your"
        " certificate at all, the name leads to another machine.",
        owner="server-admin",
        reproduce=_NAMES,
    )
    IP_WITHOUT_SAN = fail(
        "tls-ip-without-san",
        "the URL has the address {host}, but the certificate does not name it; it names {names}",
        remedy="Use the host name in the URL instead of the address.",
        owner="server-admin",
        reproduce=_NAMES,
    )
    NO_SAN = fail(
        "tls-no-san",
        "the certificate names {certificate} only in its common name (CN), where nobody looks any"
        " more: browsers, Java, Go and Python want it among the subject alternative names",
        remedy="Have the certificate issued anew, with {host} as a subject alternative name.",
        owner="server-admin",
        reproduce=_NAMES,
    )
    TRUST_STORE = fail(
        "tls-trust-store-stale",
        "this machine's list of CAs is out of date ({store}): {reason}",
        remedy="Update the CA certificates here (Debian: apt-get install --only-upgrade"
        " ca-certificates; Red Hat: dnf update ca-certificates), or the file of --ca-file; what"
        " is missing is {ca}. The server needs no change. To add that CA alone, save it as"
        " ca.pem:\n" + net.stores.LINES,
        owner="you",
        reproduce=_SHOW,
    )
    SELF_SIGNED = fail(
        "tls-self-signed",
        "the certificate of {certificate} is self-signed: no CA vouches for it",
        remedy="Have a certificate issued by a CA that clients trust. For a test, that very"
        " certificate can be named with --ca-file, and must then be given to every client.",
        owner="server-admin",
        reproduce=_ISSUER,
    )
    ISSUER_UNKNOWN = fail(
        "tls-issuer-unknown",
        "the certificate was issued by {issuer}, a CA that is not trusted here ({basis})",
        remedy=_IMPORT,
        owner="you",
        reproduce=(_ISSUER, "{curl} --cacert ca.pem -o /dev/null {url}"),
    )
    CHAIN_INCOMPLETE = fail(
        "tls-chain-incomplete",
        "the server does not send the intermediate certificate {issuers} ({basis})",
        remedy="The server must send, in one file and in this order (nginx: ssl_certificate;"
        " Apache: SSLCertificateFile; Tomcat: import it all into the keystore):\n{order}\n"
        "Do not import an intermediate on the clients. If what is missing is itself a root, it is"
        " not trusted here instead: --fetch-issuers can tell.",
        owner="server-admin",
        reproduce=_SHOW,
    )
    INTERMEDIATE_EXPIRED = fail(
        "tls-intermediate-expired",
        "the intermediate certificate {certificate} expired {away} ago ({not_after}); the server's"
        " own may well be valid",
        remedy="Get the current intermediate from the CA; the server's own certificate need not"
        " change. The server must send, in this order:\n{order}",
        owner="server-admin",
        reproduce=_SHOW,
    )
    EXPIRED = fail(
        "tls-expired",
        "the server's certificate expired {away} ago ({not_after})",
        remedy="Renew the certificate and reload the server; then find out why the renewal did not"
        " happen by itself.",
        owner="server-admin",
        reproduce=_DATES,
    )
    NOT_YET_VALID = fail(
        "tls-not-yet-valid",
        "the certificate {certificate} becomes valid only in {away} ({not_before})",
        remedy="Check the clock of the machine that issued it, and put the previous certificate"
        " back until then.",
        owner="server-admin",
        reproduce=_DATES,
    )
    KEY_USAGE = fail(
        "tls-wrong-key-usage",
        "the certificate {certificate} may not be used for what it is used for: {openssl}",
        remedy="Have the certificate issued with the extended key usage serverAuth; a certificate"
        " that signs others must be one of a CA.",
        owner="server-admin",
        reproduce=_READ + " | openssl x509 -noout -ext extendedKeyUsage,keyUsage,basicConstraints",
    )
    WEAK_KEY = fail(
        "tls-weak-key",
        "the key of the certificate {certificate} is too small: {key}",
        remedy="Make a new key (RSA with 2048 bits or more, or EC P-256) and have a certificate"
        " issued for it.",
        owner="server-admin",
        reproduce=_READ + " | openssl x509 -noout -text | grep Public-Key",
    )
    WEAK_SIGNATURE = fail(
        "tls-weak-signature",
        "the certificate {certificate} is signed with {signature}, which is no longer accepted",
        remedy="Have it issued anew by a CA that signs with SHA-256.",
        owner="server-admin",
        reproduce=_READ + " | openssl x509 -noout -text | grep 'Signature Algorithm'",
    )
    EXPIRING = warn(
        "tls-expiring-soon",
        "the certificate expires in {left} ({not_after})",
        remedy="Renew it now; if that should happen by itself, find out why it did not.",
        owner="server-admin",
        reproduce=_DATES,
    )

    REVOKED = fail(
        "tls-revoked",
        "the certificate of {certificate} was revoked on {since} (reason: {reason}), says its CA by"
        " {by}; browsers may still show it as good",
        remedy="Have a certificate issued for a new key, and install it. Find out why this one was"
        " revoked: whoever has its key can pose as {host}.",
        owner="server-admin",
        reproduce="{curl} {source} | openssl crl -inform DER -noout -text | grep -A4 {serial}",
    )
    NOT_REVOKED = ok("tls-not-revoked", "not revoked, says the CA by {by} at {source}{others}")
    REVOCATION_UNCLEAR = unknown(
        "tls-revocation-unclear",
        "whether the certificate {certificate} is revoked could not be learned: {trouble}",
        remedy="Ask the CA, or run this again where its CRL or OCSP responder can be reached by"
        " http; without --check-revocation it is not asked for.",
        owner="server-admin",
        reproduce=_READ + " | openssl x509 -noout -ocsp_uri -ext crlDistributionPoints",
    )

    # the handshake

    PLAINTEXT = fail(
        "tls-plaintext-port",
        "the URL begins with https://, but port {port} speaks plain HTTP ({heard})",
        remedy="Find the port where {host} offers https, usually 443 of a reverse proxy. http://"
        "{host}:{port} may do as well, but a token then travels unencrypted.",
        owner="you",
        reproduce="{curl} -I http://{host}:{port}/",
    )
    TOO_OLD = fail(
        "tls-version-too-old",
        "the server offers nothing newer than {version}: TLS 1.2 is the least that is accepted",
        remedy="Switch on TLS 1.2 and 1.3 on the server or reverse proxy, or update it.",
        owner="server-admin",
        reproduce="openssl s_client -connect {connect} -servername {host} -cipher"
        " DEFAULT@SECLEVEL=0 -no_tls1_3 -no_tls1_2 </dev/null",
    )
    NO_CIPHER = fail(
        "tls-no-common-cipher",
        "no cipher can be agreed on ({openssl}): the server would take {cipher}, in a way that is"
        " no longer accepted",
        remedy="Allow modern ciphers on the server (ECDHE with AES-GCM or ChaCha20) and, if it has"
        " DH parameters of its own, make them 2048 bits or more.",
        owner="server-admin",
        reproduce="openssl s_client -connect {connect} -servername {host} -cipher ECDHE </dev/null",
    )
    CLIENT_CERTIFICATE = verdicts.CLIENT_CERTIFICATE_REQUIRED
    SNI_REJECTED = fail(
        "tls-sni-rejected",
        "the server refuses the name {host} ({openssl})",
        remedy="Check the spelling of the host. If it is right, add it to the names that the server"
        " or load balancer knows, with its certificate.",
        owner="server-admin",
        reproduce=_SHOW,
    )
    BLOCKED_BY_SNI = fail(
        "tls-blocked-by-sni",
        "the TLS handshake is cut ({cut}) as soon as it names {host}; with another name, or none,"
        " the same server answers",
        remedy="A firewall, proxy or gateway on the way filters by name: have {host} allowed there."
        " If there is none, a load balancer has no living backend for this name.",
        owner="network-admin",
        reproduce=(_SHOW, "openssl s_client -connect {connect} -noservername </dev/null"),
    )
    TIMEOUT = fail(
        "tls-handshake-timeout",
        "the port is open, but the TLS handshake gets no answer within {timeout} s",
        remedy="Look at the TLS part of the server or load balancer: the port itself is alive.",
        owner="server-admin",
        reproduce=_SHOW,
    )
    RESET = verdicts.RESET_AFTER_ACCEPT
    CLOSED = verdicts.CLOSED_AFTER_ACCEPT
    SILENT = verdicts.SILENT_AFTER_ACCEPT
    SSH = verdicts.WRONG_SERVICE_SSH
    BLACK_HOLE = verdicts.PMTU_BLACK_HOLE

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        target = ctx.target
        if target.scheme == "http":
            yield self.NOT_NEEDED()
            yield Wire(secure=False, verified=False)
            return
        way = self._way(ctx)
        context, timeout = ctx.trust.context(), ctx.timeout  # which raises where none is left
        try:
            sock = ctx.dialer.connect(target.host, target.port, timeout)
        except OSError as error:
            yield self.UNCLEAR(openssl=ctx.quote(f"no further connection: {error}"))
            return
        with ctx.timed("tls", target.netloc):
            shaken = net.tls.shake(sock, context, way.host, timeout)
        if shaken.verify_code in net.tls.ISSUER_CODES and ctx.trust.complete():
            shaken = way.open(ctx.trust.context(), way.host)
        if shaken.failure not in {None, "verify"}:
            hurried = self._way(ctx, net.patience.REPEAT) if shaken.failure == "timeout" else way
            with ctx.timed("tls", f"{target.netloc}, looking closer"):
                fault = net.tls_faults.refusal(hurried, shaken)
            yield self._finding(ctx, fault, shaken)
            if fault.code == self.INTERMITTENT.code:
                shaken = way.open(ctx.trust.context(), way.host)
        if shaken.failure is None:
            yield from self._verified(ctx, way, shaken)
        elif shaken.failure == "verify":
            yield from self._refused(ctx, way, shaken)

    def _way(self, ctx: Context, patience: float = float("inf")) -> Way:
        """How the follow-up handshakes reach the server, each step within so many seconds."""
        patience = max(patience, 6 * (ctx[Channel].rtt_ms or 0) / 1000)
        host, port, address = ctx.target.host, ctx.target.port, ctx[Channel].address
        direct = ctx.dialer.mapped(host, port) or (address, port)
        return net.tls_way.Way(
            host=host.rstrip("."),
            path=ctx.target.context,
            connect=lambda timeout: ctx.dialer.connect(host, port, timeout, fresh=True),
            timeout=lambda: max(0.05, min(patience, ctx.settings.timeout, ctx.remaining)),
            parallel=ctx.parallel,
            address=None if address.startswith("proxy ") else direct,
        )

    # a handshake that succeeded

    def _verified(self, ctx: Context, way: Way, shaken: Handshake) -> Iterator[Finding | Fact]:
        peer = shaken.peer()
        assert shaken.sock is not None and peer is not None  # noqa: S101, PT018 - it succeeded
        if shaken.wants_certificate and (
            said := net.tls_way.refuses_without_certificate(way, ctx.trust.context())
        ):
            shaken.close()
            yield self.CLIENT_CERTIFICATE(said=ctx.quote(said), chain=_chain(ctx, shaken))
            return
        if ctx.settings.check_revocation:
            findings = list(self._standing(ctx, shaken))
            yield from findings
            if any(one.code == self.REVOKED.code for one in findings):
                shaken.close()  # whoever has the key may be at the other end: no secret for it
                if ctx.settings.insecure:
                    yield Wire(secure=True, verified=False)
                return
        ctx.dialer.park(ctx.target.host, ctx.target.port, shaken.sock)
        yield Wire(secure=True, verified=True, version=shaken.version)
        public = net.tls_way.is_public(way, ctx.trust, shaken)
        left = peer.not_after - time.time()
        evidence: dict[str, Any] = {
            "subject": ctx.quote(peer.subject),
            "issuer": ctx.quote(peer.issuer),
            "not_after": f"{datetime.fromtimestamp(peer.not_after, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "left": net.tls.span(left),
        }
        if left < min(SOON, (peer.not_after - peer.not_before) / 3):
            yield self.EXPIRING(**evidence)
        evidence |= {"version": shaken.version, "cipher": shaken.cipher}
        evidence["chain"] = _chain(ctx, shaken)
        yield self.OK(**evidence, publicly_trusted=public, trust=ctx.trust.describe())
        if untidy := net.chain.untidy(shaken.sent, shaken.built):
            yield self._untidy(ctx, untidy)
        if public is False:
            yield self._only_here(ctx, way, shaken, peer)

    def _standing(self, ctx: Context, shaken: Handshake) -> Iterator[Finding]:
        """What the CAs say about the certificates."""
        size = net.revocation.LARGEST
        tasks = net.revocation.tasks(shaken.built, partial(self._fetch, ctx, max_bytes=size))
        told = ctx.parallel(tasks, ctx.remaining / 2)  # many a network lets nobody ask
        for one in told.values():
            if one.state == "revoked" and one.since is not None:
                evidence = {"certificate": one.certificate, "serial": one.serial, "by": one.by}
                evidence |= {"source": one.source, "reason": one.reason or "none given"}
                yield self.REVOKED(
                    since=f"{one.since:%Y-%m-%d %H:%M} UTC",
                    reproduce=_SEE_OCSP if one.by == "OCSP" else None,
                    chain=_chain(ctx, shaken),
                    **_quoted(ctx, evidence),
                )
        if any(one.state == "revoked" for one in told.values()):
            return
        leaf = told.get(0)
        if leaf is None or leaf.state == "unknown":
            subject = leaf.certificate if leaf else ctx.target.host
            trouble = leaf.trouble if leaf else "its issuer is not known, or no answer came in time"
            yield self.REVOCATION_UNCLEAR(
                certificate=ctx.quote(subject), trouble=ctx.quote(trouble, 400)
            )
            return
        above = [one.certificate for place, one in told.items() if place and one.state == "good"]
        others = f"; nor is {', '.join(above)}" if above else ""
        evidence = {"by": leaf.by, "source": leaf.source, "others": others}
        yield self.NOT_REVOKED(**_quoted(ctx, evidence))

    def _untidy(self, ctx: Context, found: Mapping[str, Any]) -> Finding:
        order = [net.chain.name(one) for one in found["must_send"] if one["state"] != "leave out"]
        return self.CHAIN_UNTIDY(**_quoted(ctx, {**found, "order": order}))

    def _only_here(self, ctx: Context, way: Way, shaken: Handshake, peer: Peer) -> Finding:
        """What passes here does not pass at somebody who trusts Mozilla's list alone: why?"""
        issuer = ctx.quote(peer.issuer)
        product = net.inspectors.product([peer.issuer_name])
        if product is None and ctx.target.kind == "cloud":  # its own one is of a public CA
            product = "somebody on the way"
        if product:
            return self.INSPECTED(product=product, issuer=issuer, heuristic=True)
        if net.tls_way.lacks_intermediate(way, ctx.trust, shaken):
            basis = "this machine happens to have it"
            if not ctx.profile.from_internet:
                return self.CHAIN_HELPED(issuer=issuer, basis=basis)
            told = net.chain.entries(shaken.sent, shaken.built)
            missing = [net.chain.name(one) for one in told if one["state"] == "missing"]
            found: dict[str, Any] = {
                "issuers": missing,
                "issuer": issuer,
                "basis": basis,
                "must_send": told,
            }
            return self._conclude(ctx, self.CHAIN_INCOMPLETE, found)
        return self.PRIVATE_CA(issuer=issuer)

    # a certificate that did not pass

    def _refused(self, ctx: Context, way: Way, shaken: Handshake) -> Iterator[Finding | Fact]:
        with ctx.timed("tls", f"{ctx.target.netloc}, looking closer"):
            found = net.tls_faults.examine(
                way,
                ctx.trust,
                shaken,
                partial(self._is_bitbucket, ctx),
                partial(self._fetch, ctx) if ctx.settings.fetch_issuers else None,
            )
        if found.dates is not None:
            yield CertificateDates(*found.dates)
            yield from self._server_time(ctx)
        for fault in found.faults:
            yield self._finding(ctx, fault, shaken)
        if found.untidy is not None:
            yield self._untidy(ctx, found.untidy)
        if ctx.settings.insecure:
            yield Wire(secure=True, verified=False)

    def _is_bitbucket(self, ctx: Context) -> bool | None:
        """Whether Bitbucket answers, whatever its certificate says. None: that cannot be told."""
        if ctx.target.kind == "cloud":
            return None
        answer = ctx.http.get(ctx.target.base_url + "/", verify=False, fresh=True)
        if bitbucket.datacenter.marks(answer):
            return True
        return False if answer.status == 200 else None

    def _server_time(self, ctx: Context) -> Iterator[ServerTime]:
        """The server's clock. Asked without verification, as the dates are what is in doubt."""
        base, cloud = ctx.target.base_url, ctx.target.kind == "cloud"
        path = bitbucket.cloud.HOOK_EVENTS if cloud else bitbucket.datacenter.STATUS
        answer = ctx.http.get(base + path, verify=False, fresh=True)
        told = bitbucket.reception.server_time(bitbucket.reception.Visit(base, answer, answer))
        if told is not None:
            yield told

    def _fetch(self, ctx: Context, url: str, *, max_bytes: int = 64 * 1024) -> bytes | None:
        """What a CA publishes, from where a certificate says it can be had."""
        answer = ctx.http.get(url, max_bytes=max_bytes, headers={"Accept": "*/*"}, fresh=True)
        return answer.body if answer.status == 200 and answer.failure is None else None

    def _finding(self, ctx: Context, fault: Fault, shaken: Handshake) -> Finding:
        verdict = next(one for one in self.verdicts() if one.code == fault.code)
        evidence = dict(fault.evidence)
        if shaken.sent:
            evidence["chain"] = _chain(ctx, shaken)
        if fault.owner == "network-admin":
            return verdict(owner=fault.owner, remedy=_SWALLOWED, **_quoted(ctx, evidence))
        return self._conclude(ctx, verdict, evidence)

    def _conclude(self, ctx: Context, verdict: Verdict, evidence: Mapping[str, Json]) -> Finding:
        """The verdict, its remedy with what must be sent or imported, which the evidence says."""
        told = _quoted(ctx, evidence)
        remedy = verdict.remedy
        if "must_send" in told:
            remedy = _put(remedy, "{order}", "\n".join(net.chain.lines(told["must_send"])))
        if "import_ca" in told:
            remedy = _put(remedy, "{ca}", net.chain.ca(told["import_ca"]))
            commands = net.stores.IMPORT.items()
            told["import_ca"]["commands"] = {
                program: command.format(origin=ctx.target.origin) for program, command in commands
            }
        return verdict(remedy=remedy, **told)


def _put(template: str, word: str, text: str) -> str:
    """Put a text from a certificate into a template, where braces mean something."""
    return template.replace(word, text.replace("{", "{{").replace("}", "}}"))


def _chain(ctx: Context, shaken: Handshake) -> list[Json]:
    """What the server sent, to be compared with what somebody else was sent."""
    return [_quoted(ctx, net.der.describe(one)) for one in shaken.sent]


def _quoted(ctx: Context, value: Any) -> Any:
    """Names in certificates are text from the network."""
    if isinstance(value, str):
        return ctx.quote(value)
    if isinstance(value, Mapping):
        return {key: _quoted(ctx, one) for key, one in value.items()}
    return [_quoted(ctx, one) for one in value] if isinstance(value, list) else value
