"""The public contract, line by line, as a script, a CI job or a person at a terminal meets it."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from diag.runner import Runner
from diag.schema import schema
from diag.simulator import Simulator

ROOT = Path(__file__).parents[2]
BBDIAG = [sys.executable, "-m", "diag"]


class Bitbucket:
    """A running embedded Bitbucket, and how to call `check` for it."""

    def __init__(self, simulator: Simulator) -> None:
        scenario = simulator.scenario
        assert scenario.token
        self.url, self.token = scenario.url, scenario.token
        rules = [part for rule in scenario.connect_to for part in ("--connect-to", rule)]
        self.way = [*rules, "--ca-file", str(scenario.ca_file)]
        self.environ = {**os.environ, "BITBUCKET_TOKEN": self.token}

    def check(
        self, *options: str, url: str | None = None, python: tuple[str, ...] = (), **environ: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *python, "-m", "diag", "check", url or self.url, *self.way]
        done = subprocess.run(
            [*command, *options],
            cwd=ROOT,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr
        return done

    def report(self, *options: str, **settings: Any) -> dict[str, Any]:
        done = self.check("--format", "json", *options, **settings)
        report = json.loads(done.stdout)
        jsonschema.validate(report, schema())
        assert isinstance(report, dict)
        return report


@pytest.fixture(scope="module")
def bitbucket() -> Iterator[Bitbucket]:
    with Simulator() as simulator:
        yield Bitbucket(simulator)


@pytest.fixture(scope="module")
def silent() -> Iterator[list[str]]:
    """`check` of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        rule = f"silent.example.com:443:127.0.0.1:{port}"
        yield [*BBDIAG, "check", "https://silent.example.com", "--connect-to", rule]


def found(report: dict[str, Any], check: str) -> dict[str, Any]:
    return next(item for item in report["checks"] if item["id"] == check)


# options


def test_only_takes_several_ids_and_adds_what_they_need(bitbucket: Bitbucket) -> None:
    asked = ["--only", "dns", "tcp"]
    report = json.loads(
        subprocess.run(
            [*BBDIAG, "check", *asked, bitbucket.url, *bitbucket.way, "--format", "json"],
            cwd=ROOT, env=bitbucket.environ, capture_output=True, timeout=30, check=True,
        ).stdout
    )  # fmt: skip
    ids = [check["id"] for check in report["checks"]]
    assert {"input", "dns", "tcp"} <= set(ids)
    assert not {"tls", "http", "auth"} & set(ids)
    assert report == report | {"verdict": "ok", "root_cause": None}


def test_a_check_left_out_is_not_said_to_work(bitbucket: Bitbucket) -> None:
    report = bitbucket.report("--skip", "tls")
    assert found(report, "http")["skipped_because"] == {"check": "tls", "code": "check-left-out"}
    assert report["summary"].startswith("Nothing failed, but only ")


def test_the_environment_stands_in_for_options(bitbucket: Bitbucket) -> None:
    report = bitbucket.report(BBDIAG_STAGE="steady", BBDIAG_LABEL="office", BBDIAG_REPO="MOB/app")
    assert report["profile"] == {"name": "appcircle", "stage": "steady"}
    assert report["run"]["label"] == "office"
    assert (report["target"]["project"], report["target"]["repository"]) == ("MOB", "app")
    assert report["root_cause"] == "perm-too-broad"


def test_the_url_and_the_user_come_from_bitbuckets_own_variables(bitbucket: Bitbucket) -> None:
    done = subprocess.run(
        [*BBDIAG, "check", *bitbucket.way, "--format", "json"],
        cwd=ROOT,
        env={**bitbucket.environ, "BITBUCKET_URL": bitbucket.url, "BITBUCKET_USERNAME": "nobody"},
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["target"]["input"] == bitbucket.url
    assert "-u nobody:" in report["problems"][0]["reproduce"][0]


def test_strict_counts_a_warning_as_a_failure(bitbucket: Bitbucket) -> None:
    steady = ("--stage", "steady", "--repo", "MOB/app")
    assert bitbucket.check(*steady).returncode == 0
    assert bitbucket.check(*steady, "--strict").returncode == 1


def test_a_profile_may_be_a_file(bitbucket: Bitbucket, tmp_path: Path) -> None:
    built_in = (ROOT / "diag/profiles/appcircle.toml").read_text(encoding="utf-8")
    own = tmp_path / "mine.toml"
    own.write_text(built_in.replace('"appcircle"', '"mine"'), encoding="utf-8")
    assert bitbucket.report("--for", str(own))["profile"]["name"] == "mine"


def test_whatever_was_sent_is_timed(bitbucket: Bitbucket) -> None:
    report = bitbucket.report("--repo", "MOB/app")
    assert found(report, "tcp")["timings"][0]["what"] == "connect"
    assert found(report, "tls")["timings"][0]["what"] == "tls"
    requests = [
        timing
        for check in report["checks"]
        for timing in check.get("timings", [])
        if timing["what"] == "request"
    ]
    assert len(requests) == report["run"]["requests"] > 0


def test_wait_ends_with_the_report_of_the_last_try() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [*BBDIAG, "check", "https://127.0.0.1:1", "--wait", "1", "--format", "json"],
        cwd=ROOT, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert time.monotonic() - began >= 1
    assert done.returncode == 1
    assert json.loads(done.stdout)["root_cause"] == "tcp-refused"


# streams


def test_other_files_are_written_though_one_cannot_be(bitbucket: Bitbucket, tmp_path: Path) -> None:
    good = tmp_path / "report.json"
    done = bitbucket.check("--output", "table=/no/such/dir/x", "--output", f"json={good}")
    assert done.returncode == 2
    assert "/no/such/dir/x" in done.stderr
    assert json.loads(good.read_text(encoding="utf-8"))["verdict"] == "ok"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "| true"])
def test_closed_streams_change_nothing(bitbucket: Bitbucket, closed: str) -> None:
    line = shlex.join([*BBDIAG, "check", bitbucket.url, *bitbucket.way])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} {closed}"],
        cwd=ROOT, env=bitbucket.environ, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_not_called_a_fault_of_bbdiag(bitbucket: Bitbucket) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [*BBDIAG, "check", bitbucket.url, *bitbucket.way],
            cwd=ROOT, env=bitbucket.environ, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=30, check=False,
        )  # fmt: skip
    assert done.stderr == "Error: cannot write standard output: No space left on device\n"


def test_progress_is_for_terminals_and_leaves_nothing_behind(silent: list[str]) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*silent, "--deadline", "4"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=slave,
    ) as process:  # fmt: skip
        report, _ = process.communicate(timeout=30)
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 0.2)[0]:
        try:
            shown += os.read(master, 4096)
        except OSError:
            break
    os.close(master)
    assert b"checking tls" in shown
    assert shown.endswith(b"\r\x1b[K")
    assert b"checking" not in report


def test_no_locale_no_home_no_place_to_write(bitbucket: Bitbucket, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-I", "-X", "dev", "-W", "default", "-m", "diag", "check", bitbucket.url,
         *bitbucket.way],
        cwd=tmp_path, env=environ, capture_output=True, timeout=30, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "✓" in done.stdout.decode("utf-8")


# time and interruption


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job


@pytest.mark.parametrize("deadline", ["0.5", "1"])
def test_it_ends_by_the_deadline_with_a_report(silent: list[str], deadline: str) -> None:
    done = subprocess.run(
        [*silent, "--deadline", deadline, "--timeout", "30", "--format", "json"],
        cwd=ROOT, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    report = json.loads(done.stdout)
    jsonschema.validate(report, schema())
    # Not the 20 s of the default, nor the 30 s of the time-out; speed itself is measured elsewhere.
    assert report["run"]["duration_ms"] <= float(deadline) * 1000 + 2000
    assert done.returncode in (1, 4)
    assert "30 s" not in report["summary"]  # nobody waited that long


def _until_spoken_to(listener: socket.socket, accepted: ExitStack) -> None:
    """Accept connections until something is said on one of them: `tcp` is done, `tls` has begun."""
    seen = [listener]
    while True:
        for sock in select.select(seen, [], [], 30)[0]:
            if sock is not listener:
                return
            seen.append(accepted.enter_context(listener.accept()[0]))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_prints_what_was_found(sent: signal.Signals) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        process = stack.enter_context(
            subprocess.Popen(
                [*BBDIAG, "check", f"https://127.0.0.1:{listener.getsockname()[1]}",
                 "--timeout", "18", "--format", "json"],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - it only sets a signal
            )
        )  # fmt: skip
        _until_spoken_to(listener, stack)
        time.sleep(1)  # what comes with the end of `tcp` is over as well
        process.send_signal(sent)
        out, err = process.communicate(timeout=30)
    report = json.loads(out)
    jsonschema.validate(report, schema())
    assert (process.returncode, err) == (130, b"")
    assert found(report, "tcp")["status"] == "ok"
    assert report["root_cause"] == "check-interrupted"
    assert found(report, "clock")["status"] == "skip"  # it never began, so it found nothing right


def _until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Until it has but one thread for a while, which waits for a lock: only between two tries."""
    tasks = Path("/proc", str(process.pid), "task")
    if not tasks.exists():
        pytest.skip("this system does not tell what a thread waits for")
    end, seen = time.monotonic() + 10, 0
    while seen < 10 and time.monotonic() < end:
        place = (tasks / str(process.pid) / "wchan").read_text()
        waits = place.startswith("futex") and len(list(tasks.iterdir())) == 1
        seen = seen + 1 if waits else 0
        time.sleep(0.01)


def test_interrupted_between_the_tries_of_wait_it_prints_the_last_report() -> None:
    with subprocess.Popen(
        [*BBDIAG, "check", "https://127.0.0.1:1", "--wait", "60", "--format", "json"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - it only sets a signal
    ) as process:  # fmt: skip
        _until_it_waits(process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["root_cause"] == "tcp-refused"


# secrets


@pytest.mark.parametrize("name", ["table", "json"])
@pytest.mark.parametrize(
    "options",
    [
        ("--repo", "{token}"),
        ("--label", "{token}"),
        ("--output", "table=/no/such/{token}"),
        ("--for", "/no/such/{token}"),
        ("--resolver", "{token}"),
        ("--proxy", "http://user:{token}@127.0.0.1:1"),
        ("http://user:hunter22secret@example.com",),
    ],
    ids=lambda options: options[0],
)
def test_a_secret_in_the_call_stands_in_no_output(
    bitbucket: Bitbucket, options: tuple[str, ...], name: str
) -> None:
    done = bitbucket.check(
        *(option.format(token=bitbucket.token) for option in options),
        "--format", name, "--timings", BBDIAG_DEBUG="1",
    )  # fmt: skip
    encoded = base64.b64encode(bitbucket.token.encode()).decode()
    for secret in (bitbucket.token, encoded.rstrip("="), "hunter22secret"):
        assert secret not in done.stdout + done.stderr


def test_a_secret_in_the_path_of_the_url_stands_in_no_output(bitbucket: Bitbucket) -> None:
    done = bitbucket.check("--format", "json", url=f"{bitbucket.url}/{bitbucket.token}")
    assert bitbucket.token not in done.stdout + done.stderr
    assert "***" in json.loads(done.stdout)["target"]["base_url"]


# reproduce lines


@pytest.mark.parametrize(
    "hostile", ["x'; touch OWNED; '", "$(touch OWNED)", "`touch OWNED`", "a b; touch OWNED", "x\\'"]
)
def test_a_reproduce_line_is_one_harmless_command(hostile: str, tmp_path: Path) -> None:
    """Host names, redirects and paths come from outside, and people paste these lines."""
    from diag.plan import Plan
    from diag.profile import Profile
    from diag.settings import Settings

    runner = Runner(Settings("https://bitbucket.example.com", Profile()), Plan(()))
    for template in ("printf '%s' '{value}'", "printf '%s' {value}", ": 'x'; printf '%s' {value}"):
        line = runner._command(template, {"value": hostile})
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True,
                              timeout=10, check=True)  # fmt: skip
        assert done.stdout == hostile
    assert list(tmp_path.iterdir()) == []


def test_a_word_that_is_quoted_already_is_not_quoted_twice() -> None:
    from diag.plan import Plan
    from diag.profile import Profile
    from diag.settings import Settings

    runner = Runner(Settings("https://bitbucket.example.com", Profile()), Plan(()))
    path = shlex.quote("/my files/ca.pem")
    assert runner._command("ls -l {path}", {"path": path}) == f"ls -l {path}"
