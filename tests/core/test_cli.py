"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from diag.report import Report
from diag.schema import schema

ROOT = Path(__file__).parents[2]


def bbdiag(
    *arguments: str, expect: int | None = 0, **environ: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "diag", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if expect is not None:
        assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_same_version_however_it_is_asked() -> None:
    from diag.version import VERSION

    assert bbdiag("--version").stdout == f"bbdiag {VERSION}\n"
    assert bbdiag("--version", BBDIAG_FORMAT="table").stdout == f"bbdiag {VERSION}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chekc",), "Did you mean 'check'?"),
        (("https://bitbucket.example.com",), "bbdiag check URL"),
        (("check",), "Missing argument 'URL'"),
        (("check", "https://a.invalid", "--timeout", "soon"), "not a number of seconds"),
        (("check", "https://a.invalid", "--timeout", "-1"), "at least"),
        (("check", "https://a.invalid", "--deadline", "nan"), "at least"),
        (("check", "https://a.invalid", "--format", "jsn"), "there is no format 'jsn'"),
        (("check", "https://a.invalid", "--output", "json"), "FORMAT=FILE"),
        (("check", "https://a.invalid", "--connect-to", "x"), "HOST:PORT:ADDRESS:PORT"),
        (("check", "https://a.invalid", "--resolver", "dns.example"), "IP address"),
        (("check", "https://a.invalid", "--for", "apcircle"), "appcircle"),
        (("check", "https://a.invalid", "--repo", "nonsense"), "nonsense"),
        (("check", "https://a.invalid", "--only", "tsl"), "did you mean 'tls'?"),
        (("check", "https://a.invalid", "--token-file", "/no/such/file"), "/no/such/file"),
        (("explain", "tls-expird"), "tls-expired"),
        (("render", "/no/such/file"), "cannot read"),
        (("demo", "--fault", "tls-expird"), "tls-expired"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_exits_2(arguments: tuple[str, ...], says: str) -> None:
    done = bbdiag(*arguments, expect=2)
    assert says in done.stderr
    assert done.stdout == ""


def test_a_wrong_call_is_still_one_document_where_json_is_asked_for() -> None:
    for arguments in (
        ("check", "https://a.invalid", "--format", "json", "--timeout", "soon"),
        ("check", "--format=json", "--no-such-option"),
        ("check", "--format", "json"),
    ):
        document = json.loads(bbdiag(*arguments, expect=2).stdout)
        jsonschema.validate(document, schema())
        assert document["root_cause"] == "input-config-invalid"


def test_every_option_can_be_set_in_the_environment() -> None:
    from diag.commands import check, fleet

    for parameter in (*check.command.params, *fleet.command.params):
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert isinstance(parameter.envvar, list)
            long = max(parameter.opts, key=len)
            assert "BBDIAG_" + long[2:].upper().replace("-", "_") in parameter.envvar
    done = bbdiag("check", "https://a.invalid", expect=2, BBDIAG_TIMEOUT="soon")
    assert "'soon' is not a number of seconds" in done.stderr


def test_the_report_goes_to_standard_output_and_nothing_else_does(tmp_path: Path) -> None:
    done = bbdiag("demo", "--format", "json", "--output", f"table={tmp_path / 'r.txt'}")
    report = json.loads(done.stdout)
    jsonschema.validate(report, schema())
    assert done.stderr == ""
    assert "✓" in (tmp_path / "r.txt").read_text(encoding="utf-8")
    (tmp_path / "r.json").write_text(done.stdout, encoding="utf-8")
    table = bbdiag("render", str(tmp_path / "r.json"))
    assert "base-url" in table.stdout
    again = bbdiag("render", str(tmp_path / "r.json"), "--format", "json")
    assert json.loads(again.stdout) == report


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"schema_version": 2}', "\x00", "[" * 100_000):
        (tmp_path / "r.json").write_text(text, encoding="utf-8")
        assert "cannot be used" in bbdiag("render", str(tmp_path / "r.json"), expect=2).stderr


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What `--format json` writes."""
    return dict(json.loads(bbdiag("demo", "--format", "json").stdout))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_report_is_read_as_the_shell_saved_it(
    report: dict[str, Any], encoding: str, tmp_path: Path
) -> None:
    """PowerShell's > writes UTF-16."""
    (tmp_path / "r.json").write_text(json.dumps(report, ensure_ascii=False), encoding=encoding)
    again = bbdiag("render", str(tmp_path / "r.json"), "--format", "json")
    assert json.loads(again.stdout) == report


def test_a_secret_of_the_environment_is_not_shown_from_a_file(
    report: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(
        json.dumps(report | {"run": report["run"] | {"label": "at hidden-secret-1"}}),
        encoding="utf-8",
    )
    done = bbdiag("render", str(tmp_path / "r.json"), BITBUCKET_TOKEN="hidden-secret-1")
    assert "at ***" in done.stdout


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("run", "label"), ["a"], "run.label is of another kind: ['a']"),
        (("run", "requests"), True, "run.requests is of another kind: True"),
        (("tool",), {}, "tool.version is missing"),
        (("checks", 0, "status"), "great", "checks[0].status is 'great'"),
        (("checks", 0, "findings", 0), 3, "checks[0].findings[0] is no object"),
        (("problems",), {}, "problems is of another kind: {}"),
        (("problems",), [{"code": "a", "status": "fail"}], "problems[0].check is missing"),
    ],
)
def test_a_field_that_is_not_as_promised_is_named(
    report: dict[str, Any], path: tuple[str | int, ...], value: object, says: str
) -> None:
    document: Any = json.loads(json.dumps(report))
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(ValueError, match=re.escape(f"not a bbdiag report: {says}")):
        Report.from_json(document)


def test_the_report_of_a_call_that_came_to_no_run_can_be_shown(tmp_path: Path) -> None:
    done = bbdiag("check", "--format", "json", expect=2, BITBUCKET_URL="")
    (tmp_path / "r.json").write_text(done.stdout, encoding="utf-8")
    last = bbdiag("render", str(tmp_path / "r.json")).stdout.splitlines()[-1]
    assert re.fullmatch(r"no URL: 0 checks, 0 requests, 0 ms \(bbdiag \S+\)", last)


def test_clients_as_another_version_told_them_are_passed_over(tmp_path: Path) -> None:
    golden = ROOT / "tests" / "golden" / "proxy-bypass-missing.json"
    document = json.loads(golden.read_text(encoding="utf-8"))
    for check in document["checks"]:
        for finding in check["findings"]:
            if "clients" in finding["evidence"]:
                finding["evidence"]["clients"] = [1, {"client": "curl", "path": "direct"}]
    (tmp_path / "r.json").write_text(json.dumps(document), encoding="utf-8")
    shown = bbdiag("render", str(tmp_path / "r.json")).stdout
    assert "bbdiag explain proxy-bypass-missing" in shown
    assert "The way out" not in shown


def test_fields_of_later_versions_are_passed_over(report: dict[str, Any]) -> None:
    checks = [check | {"weight": 3} for check in report["checks"]]
    later = report | {"checks": checks, "advice": {}, "run": report["run"] | {"zone": "a"}}
    assert Report.from_json(later) == Report.from_json(report)


def test_the_exit_status_does_not_depend_on_the_format() -> None:
    for fault, status in (("base-url-localhost", 1), ("input-port-invalid", 2)):
        for name in ("table", "json"):
            bbdiag("demo", "--fault", fault, "--format", name, expect=status)


def test_a_check_whose_find_is_explained_by_another_is_not_said_not_to_have_run() -> None:
    """`webhook-missing` explains that the rights are more than the product needs by now."""
    table = bbdiag("demo", "--fault", "webhook-missing").stdout
    assert "- a consequence of webhook-missing: permission" in table
    assert "not run because of webhook-missing" not in table


def test_colour_is_for_terminals_and_the_environment_may_say_otherwise() -> None:
    assert "\x1b[" not in bbdiag("demo").stdout
    assert "\x1b[" in bbdiag("demo", FORCE_COLOR="1").stdout
    assert "\x1b[" not in bbdiag("demo", FORCE_COLOR="1", NO_COLOR="1").stdout


def test_the_table_fits_80_columns() -> None:
    for fault in ("base-url-localhost", "tls-chain-incomplete", "perm-admin-missing"):
        done = bbdiag("demo", "--fault", fault, expect=1)
        commands = ("  see it", "             ")
        for line in done.stdout.splitlines():
            assert len(line) <= 80 or line.startswith(commands), line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_BBDIAG_COMPLETE" in bbdiag("completion", shell).stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("bbdiag explain tls-revok", "tls-revoked"),
        ("bbdiag explain reac", "reach"),
        ("bbdiag demo --fault webhook-miss", "webhook-missing"),
        ("bbdiag demo --cloud --fault cloud-scope-miss", "cloud-scope-missing"),
    ],
)
def test_completion_completes_codes(words: str, completed: str) -> None:
    at = str(len(words.split()) - 1)
    done = bbdiag(_BBDIAG_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=at)
    assert f"plain,{completed}" in done.stdout.splitlines()


def test_an_explanation_fits_a_narrow_terminal() -> None:
    import pty

    main, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "diag", "explain", "compare-other-address"],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "60"},
            stdout=terminal,
            timeout=60,
            check=False,
        )
        shown = os.read(main, 65536).decode()
    finally:
        os.close(main)
        os.close(terminal)
    assert done.returncode == 0
    text = shown.partition("see it")[0].splitlines()  # commands stay whole, however long
    assert 50 < max(map(len, text)) <= 60


def test_completion_completes_formats_and_checks() -> None:
    done = bbdiag(
        _BBDIAG_COMPLETE="bash_complete", COMP_WORDS="bbdiag check --only t", COMP_CWORD="3"
    )
    assert "tls" in done.stdout
