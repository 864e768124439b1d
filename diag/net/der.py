"""What every report tells of a certificate, read from its DER without `cryptography`, which is
heavy: a run in which all is well never imports that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256

_TYPES = {  # attribute types of a name that have a short form, RFC 4514 section 3, by DER content
    b"\x55\x04\x03": "CN",
    b"\x55\x04\x06": "C",
    b"\x55\x04\x07": "L",
    b"\x55\x04\x08": "ST",
    b"\x55\x04\x09": "STREET",
    b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
    bytes.fromhex("0992268993f22c640101"): "UID",
    bytes.fromhex("0992268993f22c640119"): "DC",
}
_CHARACTERS = {20: "latin-1", 28: "utf-32-be", 30: "utf-16-be"}  # string types; the others: UTF-8
_SPECIAL = '\\"+,;<>'
_VERSION, _GENERALIZED_TIME = 0xA0, 24  # tags


@lru_cache(256)  # the targets of a fleet have CAs in common, and often a wildcard certificate
def describe(certificate: bytes) -> Mapping[str, str | None]:
    """Subject and issuer (RFC 4514), SHA-256 fingerprint (hexadecimal) and validity (RFC 3339, UTC)
    of a certificate; None for what cannot be read."""
    result: dict[str, str | None] = dict.fromkeys(("subject", "issuer"))
    result |= {"sha256": fingerprint(certificate), "not_before": None, "not_after": None}
    try:
        _serial, _algorithm, issuer, validity, subject, _key = _fields(certificate)
        before, after = (_moment(tag, data) for tag, data in _elements(_inside(validity)))
        result |= {"subject": _name(subject), "issuer": _name(issuer)}
        result |= {"not_before": before, "not_after": after}
    except (IndexError, ValueError):  # OpenSSL understood it, so it is a rare one
        pass
    return result


def fingerprint(certificate: bytes) -> str:
    """Its SHA-256 in hexadecimal, as `openssl x509 -fingerprint -sha256` without the colons."""
    return sha256(certificate).hexdigest()


def names(certificate: bytes) -> tuple[bytes, bytes]:
    """The issuer's and the subject's name of a certificate, all as DER.

    Raises:
        IndexError, ValueError: it is no certificate.
    """
    _serial, _algorithm, issuer, _validity, subject, _key = _fields(certificate)
    return issuer, subject


def key(certificate: bytes) -> bytes:
    """The public key of a certificate, as DER.

    Raises:
        IndexError, ValueError: it is no certificate.
    """
    return _fields(certificate)[5]


def _fields(certificate: bytes) -> list[bytes]:
    """The first six fields of a certificate, whole: serial number to public key."""
    at = _content(certificate, _content(certificate, 0)[0])[0]
    fields: list[bytes] = []
    while len(fields) < 6:
        end = _content(certificate, at)[1]
        if certificate[at] != _VERSION:  # which may be missing
            fields.append(certificate[at:end])
        at = end
    return fields


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at `at` starts and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start])
    return start, start + length


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each of the DER elements that follow each other in `data`."""
    at = 0
    while at < len(data):
        start, end = _content(data, at)
        yield data[at], data[start:end]
        at = end


def _inside(element: bytes) -> bytes:
    start, end = _content(element, 0)
    return element[start:end]


def _name(element: bytes) -> str:
    """A name as RFC 4514 writes it: the last part first."""
    parts = [
        "+".join(_attribute(pair) for _, pair in _elements(part))
        for _, part in _elements(_inside(element))
    ]
    return ",".join(reversed(parts))


def _attribute(pair: bytes) -> str:
    """Type and value: `CN=…`."""
    (_, kind), (tag, value) = _elements(pair)
    text = value.decode(_CHARACTERS.get(tag, "utf-8"))
    return f"{_TYPES.get(kind) or _dotted(kind)}={_escaped(text)}"


def _dotted(kind: bytes) -> str:
    """An object identifier in numbers: 1.2.840.113549.1.9.1."""
    numbers, number = [], 0
    for byte in kind:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _escaped(text: str) -> str:
    result = "".join("\\" + one if one in _SPECIAL else one for one in text).replace("\0", "\\00")
    if result.startswith(("#", " ")):
        result = "\\" + result
    if text.endswith(" ") and len(text) > 1:
        result = result[:-1] + "\\ "
    return result


def _moment(tag: int, data: bytes) -> str:
    """A point in time as the report writes it."""
    text = data.decode("ascii")
    if tag != _GENERALIZED_TIME:  # two digits stand for the year, RFC 5280 section 4.1.2.5.1
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    day, time = text[:8], text[8:14]
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}Z"
