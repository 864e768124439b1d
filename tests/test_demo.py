"""The embedded Bitbucket, broken in every way it knows: the diagnosis names that way, once."""

from __future__ import annotations

import json

import jsonschema
import pytest

from diag import cli, registry
from diag.commands import demo
from diag.model import Status
from diag.report import Report
from diag.runner import execute
from diag.schema import schema
from diag.simulator import CLOUD_FAULTS, FAULTS, Simulator

CODES = [(code, False) for code in FAULTS if code != "input-config-invalid"]
CLOUD_CODES = [(code, True) for code in CLOUD_FAULTS]


def run(code: str | None, *, cloud: bool = False) -> tuple[Report, Simulator]:
    with Simulator(code, cloud=cloud) as simulator:
        settings = demo.settings_from(simulator.scenario)
        return execute(settings, registry.checks().checks), simulator


@pytest.mark.parametrize(("cloud", "most"), [(False, 12), (True, 10)], ids=["dc", "cloud"])
def test_the_healthy_one_has_nothing_to_complain_about(cloud: bool, most: int) -> None:
    report, simulator = run(None, cloud=cloud)
    assert [problem.to_json() for problem in report.problems] == []
    assert report.verdict is Status.OK
    assert {check.status for check in report.checks} <= {Status.OK, Status.SKIP}
    assert report.run.requests == len(simulator.requests) <= most
    assert {request.method for request in simulator.requests} <= {"GET", "HEAD"}
    assert all(request.known for request in simulator.requests)


@pytest.mark.parametrize(("code", "cloud"), [*CODES, *CLOUD_CODES])
def test_a_fault_is_named_as_the_one_root_cause(code: str, cloud: bool) -> None:
    report, simulator = run(code, cloud=cloud)
    # On Cloud a verdict has several forms, "code/form".
    assert report.root_cause == code.partition("/")[0], [
        problem.to_json() for problem in report.problems
    ]
    jsonschema.validate(report.to_json(), schema())
    for problem in report.problems:
        for text in (problem.message, problem.remedy, *problem.reproduce):
            assert "{" not in text or "${" in text or "%{" in text, text
    # What was asked of the server is what the real one has, and the secret was never pressed on it.
    assert [r for r in simulator.requests if not r.known and r.method not in ("GET", "HEAD")] == []
    credentialed = [r for r in simulator.requests if r.authorization != "none"]
    refused = [index for index, r in enumerate(credentialed) if r.status == 401]
    assert refused in ([], [len(credentialed) - 1]), "the secret was sent again after a 401"


def test_a_wrong_profile_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    code = "input-config-invalid"
    assert cli.run(["demo", "--fault", code, "--format", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["root_cause"] == code


def test_every_verdict_about_cloud_alone_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo", "--cloud", "--list"]) == 0
    listed = {line.partition("/")[0] for line in capsys.readouterr().out.splitlines()}
    verdicts = [one for check in registry.checks().checks for one in check.verdicts()]
    failing = {one.code for one in verdicts if one.status is Status.FAIL}
    failing = {code for code in failing if code.startswith("cloud-")}
    assert failing
    assert failing <= listed


def test_the_command_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["demo", "--cloud", "--fault", "cloud-scope-missing", "--format", "json"]
    assert cli.run(arguments) == 1
    assert json.loads(capsys.readouterr().out)["root_cause"] == "cloud-scope-missing"


def test_at_least_sixty_faults_can_be_shown() -> None:
    assert len(FAULTS) >= 60
