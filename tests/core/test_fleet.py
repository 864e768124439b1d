"""Many targets in one call: the file, shards, the order of the lines, and whose secret it is."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from diag import usage
from diag.fleet import SLOW, Schedule, Tally
from diag.fleetfile import Entry, FleetFile, FleetFileError, Shard
from diag.report import Report, TargetInfo
from diag.schema import schema
from diag.settings import ConnectTo
from diag.simulator import Simulator

ROOT = Path(__file__).parents[2]
BBDIAG = [sys.executable, "-m", "diag"]
REFUSED = "https://127.0.0.1:1"  # nothing listens there
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, named by its format."""

    def one(text: str) -> Path:
        path = tmp_path / ("targets.toml" if "[[" in text else "targets.txt")
        path.write_text(text, encoding="utf-8")
        return path

    return one


def fleet(
    *arguments: str | Path, given: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*BBDIAG, "fleet", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environ}, input=given, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def lines(text: str) -> list[dict[str, Any]]:
    """The reports, each a valid one and a line of its own."""
    reports = [json.loads(line) for line in text.splitlines()]
    for report in reports:
        jsonschema.validate(report, schema())
    return reports


def causes(text: str) -> dict[str, str | None]:
    """The root cause of each target, by its name or URL."""
    reports = lines(text)
    found = {
        report["target"].get("name", report["target"]["input"]): report["root_cause"]
        for report in reports
    }
    assert len(found) == len(reports), "a target has more than one report"
    return found


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job


@contextmanager
def begun(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A fleet that is looked at while it runs; whoever leaves ends it."""
    with subprocess.Popen(
        [*BBDIAG, "fleet", *map(str, arguments)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - it only sets a signal
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def end(listener: socket.socket) -> None:
    """Close it; a mere close would leave the thread that accepts where it is."""
    with suppress(OSError):  # it is closed already
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class Silent:
    """A server that accepts connections and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[socket.socket] = []
        self.met = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, path: str = "") -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}/{path}"

    def _accept(self) -> None:
        while True:
            try:
                self._accepted.append(self._listener.accept()[0])
            except OSError:
                return
            self.met.set()

    def close(self) -> None:
        end(self._listener)
        self._thread.join(5)
        while self._accepted:
            self._accepted.pop().close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


class Tap:
    """Stands before a server and keeps what clients say to it."""

    def __init__(self, port: int) -> None:
        self._behind = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._behind)
            except OSError:
                client.close()
                continue
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(*ends, client), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if source is client:
                    self.heard += data
                sink.sendall(data)
        for one in (source, sink):  # either direction ends both: HTTP asks for no more
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        end(self._listener)


# the file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it holds no target"),
        ("# nothing\n\n  \n", "it holds no target"),
        ("target = []\n", "it holds no target"),
        ('[[target]]\nname = "x"\n', "target 1: url is missing"),
        ('[[target]]\nurl = ""\n', "target 1: url must be text"),
        ("[[target]]\nurl = 5\n", 'target 1: url must be text in quotes, such as "…", not 5'),
        ('[[target]]\nurl = "a"\n[[target]]\nurl = "b"\nuser = true\n', "target 2: user must be"),
        ('[[target]]\nurl = "a"\ntokn_env = "X"\n', "tokn_env; did you mean 'token_env'?"),
        ('[[target]]\nurl = "a"\nstage = "stedy"\n', "stage must be one of setup, steady"),
        ('[[target]]\nurl = "a"\nrepo = "x"\n', "target 1: repo is wrong: the repository must"),
        ('[[target]]\nurl = "a"\nfor = "apcircle"\n', "did you mean 'appcircle'?"),
        ('[[target]]\nurl = "a"\nfor = "my.toml"\n', "my.toml cannot be read"),
        ('[[target]]\nurl = "a"\nconnect_to = "x"\n', "connect_to must be a list"),
        ('[[target]]\nurl = "a"\nconnect_to = ["x:1"]\n', "'x:1' is not HOST:PORT:ADDRESS:PORT"),
        ('[[target]]\nurl = "a"\ntoken_env = "A"\ntoken_file = "b"\n', "from one only"),
        ('[[target]]\nurl="a"\nname="x"\n[[target]]\nurl="b"\nname="x"\n', "that of target 1"),
        ('[target]\nurl = "a"\n', "let each target begin with a line [[target]]"),
        ('[[targets]]\nurl = "a"\n', "no key targets; did you mean 'target'?"),
        ('# a comment\n\n[[target]\nurl = "a"\n', "(at line 3, column 9)"),
        (f"a.example.com\n{'b' * 70_000}\n", "line 2 is longer than"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_the_target_and_the_key(
    text: str, says: str, write: Write
) -> None:
    path = write(text)
    with pytest.raises(FleetFileError) as caught:
        list(FleetFile(str(path)))
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("key", ["token", "token_env"])
def test_a_secret_in_the_file_is_refused_and_not_shown(key: str, write: Write) -> None:
    path = write(f'[[target]]\nurl = "a"\n{key} = "BBDC-canary123"\n')
    done = fleet(path, "--format", "json")
    assert done.returncode == 2
    assert "token_env" in done.stderr
    assert "canary123" not in done.stdout + done.stderr
    assert json.loads(done.stdout)["root_cause"] == "input-config-invalid"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("/no/such/file",), "cannot read /no/such/file: No such file"),
        (("/",), "Is a directory"),
        (("-",), "standard input: it holds no target"),
        ((), "Missing argument 'FILE'"),
        (("-", "--token-file", "-"), "can be read only once"),
        (("-", "--shard", "0/3"), "counted from 1/3 to 3/3"),
        (("-", "--shard", "4/3"), "counted from 1/3 to 3/3"),
        (("-", "--shard", "1/0"), "at least one shard"),
        (("-", "--shard", "1"), "is not I/N"),
        (("-", "--parallel", "0"), "1<=x<=1000"),
        (("-", "--parallel", "1001"), "1<=x<=1000"),
        (("-", "--netrc", "--token-env", "X"), "the secret can come from one only"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_exits_2(arguments: tuple[str, ...], says: str) -> None:
    done = fleet(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_url_a_line_whatever_saved_the_file(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "urls"
    text = end.join(["# ours", "", "  https://a.example.com ", "[::1]:7990", "b.example.com/?a=b"])
    path.write_bytes(text.encode(encoding))
    urls = ["https://a.example.com", "[::1]:7990", "b.example.com/?a=b"]
    assert [entry.url for entry in FleetFile(str(path))] == urls


def test_a_toml_file_is_known_by_its_content_and_its_paths_begin_beside_it(tmp_path: Path) -> None:
    built_in = (ROOT / "diag/profiles/jenkins.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(built_in.replace('"jenkins"', '"mine"'), encoding="utf-8")
    path = tmp_path / "targets"
    path.write_text(
        '# ours\n[[target]]\nurl = " https://a.example.com"\nname = "a"\nrepo = "MOB/app"\n'
        'user = "jdoe"\ntoken_file = "secrets/a"\nca_file = "/etc/ca.pem"\nfor = "mine.toml"\n'
        'stage = "steady"\nconnect_to = ["a.example.com:443:127.0.0.1:8443"]\n'
        '[[target]]\nurl = "https://b.example.com"\ntoken_env = "B"\nfor = "jenkins"\n',
        encoding="utf-8",
    )
    one, other = FleetFile(str(path))
    assert one == Entry(
        "https://a.example.com",
        "a",
        "MOB/app",
        "jdoe",
        token_file=str(tmp_path / "secrets/a"),
        ca_file="/etc/ca.pem",
        profile=one.profile,
        stage="steady",
        connect_to=(ConnectTo("a.example.com", 443, "127.0.0.1", 8443),),
    )
    assert [entry.profile and entry.profile.name for entry in (one, other)] == ["mine", "jenkins"]


def test_a_long_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"https://bitbucket-{number}.example.com\n" for number in range(100_000))
    tracemalloc.start()
    try:
        count = FleetFile(str(path)).count(Shard(1, 2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count is not None
    assert 49_000 < count < 51_000
    assert peak < 1 << 20  # the file has 4 MB


# shards


def test_a_target_stays_in_its_shard_whatever_stands_beside_it() -> None:
    entries = [Entry(f"https://{number}.example.com") for number in range(200)]
    entries += [Entry("https://bitbucket.example.com", name=f"n{number}") for number in range(200)]
    for count in (1, 2, 7):
        shards = [Shard(index + 1, count) for index in range(count)]
        assert all(sum(entry in shard for shard in shards) == 1 for entry in entries)
        assert all(any(entry in shard for entry in entries) for shard in shards)


def test_the_shard_of_a_target_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Machines of one fleet may run different versions for a while."""
    entries = {"https://a.example.com": 3, "https://b.example.com": 1, "bücher": 2}
    for url, index in entries.items():
        assert [shard for shard in (1, 2, 3) if Entry(url) in Shard(shard, 3)] == [index]
    named = Entry("https://elsewhere.example.com", name="https://a.example.com")
    assert named in Shard(3, 3)


def test_the_lines_of_two_shards_are_together_every_target_once(write: Write) -> None:
    urls = [f"{REFUSED}/context-{number}" for number in range(24)]
    path = write("\n".join(urls))
    options = ("--only", "tcp", "--output")
    both = [
        subprocess.Popen(
            [*BBDIAG, "fleet", str(path), "--shard", f"{shard}/2", *options,
             f"json={path.with_name(f'{shard}.ndjson')}"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for shard in (1, 2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=50)[0] for process in both]
    assert [process.returncode for process in both] == [1, 1]
    assert all(outputs), "a shard is empty"
    assert causes("".join(outputs)) == dict.fromkeys(urls, "tcp-refused")
    saved = [path.with_name(f"{shard}.ndjson").read_text(encoding="utf-8") for shard in (1, 2)]
    assert saved == outputs


# order and time


def test_slow_targets_at_the_head_do_not_hold_up_the_healthy_ones(
    silent: Silent, write: Write
) -> None:
    slow = [silent.url(f"slow-{number}") for number in range(6)]
    with Simulator(tls=False) as bitbucket:
        scenario = bitbucket.scenario
        quick = [f"{scenario.url}/projects/{key}" for key in ("MOB", "LIB", "WEB")]
        rules = [part for rule in scenario.connect_to for part in ("--connect-to", rule)]
        done = fleet(
            write("\n".join([*slow, *quick])), "--parallel", "4", "--only", "http",
            "--timeout", "9", "--deadline", "5", *rules,
        )  # fmt: skip
    order = [report["target"]["input"] for report in lines(done.stdout)]
    assert set(order[:3]) == set(quick)
    assert sorted(order[3:]) == slow


def test_a_report_can_be_read_while_another_target_still_runs(silent: Silent, write: Write) -> None:
    path = write(f"{silent.url()}\n{REFUSED}\n")
    with begun(path, "--timeout", "40", "--deadline", "50") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert causes(first) == {REFUSED: "tcp-refused"}
        assert silent.met.wait(30)
        assert process.poll() is None
        silent.close()
        rest, _ = process.communicate(timeout=50)
    assert list(causes(rest)) == [silent_url(rest)]
    assert process.returncode == 1


def silent_url(text: str) -> str:
    return str(lines(text)[0]["target"]["input"])


def test_a_pipe_is_read_as_it_is_written() -> None:
    with begun("-", "--only", "tcp") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(f"\n{REFUSED}/{number}\n# more to come\n")
            process.stdin.flush()
            assert causes(process.stdout.readline()) == {f"{REFUSED}/{number}": "tcp-refused"}
        rest, errors = process.communicate(timeout=30)
    assert (rest, errors, process.returncode) == ("", "", 1)


class Counted:
    """A job that knows how many of its kind there are."""

    alive = 0
    most = 0
    lock = threading.Lock()

    def __init__(self, wait: float = 0.0) -> None:
        self._stop = threading.Event()
        self._wait = wait
        with Counted.lock:
            Counted.alive += 1
            Counted.most = max(Counted.most, Counted.alive)

    def execute(self) -> Report:
        self._stop.wait(self._wait)
        with Counted.lock:
            Counted.alive -= 1
        return usage.wrong_call("nothing", TargetInfo("x"))

    def interrupt(self) -> None:
        self._stop.set()  # and nothing to report


@pytest.fixture
def counted() -> type[Counted]:
    Counted.alive = Counted.most = 0
    return Counted


def test_targets_are_taken_as_they_can_be_run(counted: type[Counted]) -> None:
    reports: list[Report] = []
    jobs = (counted(0.001) for _ in range(2000))
    assert Schedule(jobs, reports.append, parallel=5).run()
    assert len(reports) == 2000
    assert counted.most <= 5


@pytest.mark.parametrize(("enough", "more"), [(0.85, True), (-1.0, False)])
def test_more_are_run_at_a_time_as_long_as_a_part_of_the_core_is_left(
    enough: float, more: bool, counted: type[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diag.fleet._BUSY", enough)  # -1: no use of the core is little
    jobs = (counted(0.05) for _ in range(40))
    assert Schedule(jobs, lambda _: None, parallel=64).run()
    assert (counted.most > 8) is more  # with which it begins


def test_runs_that_last_do_not_become_ever_more(
    counted: type[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diag.fleet.PATIENCE", 0.1)
    reports: list[Report] = []
    error = RuntimeError("the source is dry")

    def jobs() -> Iterator[Counted]:
        for _ in range(2 + 2 * SLOW):  # as many as there may be at a time
            yield counted(1.0)
        for _ in range(20):
            yield counted(0.0)
        raise error

    with pytest.raises(RuntimeError) as caught:  # told when all that had begun have ended
        Schedule(jobs(), reports.append, parallel=2).run()
    assert caught.value is error
    assert len(reports) == 22 + 2 * SLOW
    assert 2 < counted.most <= 2 + 2 * SLOW


def test_who_takes_no_report_ends_it(counted: type[Counted]) -> None:
    def refuse(_: Report) -> None:
        raise BrokenPipeError

    jobs = [counted(60.0), counted(0.0), counted(60.0)]
    with pytest.raises(BrokenPipeError):
        Schedule(iter(jobs), refuse, parallel=3).run()


# secrets


def test_each_secret_goes_to_its_own_target_and_stands_in_no_output(
    tmp_path: Path, write: Write
) -> None:
    with (
        Simulator(tls=False, credential="admin-token") as one,
        Simulator(tls=False, credential="project-token") as two,
        Simulator(tls=False, credential="wrong-password") as three,
    ):
        simulators = (one, two, three)
        taps = [Tap(simulator.port) for simulator in simulators]
        secrets = [str(simulator.scenario.token) for simulator in simulators]
        (tmp_path / "two.token").write_text(secrets[1], encoding="utf-8")
        keys = ('token_env = "ONE"', 'token_file = "two.token"', 'user = "jdoe"')
        text = ""
        for number, (tap, key) in enumerate(zip(taps, keys, strict=True)):
            rule = f"bitbucket.example.com:80:127.0.0.1:{tap.port}"
            text += f'[[target]]\nname = "n{number}"\nurl = "{one.scenario.url}"\n'
            text += f'repo = "MOB/app"\nconnect_to = ["{rule}"]\n{key}\n'
        table = tmp_path / "table.txt"
        done = fleet(
            write(text), "--output", f"table={table}", "--timings", ONE=secrets[0],
            BITBUCKET_TOKEN=secrets[2],
        )  # fmt: skip
    assert set(causes(done.stdout)) == {"n0", "n1", "n2"}
    assert causes(done.stdout)["n2"] == "auth-token-invalid"
    assert "n1 (http://bitbucket.example.com)" in table.read_text(encoding="utf-8")
    pair = base64.b64encode(f"jdoe:{secrets[2]}".encode())
    sent = [f"Bearer {secrets[0]}".encode(), f"Bearer {secrets[1]}".encode(), b"Basic " + pair]
    for tap in taps:
        tap.close()
    for place, tap in enumerate(taps):
        assert [secret in tap.heard for secret in sent] == [n == place for n in range(3)]
    shown = done.stdout + done.stderr + table.read_text(encoding="utf-8")
    for secret in (*secrets, pair.decode().rstrip("=")):
        assert secret not in shown


def test_a_secret_that_cannot_be_had_is_a_failure_of_that_target_alone(write: Write) -> None:
    text = f'[[target]]\nurl = "{REFUSED}"\nname = "x"\ntoken_file = "none"\n'
    text += f'[[target]]\nurl = "{REFUSED}"\nname = "y"\ntoken_env = "UNSET_HERE"\n'
    text += '[[target]]\nname = "z"\nurl = "https://u:hunter22secret@example.invalid"\n'
    done = fleet(write(text))
    reports = {report["target"]["name"]: report for report in lines(done.stdout)}
    assert reports["x"]["root_cause"] == "input-config-invalid"
    assert "No such file" in reports["x"]["summary"]
    assert reports["y"]["root_cause"] == "input-token-missing"
    assert reports["z"]["root_cause"] == "input-url-has-credentials"
    assert "hunter22secret" not in done.stdout
    assert done.returncode == 1


# streams and exit status


def test_a_line_is_a_report_like_any_other(write: Write) -> None:
    path = write(f'[[target]]\nurl = "{REFUSED}"\nname = "the one"\nstage = "steady"\n')
    line = fleet(path, "--label", "here", "--stage", "setup").stdout
    report = lines(line)[0]
    assert (report["target"]["name"], report["run"]["label"]) == ("the one", "here")
    assert report["profile"]["stage"] == "steady"  # what the target says beats the option
    assert Report.from_json(report).to_json() == report
    for name in ("json", "table"):
        shown = subprocess.run(
            [*BBDIAG, "render", "-", "--format", name], input=line, cwd=ROOT, capture_output=True,
            text=True, check=True, timeout=30,
        ).stdout  # fmt: skip
        assert json.loads(shown) == report if name == "json" else "the one (https://" in shown
    two = subprocess.run(
        [*BBDIAG, "render", "-"], input=line * 2, cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert two.returncode == 2
    assert "give one line" in two.stderr


def test_other_formats_are_separated_by_a_blank_line(write: Write) -> None:
    done = fleet(write(f"{REFUSED}/a\n{REFUSED}/b\n"), "--format", "table", "--only", "tcp")
    first, second = done.stdout.split("\n\n✗")
    assert first.startswith("✗")
    assert {part.rstrip()[-1] for part in (first, second)} == {")"}


def report(status: int) -> Report:
    """One with that exit status."""
    code = {2: "input-config-invalid", 3: "check-crashed"}
    made = usage.wrong_call("x") if status == 2 else usage.own_fault("x")
    assert made.exit_status() == status
    assert (made.root_cause or made.checks[0].findings[0].code) == code[status]
    return made


def test_the_exit_status_is_that_of_the_worst() -> None:
    tally = Tally()
    assert tally.exit_status() == 0
    tally.add(report(2))
    assert (tally.exit_status(), tally.failing) == (1, 1)
    tally.add(report(3))
    assert (tally.exit_status(), tally.done) == (3, 2)


def test_strict_and_an_empty_share_count_as_in_check(write: Write) -> None:
    path = write(f"{REFUSED}\n")
    empty = next(i for i in (1, 2) if Entry(REFUSED) not in Shard(i, 2))
    done = fleet(path, "--shard", f"{empty}/2")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    with Simulator(tls=False) as bitbucket:
        scenario = bitbucket.scenario
        rules = [part for rule in scenario.connect_to for part in ("--connect-to", rule)]
        options = (str(write(f"{scenario.url}\n")), "--repo", "MOB/app", *rules)
        environ = {"BITBUCKET_TOKEN": str(scenario.token)}
        warned = fleet(*options, **environ)
        assert causes(warned.stdout) == {scenario.url: "auth-token-in-cleartext"}
        assert warned.returncode == 0
        assert fleet(*options, "--strict", **environ).returncode == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_far_each_run_came(
    sent: signal.Signals, silent: Silent, write: Write
) -> None:
    path = write("\n".join([REFUSED, *(silent.url(f"{number}") for number in range(12))]))
    with begun(path, "--parallel", "3", "--timeout", "40", "--deadline", "50") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert causes(first) == {REFUSED: "tcp-refused"}
        assert silent.met.wait(30)
        process.send_signal(sent)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    reports = lines(rest)
    assert 1 <= len(reports) <= 12
    assert all(report["run"]["interrupted"] for report in reports)
    assert len(causes(rest)) == len(reports)


def test_who_waits_for_more_targets_can_be_interrupted() -> None:
    with begun("-", "--only", "tcp") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{REFUSED}\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_ends_it_quietly(silent: Silent, write: Write) -> None:
    urls = [silent.url("slow"), *(f"{REFUSED}/{number}" for number in range(30))]
    path = write("\n".join(urls))
    with begun(path, "--deadline", "3000", "--timeout", "3000") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(40) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_full_disk_is_not_called_a_fault_of_bbdiag(write: Write) -> None:
    path = write(REFUSED)
    done = fleet(path, "--only", "tcp", "--output", "json=/dev/full")
    assert done.returncode == 2
    assert done.stderr == "Error: cannot write /dev/full: No space left on device\n"
    done = fleet(path, "--output", "json=/no/such/x")
    assert (done.returncode, done.stdout) == (2, "")  # told before anything is sent


def test_a_terminal_is_told_how_far_it_is(write: Write) -> None:
    import pty

    master, slave = pty.openpty()
    urls: Iterable[str] = (f"{REFUSED}/{number}" for number in range(3))
    done = subprocess.run(
        [*BBDIAG, "fleet", str(write("\n".join(urls))), "--only", "tcp"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, timeout=30,
        check=False,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    end = time.monotonic() + 10
    while time.monotonic() < end and select.select([master], [], [], 0.2)[0]:
        try:
            shown += os.read(master, 4096)
        except OSError:
            break
    os.close(master)
    assert b"0 of 3 done, 0 failing" in shown
    last = shown.decode().replace("\r\n", "\n").rsplit("\r\x1b[K", 1)[1]
    assert last.startswith("3 of 3 done, 3 failing in ")
    assert len(lines(done.stdout.decode())) == 3
