"""What this machine's kernel knows about the way to an address, without sending anything.

Routes and the machine's own side of a connection are asked for by connecting a UDP socket, which
works everywhere; next hop, neighbours and own addresses by rtnetlink, on Linux, without privileges.
Where the kernel cannot be asked the answer is "not known" (None or empty), never an exception.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

ANY_IPV6 = "2001:db8::1"  # documentation prefix: only a default route leads there

_GET_ADDRESS, _GET_ROUTE, _GET_NEIGHBOUR, _GET_POLICY = 22, 26, 30, 21  # RTM_*, XFRM_MSG_GETPOLICY
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x301
_HEADER = struct.Struct("=IHHII")
_XFRM = 6
_INCOMPLETE, _FAILED = 0x01, 0x20  # neighbour states: nobody answered (yet), nobody answered
_ANSWERED = 0x02 | 0x04 | 0x08 | 0x10  # reachable, stale, delay, probe
_UNUSABLE = 0x08 | 0x20 | 0x40  # address flags: duplicate, deprecated, tentative


def family(address: str) -> socket.AddressFamily:
    """The socket family of an address literal."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def sockaddr(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What `connect` wants for an address literal; an IPv6 scope ("fe80::1%eth0") included."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags)[0][4]
    return (str(found[0]), int(found[1]), *found[2:])


def route_error(address: str) -> str | None:
    """Why this machine has no way to `address`, as the name of an errno; None when it has one."""
    try:
        with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr(address, 9))  # UDP: looks up the route and sends nothing
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "OSError")
    return None


def source(address: str) -> str | None:
    """The address that this machine uses as its own towards `address`."""
    try:
        with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr(address, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return None


def is_here(address: str) -> bool:
    """Whether `address` is this machine itself."""
    plain = address.partition("%")[0]
    if ipaddress.ip_address(plain).is_loopback or source(address) == plain:
        return True
    return plain in own_addresses(address)  # not the one the kernel prefers


def own_addresses(like: str) -> tuple[str, ...]:
    """The addresses of this machine, of the family of `like`, that can be used towards others."""
    kind = family(like)
    found = []
    try:
        for message in _ask(_GET_ADDRESS, struct.pack("=BBBBI", kind, 0, 0, 0, 0), _DUMP):
            _, _, flags, scope, _ = struct.unpack_from("=BBBBI", message)
            attributes = _attributes(message[8:])
            address = attributes.get(2) or attributes.get(1)  # IFA_LOCAL, IFA_ADDRESS
            if address and message[0] == kind and scope == 0 and not flags & _UNUSABLE:
                found.append(socket.inet_ntop(kind, address))
    except OSError:
        return ()
    return tuple(found)


def silent_neighbour(address: str) -> str | None:
    """The next hop towards `address`, if the kernel asked for it on the local network (ARP or
    neighbour discovery) and nobody has answered. None also when that cannot be known."""
    kind = family(address)
    try:
        hop = _next_hop(kind, address.partition("%")[0])
        if any(state in {_INCOMPLETE, _FAILED} for state in _neighbour(kind, hop)):
            return socket.inet_ntop(kind, hop)
    except OSError:
        return None
    return None


def is_neighbour(address: str) -> bool:
    """Whether `address` was seen on a local network: it answered to ARP or neighbour discovery, so
    that (unless a router answers in its place) no router lies between."""
    kind = family(address)
    try:
        packed = socket.inet_pton(kind, address.partition("%")[0])
        return any(state & _ANSWERED for state in _neighbour(kind, packed))
    except OSError:
        return False


def has_ipsec() -> bool | None:
    """Whether IPsec policies exist, which change packets before they leave; None: not known."""
    try:
        return any(True for _ in _ask(_GET_POLICY, b"", _DUMP, _XFRM))
    except OSError as error:
        return False if error.errno == errno.EPROTONOSUPPORT else None


def overflows() -> int | None:
    """How often a listening socket of this machine was too full to take a connection."""
    try:
        text = Path("/proc/thread-self/net/netstat").read_text(encoding="ascii")
    except OSError:
        return None
    rows = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(*rows, strict=True)).get("ListenOverflows", 0))


def _next_hop(kind: int, address: str) -> bytes:
    """The gateway towards `address`, or the address itself when it is on a local network."""
    packed = socket.inet_pton(kind, address)
    route = struct.pack("=BBBBBBBBI", kind, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    attribute = struct.pack("=HH", 4 + len(packed), 1) + packed  # RTA_DST
    for message in _ask(_GET_ROUTE, route + attribute, _REQUEST):
        return _attributes(message[12:]).get(5, packed)  # RTA_GATEWAY
    return packed


def _neighbour(kind: int, packed: bytes) -> Iterator[int]:
    """The states in which the neighbour tables have this address."""
    for message in _ask(_GET_NEIGHBOUR, struct.pack("=BBHiHBB", kind, 0, 0, 0, 0, 0, 0), _DUMP):
        if message[0] == kind and _attributes(message[12:]).get(1) == packed:  # NDA_DST
            yield struct.unpack_from("=BBHiHBB", message)[4]


def _ask(kind: int, payload: bytes, flags: int, protocol: int = 0) -> Iterator[bytes]:
    """Send one netlink request; the payloads of the answers. Raises OSError as the kernel says."""
    if sys.platform != "linux":
        raise OSError(errno.EPROTONOSUPPORT, "no netlink")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        sock.settimeout(1)
        sock.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags, 1, 0) + payload)
        while True:
            data = sock.recv(1 << 16)
            while data:
                length, answer, _, _, _ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if answer == _ERROR and (code := -struct.unpack_from("=i", body)[0]):
                    raise OSError(code, errno.errorcode.get(code, "netlink"))
                if answer in {_DONE, _ERROR}:
                    return
                yield body
            if flags == _REQUEST:  # one answer, and no end mark
                return


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found
