"""TCP beyond the first connect: who stands in the way, does it hold, and what answers there."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Literal

from diag.net import kernel
from diag.net.doors import Answer, Door, knock
from diag.record import record

if TYPE_CHECKING:
    from diag.net.capture import Sight

# Where Bitbucket and what stands before it usually listen: https, http, Bitbucket, https, git+ssh.
PORTS = (443, 80, 7990, 8443, 7999)
SMALL_SEGMENT = 536  # bytes: what every path must carry (RFC 9293)

Speech = Literal["ssh", "http", "tls", "other", "closed", "reset", "silent", "unreachable"]


# After a failure: who, and where


@record
class Look:
    """What watching the packets of one more connect has shown."""

    blocked_here: bool  # the SYN never left this machine, or was turned around within it
    reset_hops: int | None = None  # routers between here and whoever sent the RST ...
    host_hops: int | None = None  # ... and the host, where that is farther: a device resets
    reference: str | None = None  # what told the distance of the host: "port 80", "ping"


def look(answer: Answer, others: Sequence[int]) -> Look | None:
    """Watch the packets while connecting again to where a connect was refused or not answered.

    After a refusal the ports `others` of the same address are tried beside it. None without the
    privilege to capture, or when the capture cannot be relied on. Takes up to 1.2 s.
    """
    from diag.net import capture

    here = kernel.is_here(answer.address)
    wait = 0.3 if answer.kind == "silent" else max(0.3, 3 * answer.elapsed_ms / 1000)
    ports = [answer.port]
    rounds: list[dict[int, Sight]] = []
    measured = answer.kind == "refused" and not here
    if measured:
        ports += others
    for _ in range(3 if measured else 1):
        sights = capture.observe(answer.address, ports, wait)
        if sights is None:
            return None
        rounds.append(sights)
        ports = [answer.port, *(port for port in ports[1:] if sights[port].ttl is not None)]
    left = {sights[answer.port].left for sights in rounds}
    if left <= ({None} if here else {None, "lo"}):
        if kernel.has_ipsec() is not False or kernel.silent_neighbour(answer.address):
            return None  # the packets may have left in another shape, or not yet
        return Look(blocked_here=True)
    if not measured:
        return Look(blocked_here=False)
    # Paths of unequal length may be taken by turns: only a distance that stays the same counts.
    nearest, *hosts = [_steady_hops(port, rounds) for port in ports]
    names = [f"port {port}" for port in ports[1:]]
    if (ttl := capture.echo_ttl(answer.address, wait)) is not None:
        names.append("ping")
        hosts.append(capture.hops(ttl))
    for name, hops in zip(names, hosts, strict=True):
        if nearest is not None and hops is not None and hops > nearest:
            return Look(False, nearest, hops, name)
    return Look(blocked_here=False, reset_hops=nearest)


def _steady_hops(port: int, rounds: Sequence[Mapping[int, Sight]]) -> int | None:
    """The distance from which a port answers, if it was the same each time."""
    seen = {sights[port].hops for sights in rounds}
    return seen.pop() if len(seen) == 1 else None


def by_source(address: str, port: int, timeout: float) -> tuple[Answer, Answer] | None:
    """Connect once more from the address this machine uses, and from its other ones.

    What came of the usual one, and the best that came of another; None if there is no other. The
    connections are closed again.
    """
    usual = kernel.source(address)
    others = [own for own in kernel.own_addresses(address) if own != usual][:8]
    if usual is None or not others:
        return None
    first: Answer | None = None
    best: Answer | None = None
    for answer in knock([Door(address, port, own) for own in (usual, *others)], timeout=timeout):
        if answer.sock is not None:
            answer.sock.close()
        if answer.source == usual:
            first = answer
        elif best is None or best.kind != "open":
            best = answer
    return (first, best) if first and best else None


def lacks_ipv6() -> bool:
    """Whether this machine has no way to the IPv6 internet: no route, or no address for it."""
    source = kernel.source(kernel.ANY_IPV6)
    return source is None or IPv6Address(source.partition("%")[0]).is_link_local


def overflows(address: str, port: int) -> int | None:
    """How many connects a listening socket of this machine drops because its queue is full, while
    one is made to `address`. None when that is not an address of this machine."""
    if not kernel.is_here(address):
        return None
    before = kernel.overflows()
    for answer in knock([Door(address, port)], timeout=0.4):
        if answer.sock is not None:
            answer.sock.close()
    after = kernel.overflows()
    return 0 if before is None or after is None else after - before


# A connection that came up


def abort(sock: socket.socket) -> None:
    """Close a connection with a reset: nothing on the way goes on counting it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def connect(address: str, port: int, timeout: float, *, mss: int | None = None) -> socket.socket:
    """An open connection to an address literal, in blocking mode with `timeout` seconds.

    `mss` bounds the segments of both directions, in bytes: what passes with 536 and not without
    has met a path that swallows large packets.

    Raises:
        OSError: as the kernel says; TimeoutError when nothing answered.
    """
    sock = socket.socket(kernel.family(address), socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if mss is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        sock.connect(kernel.sockaddr(address, port))
    except OSError:
        sock.close()
        raise
    return sock


@record
class Info:
    """The kernel's account of a connection (Linux, struct tcp_info)."""

    retransmits: int  # of the oldest segment that is not acknowledged, right now
    unacked: int  # segments sent and not acknowledged
    total_retransmits: int  # since the connection was begun, SYNs included
    bytes_received: int
    rtt_ms: float
    send_mss: int  # bytes
    path_mtu: int  # bytes


def tcp_info(sock: socket.socket) -> Info | None:
    """What the kernel knows about this connection; None where it does not tell."""
    if sys.platform != "linux":
        return None
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    except OSError:
        return None
    if len(data) < 136:
        return None
    words = struct.unpack_from("=24I", data, 8)
    return Info(
        retransmits=data[2],
        unacked=words[4],
        total_retransmits=words[23],
        bytes_received=struct.unpack_from("=Q", data, 128)[0],
        rtt_ms=words[15] / 1000,
        send_mss=words[2],
        path_mtu=words[13],
    )


def first_bytes(sock: socket.socket, timeout: float, limit: int = 256) -> bytes | None:
    """What the peer says unasked, within `timeout` seconds, and leaves it to be read: a banner
    of SSH, SMTP or FTP. Empty at the end of the stream, None when nothing came.

    Raises:
        ConnectionError: the peer reset the connection.
    """
    before = sock.gettimeout()
    sock.settimeout(timeout)
    try:
        return sock.recv(limit, socket.MSG_PEEK)
    except (TimeoutError, BlockingIOError):
        return None
    finally:
        sock.settimeout(before)


@record
class Spoken:
    """What speaks on a port.

    "closed" and "reset": after accepting, in any case; "silent": accepts and says nothing;
    "unreachable": no connection. `unasked`: it spoke, or hung up, before it was spoken to.
    """

    kind: Speech
    first: bytes = b""  # its first bytes
    unasked: bool = False


def speaks(address: str, port: int, timeout: float, host: str = "") -> Spoken:
    """Find out what answers at an address literal, with at most three connections.

    First it is listened to for 0.3 s and then greeted with a TLS ClientHello (naming `host` unless
    empty); if that is not understood, it is asked for `/status` in plain HTTP. Nothing secret is
    sent. Takes up to twice `timeout` seconds.
    """
    spoken = _greet(address, port, timeout, _client_hello(host))
    if spoken.kind in {"ssh", "tls", "http", "unreachable"} or spoken.unasked:
        return spoken
    request = f"GET /status HTTP/1.1\r\nHost: {host or address}\r\nConnection: close\r\n\r\n"
    asked = _greet(address, port, timeout, request.encode("ascii", "replace"))
    return asked if asked.kind in {"ssh", "tls", "http"} else spoken


def failure(error: OSError) -> str:
    """The class of a failed connect or read: "refused", "silent", "reset", "unreachable" or the
    name of the errno."""
    if isinstance(error, TimeoutError):
        return "silent"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return "reset"
    if error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM}:
        return "unreachable"
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _greet(address: str, port: int, timeout: float, greeting: bytes) -> Spoken:
    try:
        sock = connect(address, port, timeout)
    except ConnectionResetError:  # once accepted; a connect that is not gets another error
        return Spoken("reset", unasked=True)
    except OSError:
        return Spoken("unreachable")
    unasked = True
    with sock:
        try:
            first = first_bytes(sock, min(0.3, timeout))
            if first is None:
                unasked = False
                sock.sendall(greeting)
                first = sock.recv(256)
        except TimeoutError:
            return Spoken("silent")
        except OSError:
            return Spoken("reset", unasked=unasked)
    return Spoken(_language(first), first, unasked)


def _language(first: bytes) -> Speech:
    if not first:
        return "closed"
    if first.startswith(b"SSH-"):
        return "ssh"
    if first.startswith(b"HTTP/"):
        return "http"
    if first[0] in {0x15, 0x16} and first[1:2] == b"\x03":  # alert, handshake; version 3.x
        return "tls"
    return "other"


def _client_hello(host: str) -> bytes:
    """What a TLS client says first."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host or None)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
