"""Check `input`: what is wrong with what was typed, and what the other checks get of it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from diag import plan, registry
from diag.check import Check
from diag.facts import Credential, Fact, Target
from diag.model import Finding, Status
from diag.profile import Profile
from diag.report import Report
from diag.runner import Runner
from diag.secret import Secret
from diag.settings import GivenSecret, Settings

URL = "https://bb.lab.test/ctx"
TOKEN = "BBDC-MTM5NDkzNDI3MTgzOm/+9zQ4r2Xq7Yk0w5dUe1Ab"
Look = Callable[..., tuple[Report, dict[type[Fact], Fact]]]


@pytest.fixture
def look() -> Look:
    """Run the check alone: its report, and the facts that it gave."""
    check = registry.checks().get("input")
    assert check is not None

    def run(url: str = URL, token: str | None = None, **options: Any) -> Any:
        source = options.pop("source", "$BITBUCKET_TOKEN")
        if token is not None:
            options["given"] = GivenSecret(Secret(token) if token else None, source, announced=True)
        settings = Settings(url=url, profile=Profile(), **options)
        runner = Runner(settings, plan.make([check]))
        return runner.execute(), runner.run.facts

    return run


def the_one_problem(report: Report) -> Any:
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


class TestInOrder:
    def test_anonymous(self, look: Look) -> None:
        report, facts = look()
        assert report.verdict is Status.OK
        assert facts[Credential] == Credential(None)
        assert isinstance(facts[Target], Target)
        assert "no secret: anonymous" in report.checks[0].findings[0].message

    def test_with_a_token(self, look: Look) -> None:
        report, facts = look(f"{URL}/scm/mob/app.git", TOKEN)
        assert report.verdict is Status.OK
        assert facts[Credential] == Credential(Secret(TOKEN), "bearer", None, "$BITBUCKET_TOKEN")
        finding = report.checks[0].findings[0]
        assert finding.code == "input-ok"
        assert finding.message == (
            f"base URL {URL}, repository MOB/app, the secret of $BITBUCKET_TOKEN as Bearer"
        )

    def test_with_a_name(self, look: Look) -> None:
        report, facts = look(token="correct horse battery", user="jdoe")
        assert report.verdict is Status.OK
        assert facts[Credential] == Credential(
            Secret("correct horse battery"), "basic", "jdoe", "$BITBUCKET_TOKEN"
        )

    def test_with_the_name_of_a_netrc(self, look: Look) -> None:
        found = GivenSecret(Secret("hunter22"), "~/.netrc", announced=True, user="jdoe")
        _, facts = look(given=found)
        assert facts[Credential] == Credential(Secret("hunter22"), "basic", "jdoe", "~/.netrc")

    def test_the_option_for_the_repository_wins(self, look: Look) -> None:
        report, facts = look(f"{URL}/scm/mob/app.git", repo="OTHER/lib")
        assert report.verdict is Status.OK
        messages = [finding.message for finding in report.checks[0].findings]
        assert "--repo OTHER/lib is used, not MOB/app of the URL" in messages
        target = facts[Target]
        assert isinstance(target, Target)
        assert (target.project, target.repository) == ("OTHER", "lib")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("bb.lab.test:7990", "input-url-missing-scheme", "http://bb.lab.test:7990"),
        (f"{URL}/projects/MOB/repos/app/browse", "input-url-has-page-path", "MOB/app"),
        (f"{URL}/rest/api/1.0", "input-url-has-api-path", URL),
    ],
)
def test_warnings_do_not_stop_the_run(look: Look, url: str, code: str, words: str) -> None:
    report, facts = look(url, TOKEN)
    problem = the_one_problem(report)
    assert (problem.code, problem.status, problem.owner) == (code, Status.WARN, "you")
    assert words in problem.message
    assert {Target, Credential} <= set(facts)
    assert report.exit_status() == 0
    assert problem.reproduce[0].startswith("curl -sS https://bb.lab.test")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("ssh://git@bb:7999/mob/app.git", "input-url-not-http", "ssh"),
        ("git@bb:mob/app.git", "input-url-not-http", "ssh"),
        ("https://bb:99999", "input-port-invalid", "“99999”"),
        (
            "https://bb.lab.test ",
            "input-url-bad-character",
            "U+0020 SPACE at the end (position 20)",
        ),
        ("https://bb\u200b.lab.test", "input-url-bad-character", "U+200B ZERO WIDTH SPACE inside"),
        ("https://bb..lab.test", "input-host-invalid", "“bb..lab.test” has a dot too many"),
        ("https://{x}/", "input-host-invalid", "“{x}” looks like a variable"),
        ("", "input-host-invalid", "is missing"),
        ("https://jdoe:hunter22@bb.lab.test", "input-url-has-credentials", "password"),
    ],
)
def test_a_url_that_cannot_be_used(look: Look, url: str, code: str, words: str) -> None:
    report, facts = look(url, TOKEN)
    problem = the_one_problem(report)
    assert (problem.code, problem.status) == (code, Status.FAIL)
    assert words in problem.message
    assert Target not in facts
    assert report.exit_status() == 2


def test_the_remedy_of_an_ssh_url_names_the_https_one(look: Look) -> None:
    report, _ = look("git@bb.lab.test:mob/app.git")
    assert "https://bb.lab.test/scm/mob/app.git" in the_one_problem(report).remedy


def test_a_password_in_the_url_is_shown_nowhere(look: Look) -> None:
    report, _ = look("https://jdoe:hu%6Eter22@bb.lab.test/scm/mob/app.git")
    problem = the_one_problem(report)
    assert "https://bb.lab.test/scm/mob/app.git" in problem.remedy
    assert "hunter22" not in str(problem)
    assert "%6E" not in str(problem)


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("", "input-token-missing", "$BITBUCKET_TOKEN, which has none"),
        (f"{TOKEN}\n", "input-token-whitespace", "U+000A LINE FEED at the end"),
        (f" {TOKEN}", "input-token-whitespace", "U+0020 SPACE at the start"),
        (f'"{TOKEN}"', "input-token-whitespace", "quotation marks"),
        ("$TOKEN", "input-token-placeholder", "a shell variable that was not expanded"),
        ("<token>", "input-token-placeholder", "a blank of a manual"),
        ("changeme", "input-token-placeholder", "a word that stands for"),
        ("ghp_" + "a1B2" * 9, "input-token-wrong-product", "a GitHub token"),
        ("ATATT3xFfGF0" + "a1B2" * 9, "input-token-wrong-product", "an Atlassian Cloud API token"),
        ("ATBB" + "a1B2" * 8, "input-token-wrong-product", "a Bitbucket Cloud app password"),
    ],
)
def test_a_secret_that_cannot_be_right(look: Look, token: str, code: str, words: str) -> None:
    report, facts = look(token=token)
    problem = the_one_problem(report)
    assert (problem.code, problem.status, problem.owner) == (code, Status.FAIL, "you")
    assert words in problem.message
    assert Target in facts, "the way there can still be examined"
    assert Credential not in facts, "but the secret is not to be sent"
    assert report.exit_status() == 2
    assert len(token) < 8 or token.strip() not in str(report)


@pytest.mark.parametrize(
    ("url", "token", "expected"),
    [
        ("https://bitbucket.org/acme/app", TOKEN, "input-token-wrong-product"),
        ("https://bitbucket.org/acme/app", "glpat-" + "a1B2" * 5, "input-token-wrong-product"),
        ("https://bitbucket.org/acme/app", "ATCTT3xFfGN0" + "a1B2" * 9, None),
        (URL, TOKEN, None),
    ],
)
def test_each_bitbucket_knows_its_own_tokens(
    look: Look, url: str, token: str, expected: str | None
) -> None:
    assert look(url, token)[0].root_cause == expected


def test_without_a_target_only_foreign_tokens_are_called_so(look: Look) -> None:
    codes = [problem.code for problem in look("https://a..b", "ATBB" + "a1B2" * 8)[0].problems]
    assert codes == ["input-host-invalid"]
    codes = [problem.code for problem in look("https://a..b", "npm_" + "a1B2" * 8)[0].problems]
    assert codes == ["input-host-invalid", "input-token-wrong-product"]


class TestReproduce:
    """The lines show what is wrong, run as they stand, and do not print the secret."""

    def lines(self, look: Look, token: str, source: str) -> list[str]:
        report, _ = look(token=token, source=source)
        return list(the_one_problem(report).reproduce)

    def output(self, line: str, **variables: str) -> str:
        environ = {"PATH": os.environ["PATH"], **variables}
        command = ["sh", "-c", line]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, check=True
        ).stdout

    def test_of_a_variable(self, look: Look) -> None:
        (line,) = self.lines(look, f"{TOKEN}\n", "$MINE")
        shown = self.output(line, MINE=f"{TOKEN}\n")
        assert "\\n" in shown
        assert "BBDC" not in shown.replace(" ", "")

    def test_of_a_file(self, look: Look, tmp_path: Path) -> None:
        file = tmp_path / "a {file} of mine"
        file.write_text("ghp_" + "a1B2" * 9)
        (line,) = self.lines(look, file.read_text(), f"file {file}")
        assert self.output(line) == "ghp_"

    def test_of_something_that_cannot_be_looked_into(self, look: Look) -> None:
        assert self.lines(look, "", "the keyring, service bb.lab.test, user token") == []


class TestCaFile:
    @pytest.fixture(scope="class")
    @staticmethod
    def ca() -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    @staticmethod
    def file(tmp_path: Path) -> Path:
        return tmp_path / "our ca.pem"

    def test_a_ca(self, look: Look, ca: trustme.CA, file: Path) -> None:
        file.write_bytes(ca.cert_pem.bytes())
        assert look(ca_file=str(file))[0].verdict is Status.OK

    def test_missing(self, look: Look, file: Path) -> None:
        report, facts = look(ca_file=str(file))
        problem = the_one_problem(report)
        assert problem.code == "input-ca-unreadable"
        assert "No such file or directory" in problem.message
        assert "--ca-file" in problem.remedy
        assert shlex.split(problem.reproduce[0])[-1] == str(file)
        assert Target not in facts, "TLS would fail on it"
        assert report.exit_status() == 2

    def test_of_the_environment(self, look: Look, file: Path) -> None:
        problem = the_one_problem(look(environ={"SSL_CERT_FILE": str(file)})[0])
        assert problem.code == "input-ca-unreadable"
        assert "$SSL_CERT_FILE" in problem.remedy

    def test_der(self, look: Look, ca: trustme.CA, file: Path) -> None:
        der = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).public_bytes(Encoding.DER)
        file.write_bytes(der)
        report, facts = look(ca_file=str(file))
        problem = the_one_problem(report)
        assert problem.code == "input-ca-not-a-ca"
        assert "a certificate in DER form" in problem.message
        assert Target not in facts

    def test_a_key(self, look: Look, ca: trustme.CA, file: Path) -> None:
        key = ca.private_key_pem.bytes()
        file.write_bytes(key)
        report, _ = look(ca_file=str(file))
        assert report.root_cause == "input-ca-not-a-ca"
        assert "a private key" in report.summary
        assert key.splitlines()[1].decode() not in str(report)

    def test_a_leaf(self, look: Look, ca: trustme.CA, file: Path) -> None:
        file.write_bytes(ca.issue_cert("bb.lab.test").cert_chain_pems[0].bytes())
        report, facts = look(ca_file=str(file))
        assert report.root_cause == "input-ca-not-a-ca"
        assert "only certificates of servers" in report.summary
        assert Target in facts, "TLS was free to start meanwhile"


def test_a_leaf_as_ca_explains_that_the_issuer_is_unknown(run_demo: Callable[..., Report]) -> None:
    report = run_demo("input-ca-not-a-ca")
    assert [problem.code for problem in report.problems] == ["input-ca-not-a-ca"]


def test_the_target_is_given_before_the_slow_look_into_the_ca_file(tmp_path: Path) -> None:
    """The network is awaited while `cryptography` is imported."""
    check = registry.checks().get("input")
    assert check is not None
    file = tmp_path / "leaf.pem"
    file.write_bytes(trustme.CA().issue_cert("bb.lab.test").cert_chain_pems[0].bytes())
    settings = Settings(url=URL, profile=Profile(), ca_file=str(file))
    kinds = [type(item) for item in items(check, settings)]
    assert kinds == [Target, Credential, Finding]


def items(check: type[Check], settings: Settings) -> Iterator[Finding | Fact]:
    from diag.context import Context, Run
    from diag.secret import Scrubber

    instance = check()
    return instance.run(Context(Run(settings, Scrubber()), instance))
