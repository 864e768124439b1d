"""What a server must send, and the walk from certificate to certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from cryptography import x509 as reference
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from diag.net import chain, der, x509
from diag.net.tls import Trust
from diag.net.x509 import Certificate
from tests.certificates import DAY, Identity, root

HOST = "bitbucket.example.com"
NOW = datetime.now(UTC)
ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1")
LEAF = CA.issue(HOST, aia="http://pki.example.com/ca.cer")
# The same CA after it was given a new key, and the same key under another root.
REKEYED = ROOT.authority("Example Corp Issuing CA 1", role="second key")
NEW_ROOT = root("Newer Root")
CROSSED = NEW_ROOT.authority("Example Corp Root CA")
EXPIRED = ROOT.authority("Example Corp Issuing CA 1", ends=-DAY)
STRANGER = root("Stranger", organisation=None)
FOREIGN = STRANGER.authority("Foreign CA", organisation=None)


def ders(*chain: Identity) -> list[bytes]:
    return [one.der for one in chain]


def states(told: list[chain.Entry]) -> list[tuple[str, str | None]]:
    return [(chain.name(one), one["state"]) for one in told]


def read(*chain: Identity) -> list[Certificate]:
    return x509.read_all(one.der for one in chain)


def short(way: list[Certificate]) -> list[str]:
    return [one.short for one in way]


WAY = ders(LEAF, CA, ROOT)


@pytest.mark.parametrize(
    ("sent", "way", "tidy"),
    [
        (ders(LEAF, CA), WAY, True),
        (ders(LEAF), WAY, True),  # too little, which is another matter
        (ders(LEAF, CA), [], True),
        (ders(LEAF, CA, CROSSED), WAY, True),
        (ders(STRANGER), ders(STRANGER), True),
        ([LEAF.der, b"\x30\x80 no DER"], WAY, True),  # of which nothing is known
        (ders(LEAF, CA, ROOT), WAY, False),
        (ders(LEAF, CROSSED, CA), WAY, False),
        (ders(LEAF, FOREIGN, CA), WAY, False),
        (ders(LEAF, LEAF, CA), WAY, False),
    ],
)
def test_whether_a_chain_is_sent_as_it_should_be(
    sent: list[bytes], way: list[bytes], tidy: bool
) -> None:
    assert chain.is_tidy(sent, way) is tidy
    assert (chain.untidy(sent, way) is None) is tidy


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((LEAF, CA), [(HOST, "send"), ("Example Corp Issuing CA 1", "send")]),
        ((LEAF,), [(HOST, "send"), ("Example Corp Issuing CA 1", "missing")]),
        (
            (LEAF, STRANGER, ROOT, CA),
            [
                (HOST, "send"),
                ("Example Corp Issuing CA 1", "send"),
                ("Stranger", "leave out"),
                ("Example Corp Root CA", "leave out"),
            ],
        ),
        (
            (LEAF, CA, CROSSED),
            [
                (HOST, "send"),
                ("Example Corp Issuing CA 1", "send"),
                ("Example Corp Root CA", "send"),  # for clients that have the other root
            ],
        ),
    ],
)
def test_what_is_to_be_sent(
    sent: tuple[Identity, ...], expected: list[tuple[str, str | None]]
) -> None:
    assert states(chain.entries(ders(*sent), WAY)) == expected


def test_a_certificate_of_the_right_name_with_another_key_is_to_be_replaced() -> None:
    told = chain.entries(ders(LEAF, REKEYED), WAY)
    assert states(told) == [
        (HOST, "send"),
        ("Example Corp Issuing CA 1", "missing"),
        ("Example Corp Issuing CA 1", "leave out"),
    ]
    assert "another key" in str(told[2]["why"])
    unknown = chain.entries(ders(LEAF, REKEYED), ders(LEAF), namesakes=ders(REKEYED))
    assert [one["state"] for one in unknown] == ["send", "leave out"]


def test_an_expired_certificate_is_to_be_replaced() -> None:
    way = ders(LEAF, EXPIRED, ROOT)
    told = chain.entries(ders(LEAF, EXPIRED), way, late={EXPIRED.der: "http://pki/ca"})
    assert [one["state"] for one in told] == ["send", "missing", "leave out"]
    assert told[1]["from"] == "http://pki/ca"
    assert told[2]["sha256"] == der.fingerprint(EXPIRED.der)


def test_what_is_wrong_in_words() -> None:
    untidy = chain.untidy(ders(LEAF, FOREIGN, ROOT, CA, CA), WAY)
    assert untidy is not None
    text = str(untidy["disorder"])
    for word in ("Foreign CA (foreign)", "Root CA (a root", "it is there twice"):
        assert word in text
    assert "order" not in text
    crossed = chain.untidy(ders(LEAF, CROSSED, CA), WAY)
    assert crossed is not None
    assert "order" in str(crossed["disorder"])


def test_the_lines_for_people_are_numbered_as_they_are_to_be_sent() -> None:
    told = chain.entries(ders(LEAF, STRANGER), WAY, {CA.der: "http://pki.example.com/ca.cer"})
    first, second, third = chain.lines(told)
    assert first.startswith(f"1. {HOST}, SHA-256 {der.fingerprint(LEAF.der)[:8]}")
    assert second.startswith("2. Example Corp Issuing CA 1")
    assert second.endswith("MISSING, get it from http://pki.example.com/ca.cer")
    assert third == "-  Stranger: leave it out (foreign)"
    assert "get it from the CA" in chain.lines([chain.gap("CN=Unknown CA", None)])[0]


# the walk


def test_the_path_is_found_in_any_order() -> None:
    twin = root("Example Corp Issuing CA 1")  # the same name, another key
    found = chain.path(read(LEAF, STRANGER, twin, ROOT, REKEYED, CA), NOW)
    assert short(found) == [HOST, "Example Corp Issuing CA 1", "Example Corp Root CA"]
    assert found[1].der == CA.der
    assert chain.path(read(ROOT, CA), NOW) == read(ROOT)
    assert chain.path([], NOW) == []


def test_names_alone_prove_nothing_without_key_identifiers_either() -> None:
    leaf = CA.issue(HOST, identified=False)
    twin = ROOT.authority("Example Corp Issuing CA 1", role="second key", identified=False)
    assert short(chain.path(read(leaf, twin), NOW)) == [HOST]
    [found] = chain.namesakes(read(leaf)[0], read(twin, CA, STRANGER))
    assert found.der == twin.der


def test_every_way_of_a_cross_signed_chain() -> None:
    sent = read(LEAF, CA, CROSSED, ROOT)
    found = chain.ways(sent)
    assert [one[-1].issuer_short for one in found] == ["Newer Root", "Example Corp Root CA"]
    assert chain.path(sent, NOW) == read(LEAF, CA, ROOT)  # it goes up to a root
    old, new = chain.describe_ways(found, NOW)
    assert "Newer Root, which is not sent" in str(old)
    assert "leads to Example Corp Root CA" in str(new)


def test_the_way_that_is_valid_now_is_the_better_one() -> None:
    late = root(ends=-DAY)
    found = chain.path(read(LEAF, EXPIRED, CA, late, CROSSED), NOW)
    assert [one.der for one in found] == ders(LEAF, CA, CROSSED)
    told = chain.describe_ways(chain.ways(read(LEAF, EXPIRED)), NOW)
    assert "Example Corp Issuing CA 1 is not valid now" in str(told)


def test_two_cas_that_vouch_for_each_other_come_to_an_end() -> None:
    one = ROOT.authority("Example Corp Root CA", role="A")
    first = Identity(one.certificate, one.key).authority("B")
    back = first.authority("Example Corp Root CA", role="A", organisation="Example Corp")
    leaf = Identity(back.certificate, back.key).issue(HOST)
    assert all(len(way) <= 4 for way in chain.ways(read(leaf, back, first, one)))


def test_in_a_mesh_of_cas_not_every_way_is_walked() -> None:
    """There are more of them than this test would ever see the end of."""
    names = [f"CA {number}" for number in range(6)]
    made = {name: root(name, organisation="Example Corp") for name in names}
    mesh = [made[name].authority(other) for name in names for other in names if name != other]
    leaf = mesh[0].issue(HOST)
    assert 0 < len(chain.ways(read(leaf, *mesh))) <= 16


def test_how_a_ca_is_named_to_whoever_is_to_trust_it() -> None:
    told = {"subject": "CN=Example Corp Root CA,O=Example", "sha256": None, "from": None}
    assert chain.ca(told) == "the certificate of Example Corp Root CA"
    assert "(see http://x)" in chain.ca({**told, "from": "http://x"})
    assert "SHA-256 abcd" in chain.ca({**told, "sha256": "abcd"})


# what is told of a certificate without `cryptography`


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # some old roots have the number 0
def test_names_dates_and_keys_are_read_like_cryptography_does() -> None:
    made = [root(f"odd {name}") for name in ('a,b+c"d\\e;<f>', "#g", " h ", "Ünïcode ✓", "x" * 60)]
    late = root("Late", ends=(datetime(2051, 1, 1, tzinfo=UTC) - NOW))
    found = [one.der for one in (*made, late, LEAF, CA)]
    roots = Trust(None, {}).public_roots()
    assert roots is not None
    public = list(roots.certificates)
    assert len(public) > 80
    for one in found + public:
        parsed = reference.load_der_x509_certificate(one)
        assert der.describe(one) == {
            "subject": parsed.subject.rfc4514_string(),
            "issuer": parsed.issuer.rfc4514_string(),
            "sha256": parsed.fingerprint(SHA256()).hex(),
            "not_before": x509.iso(parsed.not_valid_before_utc),
            "not_after": x509.iso(parsed.not_valid_after_utc),
        }
        assert der.names(one) == (parsed.issuer.public_bytes(), parsed.subject.public_bytes())
        key = parsed.public_key()
        assert der.key(one) == key.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ) or isinstance(key, rsa.RSAPublicKey)


def test_what_cannot_be_read_is_not_told() -> None:
    for broken in (b"", b"x", LEAF.der[:60], b"\x30\x84\xff\xff\xff\xff"):
        told = dict(der.describe(broken))
        assert told.pop("sha256") == sha256(broken).hexdigest()
        assert set(told.values()) == {None}
