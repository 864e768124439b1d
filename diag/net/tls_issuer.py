"""Why a chain leads to nothing that is trusted here: the chain doctor.

An intermediate that is not sent, a root that nobody here knows, an inspecting proxy and an old list
of CAs all end in the same error of OpenSSL. They are told apart by following names, key identifiers
and signatures, by what Mozilla's list says, and on request by fetching the missing issuers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from diag.model import Json, Owner
from diag.net import chain, der, inspectors, x509
from diag.net.tls import Handshake, Trust
from diag.net.tls_way import Way
from diag.net.x509 import Certificate
from diag.record import field, record

Fetch = Callable[[str], bytes | None]

_HOPS = 4  # issuers that are fetched at most
_SOME_ROOT: dict[str, Json] = {"subject": "CN=the server's root CA", "sha256": None, "from": None}


@record
class Fault:
    """One thing that is wrong: a verdict's code and what shows it."""

    code: str
    evidence: Mapping[str, Json] = field(default_factory=dict)
    owner: Owner | None = None  # where the evidence names somebody else than usual


def stale(trust: Trust, publicly: Handshake, now: datetime) -> list[Fault]:
    """The public list leads to the server's certificate, by a way that is valid now: what is
    trusted here is older than that."""
    above = x509.read_all(publicly.built)[1:]
    if not publicly.leads or not all(one.valid_at(now) for one in above):
        return []
    root = above[-1].short if above else "the root of the server's certificate"
    evidence: dict[str, Json] = {
        **trust.describe(),
        "role": "root",
        "reason": f"Mozilla's, as of certifi, has the server's root {root}",
        "import_ca": _to_import(above[-1], "Mozilla's list") if above else _SOME_ROOT,
    }
    return [Fault("tls-trust-store-stale", evidence)]


@record
class Doctor:
    """Tells why a chain does not lead to anything that is trusted here."""

    way: Way
    trust: Trust
    sent: Sequence[Certificate]
    path: Sequence[Certificate]
    publicly: Handshake
    now: datetime

    def faults(self, fetch: Fetch | None) -> list[Fault]:
        """The reason, and what else is wrong with the issuers."""
        leaf, top = self.path[0], self.path[-1]
        if found := stale(self.trust, self.publicly, self.now):
            return [Fault(one.code, {**self.evidence, **one.evidence}) for one in found]
        if product := inspectors.product(one.issuer for one in self.path):
            more: dict[str, Json] = {"product": product, "heuristic": True}
            return [Fault("tls-interception", {**self.evidence, **more, **self.unknown_ca(top)})]
        if leaf.self_issued:
            own = _to_import(leaf, "the server")
            return [Fault("tls-self-signed", {**self.evidence, "import_ca": own})]
        if (rekeyed := self.other_key()) is not None:
            return [rekeyed]
        if top.self_issued:
            return [self.unknown(top, "the server sends its root, but that proves nothing")]
        if fetch is not None and (proved := self.fetched(fetch)):
            return proved
        basis = _incomplete(self.path, self.trust)
        if basis is None:
            return [self.unknown(top, "no CA of that name is")]
        return [self.incomplete(basis, heuristic=True)]

    @property
    def evidence(self) -> dict[str, Json]:
        top = self.path[-1]
        found: dict[str, Json] = {
            "certificate": self.path[0].short,
            "issuer": top.issuer_short,
            "issuer_name": top.issuer,
            "issuer_key": top.issuer_key_id,
            **self.trust.describe(),
        }
        ways = chain.ways(self.sent)
        if len(ways) > 1:  # cross-signed
            found["ways"] = chain.describe_ways(ways, self.now)
        return found

    def unknown(self, top: Certificate, basis: str) -> Fault:
        """The CA above `top`, or `top` itself where it is a root, is not trusted."""
        evidence = {**self.evidence, "issuer": top.issuer_short, "issuer_name": top.issuer}
        evidence |= {"issuer_key": top.issuer_key_id, "basis": basis}
        return Fault("tls-issuer-unknown", {**evidence, **self.unknown_ca(top)})

    def unknown_ca(self, top: Certificate) -> dict[str, Json]:
        if top.self_issued:
            told = _to_import(top, "the server")
        else:
            place = next(iter(top.issuer_urls), None)
            told = {"subject": top.issuer, "sha256": None, "from": place}
        return {"import_ca": told}

    def incomplete(
        self,
        basis: str,
        issuers: Sequence[Certificate] = (),
        sources: Mapping[bytes, str] | None = None,
        **more: Json,
    ) -> Fault:
        """Certificates are missing in what the server sends: `issuers`, where they are known."""
        way = [*self.path, *issuers]
        told = chain.entries(
            [one.der for one in self.sent],
            [one.der for one in way],
            sources,
            namesakes=[one.der for one in chain.namesakes(self.path[-1], self.sent)],
        )
        if not issuers:
            top = self.path[-1]
            place = sum(one["state"] != "leave out" for one in told)
            told.insert(place, chain.gap(top.issuer, next(iter(top.issuer_urls), None)))
        missing: list[Json] = [chain.name(one) for one in told if one["state"] == "missing"]
        evidence = {**self.evidence, "basis": basis, "issuers": missing, "must_send": told, **more}
        return Fault("tls-chain-incomplete", evidence)

    def other_key(self) -> Fault | None:
        """There is a CA of the very name, but with another key: sent by the server, or trusted."""
        top = self.path[-1]
        issuer = der.names(top.der)[0]
        known = x509.read_all(self.trust.named(issuer))
        if top.self_issued and top.der not in (one.der for one in known):
            others = [one for one in known if not top.issued_by(one)]
            if others and all(one.not_before < top.not_before for one in others):
                reason = (
                    f"its root {top.short} was renewed with another key since, on"
                    f" {top.not_before:%Y-%m-%d}"
                )
                more: dict[str, Json] = {"reason": reason, "role": "root", "heuristic": True}
                more["import_ca"] = _to_import(top, "the server")
                return Fault("tls-trust-store-stale", {**self.evidence, **more})
            if others:
                return self.unknown(top, "a CA of this very name is, but it has another key")
            return None
        sent = chain.namesakes(top, self.sent)
        if any(not one.self_issued for one in sent):
            return self.incomplete("it sends one of that name, but with another key")
        if chain.namesakes(top, known):
            return self.unknown(top, "a CA of this very name is, but it has another key")
        if sent:
            return self.unknown(top, "the server sends a root of that name, but with another key")
        return None

    def fetched(self, fetch: Fetch) -> list[Fault]:
        """Complete the chain from where the certificates say that their issuers are, and try
        again."""
        top = self.path[-1]
        issuers: list[Certificate] = []
        sources: dict[bytes, str] = {}
        while len(issuers) < _HOPS and not top.self_issued and not self.is_anchored(top):
            got = _issuer_of(top, fetch)
            if got is None or got[1].der in sources:
                break
            place, top = got
            sources[top.der] = place
            issuers.append(top)
        if not issuers:
            return []
        missing = [one for one in issuers if not one.self_issued]
        ders = [one.der for one in missing]
        more: dict[str, Json] = {"fetched": list(sources.values())}
        faults = []
        if missing:
            faults.append(self.incomplete("proved by fetching it", missing, sources, **more))
            if self.way.shake(self.trust.lenient(ders), self.way.host).leads:
                return faults
        publicly = self.way.shake(self.trust.lenient(ders, mozilla=True), self.way.host)
        if missing and (found := stale(self.trust, publicly, self.now)):
            return [*found, *faults]
        unknown = self.unknown(top, "fetching the issuers of the certificate led there")
        if top.self_issued:
            more["import_ca"] = _to_import(top, sources[top.der])
        return [Fault(unknown.code, {**unknown.evidence, **more}), *faults]

    def is_anchored(self, top: Certificate) -> bool:
        """The issuer of `top` is trusted here."""
        return any(map(top.issued_by, x509.read_all(self.trust.named(der.names(top.der)[0]))))


def _to_import(one: Certificate, place: str) -> dict[str, Json]:
    """A CA's certificate that is to be trusted, as evidence."""
    return {"subject": one.subject, "sha256": der.fingerprint(one.der), "from": place}


def _incomplete(path: Sequence[Certificate], trust: Trust) -> str | None:
    """Why the missing issuer is likely an intermediate that the server should send, if so.

    The handshake cannot tell an intermediate that is not sent from a root that is not trusted: both
    are just an issuer that is not there.
    """
    top = path[-1]
    if x509.sounds_like_root(top.issuer_short):
        return None
    if top.organisation and (root := trust.root_of(top.organisation)):
        return f"{root}, of the same organisation, is trusted here"
    if len(path) > 1:  # it does send intermediates: what is missing is rather the root
        return None
    if x509.sounds_like_intermediate(top.issuer_short):
        return "its name is that of an intermediate"
    if top.issuer_urls:
        return "the certificate says where to get it, and the server sends none of its issuers"
    return None


def _issuer_of(one: Certificate, fetch: Fetch) -> tuple[str, Certificate] | None:
    for url in one.issuer_urls[:2]:
        for candidate in x509.from_file(fetch(url) or b""):
            if one.issued_by(candidate):
                return url, candidate
    return None
