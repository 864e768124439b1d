"""Check `clock`: whose clock is wrong, and whether that is why certificates look invalid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diag import registry, runner
from diag.api import CertificateDates, Check, Context, Fact, Finding, ServerTime, Target
from diag.report import Report
from tests.certificates import DAY, Identity, root, server_context
from tests.conftest import make_settings
from tests.tls_server import HOST, codes, diagnose, notes, seen, tls_site

ROOT = root()
CA = ROOT.authority("Example Corp Issuing CA 1")
HOUR, YEAR = 3600.0, 365 * 86400.0


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.pem)
    return str(file)


def compare(ahead: float, *, uncertainty: float = 0.5, local: float | None = None) -> Report:
    """Run the check alone, with a server whose clock is so many seconds ahead of this one."""
    here = time.time() if local is None else local

    class Told(Check):
        """What an answer of the server would have told."""

        id = "told"
        title = "the server's time is known"
        order = 1
        provides = (Target, ServerTime, CertificateDates)

        def run(self, ctx: Context) -> Iterator[Finding | Fact]:
            yield Target(HOST, "https", HOST, 443)
            yield ServerTime(here + ahead, here, uncertainty)

    check = registry.checks().get("clock")
    assert check is not None
    return runner.execute(make_settings(f"https://{HOST}"), [Told, check])


# nothing failed


@pytest.mark.parametrize("ahead", [0.0, 0.9, -0.9, 290.0, -290.0])
def test_clocks_that_agree(ahead: float) -> None:
    report = compare(ahead)
    assert codes(report) == []
    assert notes(report, "clock") == ["clock-ok"]


@pytest.mark.parametrize(
    ("ahead", "words"), [(2 * HOUR, "2 hours ahead of"), (-2 * YEAR, "730 days behind")]
)
def test_two_clocks_alone_do_not_tell_which_is_wrong(ahead: float, words: str) -> None:
    report = compare(ahead)
    assert codes(report) == ["clock-skew-server"]
    assert words in report.problems[0].message
    assert report.problems[0].owner == "server-admin"


def test_a_slow_answer_proves_no_skew() -> None:
    assert codes(compare(310, uncertainty=15)) == []


def test_a_clock_before_the_program_s_own_files_is_this_one() -> None:
    report = compare(20 * YEAR, local=time.time() - 20 * YEAR)
    assert codes(report) == ["clock-skew-behind"]
    assert "own files" in report.problems[0].message


# dates failed


def test_an_expired_certificate_is_expired_for_the_server_too(ca_file: str) -> None:
    with tls_site(server_context(CA.issue(HOST, ends=-DAY))) as server:
        report = diagnose(server, ca_file=ca_file)
        assert [request.headers.get("authorization") for request in server.requests] == [None]
    assert codes(report) == ["tls-expired"]
    assert seen(report)["dates"] is True
    assert seen(report)["time"] is True
    assert notes(report, "clock") == ["clock-ok"]


@pytest.mark.parametrize(
    ("leaf", "ahead", "expected"),
    [
        (CA.issue(HOST, ends=-DAY), -4 * 86400, ["clock-skew-ahead"]),
        (CA.issue(HOST, starts=DAY), 4 * 86400, ["clock-skew-behind"]),
        # By neither clock the certificate is valid: it is the certificate.
        (CA.issue(HOST, ends=-3 * DAY), -2 * HOUR, ["tls-expired", "clock-skew-server"]),
        (CA.issue(HOST, starts=3 * DAY), 2 * HOUR, ["tls-not-yet-valid", "clock-skew-server"]),
    ],
)
def test_the_server_s_clock_decides(
    leaf: Identity, ahead: float, expected: list[str], ca_file: str
) -> None:
    with tls_site(server_context(leaf), ahead=ahead) as server:
        report = diagnose(server, ca_file=ca_file)
    assert codes(report) == expected


def test_what_the_clock_does_not_explain_stays(ca_file: str) -> None:
    leaf = CA.issue("stash.example.com", ends=-DAY)
    with tls_site(server_context(leaf), ahead=-4 * 86400) as server:
        report = diagnose(server, ca_file=ca_file)
    assert sorted(codes(report)) == ["clock-skew-ahead", "tls-hostname-mismatch"]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [("2055-06-01 12:00:00", "clock-skew-ahead"), ("2012-06-01 12:00:00", "clock-skew-behind")],
)
def test_a_machine_with_a_wrong_clock(moment: str, expected: str, ca_file: str) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime")
    program = f"""
import json, sys
from tests.tls_server import Server, diagnose
print(json.dumps(diagnose(Server(int(sys.argv[1])), ca_file={ca_file!r}).to_json()))
"""
    with tls_site(server_context(CA.issue(HOST))) as server:
        done = subprocess.run(
            ["faketime", moment, sys.executable, "-c", program, str(server.port)],
            env=os.environ | {"DONT_FAKE_MONOTONIC": "1"},
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
    report: dict[str, Any] = json.loads(done.stdout)
    assert [problem["code"] for problem in report["problems"]] == [expected]
    assert report["problems"][0]["owner"] == "you"
