"""Looks into the file that `--ca-file` names, before TLS fails on it in words nobody understands.

OpenSSL decides in the end what it trusts; here only what cannot work is called so.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_LARGEST = 16 << 20  # bytes; the bundle of a whole operating system has a quarter of a megabyte
_BLOCK = re.compile(rb"(?ms)^-----BEGIN ([A-Z0-9 ]+)-----\s*?$.*?^-----END \1-----")
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_OTHER_BLOCKS = (
    (b"PRIVATE KEY", "a private key"),
    (b"PUBLIC KEY", "a public key"),
    (b"CERTIFICATE REQUEST", "a certificate request"),
    (b"X509 CRL", "a revocation list"),
    (b"PKCS7", "a PKCS #7 bundle"),
    (b"CMS", "a PKCS #7 bundle"),
)
_MAGIC = (
    (b"\xfe\xed\xfe\xed", "a Java key store (JKS)"),
    (b"\xce\xce\xce\xce", "a Java key store (JCEKS)"),
    (b"\xff\xfe", "text in UTF-16, which OpenSSL cannot read"),
    (b"\xfe\xff", "text in UTF-16, which OpenSSL cannot read"),
    (b"\xef\xbb\xbf-----BEGIN", "a PEM file with a byte order mark before its first line"),
    (b"ssh-", "an SSH key"),
)


def read(path: str) -> bytes | None:
    """The content of the file, None of a pipe: that can be read but once, and TLS needs it.

    Raises:
        OSError: it cannot be read, or is a directory.
    """
    file = Path(path)
    if file.exists() and not file.is_file() and not file.is_dir():
        return None
    with file.open("rb") as stream:  # who may not read it is told so, whatever others have read
        found = os.fstat(stream.fileno())
    return _content(file, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(4)  # held once for all targets of a fleet, too: a bundle has a quarter of a megabyte
def _content(file: Path, *_version: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_LARGEST)


@lru_cache(4)  # the targets of a fleet mostly have one file
def instead(content: bytes) -> str | None:
    """What the file holds instead of PEM certificates ("a private key"); None if it has any."""
    labels = [match[1] for match in _BLOCK.finditer(content)]
    if any(label in _CERTIFICATES for label in labels):
        return None
    for label in labels:
        for ending, words in _OTHER_BLOCKS:
            if label.endswith(ending):
                return words
    for magic, words in _MAGIC:
        if content.startswith(magic):
            return words
    if not content.strip():
        return "nothing at all"
    if b"-----BEGIN" in content:
        return "a damaged PEM block"
    if content.startswith(b"\x30"):
        return _der(content)
    return "no certificate"


def only_servers(content: bytes) -> str | None:
    """Whose certificates these are, where none of them can stand at the end of a chain; else None.

    A CA can, and so can any that signed itself: people do give the certificate of the server, and
    OpenSSL then trusts exactly that one. What cannot be read is left for OpenSSL to judge.
    Takes a tenth of a second the first time: it imports `cryptography`.
    """
    from cryptography import x509

    names: list[str] = []
    for match in _BLOCK.finditer(content):
        if match[1] not in _CERTIFICATES:
            continue
        try:
            certificate = x509.load_pem_x509_certificate(match[0])
            if _is_anchor(certificate):
                return None
            names.append(certificate.subject.rfc4514_string())
        except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
            return None
    return "; ".join(names[:3]) or None


def _is_anchor(certificate: Certificate) -> bool:
    from cryptography import x509

    if certificate.subject == certificate.issuer:
        return True
    extensions = certificate.extensions
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        pass
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return False


def _der(content: bytes) -> str:
    from cryptography import x509

    try:
        x509.load_der_x509_certificate(content)
    except ValueError:
        return "binary data, perhaps a PKCS #12 key store"
    return "a certificate in DER form"
