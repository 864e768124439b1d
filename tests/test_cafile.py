"""What stands in the file that --ca-file names."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import threading
from pathlib import Path

import certifi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from diag import cafile

DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
PRIVATE_FORMATS = serialization.PrivateFormat
NO_PASSWORD = serialization.NoEncryption()
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def root(ca: trustme.CA) -> bytes:
    return ca.cert_pem.bytes()


@pytest.fixture(scope="module")
def leaf(ca: trustme.CA) -> bytes:
    return ca.issue_cert("bb.lab.test").cert_chain_pems[0].bytes()


def self_signed(*extensions: x509.ExtensionType, issuer: str = "bb.lab.test") -> bytes:
    """A certificate signed with its own key, without any extension but these."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bb.lab.test")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(1))
        .not_valid_after(now + dt.timedelta(9))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(PEM)


def key_usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def test_a_root_is_what_is_wanted(root: bytes) -> None:
    assert cafile.instead(root) is None
    assert cafile.only_servers(root) is None


def test_text_around_the_blocks_does_not_matter(root: bytes) -> None:
    text = b"# our root\r\nSubject: x\r\n" + root.replace(b"\n", b"\r\n") + b"trailing\n"
    assert cafile.instead(text) is None
    assert cafile.only_servers(text) is None


def test_the_bundle_of_a_whole_system() -> None:
    content = cafile.read(certifi.where())
    assert content is not None
    assert cafile.instead(content) is None
    assert cafile.only_servers(content) is None


def test_a_leaf_is_named(leaf: bytes) -> None:
    assert cafile.instead(leaf) is None
    assert "Testing cert" in (cafile.only_servers(leaf) or "")


def test_one_ca_among_leaves_is_enough(leaf: bytes, root: bytes) -> None:
    assert cafile.only_servers(leaf + root) is None
    assert cafile.only_servers(leaf + leaf) is not None


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        (x509.BasicConstraints(ca=False, path_length=None),),
        (key_usage(sign=False),),
    ],
)
def test_a_self_signed_server_certificate_is_an_anchor_for_itself(
    extensions: tuple[x509.ExtensionType, ...],
) -> None:
    """OpenSSL trusts that one server then, whatever the extensions say: no false alarm."""
    pem = self_signed(*extensions)
    assert cafile.only_servers(pem) is None


def test_an_old_ca_without_basic_constraints_is_accepted() -> None:
    assert cafile.only_servers(self_signed(key_usage(sign=True), issuer="Root")) is None
    assert cafile.only_servers(self_signed(key_usage(sign=False), issuer="Root")) is not None
    assert cafile.only_servers(self_signed(issuer="Root")) is not None


@pytest.mark.parametrize("extensions", [(), (x509.BasicConstraints(ca=False, path_length=None),)])
def test_openssl_agrees(tmp_path: Path, extensions: tuple[x509.ExtensionType, ...]) -> None:
    name = x509.SubjectAlternativeName([x509.DNSName("bb.lab.test")])
    pem = self_signed(name, *extensions)
    both = tmp_path / "both.pem"
    both.write_bytes(pem + KEY.private_bytes(PEM, PRIVATE_FORMATS.PKCS8, NO_PASSWORD))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=pem.decode())

    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname="bb.lab.test"),
        server.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        try:
            ends[0].do_handshake()
            ends.pop(0)
        except ssl.SSLWantReadError:
            ends.reverse()
    assert cafile.only_servers(pem) is None


def test_what_cannot_be_read_is_left_for_openssl_to_judge(root: bytes) -> None:
    lines = root.splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b"AAAA\n", *lines[2:]])
    assert cafile.instead(damaged) is None
    assert cafile.only_servers(damaged) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nothing at all"),
        (b"\n \n", "nothing at all"),
        (b"root:x:0:0::/root:/bin/sh\n", "no certificate"),
        (
            KEY.private_bytes(PEM, PRIVATE_FORMATS.PKCS8, NO_PASSWORD),
            "a private key",
        ),
        (
            KEY.private_bytes(PEM, PRIVATE_FORMATS.TraditionalOpenSSL, NO_PASSWORD),
            "a private key",
        ),
        (
            KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            "a public key",
        ),
        (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .sign(KEY, hashes.SHA256())
            .public_bytes(PEM),
            "a certificate request",
        ),
        (b"\xfe\xed\xfe\xed\0\0\0\2", "a Java key store (JKS)"),
        ("-----BEGIN CERTIFICATE-----".encode("utf-16"), "text in UTF-16"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB", "a damaged PEM block"),
        (b"\x30\x82\x01\x02\x02\x01\x03", "binary data"),
        (b"ssh-ed25519 AAAA", "an SSH key"),
    ],
)
def test_other_things(content: bytes, words: str) -> None:
    found = cafile.instead(content)
    assert found is not None
    assert found.startswith(words)


def test_der(ca: trustme.CA, root: bytes) -> None:
    der = x509.load_pem_x509_certificate(root).public_bytes(DER)
    assert cafile.instead(der) == "a certificate in DER form"


def test_a_byte_order_mark_hides_the_first_block(root: bytes) -> None:
    found = cafile.instead(b"\xef\xbb\xbf" + root)
    assert found is not None
    assert "byte order mark" in found


def test_a_key_beside_the_certificate_is_fine(root: bytes) -> None:
    key = KEY.private_bytes(PEM, PRIVATE_FORMATS.PKCS8, NO_PASSWORD)
    assert cafile.instead(key + root) is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cafile.read(str(tmp_path / "missing.pem"))
    with pytest.raises(IsADirectoryError):
        cafile.read(str(tmp_path))


def test_a_pipe_is_left_for_tls(tmp_path: Path) -> None:
    """`--ca-file <(…)`: what is read here would be missing there."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"pem",))
    writer.start()
    try:
        assert cafile.read(str(pipe)) is None
    finally:
        assert pipe.read_bytes() == b"pem"
        writer.join()
