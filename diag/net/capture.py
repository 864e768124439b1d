"""Connect once more and watch the packets: evidence that only a privileged user can have.

Two questions that a socket cannot answer: did our SYN leave this machine at all, and does the RST
come from as far away as the other packets of that host? Linux, root or CAP_NET_RAW. What is asked
of the capture is checked on the loopback interface first: from a capture that did not work, nothing
is concluded.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import selectors
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from diag.net import kernel
from diag.record import record, replace

_ALL = 0x0003  # ETH_P_ALL: the only protocol whose taps see outgoing packets
_OUTGOING = 4  # PACKET_OUTGOING
_SOL_PACKET, _STATISTICS, _ATTACH_FILTER = 263, 6, 26
_IP_RECVTTL = 12  # not named by the socket module
_TCP = 6
_SYN, _RST, _ACK = 0x02, 0x04, 0x10


@record
class Sight:
    """What was seen of one connect."""

    left: str | None  # the interface on which the SYN left, None if it was not seen leaving
    reset: bool = False  # a RST came back
    ttl: int | None = None  # of the first packet that came back; IPv6: hop limit

    @property
    def hops(self) -> int | None:
        """How many routers that packet passed, if its sender starts at 64, 128 or 255 as all do."""
        return None if self.ttl is None else hops(self.ttl)


def hops(ttl: int) -> int:
    """Routers passed by a packet that arrives with this time to live."""
    return next(start for start in (64, 128, 255) if ttl <= start) - ttl


def observe(address: str, ports: Sequence[int], wait: float) -> dict[int, Sight] | None:
    """Connect once to each port of `address` and watch for up to `wait` seconds.

    None when this user may not capture, or the capture cannot be relied on.
    """
    if sys.platform != "linux":
        return None
    v6 = ":" in address
    loopback = "::1" if v6 else "127.0.0.1"
    try:
        with ExitStack() as stack:
            closed = stack.enter_context(_bound(loopback))  # bound, not listening: answers RST
            targets = [(loopback, closed.getsockname()[1]), *((address, port) for port in ports)]
            anywhere = "::" if v6 else "0.0.0.0"
            socks = [stack.enter_context(_bound(anywhere)) for _ in targets]
            own = {sock.getsockname()[1]: index for index, sock in enumerate(socks)}
            tap = stack.enter_context(_tap(list(own), v6=v6))
            for sock, (host, port) in zip(socks, targets, strict=True):
                sock.setblocking(False)
                sock.connect_ex(kernel.sockaddr(host, port))
            seen = _watch(tap, own, wait)
            _, dropped = struct.unpack("II", tap.getsockopt(_SOL_PACKET, _STATISTICS, 8))
    except OSError:
        return None
    if dropped or seen[0].left is None or not seen[0].reset:
        return None
    return dict(zip(ports, seen[1:], strict=True))


def echo_ttl(address: str, wait: float) -> int | None:
    """The time to live with which the host answers a ping; None if it does not, or without the
    right to ping."""
    v6 = ":" in address
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    wanted = (
        (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT) if v6 else (socket.IPPROTO_IP, _IP_RECVTTL)
    )
    token = secrets.token_bytes(16)
    try:
        with socket.socket(kernel.family(address), socket.SOCK_RAW, protocol) as sock:
            sock.setsockopt(*wanted, 1)
            sock.connect(kernel.sockaddr(address, 0))
            body = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + token
            head = struct.pack("!BBH", 128 if v6 else 8, 0, 0)
            if not v6:  # for ICMPv6 the kernel fills the checksum in
                head = struct.pack("!BBH", 8, 0, _checksum(head + body))
            sock.send(head + body)
            end = time.monotonic() + wait
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_READ)
                # As in `_watch`: what is there already counts, however late it is read.
                while selector.select(max(0.0, end - time.monotonic())):
                    data, notes, _, _ = sock.recvmsg(512, 64)
                    if not v6:
                        data = data[(data[0] & 0xF) * 4 :]
                    if data[0] == (129 if v6 else 0) and data.endswith(token):
                        return next(int.from_bytes(note[2], sys.byteorder) for note in notes)
    except (OSError, StopIteration):
        return None
    return None


def _bound(address: str) -> socket.socket:
    sock = socket.socket(kernel.family(address), socket.SOCK_STREAM)
    try:
        sock.bind((address, 0))
    except OSError:
        sock.close()
        raise
    return sock


def _watch(tap: socket.socket, own: dict[int, int], wait: float) -> list[Sight]:
    """What is seen of the connects from the ports `own`, in the order of its values."""
    sights = [Sight(None)] * len(own)
    end = time.monotonic() + wait
    with selectors.DefaultSelector() as selector:
        selector.register(tap, selectors.EVENT_READ)
        while any(sight.ttl is None for sight in sights):
            # What is there already is read however late it is: a thread that had to wait for the
            # processor must not call a packet missing.
            if not selector.select(max(0.0, end - time.monotonic())):
                break
            data, (interface, _, direction, *_) = tap.recvfrom(256)
            source, destination, flags, ttl = _parse(data)
            if source in own and direction == _OUTGOING and flags & (_SYN | _ACK) == _SYN:
                index = own[source]
                sights[index] = replace(sights[index], left=str(interface))
            elif destination in own and direction != _OUTGOING:
                index = own[destination]
                if sights[index].ttl is None:
                    sights[index] = replace(sights[index], reset=bool(flags & _RST), ttl=ttl)
    return sights


def _tap(ports: Sequence[int], *, v6: bool) -> socket.socket:
    """A packet socket that sees every interface, but only TCP from and to our own ports."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
    try:
        program = _filter(ports, v6=v6)
        code = b"".join(struct.pack("=HBBI", *step) for step in program)
        buffer = ctypes.create_string_buffer(code)
        tap.setsockopt(
            socket.SOL_SOCKET,
            _ATTACH_FILTER,
            struct.pack("HL", len(program), ctypes.addressof(buffer)),
        )
        tap.setblocking(False)
        with suppress(BlockingIOError):  # what came before the filter was there
            while tap.recv(1):
                pass
    except OSError:
        tap.close()
        raise
    return tap


def _filter(ports: Sequence[int], *, v6: bool) -> list[tuple[int, int, int, int]]:
    """A classic BPF program, each step (code, jump if true, jump if false, value): TCP over this IP
    version with one of `ports` at either end."""
    load_half, load_byte, indexed_half, header = 0x28, 0x30, 0x48, 0xB1
    if_equal, end = 0x15, 0x06
    count = len(ports)

    def one_of(remaining: int) -> list[tuple[int, int, int, int]]:
        """Jump over `remaining` steps and the refusal when the loaded value is one of the ports."""
        return [
            (if_equal, count - 1 - at + remaining + 1, 0, port) for at, port in enumerate(ports)
        ]  # the refusal is one step

    if v6:
        source, destination = [(load_half, 0, 0, 40)], [(load_half, 0, 0, 42)]
    else:
        source = [(header, 0, 0, 0), (indexed_half, 0, 0, 0)]
        destination = [(indexed_half, 0, 0, 2)]
    tests = [*source, *one_of(len(destination) + count), *destination, *one_of(0)]
    return [
        (load_half, 0, 0, 0xFFFFF000),  # SKF_AD_PROTOCOL
        (if_equal, 0, 2 + len(tests), 0x86DD if v6 else 0x0800),
        (load_byte, 0, 0, 6 if v6 else 9),
        (if_equal, 0, len(tests), _TCP),
        *tests,
        (end, 0, 0, 0),
        (end, 0, 0, 256),
    ]


def _parse(data: bytes) -> tuple[int, int, int, int]:
    """Source port, destination port, flags and time to live of a TCP packet."""
    if data[0] >> 4 == 6:
        head, ttl = 40, data[7]
    else:
        head, ttl = (data[0] & 0xF) * 4, data[8]
    source, destination, flags = struct.unpack_from("!HH9xB", data, head)
    return source, destination, flags, ttl


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF & ~(total + (total >> 16))
