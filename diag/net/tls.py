"""TLS: what this run trusts, and one handshake with everything that can be read from it."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import socket
import ssl
import sys
import threading
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from diag.model import Json
from diag.net import tcp
from diag.net.der import names
from diag.net.wrap import wrap
from diag.record import field, record
from diag.texts import span as span  # noqa: PLC0414 - for who tells of certificates' dates

Failure = Literal[
    "verify",  # the certificate did not pass; `verify_code` and `detail` are OpenSSL's
    "alert",  # the server refused; `alert` says why
    "not-tls",  # what came is no TLS
    "closed",
    "reset",
    "timeout",
    "other",  # `detail` is OpenSSL's or the kernel's
]

ISSUER_CODES = frozenset({2, 18, 19, 20, 21})  # OpenSSL's ways to say: issuer not trusted
DATE_CODES = frozenset({9, 10})  # not yet valid, expired: looked at last
CERTIFICATE_REQUEST = 13  # handshake message types, RFC 8446 section 4
UNRECOGNIZED_NAME = 112  # alert, RFC 6066; may come as a mere warning

# Where other programs take their certificates from: told, because "curl works here" depends on it.
STORE_VARIABLES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)

# What CPython offers unless it was built to do otherwise, as Debian's is: no verdict may depend on
# that.
_CIPHERS = (
    "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
)
_EVERYTHING = "ALL:@SECLEVEL=0"
_BUNDLE = "cacert.pem"  # within certifi
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # how `openssl rehash` names its links
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)")
_NOT_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "HTTPS_PROXY_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
    "UNEXPECTED_MESSAGE",
}


class ObservedSocket(ssl.SSLSocket):
    """A TLS socket that remembers which handshake messages and alerts the server sent."""

    messages: set[int]
    alerts: set[int]  # warnings included

    def __new__(cls, *args: Any, **kwargs: Any) -> ObservedSocket:
        self = super().__new__(cls, *args, **kwargs)
        self.messages, self.alerts = set(), set()
        return self


def _observe(
    connection: object, direction: str, _version: int, content: int, message: int, data: bytes
) -> None:
    if direction != "read" or not isinstance(connection, ObservedSocket):
        return
    if content == 22:
        connection.messages.add(int(message))
    elif content == 21 and len(data) == 2:
        connection.alerts.add(data[1])


def client_context(*, observed: bool = True) -> ssl.SSLContext:
    """A context that verifies certificate and name but trusts no CA yet. TLS 1.2 or later.

    `observed`: its sockets remember what the server sent in the handshake. That costs a call for
    every record, of data as well, so that it is left out where much is read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.hostname_checks_common_name = False  # as browsers, Go and requests do
    context.set_alpn_protocols(["http/1.1"])
    if not observed:
        return context
    context.sslsocket_class = ObservedSocket
    with contextlib.suppress(AttributeError):  # private: without it nothing is observed
        # Past the setter of `ssl`, which makes an enum of each number: half of a handshake's cost.
        setter: Any = ssl.SSLContext.__mro__[1]._msg_callback  # type: ignore[attr-defined]
        setter.__set__(context, _observe)
    return context


def unverified_context() -> ssl.SSLContext:
    """A context that verifies nothing. Never for a secret."""
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def legacy_context() -> ssl.SSLContext:
    """One that offers what has long been switched off: TLS 1.0 to 1.2 with every cipher.

    Only to prove that a server knows nothing better.
    """
    context = unverified_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_EVERYTHING)
    return context


@lru_cache(4)  # a bundle takes 20 ms, and the targets of a fleet have it in common
def holds_ca(pem: bytes) -> bool:
    """Whether there is a certificate of a CA among these, in the eyes of OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ValueError, OSError):  # UnicodeDecodeError, ssl.SSLError
        context.load_verify_locations(cadata=pem.decode("ascii"))
    return context.cert_store_stats()["x509_ca"] > 0


class Trust:
    """The certificate stores of a run, or of many. Thread-safe; a context is built when needed.

    `ca_file` is trusted as well as the system's store; without it `$SSL_CERT_FILE` is.
    `$SSL_CERT_DIR` takes the place of the system's directory, as with OpenSSL.

    A directory of hashed names is a hundred times faster to open than the bundle, and on common
    systems holds the same: the bundle is then left for `complete`.
    """

    def __init__(self, ca_file: str | None, environ: Mapping[str, str] = os.environ) -> None:
        paths = ssl.get_default_verify_paths()
        named = environ.get("SSL_CERT_DIR")
        bundle = Path(paths.openssl_cafile)
        hashed = bool(_hashed(Path(paths.openssl_capath)))
        found = [bundle] if bundle.is_file() else []
        spared = hashed and (not named or _same(Path(named), Path(paths.openssl_capath)))
        self._directory = named or (paths.openssl_capath if hashed else None)
        self._files, self._spared = ([], found) if spared else (found, [])
        if not found and not self._directory and sys.platform != "win32":
            self._files = [_mozilla_file()]  # nothing is installed: as pip and requests do
        if ca_file is None and Path(environ.get("SSL_CERT_FILE", "")).is_file():
            ca_file = environ["SSL_CERT_FILE"]
        self._ca_file = ca_file
        if ca_file is not None and not _same(Path(ca_file), bundle):
            self._files = [*self._files, Path(ca_file)]
        self._variables = [name for name in STORE_VARIABLES if environ.get(name)]
        self._lock = threading.RLock()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._piped: dict[Path, str] = {}
        self._complete = not self._spared

    def context(self) -> ssl.SSLContext:
        """What this run verifies against: the system's store and `ca_file`.

        Raises:
            OSError: `ca_file` cannot be read (ssl.SSLError: it holds no certificate).
        """
        return self._once("system", self._system)

    def plain(self) -> ssl.SSLContext:
        """The same, for connections of which nothing but the data is of interest."""
        return self._once("plain", lambda: self._system(observed=False))

    def mozilla(self) -> ssl.SSLContext:
        """Mozilla's list alone, as certifi carries it: what a SaaS trusts."""
        return self._once("mozilla", _mozilla)

    def unverified(self) -> ssl.SSLContext:
        """Verifies nothing: to read a chain or a Date. Never for a secret."""
        return self._once("unverified", unverified_context)

    def complete(self) -> bool:
        """Load what was spared into `context()`, before an issuer is called unknown; whether there
        was anything, as a handshake from before may then end differently. Another run that shares
        these stores may have loaded it in between."""
        with self._lock:
            if not self._complete:
                self._complete = True
                for context in (self.context(), self.plain()):
                    for file in self._spared:
                        self._load(context, file)
            return bool(self._spared)

    def lenient(self, also: Iterable[bytes] = (), *, mozilla: bool = False) -> ssl.SSLContext:
        """Asks for a trusted issuer and, after that, for dates: name and strength do not matter.

        `also` are certificates (DER) to build the chain with; none of them is trusted by itself.
        """
        if not (more := tuple(also)):
            return self._once(f"lenient, {mozilla}", partial(self._lenient, mozilla=mozilla))
        context = self._lenient(mozilla=mozilla)
        for der in more:
            context.load_verify_locations(cadata=der)
            context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _lenient(self, *, mozilla: bool) -> ssl.SSLContext:
        context = _mozilla() if mozilla else self._system(self._spared)
        context.check_hostname = False
        context.set_ciphers(_EVERYTHING)
        return context

    def root_of(self, organisation: str) -> str | None:
        """The name of a CA of this organisation that is trusted here."""
        self.complete()
        for found in self.context().get_ca_certs():
            subject = _fields(found, "subject")
            if subject.get("organizationName", "").casefold() == organisation.casefold():
                return subject.get("commonName", organisation)
        return None

    def named(self, subject: bytes) -> list[bytes]:
        """The CAs (DER) of this name (DER) that are trusted here, as far as a handshake that asked
        for one of them has loaded it, or a file has it."""
        self.complete()
        found = self.context().get_ca_certs(binary_form=True)
        return [one for one in found if names(one)[1] == subject]

    def public_roots(self) -> PublicRoots | None:
        """Mozilla's list; None where certifi was replaced by the system's own store."""
        return self._public

    @cached_property
    def _public(self) -> PublicRoots | None:
        file = _mozilla_file()
        if any(_same(file, own) for own in (*self._files, *self._spared)):
            return None
        return _public_roots(file)

    def describe(self) -> dict[str, Json]:
        """What is trusted, as evidence: store, number of its roots, CA file, variables set."""
        return dict(self._described)

    @cached_property
    def _described(self) -> dict[str, Json]:
        context = self.context()
        store = self._directory or next(map(str, self._files), "the system's certificate store")
        roots = _hashed(Path(store)) or context.cert_store_stats()["x509_ca"]
        result: dict[str, Json] = {"store": store, "roots": roots, "variables": self._variables}
        if self._ca_file is not None:
            result["ca_file"] = self._ca_file
        return result

    def _once(self, name: str, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        if name not in self._contexts:
            made = make()  # not while others wait: two kinds are often made side by side
            with self._lock:
                self._contexts.setdefault(name, made)
        return self._contexts[name]

    def _system(self, spared: Iterable[Path] = (), *, observed: bool = True) -> ssl.SSLContext:
        context = client_context(observed=observed)
        # Whoever names an intermediate as CA file means it to be trusted; curl and Java agree.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        if self._directory:
            context.load_verify_locations(capath=self._directory)
        if sys.platform == "win32":
            context.load_default_certs()
        for file in (*self._files, *spared):
            self._load(context, file)
        return context

    def _load(self, context: ssl.SSLContext, file: Path) -> None:
        if file not in self._piped and (file.is_file() or not file.exists()):
            context.load_verify_locations(cafile=file)
            return
        if file not in self._piped:  # <(command): can be read but once
            self._piped[file] = file.read_bytes().decode("ascii", "ignore")
        context.load_verify_locations(cadata=self._piped[file])


@record
class PublicRoots:
    """The CAs that browsers and most SaaS trust."""

    certificates: frozenset[bytes]  # DER
    subjects: frozenset[bytes]  # their names, DER


@cache
def _public_roots(file: Path) -> PublicRoots:
    blocks = file.read_bytes().split(b"-----BEGIN CERTIFICATE-----")[1:]
    certificates = frozenset(map(_decode, blocks))
    return PublicRoots(certificates, frozenset(names(one)[1] for one in certificates))


def _mozilla() -> ssl.SSLContext:
    context = client_context()
    context.load_verify_locations(cafile=_mozilla_file())
    return context


@cache
def _mozilla_file() -> Path:
    """certifi's bundle, found without importing certifi where that is possible (20 ms)."""
    spec = importlib.util.find_spec("certifi")
    if (
        spec is not None
        and spec.origin
        and (file := Path(spec.origin).with_name(_BUNDLE)).is_file()
    ):
        return file
    import certifi

    return Path(certifi.where())


def _decode(block: bytes) -> bytes:
    """The DER of what follows a PEM header."""
    return a2b_base64(block.partition(b"-----END")[0])


def _hashed(directory: Path) -> int:
    """How many certificates a directory offers under hashed names; 0 if it is no such directory."""
    try:
        return sum(1 for name in os.listdir(directory) if _HASHED.fullmatch(name))  # noqa: PTH208 - faster
    except OSError:
        return 0


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def _fields(certificate: Any, name: str) -> dict[str, str]:
    """A name within what the ssl module makes of a certificate."""
    return {key: value for part in certificate.get(name, ()) for key, value in part}


@record
class Peer:
    """What a verified certificate says about itself, read without `cryptography`."""

    subject: str  # its common name, or its first name
    issuer: str  # its common name, or all of its name
    issuer_name: str  # all of its name
    not_before: float  # seconds since the epoch
    not_after: float


@record
class Handshake:
    """What one handshake showed, successful or not."""

    sock: ObservedSocket | None = field(default=None, repr=False)  # open, if it succeeded
    failure: Failure | None = None
    detail: str = ""  # the words of OpenSSL or of the kernel
    verify_code: int = 0  # X509_V_ERR_…
    alert: str | None = None  # "handshake_failure"
    sent: tuple[bytes, ...] = field(default=(), repr=False)  # DER, as the server sent them
    built: tuple[bytes, ...] = field(default=(), repr=False)  # DER, leaf to root as OpenSSL did
    messages: frozenset[int] = frozenset()
    alerts: frozenset[int] = frozenset()
    version: str | None = None  # "TLSv1.3"
    cipher: str | None = None
    lost: bool = False  # our greeting was never acknowledged: it did not arrive

    @property
    def answered(self) -> bool:
        """The server took part: it said at least its hello."""
        return self.failure is None or bool(self.messages)

    @property
    def heard(self) -> bool:
        """The server said anything at all, be it no."""
        return self.answered or self.alert is not None

    @property
    def leads(self) -> bool:
        """The chain leads to what is trusted, though dates may be wrong on the way."""
        return self.failure is None or self.verify_code in DATE_CODES

    @property
    def wants_certificate(self) -> bool:
        """The server asked for a client certificate, which may be optional."""
        return CERTIFICATE_REQUEST in self.messages

    def peer(self) -> Peer | None:
        """The certificate of a server that passed verification; None if it did not."""
        found: Any = self.sock.getpeercert() if self.sock is not None else None
        if not found:
            return None
        subject, issuer = _fields(found, "subject"), _fields(found, "issuer")
        alternatives = [value for _, value in found.get("subjectAltName", ())]
        return Peer(
            subject.get("commonName") or next(iter(alternatives), "?"),
            issuer.get("commonName") or ", ".join(issuer.values()),
            ", ".join(issuer.values()),
            ssl.cert_time_to_seconds(found["notBefore"]),
            ssl.cert_time_to_seconds(found["notAfter"]),
        )

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()


def shake(
    sock: socket.socket, context: ssl.SSLContext, name: str | None, timeout: float
) -> Handshake:
    """Do a TLS handshake on `sock`, which is closed if that fails. Never raises.

    `name` is both the SNI and what the certificate must be for; an IP address is never sent as SNI.
    `timeout` is in seconds, for the whole handshake.
    """
    sock.settimeout(timeout)
    try:
        tls = wrap(context, sock, name, handshake=False)
    except (OSError, ValueError) as error:
        return Handshake(failure=_failure(error), detail=_words(error))
    assert isinstance(tls, ObservedSocket)  # noqa: S101 - every context here makes these
    try:
        tls.do_handshake()
    except (OSError, ValueError) as error:
        with tls:
            return Handshake(
                failure=_failure(error),
                detail=_words(error),
                verify_code=getattr(error, "verify_code", 0),
                alert=alert(error),
                sent=_chain(tls, "get_unverified_chain"),
                built=_chain(tls, "get_verified_chain"),
                messages=frozenset(tls.messages),
                alerts=frozenset(tls.alerts),
                lost=isinstance(error, TimeoutError) and _lost(tls),
            )
    cipher = tls.cipher()
    return Handshake(
        sock=tls,
        sent=_chain(tls, "get_unverified_chain"),
        built=_chain(tls, "get_verified_chain"),
        messages=frozenset(tls.messages),
        alerts=frozenset(tls.alerts),
        version=tls.version(),
        cipher=cipher[0] if cipher else None,
    )


def alert(error: BaseException) -> str | None:
    """The TLS alert of the server that an exception stands for: "certificate_required"."""
    found = _ALERT.fullmatch(getattr(error, "reason", None) or "")
    return found[1].lower() if found else None


def wants_client_certificate(error: BaseException) -> bool:
    """Whether a read failed because the server wants a client certificate.

    With TLS 1.3 the handshake is over for us before the server has looked for one: its alert comes
    in place of the first answer.
    """
    return alert(error) == "certificate_required"


def _failure(error: Exception) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "verify"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "closed"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        if alert(error) is not None:
            return "alert"
        return "not-tls" if error.reason in _NOT_TLS else "other"
    gone = (errno.ENOTCONN, errno.EINVAL)  # the connection was over before the handshake began
    if isinstance(error, ConnectionError) or getattr(error, "errno", None) in gone:
        return "reset"
    return "other"


def _words(error: Exception) -> str:
    """What went wrong, without the place in Python's source."""
    text = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return re.sub(r"\s*\(_ssl\.c:\d+\)|^\[[^]]*\]\s*", "", text)


def _chain(tls: ssl.SSLSocket, method: str) -> tuple[bytes, ...]:
    """A chain as DER. Public only since 3.13; before, and after a failure, the private object has
    it too. Empty where it does not."""
    with contextlib.suppress(AttributeError, ValueError, ssl.SSLError):
        if hasattr(tls, method):
            return tuple(getattr(tls, method)())
        import _ssl

        private = tls._sslobj  # type: ignore[attr-defined]
        found = getattr(private, method)() or ()
        return tuple(one.public_bytes(_ssl.ENCODING_DER) for one in found)
    return ()


def _lost(sock: socket.socket) -> bool:
    """Whether what was sent has not even been acknowledged, as far as the kernel tells."""
    info = tcp.tcp_info(sock)
    return info is not None and info.unacked > 0


@record
class Talk:
    """What a port says to somebody who does not speak TLS."""

    greeting: bytes = b""  # unasked
    reply: bytes = b""  # to an HTTP request
    cut: Literal["closed", "reset"] | None = None
    at_once: bool = False  # cut before anything was asked
    alert: str | None = None  # what ended it, where the connection is a TLS one

    @property
    def is_http(self) -> bool:
        return (self.greeting or self.reply).startswith(b"HTTP/")


def talk(sock: socket.socket, request: bytes, patience: float, timeout: float) -> Talk:
    """Wait `patience` seconds for a greeting; if none comes, send `request` and read its first
    answer for `timeout` seconds. Closes `sock`. Never raises."""
    greeting = reply = b""
    at_once = True
    with sock:
        try:
            sock.settimeout(patience)
            with contextlib.suppress(TimeoutError):
                greeting = sock.recv(1024)
                if greeting:
                    return Talk(greeting=greeting)
                return Talk(cut="closed", at_once=True)
            at_once = False
            sock.settimeout(timeout)
            sock.sendall(request)
            with contextlib.suppress(TimeoutError):
                while len(reply) < 4096 and (data := sock.recv(4096)):
                    reply += data
                if not reply:
                    return Talk(cut="closed")
        except OSError as error:
            return Talk(greeting, reply, "reset", at_once, alert(error))
    return Talk(greeting, reply)
