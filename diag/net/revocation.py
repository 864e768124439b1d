"""Whether certificates have been revoked: by what their CAs publish, signed and in date.

Asked only on request (`--check-revocation`), by HTTP GET without any secret: OCSP (RFC 6960, in the
form of its appendix A) and CRLs (RFC 5280). No answer, or one that nobody vouches for, proves
nothing.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Literal
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from diag.record import record

warnings.simplefilter("ignore", CryptographyDeprecationWarning)

# What reading or verifying something odd may raise.
_ODD = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension)
Fetch = Callable[[str], bytes | None]  # the body of a 200, None if that did not come

LARGEST = 4 * 1024 * 1024  # bytes of a CRL
_URLS = 2  # of a kind that are asked for a certificate
_SKEW = timedelta(minutes=5)  # by which the clocks may differ


@record
class Standing:
    """What was learned of one certificate."""

    certificate: str  # its common name
    serial: str  # its serial number in hexadecimal, as openssl prints it
    state: Literal["good", "revoked", "unknown"]
    by: str = ""  # "OCSP", "CRL"
    source: str = ""  # the URL
    since: datetime | None = None
    reason: str | None = None  # "key compromise"
    trouble: str = ""  # why nothing was learned


class _NothingLearnedError(Exception):
    """The answer does not count, and why."""


def tasks(built: Sequence[bytes], fetch: Fetch) -> dict[int, Callable[[], Standing]]:
    """For each certificate (DER) of a verified chain but the trusted one at its end: what asks for
    its standing. The server's own by OCSP and CRL, the others by CRL."""
    try:
        chain = [x509.load_der_x509_certificate(one) for one in built]
    except ValueError:
        return {}
    return {
        place: partial(_standing, one, issuer, fetch, is_leaf=place == 0)
        for place, (one, issuer) in enumerate(pairwise(chain))
    }


def _standing(
    one: x509.Certificate, issuer: x509.Certificate, fetch: Fetch, *, is_leaf: bool
) -> Standing:
    """Ask everybody who is named in the certificate: whoever says "revoked" counts most."""
    name, serial, now = _name(one), f"{one.serial_number:X}", datetime.now(UTC)
    best: Standing | None = None
    troubles: list[str] = []
    places = [("OCSP", url) for url in _responders(one)[:_URLS]] if is_leaf else []
    places += [("CRL", url) for url in _lists(one)[:_URLS]]
    for by, url in places:
        try:
            since, reason = _WAYS[by](url, one, issuer, fetch, now)
        except _NothingLearnedError as error:
            troubles.append(f"{by} at {url}: {error}")
            continue
        if since is not None:
            return Standing(name, serial, "revoked", by, url, since, reason)
        best = best or Standing(name, serial, "good", by, url)
    if not places:
        troubles = ["its CA names neither a CRL nor an OCSP responder that can be asked by http"]
    return best or Standing(name, serial, "unknown", trouble="; ".join(troubles))


_Answer = tuple[datetime | None, str | None]  # revoked since, and why; (None, None): good


def _by_ocsp(
    url: str, one: x509.Certificate, issuer: x509.Certificate, fetch: Fetch, now: datetime
) -> _Answer:
    # Most responders know their certificates by SHA-1 alone; it names one here, and proves nothing.
    builder = ocsp.OCSPRequestBuilder().add_certificate(one, issuer, hashes.SHA1())  # noqa: S303
    asked = builder.build()
    text = quote(base64.b64encode(asked.public_bytes(Encoding.DER)), safe="")
    body = _got(fetch, f"{url.rstrip('/')}/{text}")
    try:
        answer = ocsp.load_der_ocsp_response(body)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise _NothingLearnedError(f"it answers {answer.response_status.name.lower()}")
        _vouched_for(answer, issuer, now)
        found = next((told for told in answer.responses if _same(told, asked)), None)
        if found is None:
            raise _NothingLearnedError("it speaks of another certificate")
        _in_date(found.this_update_utc, found.next_update_utc, now)
        if found.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
            raise _NothingLearnedError("it does not know the certificate")
        reason = found.revocation_reason
        return found.revocation_time_utc, None if reason is None else _words(reason)
    except _ODD:
        raise _NothingLearnedError("what it says cannot be read") from None


def _same(told: ocsp.OCSPSingleResponse, asked: ocsp.OCSPRequest) -> bool:
    return (
        told.serial_number == asked.serial_number
        and told.issuer_key_hash == asked.issuer_key_hash
        and told.issuer_name_hash == asked.issuer_name_hash
    )


def _vouched_for(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """The issuer signed the answer, or somebody whom it gave a certificate for just that."""
    for signer in (issuer, *(one for one in answer.certificates if _deputy(one, issuer, now))):
        if _signed(
            signer, answer.signature, answer.tbs_response_bytes, answer.signature_hash_algorithm
        ):
            return
    raise _NothingLearnedError("its signature is not that of the issuer")


def _deputy(one: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    """The issuer lets the owner of this certificate answer for it (RFC 6960, section 4.2.2.2)."""
    try:
        one.verify_directly_issued_by(issuer)
        usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (*_ODD, x509.ExtensionNotFound):
        return False
    in_date = one.not_valid_before_utc <= now <= one.not_valid_after_utc
    return in_date and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _signed(
    signer: x509.Certificate, signature: bytes, data: bytes, hashed: hashes.HashAlgorithm | None
) -> bool:
    try:
        key = signer.public_key()
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, data)
        elif isinstance(key, rsa.RSAPublicKey) and hashed is not None:
            key.verify(signature, data, padding.PKCS1v15(), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey) and hashed is not None:
            key.verify(signature, data, ec.ECDSA(hashed))
        else:
            return False
    except _ODD:
        return False
    return True


def _by_crl(
    url: str, one: x509.Certificate, issuer: x509.Certificate, fetch: Fetch, now: datetime
) -> _Answer:
    body = _got(fetch, url)
    pem = body.lstrip().startswith(b"-----BEGIN")
    try:
        told = x509.load_pem_x509_crl(body) if pem else x509.load_der_x509_crl(body)
        key = issuer.public_key()
        if told.issuer != one.issuer or not told.is_signature_valid(key):  # type: ignore[arg-type]
            raise _NothingLearnedError("it is not signed by the issuer")
        _in_date(told.last_update_utc, told.next_update_utc, now)
        found = told.get_revoked_certificate_by_serial_number(one.serial_number)
        if found is not None:
            return found.revocation_date_utc, _reason(found)
        if not _covers(told, one):
            raise _NothingLearnedError("it is not about certificates of this kind")
    except _ODD:
        raise _NothingLearnedError("it cannot be read") from None
    return None, None


_WAYS = {"OCSP": _by_ocsp, "CRL": _by_crl}


def _covers(told: x509.CertificateRevocationList, one: x509.Certificate) -> bool:
    """Whether a certificate that is not on the list is a good one: some lists are partial."""
    extensions = {extension.oid: extension.value for extension in told.extensions}
    if x509.DeltaCRLIndicator.oid in extensions:
        return False
    scope = extensions.get(x509.IssuingDistributionPoint.oid)
    if not isinstance(scope, x509.IssuingDistributionPoint):
        return True
    if scope.only_some_reasons or scope.only_contains_attribute_certs:
        return False
    return not (scope.only_contains_user_certs if _is_ca(one) else scope.only_contains_ca_certs)


def _is_ca(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _reason(found: x509.RevokedCertificate) -> str | None:
    try:
        return _words(found.extensions.get_extension_for_class(x509.CRLReason).value.reason)
    except x509.ExtensionNotFound:
        return None


def _words(reason: x509.ReasonFlags) -> str:
    return reason.name.replace("_", " ")


def _got(fetch: Fetch, url: str) -> bytes:
    body = fetch(url)
    if not body:
        raise _NothingLearnedError("nothing comes from there")
    return body


def _in_date(since: datetime, until: datetime | None, now: datetime) -> None:
    if since > now + _SKEW:
        raise _NothingLearnedError(f"it is dated in the future, {since:%Y-%m-%d %H:%M} UTC")
    if until is not None and until < now - _SKEW:
        raise _NothingLearnedError(f"it is out of date since {until:%Y-%m-%d %H:%M} UTC")


def _name(one: x509.Certificate) -> str:
    found = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else one.subject.rfc4514_string()


def _responders(one: x509.Certificate) -> list[str]:
    try:
        access = one.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, *_ODD):
        return []
    kind = AuthorityInformationAccessOID.OCSP
    return _by_http(told.access_location for told in access if told.access_method == kind)


def _lists(one: x509.Certificate) -> list[str]:
    try:
        points = one.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, *_ODD):
        return []
    return _by_http(_places(points))


def _places(points: x509.CRLDistributionPoints) -> Iterator[x509.GeneralName]:
    for point in points:
        # A point for some reasons only, or of another issuer, would not tell all.
        if point.reasons is None and point.crl_issuer is None:
            yield from point.full_name or ()


def _by_http(names: Iterable[x509.GeneralName]) -> list[str]:
    return [
        name.value
        for name in names
        if isinstance(name, x509.UniformResourceIdentifier)
        and name.value.lower().startswith("http://")
    ]
