"""Check `tls`: the encryption, and whether the certificate is one to trust."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
    Fault = net.tls_faults.Fault
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
        remedy="Ask for an exception from TLS inspection for {host}; or get the CA certificate of"
        " the inspection and trust it: --ca-file here, and the same for {profile}.",
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
        " ca-certificates; Red Hat: dnf update ca-certificates), or the file of --ca-file. The"
        " server needs no change.",
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
        "the certificate was issued by {issuer}, a CA that is not trusted here",
        remedy="Get the CA's root certificate from whoever runs it and name it with --ca-file, or"
        " add it to the system's store; {profile} must be given it too.",
        owner="you",
        reproduce=(_ISSUER, "{curl} --cacert ROOT.pem -o /dev/null {url}"),
    )
    CHAIN_INCOMPLETE = fail(
        "tls-chain-incomplete",
        "the server does not send the intermediate certificate {issuer} ({basis})",
        remedy="On the server configure the whole chain: its own certificate, then the"
        " intermediates (nginx: ssl_certificate with fullchain.pem; Tomcat: import the chain)."
        " Do not import it on the clients. If {issuer} is itself a root, it is not trusted here"
        " instead: --fetch-issuers can tell.",
        owner="server-admin",
        reproduce=_SHOW,
    )
    INTERMEDIATE_EXPIRED = fail(
        "tls-intermediate-expired",
        "the intermediate certificate {certificate} expired {away} ago ({not_after}); the server's"
        " own may well be valid",
        remedy="Get the current intermediate from the CA and put it into the chain that the server"
        " sends; its own certificate need not change.",
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
        try:
            sock = ctx.dialer.connect(target.host, target.port, ctx.timeout)
        except OSError as error:
            yield self.UNCLEAR(openssl=ctx.quote(f"no further connection: {error}"))
            return
        with ctx.timed("tls", target.netloc):
            shaken = net.tls.shake(sock, ctx.trust.context(), way.host, ctx.timeout)
        if shaken.verify_code in net.tls.ISSUER_CODES and ctx.trust.complete():
            shaken = way.open(ctx.trust.context(), way.host)
        if shaken.failure not in {None, "verify"}:
            fault = net.tls_faults.refusal(way, shaken)
            yield self._finding(ctx, fault)
            if fault.code == self.INTERMITTENT.code:
                shaken = way.open(ctx.trust.context(), way.host)
        if shaken.failure is None:
            yield from self._verified(ctx, way, shaken)
        elif shaken.failure == "verify":
            yield from self._refused(ctx, way, shaken)

    def _way(self, ctx: Context) -> Way:
        """How the follow-up handshakes reach the server."""
        host, port, address = ctx.target.host, ctx.target.port, ctx[Channel].address
        direct = ctx.dialer.mapped(host, port) or (address, port)
        return net.tls_way.Way(
            host=host.rstrip("."),
            path=ctx.target.context,
            connect=lambda timeout: ctx.dialer.connect(host, port, timeout, fresh=True),
            timeout=lambda: max(0.05, min(ctx.settings.timeout, ctx.remaining)),
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
            yield self.CLIENT_CERTIFICATE(said=ctx.quote(said))
            return
        public = net.tls_way.is_public(way, ctx.trust, shaken)
        ctx.dialer.park(ctx.target.host, ctx.target.port, shaken.sock)
        yield Wire(secure=True, verified=True, version=shaken.version, publicly_trusted=public)
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
        yield self.OK(**evidence, publicly_trusted=public, trust=ctx.trust.describe())
        if public is False:
            yield self._only_here(ctx, way, shaken, peer)

    def _only_here(self, ctx: Context, way: Way, shaken: Handshake, peer: Peer) -> Finding:
        """What passes here does not pass at somebody who trusts Mozilla's list alone: why?"""
        issuer = ctx.quote(peer.issuer)
        product = net.inspectors.product([peer.issuer_name])
        if product is None and ctx.target.kind == "cloud":  # its own one is of a public CA
            product = "somebody on the way"
        if product:
            return self.INSPECTED(product=product, issuer=issuer, heuristic=True)
        if net.tls_way.lacks_intermediate(way, ctx.trust, shaken):
            verdict = self.CHAIN_INCOMPLETE if ctx.profile.from_internet else self.CHAIN_HELPED
            return verdict(issuer=issuer, basis="this machine happens to have it")
        return self.PRIVATE_CA(issuer=issuer)

    # a certificate that did not pass

    def _refused(self, ctx: Context, way: Way, shaken: Handshake) -> Iterator[Finding | Fact]:
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
            yield self._finding(ctx, fault)
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

    def _fetch(self, ctx: Context, url: str) -> bytes | None:
        """An issuer's certificate, from where a certificate says it can be had."""
        answer = ctx.http.get(url, max_bytes=64 * 1024, fresh=True)
        return answer.body if answer.status == 200 and answer.failure is None else None

    def _finding(self, ctx: Context, fault: Fault) -> Finding:
        verdict = next(one for one in self.verdicts() if one.code == fault.code)
        evidence: dict[str, Any] = {
            key: _quoted(ctx, value) for key, value in fault.evidence.items()
        }
        if fault.owner == "network-admin":
            return verdict(owner=fault.owner, remedy=_SWALLOWED, **evidence)
        return verdict(**evidence)


def _quoted(ctx: Context, value: Json) -> Json:
    """Names in certificates are text from the network."""
    if isinstance(value, str):
        return ctx.quote(value)
    return [_quoted(ctx, one) for one in value] if isinstance(value, list) else value
