"""Reading certificates. Imported only when one must be described: `cryptography` is heavy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from diag.record import field, record

# A certificate that is not quite by the rules is to be described, not complained about on stderr.
warnings.simplefilter("ignore", CryptographyDeprecationWarning)

E = TypeVar("E", bound=x509.ExtensionType)

# Bits that OpenSSL's security level 2 asks for.
_MINIMUM_RSA, _MINIMUM_EC = 2048, 224
_WEAK_HASHES = (hashes.MD5, hashes.SHA1)

# What servers and control panels present until somebody configures a certificate.
_PLACEHOLDER = re.compile(
    r"ingress controller fake|traefik default|snakeoil|plesk|parallels panel|cpanel|localdomain"
    r"|\blocalhost\b|default[ -](web ?site|server|certificate|vhost|company)",
    re.IGNORECASE,
)
_ROOT = re.compile(r"\broot\b|wurzel|racine|raiz", re.IGNORECASE)
_INTERMEDIATE = re.compile(r"intermediate|issuing|subordinate|\bsub[ -]?ca\b", re.IGNORECASE)


@record
class Certificate:
    """What one certificate says, as far as it can be read."""

    der: bytes = field(repr=False)
    subject: str  # "CN=…,O=…", RFC 4514
    issuer: str
    common_name: str | None
    names: tuple[str, ...]  # subject alternative names: DNS names and IP addresses
    has_names: bool  # the extension is there at all
    not_before: datetime
    not_after: datetime
    for_servers: bool  # extended key usage allows it, or says nothing
    key: str  # "RSA 1024 bits"
    weak_key: bool
    signature: str  # the hash: "SHA1"
    weak_signature: bool
    issuer_urls: tuple[str, ...]  # where the issuer's certificate can be had (AIA), http only
    organisation: str | None  # of the issuer
    _parsed: x509.Certificate = field(repr=False, compare=False)

    @property
    def self_issued(self) -> bool:
        """Subject and issuer are the same: a root, or a self-signed certificate."""
        return self._parsed.subject == self._parsed.issuer

    @property
    def short(self) -> str:
        """The common name, or the whole subject where there is none."""
        return self.common_name or self.subject or "a certificate without a name"

    @property
    def issuer_short(self) -> str:
        """The issuer's common name, or its whole name."""
        return _first(self._parsed.issuer, NameOID.COMMON_NAME) or self.issuer

    @property
    def key_id(self) -> str | None:
        """What the certificate calls its own key (SKI), in hexadecimal."""
        found = _extension(self._parsed, x509.SubjectKeyIdentifier)
        return None if found is None else found.digest.hex()

    @property
    def issuer_key_id(self) -> str | None:
        """What it calls the key that signed it (AKI), in hexadecimal."""
        found = _extension(self._parsed, x509.AuthorityKeyIdentifier)
        return None if found is None or found.key_identifier is None else found.key_identifier.hex()

    def valid_at(self, moment: datetime) -> bool:
        return self.not_before <= moment <= self.not_after

    def named_as_issuer_of(self, other: Certificate) -> bool:
        """`other` names it as its issuer, be it with the key of another one."""
        return self._parsed.subject == other._parsed.issuer

    def issued_by(self, other: Certificate) -> bool:
        """The names and key identifiers fit, and `other` really signed it."""
        if not other.named_as_issuer_of(self):
            return False
        if self.issuer_key_id and other.key_id and self.issuer_key_id != other.key_id:
            return False  # OpenSSL goes by it, whatever the signature
        try:
            self._parsed.verify_directly_issued_by(other._parsed)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def covers(self, host: str) -> bool:
        """A subject alternative name is `host`: exactly, or as its leftmost label by a wildcard."""
        return any(matches(name, host) for name in self.names)


def matches(name: str, host: str) -> bool:
    """Whether a name of a certificate stands for `host` (RFC 6125, no partial wildcards)."""
    try:
        return name == str(ip_address(host))
    except ValueError:
        name, host = name.lower().rstrip("."), host.lower().rstrip(".")
        label, _, parent = host.partition(".")
        return name in {host, f"*.{parent}"} and bool(label)


def read(der: bytes) -> Certificate | None:
    """Describe one certificate, None if it is beyond understanding."""
    try:
        parsed = x509.load_der_x509_certificate(der)
        key, weak_key = _key(parsed)
        signature, weak_signature = _signature(parsed)
        names = _extension(parsed, x509.SubjectAlternativeName)
        usage = _extension(parsed, x509.ExtendedKeyUsage)
        access = _extension(parsed, x509.AuthorityInformationAccess)
        return Certificate(
            der=der,
            subject=parsed.subject.rfc4514_string(),
            issuer=parsed.issuer.rfc4514_string(),
            common_name=_first(parsed.subject, NameOID.COMMON_NAME),
            names=() if names is None else _names(names),
            has_names=names is not None,
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            for_servers=usage is None or ExtendedKeyUsageOID.SERVER_AUTH in usage,
            key=key,
            weak_key=weak_key,
            signature=signature,
            weak_signature=weak_signature and parsed.subject != parsed.issuer,
            issuer_urls=() if access is None else _issuer_urls(access),
            organisation=_first(parsed.issuer, NameOID.ORGANIZATION_NAME),
            _parsed=parsed,
        )
    except ValueError:
        return None


def read_all(chain: Iterable[bytes]) -> list[Certificate]:
    """Describe those that can be read."""
    return [found for der in chain if (found := read(der)) is not None]


def is_placeholder(leaf: Certificate) -> bool:
    """It looks like what a server presents until it has been configured. A heuristic."""
    return bool(_PLACEHOLDER.search(leaf.subject))


def sounds_like_root(name: str) -> bool:
    return bool(_ROOT.search(name)) and not sounds_like_intermediate(name)


def sounds_like_intermediate(name: str) -> bool:
    return bool(_INTERMEDIATE.search(name))


def from_file(data: bytes) -> list[Certificate]:
    """The certificates in what a CA publishes: DER, PEM, or a PKCS #7 bundle."""
    readers: tuple[Callable[[bytes], list[x509.Certificate]], ...] = (
        lambda data: [x509.load_der_x509_certificate(data)],
        x509.load_pem_x509_certificates,
        pkcs7.load_der_pkcs7_certificates,
        pkcs7.load_pem_pkcs7_certificates,
    )
    for reader in readers:
        try:
            found = reader(data)
        except (ValueError, UnsupportedAlgorithm):
            continue
        return read_all(one.public_bytes(serialization.Encoding.DER) for one in found)
    return []


def iso(moment: datetime) -> str:
    """A point in time as the report writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(name: x509.Name, kind: x509.ObjectIdentifier) -> str | None:
    found = name.get_attributes_for_oid(kind)
    return str(found[0].value) if found else None


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):  # absent, or unreadable
        return None


def _names(extension: x509.SubjectAlternativeName) -> tuple[str, ...]:
    hosts: list[str] = extension.get_values_for_type(x509.DNSName)
    return (*hosts, *(str(one) for one in extension.get_values_for_type(x509.IPAddress)))


def _issuer_urls(extension: x509.AuthorityInformationAccess) -> tuple[str, ...]:
    return tuple(
        one.access_location.value
        for one in extension
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
        and one.access_location.value.lower().startswith("http://")
    )


def _key(certificate: x509.Certificate) -> tuple[str, bool]:
    """What kind of key it is, and whether it is too small."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown", False
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        kind = "RSA" if isinstance(key, rsa.RSAPublicKey) else "DSA"
        return f"{kind} {key.key_size} bits", key.key_size < _MINIMUM_RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.key_size} bits", key.key_size < _MINIMUM_EC
    return type(key).__name__.removesuffix("PublicKey"), False  # Ed25519 and later ones


def _signature(certificate: x509.Certificate) -> tuple[str, bool]:
    """What it is signed with, and whether that is no longer accepted."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string, False
    return (algorithm.name.upper() if algorithm else "EdDSA"), isinstance(algorithm, _WEAK_HASHES)
