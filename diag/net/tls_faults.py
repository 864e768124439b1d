"""Why TLS failed: further handshakes, each of which isolates one fault.

A TLS library stops at the first thing it dislikes. What else is wrong, and whether the first thing
is the cause or a consequence, is found out by asking again with one demand dropped or changed.
Nothing here runs while all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise

from diag.model import Json
from diag.net import chain, tcp, tls, x509
from diag.net.tls import ISSUER_CODES, Handshake, Talk, Trust
from diag.net.tls_issuer import Doctor, Fault, Fetch, stale
from diag.net.tls_way import Way
from diag.net.x509 import Certificate
from diag.record import record

_LEAF_KEY_CODES = frozenset({66})
_PURPOSE_CODES = frozenset({24, 26, 32, 79})
_STRENGTH_CODES = frozenset({67, 68})  # of issuers' keys, and of signatures
_NAME_CODES = frozenset({62, 64})
# No issuer is trusted, or the one that is has the right name but did not sign.
_NO_ISSUER = ISSUER_CODES | {7}
# The order in which OpenSSL looks: it stops at the first thing that is wrong. Dates come last.
_STAGES = (_LEAF_KEY_CODES, ISSUER_CODES, _PURPOSE_CODES, _STRENGTH_CODES, _NAME_CODES)
_OLD = {"SSLv3", "TLSv1", "TLSv1.1"}
_CUT = {"closed", "reset", "timeout"}
_UNRELATED = "example.com"  # a name that is surely not the server's
_SIBLINGS = ("www", "git", "bitbucket", "stash", "code")  # names a neighbour site may have
_TLS_PORT = (  # how web servers answer plain HTTP on a port where they speak TLS
    b"plain HTTP request was sent to HTTPS",
    b"HTTP request to an HTTPS server",
    b"speaking plain HTTP to an SSL-enabled",
    b"combination of host and port requires TLS",
)

# Of several faults of one certificate, the one to be put right first comes first: a certificate
# of somebody else explains all the others, an untrusted one has to be replaced whatever its dates.
_RANK = (
    "tls-interception",
    "tls-default-vhost-cert",
    "tls-hostname-mismatch",
    "tls-ip-without-san",
    "tls-no-san",
    "tls-trust-store-stale",
    "tls-self-signed",
    "tls-issuer-unknown",
    "tls-chain-incomplete",
    "tls-intermediate-expired",
    "tls-expired",
    "tls-not-yet-valid",
    "tls-wrong-key-usage",
    "tls-weak-key",
    "tls-weak-signature",
)


@record
class Examination:
    """Everything that is wrong with the certificates, the cause first."""

    faults: tuple[Fault, ...]
    dates: tuple[float, float] | None = None  # where they are what failed: the latest start and the
    # earliest end in the chain, seconds since the epoch
    untidy: Mapping[str, Json] | None = None  # what else is wrong with how the chain is sent


# the certificates


def examine(
    way: Way,
    trust: Trust,
    first: Handshake,
    is_wanted: Callable[[], bool | None],
    fetch: Fetch | None = None,
) -> Examination:
    """Find everything that is wrong with the certificates on which `first` failed.

    `is_wanted` asks, without verification and without a secret, whether what answers behind a
    certificate for another name is what the user looks for (None: cannot be told). `fetch` gets a
    file by http, for `--fetch-issuers`.
    """
    ders = first.sent or _leaf_alone(way)
    leaf, now = x509.read(ders[0]) if ders else None, datetime.now(UTC)
    if leaf is None:
        return Examination((_unclear(first),))
    tasks: dict[tuple[str, str | None], Callable[[], Handshake]] = {
        ("trusted", None): lambda: way.shake(trust.lenient(), way.host),
        ("public", None): lambda: way.shake(trust.lenient(mozilla=True), way.host),
    }
    misnamed = _found(first, _NAME_CODES) or (
        _hidden(first, _NAME_CODES) and not leaf.covers(way.host)
    )
    if misnamed:
        anyone = tls.unverified_context()
        tasks |= {("asked", n): partial(way.shake, anyone, n) for n in _other_names(way)}
    shaken = way.parallel(tasks)
    trusted = shaken.get(("trusted", None), first)
    publicly = shaken.get(("public", None), Handshake(failure="timeout"))
    asked = {name: one for (why, name), one in shaken.items() if why == "asked"}
    unknown = (trusted if trusted.failure == "verify" else first).verify_code in _NO_ISSUER
    anchored = trusted.failure is None or (trusted.failure == "verify" and not unknown)

    sent = x509.read_all(ders)
    path = (x509.read_all(trusted.built) if anchored else []) or chain.path(sent, now)
    faults = []
    if misnamed:
        faults.append(_name(way, leaf, first, asked, is_wanted))
    if not anchored and unknown:
        faults += Doctor(way, trust, sent, path, publicly, now).faults(fetch)
    if _found(first, _PURPOSE_CODES) or _hidden(first, _PURPOSE_CODES):
        faults += _usage(path, first)
    if _found(first, _LEAF_KEY_CODES):
        faults.append(Fault("tls-weak-key", {"certificate": leaf.short, "key": leaf.key}))
    if _found(first, _STRENGTH_CODES) or _hidden(first, _STRENGTH_CODES):
        faults += _strength(path)
    untimely = (
        [] if trusted.failure is None else _dates(sent, path, now, trust if anchored else None)
    )
    if anchored and any(one.evidence["role"] != "server" for one in untimely):
        newer = stale(trust, publicly, now)  # another way up, without what is not valid now
        untimely = [one for one in untimely if not newer or one.evidence["role"] == "server"]
        faults += newer
    faults += untimely
    faults = list({fault.code: fault for fault in reversed(faults)}.values())
    faults.sort(key=lambda fault: _RANK.index(fault.code))
    start = max(one.not_before.timestamp() for one in path)
    end = min(one.not_after.timestamp() for one in path)
    return Examination(
        tuple(faults) or (_unclear(first),),
        dates=(start, end) if untimely else None,
        untidy=chain.untidy(ders, [one.der for one in path])
        if not any("must_send" in one.evidence for one in faults)
        else None,
    )


def _found(first: Handshake, codes: frozenset[int]) -> bool:
    """It is what OpenSSL complained of."""
    return first.verify_code in codes


def _hidden(first: Handshake, codes: frozenset[int]) -> bool:
    """OpenSSL complained of something it looks at before this, and looked no further."""
    reached = next((n for n, one in enumerate(_STAGES) if first.verify_code in one), len(_STAGES))
    return reached < _STAGES.index(codes)


def _leaf_alone(way: Way) -> tuple[bytes, ...]:
    """The certificate by a handshake that verifies nothing, where the chain cannot be read."""
    shaken = way.open(tls.unverified_context(), way.host)
    if shaken.sock is None:
        return ()
    with shaken.sock as sock:
        der = sock.getpeercert(binary_form=True)
    return (der,) if der else ()


def _other_names(way: Way) -> list[str | None]:
    """Names to ask the same server for: none at all, a stranger's, and what neighbours have."""
    if way.is_address:
        return []
    parent = way.host.partition(".")[2]
    near = [parent, *(f"{label}.{parent}" for label in _SIBLINGS)] if "." in parent else []
    return [None, _UNRELATED, *(name for name in near if name != way.host)]


def _name(
    way: Way,
    leaf: Certificate,
    first: Handshake,
    asked: Mapping[str | None, Handshake],
    is_wanted: Callable[[], bool | None],
) -> Fault:
    """The certificate does not stand for the host: whose is it?"""
    evidence: dict[str, Json] = {
        "certificate": leaf.short,
        "names": list(leaf.names[:20]) or [leaf.short],
    }
    if way.is_address:
        return Fault("tls-ip-without-san", evidence)
    if not leaf.has_names and x509.matches(leaf.common_name or "", way.host):
        return Fault("tls-no-san", evidence)
    leaves = {name: shaken.sent[0] for name, shaken in asked.items() if shaken.sent}
    by_default = leaves.get(None) == leaf.der
    others = [
        name
        for name, der in leaves.items()
        if name and der != leaf.der and (found := x509.read(der)) and found.covers(name)
    ]
    wanted = is_wanted()
    evidence |= {"same_without_name": by_default, "bitbucket_answers": wanted}
    if wanted:  # the right site with the wrong certificate
        return Fault("tls-hostname-mismatch", evidence)
    if tls.UNRECOGNIZED_NAME in first.alerts:
        evidence["sign"] = "the server warns that it does not know the name"
    elif by_default and others:
        evidence["sign"] = f"for {', '.join(others)} it has another certificate"
    elif wanted is False:
        evidence["sign"] = "it is not Bitbucket that answers"
    elif x509.is_placeholder(leaf):
        evidence["sign"] = "such a certificate comes from a server that is not configured yet"
    else:
        return Fault("tls-hostname-mismatch", evidence)
    return Fault("tls-default-vhost-cert", {**evidence, "sites": others, "heuristic": True})


def _usage(path: Sequence[Certificate], first: Handshake) -> list[Fault]:
    wrong = next((one for one in path if not one.for_servers), None)
    if wrong is None and not _found(first, _PURPOSE_CODES):
        return []
    evidence = {"certificate": (wrong or path[0]).short, "openssl": first.detail}
    return [Fault("tls-wrong-key-usage", evidence)]


def _strength(path: Sequence[Certificate]) -> list[Fault]:
    faults = [
        Fault("tls-weak-key", {"certificate": one.short, "key": one.key})
        for one in path[1:]
        if one.weak_key
    ]
    return faults + [
        Fault("tls-weak-signature", {"certificate": one.short, "signature": one.signature})
        for one in path
        if one.weak_signature
    ]


def _renewed(
    sent: Sequence[Certificate], path: Sequence[Certificate], now: datetime
) -> list[chain.Entry]:
    """What is to be sent in place of intermediates that have expired."""
    late = {
        issuer.der: next(iter(one.issuer_urls), None)
        for one, issuer in pairwise(path)
        if issuer.not_after < now
    }
    return chain.entries([one.der for one in sent], [one.der for one in path], late=late)


def _dates(
    sent: Sequence[Certificate], path: Sequence[Certificate], now: datetime, trust: Trust | None
) -> list[Fault]:
    """Certificates that are not valid now. `trust`: the last one is trusted, by these stores."""
    faults = []
    for place, one in enumerate(path):
        is_root = place > 0 and (one.self_issued or (bool(trust) and place == len(path) - 1))
        evidence: dict[str, Json] = {
            "certificate": one.short,
            "role": "root" if is_root else "intermediate" if place else "server",
            "not_before": x509.iso(one.not_before),
            "not_after": x509.iso(one.not_after),
            "now": x509.iso(now),
        }
        if one.not_before > now:
            away = tls.span((one.not_before - now).total_seconds())
            faults.append(Fault("tls-not-yet-valid", {**evidence, "away": away}))
        elif one.not_after < now and not is_root:
            code = "tls-intermediate-expired" if place else "tls-expired"
            if place:
                evidence["must_send"] = _renewed(sent, path, now)
            away = tls.span((now - one.not_after).total_seconds())
            faults.append(Fault(code, {**evidence, "away": away}))
        elif one.not_after < now and trust is not None:
            reason = f"its root {one.short} expired on {one.not_after:%Y-%m-%d}"
            evidence |= {"reason": reason, **trust.describe()}
            renewed = {"subject": one.subject, "sha256": None, "from": None}
            evidence["import_ca"] = renewed
            faults.append(Fault("tls-trust-store-stale", evidence))
    return faults


def _unclear(first: Handshake) -> Fault:
    return Fault("tls-unclear", {"openssl": first.detail, "alert": first.alert})


# the handshake itself


def refusal(way: Way, first: Handshake) -> Fault:
    """Find why the handshake `first` ended before there was anything to verify."""
    anyone, legacy = tls.unverified_context(), tls.legacy_context()
    tasks: dict[str, Callable[[], Handshake | Talk]] = {
        "again": lambda: way.shake(anyone, way.host),
        "legacy": lambda: way.shake(legacy, way.host),
    }
    if first.failure != "alert":  # else TLS it is
        tasks["talk"] = way.talk
    if not way.is_address:
        tasks["nameless"] = lambda: way.shake(anyone, None)
        tasks["stranger"] = lambda: way.shake(anyone, _UNRELATED)
    if first.failure == "timeout" and way.address is not None:
        tasks["small"] = lambda: way.shake_small(anyone, way.host)
    probes = Probes(first, way.parallel(tasks))
    return _service(probes) or _refused(probes) or _cut(probes)


@record
class Probes:
    """The failed handshake, and what came of asking in other ways."""

    first: Handshake
    results: Mapping[str, Handshake | Talk]

    def shaken(self, name: str) -> Handshake:
        found = self.results.get(name)
        return found if isinstance(found, Handshake) else Handshake(failure="timeout")

    @property
    def talk(self) -> Talk:
        found = self.results.get("talk")
        return found if isinstance(found, Talk) else Talk()

    @property
    def others(self) -> tuple[Handshake, Handshake]:
        """With no server name, and with somebody else's."""
        return self.shaken("nameless"), self.shaken("stranger")

    @property
    def only_this_name_is_cut(self) -> bool:
        """Each try with another name, or none, got a word from the server, and no try with this
        name did. Each twice, as it might be chance."""
        own = (self.first, self.shaken("again"), self.shaken("legacy"))
        return all(one.heard for one in self.others) and not any(one.heard for one in own)

    @property
    def evidence(self) -> dict[str, Json]:
        return {"openssl": self.first.detail, "alert": self.first.alert}


def _service(probes: Probes) -> Fault | None:
    """Something other than TLS lives on the port."""
    talk, failure = probes.talk, probes.first.failure
    heard = (talk.greeting or talk.reply)[:80].decode("latin-1").partition("\r\n")[0]
    if heard.startswith("SSH-"):
        return Fault("tcp-wrong-service-ssh", {"banner": heard})
    if talk.is_http and not any(mark in talk.reply for mark in _TLS_PORT):
        refused = talk.reply[9:12] == b"400"  # a TLS port may say so too
        if failure == "not-tls" or not refused:
            return Fault("tls-plaintext-port", {"heard": heard})
    if failure == "not-tls" and probes.shaken("legacy").version not in _OLD:
        return Fault("tls-unclear", {**probes.evidence, "heard": heard})
    return None


def _refused(probes: Probes) -> Fault | None:
    """The server, or OpenSSL here, said that it cannot agree."""
    first, evidence, legacy = probes.first, probes.evidence, probes.shaken("legacy")
    if legacy.version in _OLD:
        return Fault("tls-version-too-old", {**evidence, "version": legacy.version})
    if first.failure == "timeout":
        return None
    if first.wants_certificate:
        return Fault("tls-client-cert-required", evidence)
    again = probes.shaken("again")
    passes = any(one.answered for one in probes.others) and not again.answered
    if first.alert == "unrecognized_name" or (first.alert and passes):
        return Fault("tls-sni-rejected", {**evidence, "other_names_pass": passes})
    if first.alert == "protocol_version":
        return Fault("tls-version-too-old", {**evidence, "version": "TLSv1.1", "proved": False})
    if legacy.failure is None and again.failure is not None:
        return Fault("tls-no-common-cipher", {**evidence, "cipher": legacy.cipher})
    return None if first.failure in _CUT else Fault("tls-unclear", evidence)


def _cut(probes: Probes) -> Fault:
    """The connection ended, or nothing came any more."""
    first, talk = probes.first, probes.talk
    evidence: dict[str, Json] = {"cut": first.failure, "acknowledged": not first.lost}
    if probes.shaken("again").failure is None:
        return Fault("tls-intermittent", evidence)
    if probes.shaken("small").failure is None:
        return Fault(
            "tcp-pmtu-blackhole",
            {
                **evidence,
                "what": "the TLS handshake",
                "segment": tcp.SMALL_SEGMENT,
                "heuristic": True,
            },
        )
    if probes.only_this_name_is_cut:
        return Fault("tls-blocked-by-sni", evidence)
    if first.failure == "timeout":
        if first.lost:
            return Fault("tls-handshake-timeout", evidence, "network-admin")
        if first.answered or probes.shaken("legacy").answered or talk.reply or talk.greeting:
            return Fault("tls-handshake-timeout", evidence)
        return Fault("tcp-silent-after-accept", evidence)
    evidence["before_greeting"] = talk.at_once
    if first.failure == "reset":
        return Fault("tcp-reset-after-accept", evidence)
    return Fault("tcp-closed-after-accept", evidence)
