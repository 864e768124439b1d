"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

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


@pytest.mark.parametrize("arguments", [("--help",), ("check", "--help"), ("--version",)])
def test_help_imports_no_network_library(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from diag.cli import run\n"
        f"run({list(arguments)!r})\n"
        "heavy = {'httpx', 'httpcore', 'dns', 'ssl', 'cryptography', 'tabulate', 'asyncio'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          timeout=30, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


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
    from diag.commands.check import command

    for parameter in command.params:
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
    for text in ("", "[]", "{}", '{"schema_version": 2}', "\x00"):
        (tmp_path / "r.json").write_text(text, encoding="utf-8")
        assert "cannot be used" in bbdiag("render", str(tmp_path / "r.json"), expect=2).stderr


def test_the_exit_status_does_not_depend_on_the_format() -> None:
    for fault, status in (("base-url-localhost", 1), ("input-port-invalid", 2)):
        for name in ("table", "json"):
            bbdiag("demo", "--fault", fault, "--format", name, expect=status)


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


def test_completion_completes_formats_and_checks() -> None:
    done = bbdiag(
        _BBDIAG_COMPLETE="bash_complete", COMP_WORDS="bbdiag check --only t", COMP_CWORD="3"
    )
    assert "tls" in done.stdout
