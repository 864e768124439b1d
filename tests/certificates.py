"""Certificates of every kind, good and bad, for the tests of TLS.

Keys are made once per process; a certificate costs a millisecond.
"""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
    ObjectIdentifier,
)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Kind = Literal["ec", "ed25519", "rsa", "rsa-1024"]

DAY = dt.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING
_ISSUERS = AuthorityInformationAccessOID.CA_ISSUERS
_PEM = serialization.Encoding.PEM


def key(role: str, kind: Kind = "ec") -> Key:
    """The private key of a role, the same each time."""
    return _made(role, kind)


@cache
def _made(_role: str, kind: Kind) -> Key:
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024 if kind == "rsa-1024" else 2048)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and the certificates between it and its root."""

    certificate: x509.Certificate
    key: Key = field(repr=False)
    between: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def sha256(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def authority(
        self,
        name: str,
        *,
        organisation: str | None = "Example Corp",
        starts: dt.timedelta = -400 * DAY,
        ends: dt.timedelta = 3650 * DAY,
        role: str | None = None,
        kind: Kind = "ec",
        **published: Any,
    ) -> Identity:
        """A CA certificate issued by this one; with the `role` of another CA, for its key.

        `published` is as for `issue`.
        """
        own = key(role or name, kind)
        builder = _builder(_name(name, organisation), starts, ends, own)
        builder = _for_a_ca(builder)
        return self._sign(builder, own, **published)

    def issue(
        self,
        *names: str,
        common_name: str = "bitbucket.example.com",
        starts: dt.timedelta = -30 * DAY,
        ends: dt.timedelta = 335 * DAY,
        kind: Kind = "ec",
        usage: ObjectIdentifier = SERVER,
        **published: Any,
    ) -> Identity:
        """A server's certificate, for these names and addresses.

        `published`: the URLs of the issuer's certificate (`aia`), its CRL (`crl`) and its OCSP
        responder (`ocsp_url`); `identified=False` leaves the key identifiers out.
        """
        own = key("leaf", kind)
        builder = _builder(_name(common_name), starts, ends, own)
        builder = _for_a_server(builder, names, usage)
        return self._sign(builder, own, **published)

    def _sign(
        self,
        builder: x509.CertificateBuilder,
        own: Key,
        *,
        aia: str | None = None,
        crl: str | None = None,
        ocsp_url: str | None = None,
        identified: bool = True,
    ) -> Identity:
        if identified:
            builder = _identified(builder, own, self.key)
        methods = ((AuthorityInformationAccessOID.OCSP, ocsp_url), (_ISSUERS, aia))
        places = [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
            for method, url in methods
            if url is not None
        ]
        if places:
            builder = builder.add_extension(x509.AuthorityInformationAccess(places), False)
        if crl is not None:
            point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
            builder = builder.add_extension(x509.CRLDistributionPoints([point]), False)
        made = builder.issuer_name(self.certificate.subject).sign(self.key, _hash(self.key))
        is_root = self.certificate.subject == self.certificate.issuer
        return Identity(made, own, () if is_root else (self.certificate, *self.between))

    def crl(
        self,
        *revoked: Identity,
        ends: dt.timedelta = DAY,
        starts: dt.timedelta = -DAY,
        signer: Identity | None = None,
    ) -> bytes:
        """The list (DER) of what this CA has revoked; `signer` is who signs it in its name."""
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now + starts).next_update(now + ends)
        for one in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now - DAY)
                .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            )
            builder = builder.add_revoked_certificate(entry.build())
        private = (signer or self).key
        return builder.sign(private, _hash(private)).public_bytes(serialization.Encoding.DER)

    def ocsp(
        self,
        one: Identity,
        status: ocsp.OCSPCertStatus,
        *,
        ends: dt.timedelta = DAY,
        signer: Identity | None = None,
    ) -> bytes:
        """What the OCSP responder of this CA says about a certificate; `signer` may be another one,
        whose certificate is in the answer."""
        now = dt.datetime.now(dt.UTC)
        is_revoked = status is ocsp.OCSPCertStatus.REVOKED
        deputy = signer or self
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=one.certificate,
            issuer=self.certificate,
            algorithm=hashes.SHA1(),  # it names the issuer, and proves nothing
            cert_status=status,
            this_update=now - dt.timedelta(hours=1),
            next_update=now + ends,
            revocation_time=now - DAY if is_revoked else None,
            revocation_reason=x509.ReasonFlags.superseded if is_revoked else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, deputy.certificate)
        if signer is not None:
            builder = builder.certificates([signer.certificate])
        made = builder.sign(deputy.key, _hash(deputy.key))
        return made.public_bytes(serialization.Encoding.DER)

    def chain(self, *more: Identity | x509.Certificate, between: bool = True) -> bytes:
        """What a server sends: the certificate, those between it and the root, and more."""
        sent = [self.certificate, *(self.between if between else ())]
        sent += [one.certificate if isinstance(one, Identity) else one for one in more]
        return b"".join(one.public_bytes(_PEM) for one in sent)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def root(
    name: str = "Example Corp Root CA",
    *,
    organisation: str | None = "Example Corp",
    starts: dt.timedelta = -400 * DAY,
    ends: dt.timedelta = 3650 * DAY,
    role: str | None = None,
    identified: bool = True,
) -> Identity:
    """A CA that signed itself; for the same name always with the same key, unless it is given the
    `role` of another one."""
    own = key(role or name)
    subject = _name(name, organisation)
    builder = _for_a_ca(_builder(subject, starts, ends, own)).issuer_name(subject)
    if identified:
        builder = _identified(builder, own, own)
    return Identity(builder.sign(own, _hash(own)), own)


def self_signed(
    *names: str, starts: dt.timedelta = -30 * DAY, ends: dt.timedelta = 335 * DAY
) -> Identity:
    """A server's certificate that no CA vouches for."""
    own = key("leaf")
    subject = _name(names[0])
    builder = _for_a_server(_builder(subject, starts, ends, own), names, SERVER)
    return Identity(builder.issuer_name(subject).sign(own, _hash(own)), own)


def signed_with_sha1(issuer: Identity, name: str) -> Identity:
    """A server's certificate with a SHA-1 signature, which only the openssl program still makes."""
    with tempfile.TemporaryDirectory() as directory:
        files = {
            "ca.pem": issuer.pem,
            "ca.key": issuer.key_pem,
            "leaf.key": key("leaf", "rsa").private_bytes(
                _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "extensions": f"subjectAltName=DNS:{name}\n".encode(),
        }
        for file, content in files.items():
            Path(directory, file).write_bytes(content)
        signing = "-sha1 -CA ca.pem -CAkey ca.key -days 300 -extfile extensions"
        for command in (
            f"req -new -key leaf.key -subj /CN={name} -out leaf.csr",
            f"x509 -req -in leaf.csr {signing} -out leaf.pem",
        ):
            subprocess.run(
                ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
            )
        made = x509.load_pem_x509_certificate(Path(directory, "leaf.pem").read_bytes())
    is_root = issuer.certificate.subject == issuer.certificate.issuer
    return Identity(
        made, key("leaf", "rsa"), () if is_root else (issuer.certificate, *issuer.between)
    )


def server_context(identity: Identity, chain: bytes | None = None) -> ssl.SSLContext:
    """A TLS server with this key, which sends `chain` (PEM; else the certificate and those between
    it and the root)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        certificate, private = Path(directory, "chain.pem"), Path(directory, "key.pem")
        certificate.write_bytes(chain or identity.chain())
        private.write_bytes(identity.key_pem)
        # For the weak certificates; the client alone decides what it takes.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(certificate, private)
    return context


def _name(common_name: str, organisation: str | None = "Example Corp") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(parts)


def _builder(
    subject: x509.Name, starts: dt.timedelta, ends: dt.timedelta, own: Key
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )


def _identified(builder: x509.CertificateBuilder, own: Key, signer: Key) -> x509.CertificateBuilder:
    """With key identifiers, as all but homemade certificates have them."""
    subject = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(subject, False).add_extension(issuer, False)


def _for_a_ca(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)


def _for_a_server(
    builder: x509.CertificateBuilder, names: Sequence[str], usage: ObjectIdentifier
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _hash(signer: Key) -> hashes.SHA256 | None:
    return None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
