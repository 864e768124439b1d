"""Plain DNS messages, read without dnspython: never other than dnspython reads them."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.net import dnspacket, resolver
from diag.net.dnspacket import Said

NAMES = (
    "bb.example.com",
    "BB.Example.Com",
    "www.example.com",
    "x_y.example.org",
    "a.b",
    "odd\\.one.a",
)
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(
            (
                ("A", "10.0.0.7"),
                ("A", "192.0.2.1"),
                ("AAAA", "2001:db8::7"),
                ("CNAME", "www.example.com."),
                ("CNAME", "BB.example.com."),
                ("TXT", '"said aside"'),
                ("MX", "10 mail.example.com."),
            )
        ),
    ),
    max_size=6,
)
SOA = "ns.example.com. hostmaster.example.com. 1 2 3 4 5"


def response(
    packet: bytes, records: list[tuple[str, tuple[str, str]]], rcode: int, *, soa: bool, edns: bool
) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(packet))
    for name, (kind, text) in records:
        message.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, text))
    if soa:
        message.authority.append(dns.rrset.from_text("example.com.", 60, "IN", "SOA", SOA))
    if edns:
        message.use_edns(0, payload=1232)
    message.set_rcode(dns.rcode.Rcode(rcode))
    return message.to_wire()


def by_dnspython(monkeypatch: pytest.MonkeyPatch, packet: bytes, data: bytes) -> Said | None:
    with monkeypatch.context() as patch:
        patch.setattr(dnspacket, "read", lambda _asked, _data: None)
        return resolver._response(packet, data)


def ask(name: str = "bb.example.com", kind: str = "A", *, edns: bool = False) -> bytes:
    packet = dnspacket.question(name, kind, edns=edns, validate=True)
    assert packet is not None
    return packet


@settings(deadline=None)
@given(RECORDS, st.sampled_from((0, 2, 3, 5, 1, 16)), st.booleans(), st.booleans())
def test_what_is_read_is_what_dnspython_reads(
    records: list[tuple[str, tuple[str, str]]], rcode: int, soa: bool, edns: bool
) -> None:
    packet = ask(edns=True)
    data = response(packet, records, rcode, soa=soa, edns=edns or rcode > 15)
    told = dnspacket.read(packet, data)
    with pytest.MonkeyPatch.context() as monkeypatch:
        reference = by_dnspython(monkeypatch, packet, data)
    assert reference is not None
    if told is None:  # left to dnspython
        assert rcode in (1, 16) or any("\\" in name for name, _ in records)
        return
    assert (told.rcode, told.final) == (reference.rcode, reference.final)
    assert {key: sorted(set(values)) for key, values in told.records.items()} == {
        key: sorted(values) for key, values in reference.records.items()
    }


@settings(deadline=None)
@given(st.data())
def test_damaged_messages_are_left_to_dnspython_or_read_without_a_crash(
    data: st.DataObject,
) -> None:
    packet = ask()
    whole = bytearray(
        response(packet, [("bb.example.com", ("A", "10.0.0.7"))], 0, soa=True, edns=True)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    dnspacket.read(packet, bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_the_query_is_the_one_that_dnspython_writes() -> None:
    for edns in (False, True):
        packet = dnspacket.question("bb.example.com", "AAAA", edns=edns, validate=False)
        assert packet is not None
        theirs = dns.message.make_query("bb.example.com", "AAAA", use_edns=0 if edns else False)
        theirs.flags |= dns.flags.CD
        theirs.id = int.from_bytes(packet[:2], "big")
        assert packet == theirs.to_wire()


@pytest.mark.parametrize(
    "name", ["a..b", "x" * 64, "", "a b", "bücher.example", ".".join(["a"] * 200)]
)
def test_a_name_that_is_not_plain_is_left_to_dnspython(name: str) -> None:
    assert dnspacket.question(name, "A", edns=False, validate=True) is None


def test_what_is_no_response_to_the_query_is_none() -> None:
    packet = ask()
    good = response(packet, [], 0, soa=False, edns=False)
    other = ask("other.example.com")
    assert dnspacket.read(packet, good) == Said("NOERROR", {}, False)
    assert dnspacket.read(packet, packet) is None  # an echo
    assert dnspacket.read(other[:2] + packet[2:], good) is None or other[:2] == packet[:2]
    assert dnspacket.read(packet[:2] + other[2:], good) is None  # another name
    assert dnspacket.read(ask(kind="AAAA")[:2] + packet[2:], good[:2] + good[2:]) in (
        None,
        Said("NOERROR", {}, False),
    )
    cut = bytes([*good[:2], good[2] | 0x02, *good[3:]])
    assert dnspacket.read(packet, cut) is None  # truncated: TCP tells
    assert resolver._response(packet, b"") is None


def test_a_name_that_points_to_itself() -> None:
    packet = ask()
    good = response(packet, [("bb.example.com", ("A", "10.0.0.7"))], 0, soa=False, edns=False)
    owner = len(packet)  # the answer follows the question
    circle = good[:owner] + bytes([0xC0 | owner >> 8, owner & 0xFF]) + good[owner + 2 :]
    assert dnspacket.read(packet, circle) is None
