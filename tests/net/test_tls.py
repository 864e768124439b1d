"""What is trusted, one handshake and what can be read from it, and the reading of certificates."""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import ssl
import struct
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from diag.net import inspectors, tcp, tls, tls_way, x509
from diag.net.der import names
from diag.net.tls import Handshake, Trust
from diag.net.wrap import wrap
from diag.simulator.server import Connection
from diag.simulator.server import wrap as wrap_as_server
from tests.certificates import CLIENT, DAY, Identity, root, self_signed, server_context
from tests.tls_server import HOST, Server, codes, diagnose, serving, tls_site

ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1")
STRANGER = root("Stranger")
GOOD = CA.issue(HOST, "192.0.2.7", aia="http://pki.example.com/ca.cer")
# Some old roots have the serial number 0.
QUIET = pytest.mark.filterwarnings("ignore:Parsed a serial number")
SYSTEM = Path(ssl.get_default_verify_paths().openssl_cafile)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.pem)
    return file


def shake(server: Server, context: ssl.SSLContext, name: str | None = HOST) -> Handshake:
    shaken = tls.shake(tcp.connect("127.0.0.1", server.port, 2), context, name, 2)
    shaken.close()
    return shaken


# trust


def test_the_ca_file_is_trusted_as_well(ca_file: Path) -> None:
    with tls_site(server_context(GOOD)) as server:
        assert shake(server, Trust(str(ca_file), {}).context()).failure is None
        assert shake(server, Trust(None, {"SSL_CERT_FILE": str(ca_file)}).context()).failure is None
        assert shake(server, Trust(None, {"SSL_CERT_FILE": "/nowhere"}).context()).verify_code == 20
        assert shake(server, Trust(None, {}).context()).verify_code == 20
        assert shake(server, Trust(str(ca_file), {}).mozilla()).verify_code == 20
        assert shake(server, Trust(None, {}).unverified(), "other").failure is None


def test_the_ca_file_may_be_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(ROOT.pem,), daemon=True).start()
    trust = Trust(str(pipe), {})
    with tls_site(server_context(GOOD)) as server:
        assert shake(server, trust.context()).failure is None
        assert shake(server, trust.lenient()).failure is None


def test_a_ca_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Trust(str(tmp_path / "missing.pem"), {}).context()
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        Trust(str(tmp_path / "text.pem"), {}).context()


def test_a_directory_of_hashed_names(tmp_path: Path, ca_file: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    os.spawnl(os.P_WAIT, openssl, "openssl", "rehash", str(tmp_path))
    trust = Trust(None, {"SSL_CERT_DIR": str(tmp_path)})
    with tls_site(server_context(GOOD)) as server:
        assert shake(server, trust.context()).failure is None
    assert trust.describe() == {
        "store": str(tmp_path),
        "roots": 1,
        "variables": ["SSL_CERT_DIR"],
    }


def test_the_bundle_is_asked_before_an_issuer_is_unknown() -> None:
    if not SYSTEM.is_file():
        pytest.skip("needs the system's bundle of CAs")
    trust = Trust(None, {})
    before = trust.context().cert_store_stats()["x509_ca"]
    spared = trust.complete()
    if spared:
        assert before == 0
    loaded = trust.context().cert_store_stats()["x509_ca"]
    assert loaded > 50
    # Of two runs that share it the second shakes hands again, too: its first may be from before.
    assert trust.complete() == spared
    assert trust.context().cert_store_stats()["x509_ca"] == loaded


def test_every_context_is_built_once_and_shared() -> None:
    trust = Trust(None, {})
    found: list[ssl.SSLContext] = []
    threads = [threading.Thread(target=lambda: found.append(trust.context())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert trust.unverified() is trust.unverified() is not trust.context()
    assert trust.context().verify_mode is ssl.CERT_REQUIRED
    assert trust.context().check_hostname


def test_what_is_trusted_can_be_told(ca_file: Path) -> None:
    told = Trust(str(ca_file), {"CURL_CA_BUNDLE": "/x", "OTHER": "1"}).describe()
    assert told["ca_file"] == str(ca_file)
    assert told["variables"] == ["CURL_CA_BUNDLE"]
    assert isinstance(told["roots"], int)
    assert told["roots"] > 0


def test_a_root_of_an_organisation(ca_file: Path) -> None:
    trust = Trust(str(ca_file), {})
    assert trust.root_of("example CORP") == "Example Corp Root CA"
    assert trust.root_of("Nobody at all") is None


def test_mozilla_s_list_is_not_known_where_the_system_replaced_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not SYSTEM.is_file():
        pytest.skip("needs the system's bundle of CAs")
    monkeypatch.setattr(tls, "_mozilla_file", lambda: SYSTEM)
    assert Trust(None, {}).public_roots() is None


# one handshake


def test_a_failed_verification_still_shows_the_chain() -> None:
    with tls_site(server_context(GOOD)) as server:
        shaken = shake(server, Trust(None, {}).context())
    assert (shaken.failure, shaken.verify_code, shaken.sock) == ("verify", 20, None)
    assert shaken.sent == (GOOD.der, CA.der)
    assert shaken.answered
    assert "unable to get local issuer" in shaken.detail


def test_a_good_handshake_shows_what_was_sent_and_what_was_built(ca_file: Path) -> None:
    with tls_site(server_context(GOOD, GOOD.chain(STRANGER))) as server:
        sock = tcp.connect("127.0.0.1", server.port, 2)
        shaken = tls.shake(sock, Trust(str(ca_file), {}).context(), HOST, 2)
        peer = shaken.peer()
        shaken.close()
    assert shaken.sent == (GOOD.der, CA.der, STRANGER.der)
    assert shaken.built == (GOOD.der, CA.der, ROOT.der)
    assert (shaken.version, shaken.failure, shaken.lost) == ("TLSv1.3", None, False)
    assert not shaken.wants_certificate
    assert peer is not None
    assert (peer.subject, peer.issuer) == (HOST, "Example Corp Issuing CA 1")
    assert peer.issuer_name == "Example Corp, Example Corp Issuing CA 1"
    assert peer.not_after == GOOD.certificate.not_valid_after_utc.timestamp()


def test_a_connection_that_is_over_before_the_handshake() -> None:
    connected = threading.Event()  # else connect() itself may hear of the reset

    def reset(connection: Connection) -> None:
        connected.wait(5)
        connection.reset()

    with serving(reset) as server:
        sock = tcp.connect("127.0.0.1", server.port, 2)
        connected.set()
        sock.settimeout(2)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert tls.shake(sock, tls.unverified_context(), HOST, 2).failure == "reset"


@pytest.mark.parametrize("direct", [True, False])
def test_a_reset_that_connect_itself_hears_of(direct: bool) -> None:
    """It depends on who gets the processor first; of a proxy's nothing is concluded."""

    def connect(_timeout: float) -> socket.socket:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    way = tls_way.Way(
        host=HOST,
        path="",
        connect=connect,
        timeout=lambda: 2.0,
        parallel=lambda tasks: {key: task() for key, task in tasks.items()},
        address=("127.0.0.1", 443) if direct else None,
    )
    assert way.shake(tls.unverified_context(), HOST).failure == ("reset" if direct else "other")
    talk = way.talk()
    assert (talk.cut, talk.at_once) == (("reset", True) if direct else (None, False))


class _Reset(socket.socket):
    """A connection that is reset while `wrap_socket` is at work: after its first look."""

    def gettimeout(self) -> float | None:
        timeout = super().gettimeout()
        socket.socket.settimeout(self, 5)
        self.other.close()
        select.select([self], [], [])
        socket.socket.settimeout(self, timeout)
        return timeout

    other: socket.socket


def _about_to_be_reset(listener: socket.socket, *, text: bytes) -> _Reset:
    sock = tcp.connect("127.0.0.1", listener.getsockname()[1], 2)
    doomed = _Reset(sock.family, sock.type, fileno=sock.detach())
    doomed.other, _ = listener.accept()
    doomed.other.sendall(text)
    doomed.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return doomed


@pytest.mark.parametrize("text", [b"", b"SSH-2.0-x"])
def test_a_reset_in_the_middle_leaves_nothing_open(text: bytes) -> None:
    context = tls.unverified_context()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wrappings: tuple[Callable[[socket.socket], object], ...] = (
            lambda sock: wrap(context, sock, HOST),
            lambda sock: wrap(context, sock, HOST, handshake=False),
            lambda sock: wrap_as_server(server_context(GOOD), sock),
        )
        for wrapping in wrappings:
            sock = _about_to_be_reset(listener, text=text)
            with pytest.raises(OSError) as caught:  # noqa: PT011 - ConnectionResetError or SSLError
                wrapping(sock)
            frames = (frame for frame, _ in traceback.walk_tb(caught.value.__traceback__))
            seen = (value for frame in frames for value in frame.f_locals.values())
            left = {one for one in seen if isinstance(one, socket.socket)} - {listener}
            assert len(left) > 1, "it was not reset in the middle"
            assert {one.fileno() for one in left} == {-1}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_for_a_client_certificate_is_seen(version: ssl.TLSVersion) -> None:
    context = server_context(GOOD)
    context.load_verify_locations(cadata=ROOT.pem.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    context.maximum_version = version
    with tls_site(context) as server:
        assert shake(server, tls.unverified_context()).wants_certificate


def test_the_alert_that_comes_in_place_of_the_first_answer() -> None:
    context = server_context(GOOD)
    context.load_verify_locations(cadata=ROOT.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    with tls_site(context) as server:
        sock = tcp.connect("127.0.0.1", server.port, 2)
        shaken = tls.shake(sock, tls.unverified_context(), HOST, 2)
        assert shaken.sock is not None
        with shaken.sock as secured, pytest.raises(ssl.SSLError) as caught:
            secured.recv(1)
    assert tls.wants_client_certificate(caught.value)
    assert tls.alert(caught.value) == "certificate_required"
    assert not tls.wants_client_certificate(ConnectionResetError())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "3 seconds"), (119, "119 seconds"), (-7300, "2 hours"), (86400, "24 hours")],
)
def test_time_in_words(seconds: float, words: str) -> None:
    assert tls.span(seconds) == words
    assert tls.span(12.9 * 86400) == "12 days"


# without private parts of the ssl module


@pytest.fixture
def plain_ssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if neither chains nor handshake messages could be seen."""
    monkeypatch.setattr(tls, "_chain", lambda _tls, _method: ())
    monkeypatch.setattr(tls, "_observe", lambda *_: None)


@pytest.mark.usefixtures("plain_ssl")
def test_a_certificate_is_described_without_the_chain(ca_file: Path) -> None:
    for served, expected in (
        (CA.issue("stash.example.com"), "tls-hostname-mismatch"),
        (CA.issue(HOST, ends=-DAY), "tls-expired"),
        (self_signed(HOST), "tls-self-signed"),
        (root("Lone CA", organisation=None).issue(HOST), "tls-issuer-unknown"),
    ):
        with tls_site(server_context(served)) as server:
            assert codes(diagnose(server, ca_file=str(ca_file))) == [expected]


@pytest.mark.usefixtures("plain_ssl")
def test_an_old_list_of_cas_and_revocation_without_the_chain(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_site(server_context(GOOD)) as server:
        report = diagnose(server, ca_file=str(ca_file), check_revocation=True)
        assert codes(report) == ["tls-revocation-unclear"]
        monkeypatch.setattr(tls, "_mozilla_file", lambda: ca_file)
        report = diagnose(server)
    assert codes(report) == ["tls-trust-store-stale"]
    assert "the certificate of the server's root CA" in report.problems[0].remedy


# certificates


def read(identity: Identity) -> x509.Certificate:
    found = x509.read(identity.der)
    assert found is not None
    return found


def test_a_certificate_in_words() -> None:
    leaf = read(GOOD)
    assert leaf.subject == f"CN={HOST},O=Example Corp"
    assert leaf.issuer_short == "Example Corp Issuing CA 1"
    assert leaf.organisation == "Example Corp"
    assert leaf.names == (HOST, "192.0.2.7")
    assert leaf.key == "EC 256 bits"
    assert leaf.issuer_urls == ("http://pki.example.com/ca.cer",)
    assert leaf.signature == "SHA256"
    assert (leaf.weak_key, leaf.weak_signature, leaf.self_issued) == (False, False, False)
    assert read(CA.issue(HOST, kind="ed25519")).key == "Ed25519"
    assert read(CA.issue(HOST, kind="rsa-1024")).weak_key
    assert not read(CA.issue(usage=CLIENT)).for_servers
    assert not read(CA.issue()).has_names
    assert x509.read(b"no certificate") is None
    assert x509.read(GOOD.der[:-40]) is None


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("bitbucket.example.com", "BITBUCKET.example.com", True),
        ("*.example.com", "bitbucket.example.com", True),
        ("*.example.com", "a.bitbucket.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("b*.example.com", "bitbucket.example.com", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("*.0.2.7", "192.0.2.7", False),
        ("2001:db8::7", "2001:db8:0::7", True),
    ],
)
def test_which_names_cover_a_host(name: str, host: str, covered: bool) -> None:
    assert x509.matches(name, host) is covered


def test_what_a_ca_publishes_can_be_read() -> None:
    bundle = pkcs7.serialize_certificates([CA.certificate, ROOT.certificate], Encoding.DER)
    for data in (CA.der, CA.pem, bundle):
        found = {one.short for one in x509.from_file(data)}
        assert "Example Corp Issuing CA 1" in found
    assert x509.from_file(b"<html>") == []


def test_roots_and_intermediates_by_their_names() -> None:
    for name in ("DigiCert Global Root G2", "Corp Root CA", "Racine Interne"):
        assert x509.sounds_like_root(name)
    for name in ("Zscaler Intermediate Root CA", "Example Issuing CA 2", "Corp Sub CA 1", "R11"):
        assert not x509.sounds_like_root(name)


@pytest.mark.parametrize(
    ("issuer", "product"),
    [
        ("CN=Zscaler Intermediate Root CA (zscaler.net),O=Zscaler Inc.", "Zscaler"),
        ("CN=FortiGate CA,OU=Certificate Authority,O=Fortinet", "Fortinet FortiGate"),
        ("CN=mitmproxy,O=mitmproxy", "mitmproxy"),
        ("CN=Company SSL Inspection CA", "an inspecting device"),
        ("CN=R11,O=Let's Encrypt", None),
        ("CN=DigiCert TLS RSA SHA256 2020 CA1,O=DigiCert Inc", None),
        ("CN=Example Corp Issuing CA 1,O=Example Corp", None),
    ],
)
def test_inspecting_products_by_the_names_of_their_cas(issuer: str, product: str | None) -> None:
    assert inspectors.product([issuer]) == product


@QUIET
def test_no_public_root_is_taken_for_an_inspecting_product() -> None:
    public = Trust(None, {}).public_roots()
    assert public is not None
    found = [x509.read(der) for der in public.certificates]
    assert [one.subject for one in found if one and inspectors.product([one.subject])] == []


# trusted by others


def _roots(der: bytes) -> tls.PublicRoots:
    return tls.PublicRoots(frozenset({der}), frozenset({names(der)[1]}))


def test_whether_mozilla_s_list_leads_there_is_seen_from_the_chain() -> None:
    roots = _roots(ROOT.der)
    good = Handshake(sent=(GOOD.der, CA.der), built=(GOOD.der, CA.der, ROOT.der))
    assert tls_way._at_sight(roots, good) is True
    helped = Handshake(sent=(GOOD.der,), built=(GOOD.der, CA.der, ROOT.der))
    assert tls_way._at_sight(roots, helped) is False
    elsewhere = Handshake(sent=(GOOD.der, CA.der), built=(GOOD.der, CA.der, root("Other").der))
    assert tls_way._at_sight(roots, elsewhere) is None
    assert tls_way._at_sight(_roots(root("Other").der), good) is False


def test_a_plain_conversation() -> None:
    with serving(lambda connection: connection.send(b"SSH-2.0-x\r\n")) as server:
        said = tls.talk(tcp.connect("127.0.0.1", server.port, 2), b"GET", 1, 1)
    assert (said.greeting, said.cut) == (b"SSH-2.0-x\r\n", None)
    with serving(lambda connection: connection.swallow()) as server:
        said = tls.talk(tcp.connect("127.0.0.1", server.port, 2), b"GET", 0.1, 0.2)
    assert said == tls.Talk()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = tcp.connect("127.0.0.1", listener.getsockname()[1], 2)
        listener.accept()[0].close()
        assert tls.talk(sock, b"GET", 1, 1) == tls.Talk(cut="closed", at_once=True)
