"""What CAs say about a certificate, and which of their answers count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseBuilder, OCSPResponseStatus

from diag.net import revocation
from diag.net.revocation import Standing
from tests.certificates import CLIENT, DAY, OCSP_SIGNING, Identity, root

CRL, OCSP, CA_CRL = "http://pki.test/ca.crl", "http://pki.test/ocsp", "http://pki.test/root.crl"
GOOD, REVOKED, UNKNOWN = OCSPCertStatus.GOOD, OCSPCertStatus.REVOKED, OCSPCertStatus.UNKNOWN
ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1", crl=CA_CRL)
LEAF = CA.issue("bitbucket.example.com", crl=CRL, ocsp_url=OCSP)
OTHER = CA.issue("other.example.com")
STRANGER = root("Stranger")
DEPUTY = CA.issue(common_name="OCSP responder", usage=OCSP_SIGNING)
Published = dict[str, bytes]


def ask(published: Published, leaf: Identity = LEAF) -> list[Standing]:
    """The standing of leaf and intermediate, where this is published."""

    def fetch(url: str) -> bytes | None:
        found = [body for place, body in published.items() if url.startswith(place)]
        return found[0] if found else None

    tasks = revocation.tasks([leaf.der, CA.der, ROOT.der], fetch)
    return [task() for task in tasks.values()]


@pytest.mark.parametrize(
    ("by", "body", "reason"),
    [
        ("CRL", CA.crl(LEAF), "key compromise"),
        ("CRL", CA.crl(OTHER, LEAF, STRANGER), "key compromise"),
        ("OCSP", CA.ocsp(LEAF, REVOKED), "superseded"),
        ("OCSP", CA.ocsp(LEAF, REVOKED, signer=DEPUTY), "superseded"),
    ],
)
def test_revoked(by: str, body: bytes, reason: str) -> None:
    leaf = ask({CRL if by == "CRL" else OCSP: body})[0]
    assert (leaf.state, leaf.by, leaf.reason) == ("revoked", by, reason)
    assert leaf.since is not None
    assert leaf.serial == f"{LEAF.certificate.serial_number:X}"


def test_whoever_says_revoked_counts_most() -> None:
    assert ask({OCSP: CA.ocsp(LEAF, GOOD), CRL: CA.crl(LEAF)})[0].state == "revoked"


def test_good_and_for_the_intermediate_too() -> None:
    good = {OCSP: CA.ocsp(LEAF, GOOD), CRL: CA.crl(OTHER), CA_CRL: ROOT.crl()}
    assert [(one.state, one.by) for one in ask(good)] == [("good", "OCSP"), ("good", "CRL")]
    assert [one.state for one in ask({**good, CA_CRL: ROOT.crl(CA)})] == ["good", "revoked"]
    assert [one.state for one in ask({OCSP: CA.ocsp(LEAF, GOOD)})] == ["good", "unknown"]


@pytest.mark.parametrize(
    ("place", "body", "trouble"),
    [
        (CRL, CA.crl(LEAF, signer=STRANGER), "not signed by the issuer"),
        (CRL, STRANGER.crl(LEAF), "not signed by the issuer"),
        (CRL, CA.crl(LEAF, starts=-9 * DAY, ends=-DAY), "out of date"),
        (CRL, CA.crl(LEAF, starts=DAY, ends=2 * DAY), "in the future"),
        (CRL, b"<html>", "cannot be read"),
        (CRL, b"", "nothing comes"),
        (OCSP, CA.ocsp(LEAF, REVOKED, signer=STRANGER), "signature"),
        (OCSP, CA.ocsp(LEAF, REVOKED, signer=CA.issue("x", usage=CLIENT)), "signature"),
        (OCSP, CA.ocsp(LEAF, REVOKED, ends=-DAY / 48), "out of date"),
        (OCSP, CA.ocsp(OTHER, REVOKED), "another certificate"),
        (OCSP, CA.ocsp(LEAF, UNKNOWN), "does not know"),
        (OCSP, b"<html>", "cannot be read"),
        (
            OCSP,
            OCSPResponseBuilder.build_unsuccessful(OCSPResponseStatus.TRY_LATER).public_bytes(
                Encoding.DER
            ),
            "try_later",
        ),
    ],
)
def test_an_answer_that_does_not_count(place: str, body: bytes, trouble: str) -> None:
    leaf = ask({place: body})[0]
    assert leaf.state == "unknown"
    assert trouble in leaf.trouble


def test_nobody_to_be_asked() -> None:
    quiet = CA.issue("x", crl="ldap://pki.test/ca", ocsp_url="https://pki.test")
    asked: list[str] = []
    fetch: Callable[[str], None] = asked.append
    [leaf] = [task() for task in revocation.tasks([quiet.der, CA.der], fetch).values()]
    assert (leaf.state, asked) == ("unknown", [])
    assert "names neither" in leaf.trouble
