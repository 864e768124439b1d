"""Check `tls` against real TLS servers on loopback: every verdict, and several faults at once."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diag import registry
from diag.model import Status
from diag.profile import Profile
from diag.simulator.server import TLS_HANDSHAKE, Connection, Request, Response, html, page, talk_http
from tests.certificates import (
    CLIENT,
    DAY,
    Identity,
    root,
    self_signed,
    server_context,
    signed_with_sha1,
)
from tests.tls_server import HOST, Server, codes, diagnose, notes, result, serving, tls_site

ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1")
GOOD = CA.issue(HOST)
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
            server_context(GOOD, GOOD.chain(root("A stranger", ends=-DAY))), id="an expired stranger"
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


def test_no_heavy_library_while_all_is_well(ca_file: str) -> None:
    with tls_site(server_context(GOOD)) as server:
        program = f"""
import sys
from tests.tls_server import Server, diagnose, notes
assert notes(diagnose(Server({server.port}), ca_file={ca_file!r})) == ["tls-ok", "tls-private-ca"]
assert not {{"cryptography", "certifi", "httpx"}} & set(sys.modules)
"""
        subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


# certificates that do not pass

OTHER_ROOT = root("Forgotten Root", organisation="Forgotten Ltd")
OTHER_CA = OTHER_ROOT.authority("Forgotten CA 7", organisation="Forgotten Ltd")
ZSCALER = root("Zscaler Root CA", organisation="Zscaler Inc.")
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
        ("tls-issuer-unknown", server_context(OTHER_CA.issue(HOST), OTHER_CA.issue(HOST).chain(OTHER_ROOT))),
        ("tls-chain-incomplete", server_context(GOOD, GOOD.pem)),
        ("tls-chain-incomplete", server_context(GOOD, GOOD.chain(OTHER_CA, between=False))),
        ("tls-intermediate-expired", issued(HOST, by=LATE_CA)),
        ("tls-interception", issued(HOST, by=ZSCALER)),
        ("tls-interception", issued(HOST, by=ZSCALER.authority("Company Inspection"))),
        ("tls-wrong-key-usage", issued(HOST, usage=CLIENT)),
        ("tls-weak-key", issued(HOST, kind="rsa-1024")),
        ("tls-weak-signature", server_context(signed_with_sha1(ROOT.authority("R", kind="rsa"), HOST))),
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
