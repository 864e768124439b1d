"""DNS messages as most of them are: one question, and an answer of addresses and aliases.

Written and read here in a few microseconds; dnspython, which takes longer to load than the answer
takes to come, is left to whatever is not plain (`read` returns None): see `diag.net.resolver`.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections import defaultdict

from diag.record import record

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28}
_KINDS = {number: kind for kind, number in TYPES.items()}
_SOA, _OPT = 6, 41
_RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LONGEST = 253  # characters of a name
_MOST_JUMPS = 32  # within one name, before it is called a circle
_RECURSE, _UNCHECKED = 0x0100, 0x0010  # header flags: RD, CD
_PAYLOAD = 1232  # bytes that may come in one datagram, if EDNS says so
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")


@record
class Said:
    """What a response says: the names in lower case, without the final dot."""

    rcode: str
    records: dict[tuple[str, str], list[str]]  # (name, type): addresses, or the alias's target
    final: bool  # an SOA record in the authority section: there is no more to be had


def question(name: str, kind: str, *, edns: bool, validate: bool) -> bytes | None:
    """A query with a random id, RFC 1035 section 4; None for a name that is not plain.

    `edns` adds an OPT record (RFC 6891); without `validate` the CD bit is set (RFC 4035).
    """
    labels = name.removesuffix(".").split(".")
    if len(name) > _LONGEST or not all(map(_LABEL.fullmatch, labels)):
        return None
    flags = _RECURSE | (0 if validate else _UNCHECKED)
    header = _HEADER.pack(int.from_bytes(os.urandom(2), "big"), flags, 1, 0, 0, int(edns))
    asked = b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels) + b"\0"
    extra = b"\0" + _RECORD.pack(_OPT, _PAYLOAD, 0, 0) if edns else b""
    return header + asked + struct.pack("!HH", TYPES[kind], 1) + extra


def read(asked: bytes, data: bytes) -> Said | None:
    """What the response `data` to the query `asked` says; None if that is not plain to see: it is
    cut short, not the response, malformed, or holds names that have to be escaped."""
    try:
        return _read(asked, data)
    except (IndexError, ValueError, struct.error):
        return None


def _read(asked: bytes, data: bytes) -> Said | None:
    number, flags, questions, *counts = _HEADER.unpack_from(data)
    end = asked.index(b"\0", 12) + 5  # of the question section
    plain = flags & 0xFA00 == 0x8000  # QR; opcode 0; TC is off
    if number != int.from_bytes(asked[:2], "big") or questions != 1 or not plain:
        return None
    if data[12:end].lower() != asked[12:end].lower():
        return None
    records: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    rcode, final, at = flags & 15, False, end
    for section, count in enumerate(counts):
        for _ in range(count):
            owner, at = _name(data, at)
            type_, _class, ttl, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            if at + length > len(data):
                return None
            if section == 0 and type_ in _KINDS:
                found = records[owner.lower(), _KINDS[type_]]
                if type_ == TYPES["CNAME"]:
                    found.clear()  # a name has but one: of several, dnspython takes the last
                found.append(_value(type_, data, at, length))
            final = final or (section == 1 and type_ == _SOA)
            if type_ == _OPT:
                rcode |= ttl >> 24 << 4
            at += length
    return Said(_RCODES[rcode], dict(records), final) if rcode in _RCODES else None


def _value(type_: int, data: bytes, at: int, length: int) -> str:
    """The address, or the name that an alias leads to."""
    if type_ == TYPES["CNAME"]:
        return _name(data, at)[0]
    family = socket.AF_INET if type_ == TYPES["A"] else socket.AF_INET6
    return socket.inet_ntop(family, data[at : at + length])


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at `at`, and where it ends. Raises ValueError for one that is not plain."""
    labels: list[str] = []
    after: int | None = None
    for _ in range(_MOST_JUMPS + 128):
        length = data[at]
        if length >= 0xC0:  # a pointer, RFC 1035 section 4.1.4
            after = at + 2 if after is None else after
            at = (length & 0x3F) << 8 | data[at + 1]
            continue
        if not length:
            return ".".join(labels), at + 1 if after is None else after
        label = data[at + 1 : at + 1 + length].decode("ascii")
        if not _LABEL.fullmatch(label) or len(label) != length:
            raise ValueError(label)
        labels.append(label)
        at += 1 + length
    raise ValueError("a circle")
