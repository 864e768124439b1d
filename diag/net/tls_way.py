"""The way to a TLS server, to be gone again: handshakes and plain talk on fresh connections."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from ssl import SSLContext
from typing import Protocol, TypeVar

from diag.net import tcp, tls
from diag.net.der import names as names_of
from diag.net.tls import Handshake, PublicRoots, Talk, Trust
from diag.record import record

K = TypeVar("K")
T = TypeVar("T")

_GREETING = 0.3  # seconds within which an SSH server has greeted
_ALERT = 0.15  # seconds within which an alert follows a handshake; a late one is still heard


class Parallel(Protocol):
    """Runs tasks side by side; those that are late are missing in the result."""

    def __call__(self, tasks: Mapping[K, Callable[[], T]], /) -> dict[K, T]: ...


@record
class Way:
    """How to reach the server once more. Nothing here raises for trouble on the network."""

    host: str  # name or address as in the URL
    path: str  # of the base URL
    connect: Callable[[float], socket.socket]  # a fresh connection within so many seconds
    timeout: Callable[[], float]  # seconds that the next operation may take
    parallel: Parallel
    address: tuple[str, int] | None = None  # where that leads, unless through a proxy

    @property
    def is_address(self) -> bool:
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def request(self) -> bytes:
        """The most harmless HTTP request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"GET {self.path or '/'} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )

    def open(self, context: SSLContext, name: str | None) -> Handshake:
        """A handshake on a fresh connection, which stays open if it succeeds."""
        return self._shake(self.connect, context, name)

    def shake(self, context: SSLContext, name: str | None) -> Handshake:
        """A handshake to learn from, the connection is closed."""
        shaken = self.open(context, name)
        shaken.close()
        return shaken

    def shake_small(self, context: SSLContext, name: str | None) -> Handshake:
        """The same, but neither side sends packets of more than about 600 bytes."""
        shaken = self._shake(self._connect_small, context, name)
        shaken.close()
        return shaken

    def talk(self, context: SSLContext | None = None) -> Talk:
        """Plain HTTP on a fresh connection, within TLS if there is a context for it."""
        timeout = self.timeout()
        try:
            sock = self.connect(timeout)
        except OSError as error:
            return Talk(cut="reset", at_once=True) if self._was_reset(error) else Talk()
        if context is None:
            return tls.talk(sock, self.request, min(_GREETING, timeout / 3), timeout)
        shaken = tls.shake(sock, context, self.host, timeout)
        if shaken.sock is None:
            return Talk(alert=shaken.alert)
        return tls.talk(shaken.sock, self.request, _ALERT, timeout)

    def _shake(
        self, connect: Callable[[float], socket.socket], context: SSLContext, name: str | None
    ) -> Handshake:
        timeout = self.timeout()
        try:
            sock = connect(timeout)
        except OSError as error:
            if self._was_reset(error):
                return Handshake(failure="reset", detail=error.strerror or str(error))
            return Handshake(failure="other", detail=f"no further connection: {error}")
        return tls.shake(sock, context, name, timeout)

    def _was_reset(self, error: OSError) -> bool:
        """Whether the server accepted, and reset so soon that connect() itself heard of it; of a
        proxy that does so nothing is to be learned about the server."""
        return isinstance(error, ConnectionResetError) and self.address is not None

    def _connect_small(self, timeout: float) -> socket.socket:
        assert self.address is not None  # noqa: S101 - asked for only where the way is direct
        return tcp.connect(*self.address, timeout, mss=tcp.SMALL_SEGMENT)


def refuses_without_certificate(way: Way, context: SSLContext) -> str | None:
    """How the server says, once TLS is up, that it wants a client certificate; None if it does not.

    Only to be asked where the handshake showed a request for one, which may be optional. With
    TLS 1.3 the alert comes after the handshake, and nginx answers in HTTP.
    """
    said = way.talk(context)
    if said.alert:
        return f"alert {said.alert}"
    status, _, rest = said.reply.partition(b"\r\n")
    if status[9:12] in {b"400", b"403", b"496"} and b"certificate" in rest.lower():
        return status.decode("latin-1")
    return None


def is_public(way: Way, trust: Trust, shaken: Handshake) -> bool | None:
    """Whether Mozilla's list leads to the chain as the server sends it; None if that is not known.

    Costs a further handshake only where the chain itself does not tell.
    """
    roots = trust.public_roots()
    if roots is None:
        return None
    at_sight = _at_sight(roots, shaken)
    if at_sight is None:
        again = way.shake(trust.mozilla(), way.host)
        return again.failure is None if again.failure in {None, "verify"} else None
    return at_sight


def lacks_intermediate(way: Way, trust: Trust, shaken: Handshake) -> bool:
    """Whether only an intermediate that the server does not send keeps Mozilla's list from leading
    to its certificate: this machine had it already."""
    own = [der for der in shaken.built[1:] if der not in shaken.sent]
    missing = [der for der in own if len(set(names_of(der))) > 1]  # a root need not be sent
    if not missing:
        return False
    return way.shake(trust.lenient(missing, mozilla=True), way.host).leads


def _at_sight(roots: PublicRoots, shaken: Handshake) -> bool | None:
    """Whether `roots` lead to the certificates that were sent. None: only a handshake can tell.

    A chain that was built here with a certificate that was not sent proves nothing about others.
    """
    known = shaken.built and shaken.built[-1] in roots.certificates
    if known and {*shaken.built[:-1]} <= {*shaken.sent}:
        return True
    return None if any(name in der for name in roots.subjects for der in shaken.sent) else False
