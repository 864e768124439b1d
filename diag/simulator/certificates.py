"""Certificates for the simulator: a root, an intermediate and leaves, good and bad.

Keys are made once per process; a certificate costs a millisecond. This module alone imports
`cryptography`, and is itself imported only when a simulator with TLS starts.
"""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from diag.simulator.scenario import CertificatePlan, KeyKind

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# The two signature algorithms in DER: of equal length, so that one can stand in for the other.
SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
SHA1_WITH_RSA = bytes.fromhex("06092a864886f70d010105")

_keys: dict[tuple[str, KeyKind], Key] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Chain:
    """What a TLS server needs, and what its clients may need; PEM unless it says otherwise."""

    served: bytes  # the leaf, and the intermediate if it is sent
    key: bytes
    leaf: bytes
    root: bytes
    intermediate_der: bytes
    crl_der: bytes  # of the intermediate: the leaf is revoked


@dataclass(frozen=True, slots=True)
class _Party:
    """Somebody who has a certificate."""

    name: x509.Name
    key: Key


def issue(plan: CertificatePlan, now: dt.datetime) -> Chain:
    """Make the certificates of a plan; its dates count from `now`."""
    root = _Party(_name(plan.root), _key("root", "ec"))
    middle_key = _key("intermediate", "rsa" if plan.sha1 else "ec")
    middle = _Party(_name(plan.intermediate), middle_key)
    server = _Party(_name(plan.common_name), _key("leaf", plan.key))
    signer = server if plan.self_signed else middle

    start = now - dt.timedelta(days=400)
    root_builder = _ca(_builder(root, root, start, now + dt.timedelta(days=3650)))
    middle_builder = _ca(_builder(middle, root, start, now + plan.intermediate_ends))
    leaf_builder = _leaf(_builder(server, signer, now + plan.starts, now + plan.ends), plan)

    root_certificate = root_builder.sign(root.key, hashes.SHA256())
    middle_certificate = middle_builder.sign(root.key, hashes.SHA256())
    leaf_certificate = leaf_builder.sign(signer.key, hashes.SHA256())
    if plan.sha1:
        leaf_certificate = _sign_with_sha1(leaf_certificate, signer.key)

    pem, unencrypted = serialization.Encoding.PEM, serialization.NoEncryption()
    leaf = leaf_certificate.public_bytes(pem)
    sent = plan.send_intermediate and not plan.self_signed
    return Chain(
        served=leaf + (middle_certificate.public_bytes(pem) if sent else b""),
        key=server.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted),
        leaf=leaf,
        root=root_certificate.public_bytes(pem),
        intermediate_der=middle_certificate.public_bytes(serialization.Encoding.DER),
        crl_der=_revoke(leaf_certificate, middle, now),
    )


def _key(role: str, kind: KeyKind) -> Key:
    """The private key of a role, the same for the life of the process."""
    with _lock:
        if (role, kind) not in _keys:
            _keys[role, kind] = _new_key(kind)
        return _keys[role, kind]


def _new_key(kind: KeyKind) -> Key:
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 1024 if kind == "rsa-1024" else 2048)


def _name(common_name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Corp")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: _Party, issuer: _Party, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    """What all certificates have. Python 3.13 refuses chains without the key identifiers."""
    own = x509.SubjectKeyIdentifier.from_public_key(subject.key.public_key())
    issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject.name)
        .issuer_name(issuer.name)
        .public_key(subject.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(own, critical=False)
        .add_extension(issuers, critical=False)
    )


def _leaf(builder: x509.CertificateBuilder, plan: CertificatePlan) -> x509.CertificateBuilder:
    """The extensions of a server's certificate, right or wrong."""
    purpose = (
        ExtendedKeyUsageOID.SERVER_AUTH if plan.for_servers else ExtendedKeyUsageOID.CLIENT_AUTH
    )
    no_ca = x509.BasicConstraints(ca=False, path_length=None)
    builder = builder.add_extension(no_ca, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if plan.names:
        names = [_general_name(name) for name in plan.names]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if plan.issuer_url:
        location = x509.UniformResourceIdentifier(plan.issuer_url)
        access = x509.AccessDescription(Access.CA_ISSUERS, location)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    if plan.crl_url:
        place = x509.DistributionPoint(
            [x509.UniformResourceIdentifier(plan.crl_url)], None, None, None
        )
        builder = builder.add_extension(x509.CRLDistributionPoints([place]), critical=False)
    return builder


def _revoke(certificate: x509.Certificate, issuer: _Party, now: dt.datetime) -> bytes:
    """A list with this certificate, whose key was lost two days ago."""
    entry = (
        x509.RevokedCertificateBuilder()
        .serial_number(certificate.serial_number)
        .revocation_date(now - dt.timedelta(days=2))
        .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
    )
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(now - dt.timedelta(days=1))
        .next_update(now + dt.timedelta(days=6))
        .add_revoked_certificate(entry.build())
        .sign(issuer.key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def _ca(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.add_extension(usage, critical=True)


def _sign_with_sha1(certificate: x509.Certificate, signer: Key) -> x509.Certificate:
    """The same certificate with a SHA-1 signature, which the builder refuses to make.

    Both places that name the algorithm are changed, and the signature is replaced by one over the
    changed body; nothing changes its length.
    """
    if not isinstance(signer, rsa.RSAPrivateKey):
        raise TypeError("the SHA-1 signature needs an RSA key")
    old_body = certificate.tbs_certificate_bytes
    body = old_body.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    signature = signer.sign(body, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - the fault
    der = certificate.public_bytes(serialization.Encoding.DER)
    der = der.replace(old_body, body).replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    return x509.load_der_x509_certificate(der.replace(certificate.signature, signature))
