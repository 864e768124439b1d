"""Check `tls` against real TLS servers on loopback: every verdict, and several faults at once."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diag.model import Status
from diag.profile import Profile
from diag.simulator.server import (
    TLS_HANDSHAKE,
    Connection,
    Request,
    Response,
    html,
    page,
    talk_http,
)
from tests.certificates import (
    CLIENT,
    DAY,
    Identity,
    Kind,
    root,
    self_signed,
    server_context,
    signed_with_sha1,
)
from tests.lab import SERVER4, http_answer
from tests.ports import free_port
from tests.tls_server import (
    HOST,
    Server,
    Talk,
    codes,
    diagnose,
    notes,
    result,
    seen,
    serving,
    tls_site,
)

if TYPE_CHECKING:
    from tests.lab import Lab

ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1")
GOOD = CA.issue(HOST)
STRANGER = root("A stranger", ends=-DAY)
SAAS = Profile(title="Appcircle", from_internet=True)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    """The company's root, for --ca-file."""
    return pem_file(tmp_path, ROOT)


def pem_file(directory: Path, *trusted: Identity) -> str:
    file = directory / "ca.pem"
    file.write_bytes(b"".join(one.pem for one in trusted))
    return str(file)


def evidence(report: Any) -> dict[str, Any]:
    """What shows the root cause."""
    found = report.problems[0].evidence
    assert isinstance(found, dict)
    return found


# all is well


def test_a_good_server_is_met_once(ca_file: str) -> None:
    with tls_site(server_context(GOOD)) as server:
        report = diagnose(server, ca_file=ca_file)
        assert server.connections == 1
    assert codes(report) == []
    assert notes(report) == ["tls-ok", "tls-private-ca"]
    wire = {"secure": True, "verified": True, "version": "TLSv1.3"}
    assert seen(report) == {"wire": wire, "parked": "ObservedSocket", "dates": False, "time": False}
    [found, private] = result(report, "tls").findings
    assert isinstance(found.evidence, dict)
    assert found.evidence["version"] == "TLSv1.3"
    assert found.evidence["publicly_trusted"] is False
    assert "Example Corp Issuing CA 1" in private.message


@pytest.mark.parametrize(
    "served",
    [
        pytest.param(server_context(CA.issue("*.example.com")), id="wildcard"),
        pytest.param(server_context(CA.issue(HOST, kind="ed25519")), id="ed25519"),
        pytest.param(server_context(CA.issue(HOST, kind="rsa")), id="rsa"),
        pytest.param(server_context(GOOD, GOOD.chain(ROOT)), id="root sent too"),
        pytest.param(
            server_context(GOOD, GOOD.chain(ROOT, CA, between=False)), id="in the wrong order"
        ),
        pytest.param(
            server_context(GOOD, GOOD.chain(root("A stranger", ends=-DAY))),
            id="an expired stranger",
        ),
        pytest.param(server_context(CA.issue(HOST, ends=90 * DAY, starts=-60 * DAY)), id="90 days"),
        pytest.param(server_context(CA.issue(HOST, ends=4 * DAY, starts=-2 * DAY)), id="6 days"),
    ],
)
def test_odd_but_healthy(served: ssl.SSLContext, ca_file: str) -> None:
    with tls_site(served) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == []
    assert report.verdict is Status.OK


def test_an_address_that_the_certificate_names(ca_file: str) -> None:
    for host in ("192.0.2.7", "2001:db8::7"):
        with tls_site(server_context(CA.issue(host))) as server:
            assert codes(diagnose(server, host, ca_file=ca_file)) == []


def test_a_trusted_intermediate_is_enough(tmp_path: Path) -> None:
    with tls_site(server_context(GOOD)) as server:
        assert codes(diagnose(server, ca_file=pem_file(tmp_path, CA))) == []


def test_an_optional_client_certificate_is_no_fault(ca_file: str) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = server_context(GOOD)
        context.load_verify_locations(cadata=ROOT.pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.maximum_version = version
        with tls_site(context) as server:
            assert codes(diagnose(server, ca_file=ca_file)) == []


def test_an_inspecting_proxy_that_is_trusted_is_only_told(tmp_path: Path) -> None:
    proxy = root("Zscaler Root CA", organisation="Zscaler Inc.")
    served = proxy.authority("Zscaler Intermediate Root CA", organisation="Zscaler Inc.")
    with tls_site(server_context(served.issue(HOST))) as server:
        report = diagnose(server, ca_file=pem_file(tmp_path, proxy))
    assert codes(report) == []
    assert notes(report) == ["tls-ok", "tls-inspected"]


def test_plain_http_needs_no_tls() -> None:
    with serving(lambda connection: connection.swallow()) as server:
        report = diagnose(server, scheme="http")
    assert codes(report) == []
    assert notes(report) == ["tls-not-needed"]
    assert result(report, "tls").status is Status.SKIP
    assert seen(report)["wire"]["secure"] is False
    assert seen(report)["parked"] == "socket"


def test_certificates_are_read_without_cryptography_while_all_is_well(ca_file: str) -> None:
    with tls_site(server_context(GOOD)) as server:
        program = f"""
import sys
from tests.tls_server import Server, diagnose, notes
assert notes(diagnose(Server({server.port}), ca_file={ca_file!r})) == ["tls-ok", "tls-private-ca"]
assert "cryptography" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


# certificates that do not pass

OTHER_ROOT = root("Forgotten Root", organisation="Forgotten Ltd")
OTHER_CA = OTHER_ROOT.authority("Forgotten CA 7", organisation="Forgotten Ltd")
FOREIGN = OTHER_CA.issue(HOST)
ZSCALER = root("Zscaler Root CA", organisation="Zscaler Inc.")
OUTDATED = signed_with_sha1(ROOT.authority("Example Corp RSA CA", kind="rsa"), HOST)
LATE_CA = ROOT.authority("Example Corp Late CA", ends=-20 * DAY)


def issued(*names: str, by: Identity = CA, **options: Any) -> ssl.SSLContext:
    return server_context(by.issue(*names, **options))


@pytest.mark.parametrize(
    ("expected", "served"),
    [
        ("tls-expired", issued(HOST, ends=-12 * DAY)),
        ("tls-not-yet-valid", issued(HOST, starts=3 * DAY)),
        ("tls-hostname-mismatch", issued("stash.example.com", common_name="stash.example.com")),
        ("tls-no-san", issued()),
        ("tls-self-signed", server_context(self_signed(HOST))),
        ("tls-issuer-unknown", issued(HOST, by=OTHER_CA)),
        ("tls-issuer-unknown", issued(HOST, by=OTHER_ROOT)),
        (
            "tls-issuer-unknown",
            server_context(OTHER_CA.issue(HOST), OTHER_CA.issue(HOST).chain(OTHER_ROOT)),
        ),
        ("tls-chain-incomplete", server_context(GOOD, GOOD.pem)),
        ("tls-chain-incomplete", server_context(GOOD, GOOD.chain(OTHER_CA, between=False))),
        ("tls-intermediate-expired", issued(HOST, by=LATE_CA)),
        ("tls-interception", issued(HOST, by=ZSCALER)),
        ("tls-interception", issued(HOST, by=ZSCALER.authority("Company Inspection"))),
        ("tls-wrong-key-usage", issued(HOST, usage=CLIENT)),
        ("tls-weak-key", issued(HOST, kind="rsa-1024")),
        (
            "tls-weak-signature",
            server_context(OUTDATED),
        ),
    ],
)
def test_one_fault_is_the_one_problem(expected: str, served: ssl.SSLContext, ca_file: str) -> None:
    with tls_site(served) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == [expected]
    assert result(report, "tls").status is Status.FAIL
    for text in (report.problems[0].message, report.problems[0].remedy):
        assert "{" not in text
        assert "–" not in text


@pytest.mark.parametrize(
    ("expected", "served"),
    [
        (
            ["tls-hostname-mismatch", "tls-issuer-unknown", "tls-expired"],
            issued("stash.example.com", by=OTHER_CA, ends=-DAY),
        ),
        (
            ["tls-hostname-mismatch", "tls-self-signed", "tls-expired"],
            server_context(self_signed("stash.example.com", ends=-DAY)),
        ),
        (["tls-no-san", "tls-expired"], issued(ends=-DAY)),
        (["tls-hostname-mismatch"], issued(common_name="www.example.net")),
        (["tls-intermediate-expired", "tls-expired"], issued(HOST, by=LATE_CA, ends=-DAY)),
        (
            ["tls-chain-incomplete", "tls-wrong-key-usage", "tls-weak-key"],
            server_context(
                CA.issue(HOST, usage=CLIENT, kind="rsa-1024"),
                CA.issue(HOST, usage=CLIENT, kind="rsa-1024").pem,
            ),
        ),
        (["tls-not-yet-valid", "tls-weak-key"], issued(HOST, starts=DAY, kind="rsa-1024")),
    ],
)
def test_several_faults_are_all_told(
    expected: list[str], served: ssl.SSLContext, ca_file: str
) -> None:
    with tls_site(served) as server:
        report = diagnose(server, ca_file=ca_file)
    assert sorted(codes(report)) == sorted(expected)
    assert report.root_cause == expected[0]


def test_insecure_goes_on_but_never_as_verified(ca_file: str) -> None:
    with tls_site(issued("stash.example.com")) as server:
        report = diagnose(server, ca_file=ca_file, insecure=True)
        careful = diagnose(server, ca_file=ca_file)
    assert report.root_cause == careful.root_cause == "tls-hostname-mismatch"
    assert seen(report)["wire"]["verified"] is False
    assert seen(report)["parked"] is None
    assert seen(careful)["wire"] is None


def test_names_are_quoted() -> None:
    with tls_site(issued(HOST, by=root("evil\x1b[31m\r\nname"))) as server:
        report = diagnose(server)
    assert codes(report) == ["tls-issuer-unknown"]
    assert "\x1b" not in str(report.to_json())


# the name


def test_an_address_that_the_certificate_does_not_name(ca_file: str) -> None:
    for host in ("192.0.2.7", "2001:db8::7"):
        for served in (issued(HOST), issued(HOST, "192.0.2.8"), issued()):
            with tls_site(served) as server:
                assert codes(diagnose(server, host, ca_file=ca_file)) == ["tls-ip-without-san"]


def by_name(default: ssl.SSLContext, others: dict[str, ssl.SSLContext]) -> ssl.SSLContext:
    """A server with a certificate for each of several names."""

    def choose(sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        sock.context = others.get(name or "", default)

    default.sni_callback = choose
    return default


def test_another_certificate_for_another_name_gives_the_default_site_away(ca_file: str) -> None:
    context = by_name(issued("www.example.net"), {"git.example.com": issued("git.example.com")})
    with tls_site(context, bitbucket=False, status=404) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == ["tls-default-vhost-cert"]
    assert evidence(report)["sites"] == ["git.example.com"]
    assert evidence(report)["heuristic"] is True


def test_a_certificate_chosen_for_the_very_name_is_not_the_default_site_s(ca_file: str) -> None:
    context = by_name(issued("www.example.net"), {HOST: issued("stash.example.com")})
    with tls_site(context, bitbucket=False, status=404) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == ["tls-hostname-mismatch"]
    assert evidence(report)["same_without_name"] is False


def test_another_site_behind_the_wrong_certificate(ca_file: str) -> None:
    with tls_site(issued("www.example.com"), bitbucket=False) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == ["tls-default-vhost-cert"]
    with tls_site(issued("www.example.com"), bitbucket=False, status=404) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == ["tls-hostname-mismatch"]  # not enough to say so


def test_a_certificate_of_a_server_that_is_not_configured() -> None:
    served = server_context(self_signed("TRAEFIK DEFAULT CERT"))
    with tls_site(served, bitbucket=False, status=404) as server:
        report = diagnose(server)
    assert codes(report) == ["tls-default-vhost-cert", "tls-self-signed"]
    with tls_site(served) as server:  # it is Bitbucket, only nobody gave it a certificate
        report = diagnose(server)
    assert codes(report) == ["tls-hostname-mismatch", "tls-self-signed"]


# the issuer


def test_an_old_list_of_cas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mozilla = Path(pem_file(tmp_path, ROOT))
    monkeypatch.setattr("diag.net.tls._mozilla_file", lambda: mozilla)
    with tls_site(server_context(GOOD)) as server:
        report = diagnose(server)
    assert codes(report) == ["tls-trust-store-stale"]
    assert report.problems[0].owner == "you"
    assert ROOT.certificate.subject.rfc4514_string() not in report.problems[0].message
    assert "Example Corp Root CA" in report.problems[0].message


def test_a_root_that_expired_here_while_a_cross_signed_one_is_sent(tmp_path: Path) -> None:
    other = root("Newer Root")
    expired = root("Aging Root", ends=-DAY)
    leaf = expired.authority("Aging Issuing CA").issue(HOST)
    crossed = other.authority("Aging Root")
    trusted = pem_file(tmp_path, expired, other)
    with tls_site(server_context(leaf, leaf.chain(crossed))) as server:
        report = diagnose(server, ca_file=trusted)
    assert codes(report) == ["tls-trust-store-stale"]
    assert "Aging Root" in report.problems[0].message


def test_trusted_here_and_publicly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca_file = pem_file(tmp_path, ROOT)
    mozilla = tmp_path / "mozilla.pem"
    mozilla.write_bytes(ROOT.pem)
    monkeypatch.setattr("diag.net.tls._mozilla_file", lambda: mozilla)
    with tls_site(server_context(GOOD)) as server:
        report = diagnose(server, ca_file=ca_file)
        assert server.connections == 1
    assert notes(report) == ["tls-ok"]
    assert result(report, "tls").findings[0].evidence["publicly_trusted"] is True


def test_a_chain_that_is_complete_only_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mozilla = tmp_path / "mozilla.pem"
    mozilla.write_bytes(ROOT.pem)
    monkeypatch.setattr("diag.net.tls._mozilla_file", lambda: mozilla)
    both = pem_file(tmp_path, ROOT, CA)
    with tls_site(server_context(GOOD, GOOD.pem)) as server:
        inside = diagnose(server, ca_file=both)
        outside = diagnose(server, ca_file=both, profile=SAAS)
    assert result(inside, "tls").findings[0].evidence["publicly_trusted"] is False
    assert codes(inside) == []
    assert codes(outside) == ["tls-chain-incomplete"]
    assert seen(outside)["wire"]["verified"] is True


def pki(content: bytes, asked: list[str]) -> Talk:
    """Where issuers' certificates can be had."""

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return Response(200, [("Content-Type", "application/pkix-cert")], content)

    return talk_http(answer)


AIA = "http://pki.example.com/ca.cer"
POLICY = "http://pki.example.com/policy.cer"


def test_fetching_the_issuer_proves_what_is_missing(ca_file: str) -> None:
    served = CA.issue(HOST, aia=AIA)
    asked: list[str] = []
    with (
        serving(pki(CA.der, asked)) as store,
        tls_site(server_context(served, served.pem)) as server,
    ):
        routes = (f"pki.example.com:80:127.0.0.1:{store.port}",)
        guess = diagnose(server, ca_file=ca_file, routes=routes)
        assert asked == []
        proof = diagnose(server, ca_file=ca_file, routes=routes, fetch_issuers=True)
        unknown = diagnose(server, routes=routes, fetch_issuers=True)
    assert codes(guess) == codes(proof) == ["tls-chain-incomplete"]
    assert evidence(guess)["heuristic"] is True
    assert "proved" in evidence(proof)["basis"]
    assert evidence(proof)["fetched"] == [AIA]
    assert codes(unknown) == ["tls-issuer-unknown", "tls-chain-incomplete"]


def test_fetching_goes_up_step_by_step_until_what_is_trusted(ca_file: str) -> None:
    upper = ROOT.authority("Example Corp Policy CA", aia="http://pki.example.com/root.cer")
    lower = upper.authority("Example Corp Issuing CA 3", aia=POLICY)
    served = lower.issue(HOST, aia="http://pki.example.com/issuing.cer")
    files = {"/policy.cer": upper.pem, "/issuing.cer": lower.der, "/root.cer": ROOT.der}
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return Response(200, [], files[request.path])

    with (
        serving(talk_http(answer)) as store,
        tls_site(server_context(served, served.chain(OTHER_CA, between=False))) as server,
    ):
        routes = (f"pki.example.com:80:127.0.0.1:{store.port}",)
        report = diagnose(server, ca_file=ca_file, routes=routes, fetch_issuers=True)
    assert codes(report) == ["tls-chain-incomplete"]
    assert asked == ["/issuing.cer", "/policy.cer"]
    assert [(one["sha256"], one["state"]) for one in evidence(report)["must_send"]] == [
        (served.sha256, "send"),
        (lower.sha256, "missing"),
        (upper.sha256, "missing"),
        (OTHER_CA.sha256, "leave out"),
    ]
    assert "Issuing CA 3, Example Corp Policy CA" in report.problems[0].message
    for line in (
        f"1. {HOST}, SHA-256 {served.sha256[:16]}…: is sent",
        f"3. Example Corp Policy CA, SHA-256 {upper.sha256[:16]}…: MISSING, get it from {POLICY}",
        "-  Forgotten CA 7: leave it out (foreign)",
    ):
        assert line in report.problems[0].remedy


def test_an_incomplete_chain_of_a_public_ca_and_an_old_list_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mozilla = Path(pem_file(tmp_path, ROOT))
    monkeypatch.setattr("diag.net.tls._mozilla_file", lambda: mozilla)
    served = CA.issue(HOST, aia=AIA)
    with serving(pki(CA.der, [])) as store, tls_site(server_context(served, served.pem)) as server:
        routes = (f"pki.example.com:80:127.0.0.1:{store.port}",)
        report = diagnose(server, routes=routes, fetch_issuers=True)
    assert codes(report) == ["tls-trust-store-stale", "tls-chain-incomplete"]
    assert evidence(report)["import_ca"]["sha256"] == ROOT.sha256


def test_fetching_a_root_proves_that_nothing_is_missing() -> None:
    lone = root("Lone CA", organisation=None)
    served = lone.issue(HOST, aia=AIA)
    for content, expected in ((lone.der, "tls-issuer-unknown"), (b"gone", "tls-chain-incomplete")):
        with serving(pki(content, [])) as store, tls_site(server_context(served)) as server:
            routes = (f"pki.example.com:80:127.0.0.1:{store.port}",)
            report = diagnose(server, routes=routes, fetch_issuers=True)
        assert codes(report) == [expected]


# names that fit, and keys that do not

REKEYED = ROOT.authority("Example Corp Issuing CA 1", role="second key")
RENEWED = root(role="another key", starts=-9 * DAY)


@pytest.mark.parametrize("identified", [True, False])
def test_an_intermediate_of_the_right_name_with_another_key(identified: bool, ca_file: str) -> None:
    served = CA.issue(HOST, identified=identified, aia=AIA)
    with tls_site(server_context(served, served.chain(REKEYED, between=False))) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == ["tls-chain-incomplete"]
    assert "with another key" in report.problems[0].message
    states = [(one["state"], one["sha256"]) for one in evidence(report)["must_send"]]
    assert states == [
        ("send", served.sha256),
        ("missing", None),
        ("leave out", REKEYED.sha256),
    ]
    assert f"MISSING, get it from {AIA}" in report.problems[0].remedy


@pytest.mark.parametrize("identified", [True, False])
def test_a_root_of_the_right_name_with_another_key(identified: bool, ca_file: str) -> None:
    served = RENEWED.authority("Example Corp Issuing CA 9", identified=identified)
    leaf = served.issue(HOST)
    with tls_site(server_context(leaf)) as server:
        silent = diagnose(server, ca_file=ca_file)
    with tls_site(server_context(leaf, leaf.chain(RENEWED))) as server:
        telling = diagnose(server, ca_file=ca_file)
    assert codes(silent) == ["tls-issuer-unknown"]
    assert "of this very name is, but it has another key" in silent.problems[0].message
    assert codes(telling) == ["tls-trust-store-stale"]
    assert "renewed with another key" in telling.problems[0].message
    assert evidence(telling)["import_ca"]["sha256"] == RENEWED.sha256


def test_an_older_root_of_the_name_is_no_newer_list(tmp_path: Path) -> None:
    leaf = ROOT.authority("Example Corp Issuing CA 8").issue(HOST)
    with tls_site(server_context(leaf, leaf.chain(ROOT))) as server:
        report = diagnose(server, ca_file=pem_file(tmp_path, RENEWED))
    assert codes(report) == ["tls-issuer-unknown"]


def test_cross_signed_and_neither_root_is_known() -> None:
    first, second = root("First Root"), root("Second Root")
    leaf = first.authority("Shared CA").issue(HOST)
    with tls_site(server_context(leaf, leaf.chain(second.authority("First Root")))) as server:
        one_way = diagnose(server)
    with tls_site(
        server_context(leaf, leaf.chain(second.authority("First Root"), first))
    ) as server:
        two_ways = diagnose(server)
    assert codes(one_way) == codes(two_ways) == ["tls-issuer-unknown"]
    assert "Second Root" in one_way.problems[0].message
    ends = [one["ends"] for one in evidence(two_ways)["ways"]]
    assert ends == ["it leads to Second Root, which is not sent", "it leads to First Root"]
    assert evidence(two_ways)["import_ca"]["sha256"] == first.sha256


def test_cross_signed_by_what_has_expired_while_a_newer_list_needs_no_crossing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = root("First Root"), root("Second Root")
    leaf = first.authority("Shared CA").issue(HOST)
    mozilla = tmp_path / "mozilla.pem"
    mozilla.write_bytes(first.pem)
    monkeypatch.setattr("diag.net.tls._mozilla_file", lambda: mozilla)
    crossed = second.authority("First Root", ends=-DAY)
    with tls_site(server_context(leaf, leaf.chain(crossed))) as server:
        report = diagnose(server, ca_file=pem_file(tmp_path, second))
        monkeypatch.setattr("diag.net.tls._mozilla_file", lambda: tmp_path / "ca.pem")
        old = diagnose(server, ca_file=pem_file(tmp_path, second))
    assert codes(report) == ["tls-trust-store-stale"]
    assert evidence(report)["import_ca"]["sha256"] == first.sha256
    assert codes(old) == ["tls-intermediate-expired"]


# what is told to whoever must act


def test_the_chain_is_told_in_every_report(ca_file: str) -> None:
    keys = {"subject", "issuer", "sha256", "not_before", "not_after"}
    for served, above in (
        (GOOD, [CA.sha256]),
        (CA.issue(HOST, ends=-DAY), [CA.sha256]),
        (FOREIGN, [OTHER_CA.sha256]),
    ):
        with tls_site(server_context(served)) as server:
            findings = result(diagnose(server, ca_file=ca_file), "tls").findings
        [told] = [one.evidence["chain"] for one in findings if "chain" in one.evidence]
        assert isinstance(told, list)
        assert [one["sha256"] for one in told] == [served.sha256, *above]
        assert all(set(one) == keys and None not in one.values() for one in told)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (GOOD.chain(OTHER_CA), "Forgotten CA 7 (foreign)"),
        (GOOD.chain(ROOT), "Example Corp Root CA (a root"),
        (GOOD.chain(CA), "(it is there twice)"),
    ],
)
def test_more_than_is_needed_is_a_note(chain: bytes, words: str, ca_file: str) -> None:
    with tls_site(server_context(GOOD, chain)) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == []
    [note] = [one for one in result(report, "tls").findings if one.code == "tls-chain-untidy"]
    assert words in note.message
    assert note.message.endswith(f"just: {HOST}, Example Corp Issuing CA 1")


def test_the_wrong_order_is_a_note_beside_a_fault(ca_file: str) -> None:
    lower = CA.authority("Example Corp Sub CA 2")
    good, late = lower.issue(HOST), lower.issue(HOST, ends=-DAY)
    for served, expected in ((good, []), (late, ["tls-expired"])):
        context = server_context(served, served.chain(CA, lower, between=False))
        with tls_site(context) as server:
            report = diagnose(server, ca_file=ca_file)
        assert codes(report) == expected
        [note] = [one for one in result(report, "tls").findings if one.code == "tls-chain-untidy"]
        assert "not in the order" in note.message


def test_the_ca_to_be_imported_and_the_command_for_each_program() -> None:
    with tls_site(server_context(FOREIGN, FOREIGN.chain(OTHER_ROOT))) as server:
        report = diagnose(server)
    told = evidence(report)["import_ca"]
    assert (told["subject"], told["sha256"]) == (
        "CN=Forgotten Root,O=Forgotten Ltd",
        OTHER_ROOT.sha256,
    )
    remedy = report.problems[0].remedy
    assert f"Forgotten Root, SHA-256 {OTHER_ROOT.sha256}" in remedy
    for name, word in {
        "Java": "keytool",
        "git": f"http.https://{HOST}/.sslCAInfo",
        "Node.js": "NODE_EXTRA_CA_CERTS",
        "bbdiag": f"bbdiag check https://{HOST} --ca-file",
        "Debian": "update-ca-certificates",
        "Red Hat": "update-ca-trust",
        "macOS": "security",
        "Windows": "certutil",
    }.items():
        assert word in told["commands"][name]
        assert told["commands"][name] in remedy


# revocation

CRL = "http://pki.example.com/ca.crl"
WITH_CRL = CA.issue(HOST, crl=CRL)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (CA.crl(WITH_CRL), ["tls-revoked"]),
        (CA.crl(OTHER_CA), []),
        (b"gone", ["tls-revocation-unclear"]),
    ],
)
def test_revocation_is_asked_for_on_request(
    published: bytes, expected: list[str], ca_file: str
) -> None:
    asked: list[str] = []
    with serving(pki(published, asked)) as store, tls_site(server_context(WITH_CRL)) as server:
        routes = (f"pki.example.com:80:127.0.0.1:{store.port}",)
        careless = diagnose(server, ca_file=ca_file, routes=routes)
        assert (codes(careless), asked) == ([], [])
        report = diagnose(server, ca_file=ca_file, routes=routes, check_revocation=True)
        insecure = diagnose(
            server, ca_file=ca_file, routes=routes, check_revocation=True, insecure=True
        )
    assert asked == ["/ca.crl"] * 2
    assert codes(report) == expected
    revoked = expected == ["tls-revoked"]
    if revoked:
        assert evidence(report)["reason"] == "key compromise"
        assert evidence(report)["serial"] == f"{WITH_CRL.certificate.serial_number:X}"
    assert (seen(report)["wire"] is None) is revoked  # no secret to whoever has the key
    assert seen(insecure)["wire"]["verified"] is not revoked
    assert ("tls-not-revoked" in notes(report)) is (expected == [])


def test_a_ca_that_cannot_be_asked_does_not_take_all_the_time(ca_file: str) -> None:
    """CRLs are beyond the firewall of many a network."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        tls_site(server_context(WITH_CRL)) as server,
    ):
        routes = (f"pki.example.com:80:127.0.0.1:{silent.getsockname()[1]}",)
        limits: dict[str, Any] = {"timeout": 3.0, "deadline": 3.0}
        report = diagnose(server, ca_file=ca_file, routes=routes, check_revocation=True, **limits)
    assert codes(report) == ["tls-revocation-unclear"]
    assert seen(report)["wire"]["verified"] is True
    assert report.run.duration_ms < 2000


# dates


@pytest.mark.parametrize(
    ("starts", "ends", "soon"),
    [(-300, 5, True), (-300, 22, False), (-2, 4, False), (-5, 1, True), (-60, 20, True)],
)
def test_expiring_soon(starts: int, ends: int, soon: bool, ca_file: str) -> None:
    with tls_site(issued(HOST, starts=starts * DAY, ends=ends * DAY)) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == (["tls-expiring-soon"] if soon else [])
    assert seen(report)["wire"]["verified"] is True


# the handshake


def old_tls() -> ssl.SSLContext:
    context = issued(HOST)
    with warnings.catch_warnings():  # Python warns of what is the fault here
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def static_rsa() -> ssl.SSLContext:
    context = issued(HOST, kind="rsa")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-SHA:@SECLEVEL=0")
    return context


def mutual(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = issued(HOST)
    context.load_verify_locations(cadata=ROOT.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    return context


def refusing(alert: int, name: str) -> ssl.SSLContext:
    context = issued(HOST)

    def choose(_sock: ssl.SSLObject, asked: str | None, _context: ssl.SSLContext) -> int | None:
        return alert if asked == name else None

    context.sni_callback = choose
    return context


@pytest.mark.parametrize(
    ("expected", "context"),
    [
        ("tls-version-too-old", old_tls()),
        ("tls-no-common-cipher", static_rsa()),
        ("tls-client-cert-required", mutual(ssl.TLSVersion.TLSv1_2)),
        ("tls-client-cert-required", mutual(ssl.TLSVersion.TLSv1_3)),
        ("tls-sni-rejected", refusing(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME, HOST)),
        ("tls-sni-rejected", refusing(ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE, HOST)),
        ("tls-sni-rejected", refusing(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR, HOST)),
    ],
)
def test_a_server_that_refuses(expected: str, context: ssl.SSLContext, ca_file: str) -> None:
    with tls_site(context) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == [expected]
    assert seen(report)["wire"] is None


GOOD_CONTEXT = server_context(GOOD)
answering = talk_http(lambda _request: html(200, page("hello")), GOOD_CONTEXT)
plain_http = talk_http(lambda _request: html(200, page("hello")))


def first(*then: Talk) -> Talk:
    """Each of these for one connection, the last for all that follow."""
    left = list(then)

    def talk(connection: Connection) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection)

    return talk


def says(text: bytes) -> Talk:
    def talk(connection: Connection) -> None:
        connection.send(text)
        connection.swallow()

    return talk


def on_hello(
    then: Callable[[Connection], object],
    otherwise: Talk,
    word: str = "",
) -> Talk:
    """`then` for a ClientHello that has `word` in it."""

    def talk(connection: Connection) -> None:
        start = connection.peek(16384)
        if start[:1] == TLS_HANDSHAKE and word.encode() in start:
            then(connection)
        else:
            otherwise(connection)

    return talk


def hang_up(connection: Connection) -> None:
    connection.receive()


def swallow(connection: Connection) -> None:
    connection.swallow()


def reset(connection: Connection) -> None:
    connection.peek()
    connection.reset()


def reset_unasked(connection: Connection) -> None:
    connection.wait(0.3)  # until connect() has returned, which would fail otherwise
    connection.reset()


@pytest.mark.parametrize(
    ("expected", "talk"),
    [
        ("tls-plaintext-port", plain_http),
        ("tls-plaintext-port", on_hello(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), plain_http)),
        ("tls-plaintext-port", on_hello(hang_up, plain_http)),
        ("tls-plaintext-port", on_hello(swallow, plain_http)),
        ("tcp-wrong-service-ssh", says(b"SSH-2.0-APACHE-SSHD-2.12.1\r\n")),
        ("tcp-reset-after-accept", reset),
        ("tcp-reset-after-accept", reset_unasked),
        ("tcp-closed-after-accept", hang_up),
        ("tcp-closed-after-accept", lambda _connection: None),
        ("tcp-silent-after-accept", swallow),
        ("tls-handshake-timeout", on_hello(swallow, answering)),
        ("tls-blocked-by-sni", on_hello(reset, answering, HOST)),
        ("tls-blocked-by-sni", on_hello(hang_up, answering, HOST)),
        ("tls-blocked-by-sni", on_hello(swallow, answering, HOST)),
        ("tls-intermittent", first(reset, answering)),
        ("tls-unclear", says(b"220 mail.example.com ESMTP\r\n")),
    ],
)
def test_a_port_that_does_not_shake_hands(expected: str, talk: Talk, ca_file: str) -> None:
    with serving(talk) as server:
        report = diagnose(server, ca_file=ca_file, timeout=0.7)
    assert codes(report) == [expected]
    assert (seen(report)["wire"] is not None) == (expected == "tls-intermittent")


# programs in the place of the server


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"needs {name}")
    return found


@contextmanager
def running(*argv: str | Path, port: int) -> Iterator[Server]:
    """A server program, once it accepts connections."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            assert process.poll() is None, f"{argv} ended"
            time.sleep(0.05)
        yield Server(port)
    finally:
        process.terminate()
        process.wait(5)


@pytest.fixture
def port() -> int:
    """A loopback port that is free."""
    return free_port()


CLIENTS = "ssl_client_certificate root.pem; ssl_verify_client"


@contextmanager
def nginx(directory: Path, port: int, *servers: str) -> Iterator[Server]:
    """nginx with these server blocks, for TLS on the port."""
    (directory / "good.pem").write_bytes(GOOD.chain())
    (directory / "other.pem").write_bytes(CA.issue("www.example.net").chain())
    (directory / "key.pem").write_bytes(GOOD.key_pem)
    (directory / "root.pem").write_bytes(ROOT.pem)
    blocks = "".join(
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate_key key.pem; {server} }}\n"
        for server in servers
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/log;"
        f"events {{}} http {{ access_log off;\n{blocks} }}"
    )
    arguments = ("-p", directory, "-c", directory / "nginx.conf", "-e", directory / "log")
    with running(program("nginx"), *arguments, port=port) as server:
        yield server


@pytest.mark.parametrize(
    ("expected", "servers"),
    [
        ([], [f"server_name {HOST}; ssl_certificate good.pem;"]),
        (["tls-sni-rejected"], ["ssl_reject_handshake on;"]),
        (
            ["tls-default-vhost-cert"],
            [
                "ssl_certificate other.pem; return 200 welcome;",
                "server_name other.example.com; ssl_certificate good.pem;",
            ],
        ),
        (["tls-client-cert-required"], [f"ssl_certificate good.pem; {CLIENTS} on;"]),
        ([], [f"ssl_certificate good.pem; {CLIENTS} optional;"]),
    ],
    ids=["good", "rejects", "default", "mutual", "optional"],
)
def test_nginx(
    expected: list[str], servers: list[str], port: int, ca_file: str, tmp_path: Path
) -> None:
    with nginx(tmp_path, port, *servers) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == expected


@pytest.mark.parametrize(
    ("expected", "kind", "options"),
    [
        ("tls-version-too-old", "ec", "-tls1 -cipher ALL:@SECLEVEL=0"),
        ("tls-version-too-old", "ec", "-tls1_1 -cipher ALL:@SECLEVEL=0"),
        ("tls-no-common-cipher", "rsa", "-tls1_2 -cipher AES128-SHA"),
        ("tls-default-vhost-cert", "ec", f"-tls1_2 -servername {HOST}.au -cert2 C -key2 K"),
    ],
)
def test_openssl(
    expected: str, kind: Kind, options: str, port: int, ca_file: str, tmp_path: Path
) -> None:
    warned = "vhost" in expected
    served = CA.issue("www.example.net" if warned else HOST, kind=kind)
    files = {"C": tmp_path / "cert.pem", "K": tmp_path / "key.pem"}
    files["C"].write_bytes(served.chain())
    files["K"].write_bytes(served.key_pem)
    words = f"-accept 127.0.0.1:{port} -cert C -cert_chain C -key K -www {options}".split()
    arguments = [files.get(word, word) for word in words]
    with running(program("openssl"), "s_server", *arguments, port=port) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == [expected]
    if warned:
        assert "warns" in evidence(report)["sign"]


# packets that get lost


@pytest.mark.lab
@pytest.mark.parametrize(
    ("expected", "rule"),
    [
        ("tcp-pmtu-blackhole", "tcp sport 443 ip length > 600 drop"),
        ("tls-handshake-timeout", "tcp dport 443 ip length > 200 drop"),
    ],
)
def test_lost_packets(expected: str, rule: str, lab: Lab, ca_file: str) -> None:
    lab.serve("server", 443, http_answer(200, "hello"), tls=GOOD_CONTEXT)
    lab.rules("router", "forward", rule)
    report = lab.call(
        "client", diagnose, Server(443), address=SERVER4, ca_file=ca_file, timeout=1.0
    )
    assert codes(report) == [expected]
    assert report.problems[0].owner == "network-admin"
