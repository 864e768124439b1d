"""What people use today, called as they call it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from bench.bitbucket import REPO, TOKEN, Question
from bench.lab import RESOLVERS, Lab, wait_for
from bench.measuring import Contender
from bench.program import BBDIAG, CHECK_HTTP, EXPORTER, environment

BY_HAND = Path(__file__).with_name("by_hand.sh")
SECRET = environment(BITBUCKET_TOKEN=TOKEN)
LISTING = "/rest/api/1.0/repos?start=0&limit=100"
_PROJECT, _SLUG = REPO.split("/")
_PORT = 9115


@dataclass(frozen=True)
class Probe:
    """A question put to blackbox_exporter, which answers each with one bit: what is to be told
    apart needs a probe of its own, also where the request is the same."""

    name: str
    question: Question
    says: str  # what the body must match
    again: bool = False  # the request is that of an earlier probe


_REPOS = Question(LISTING)
_HOOKS = Question(f"/rest/api/latest/projects/{_PROJECT}/repos/{_SLUG}/webhooks?statistics=true")
_PROPERTIES = "/rest/api/latest/application-properties"
_STATUS = Question("/status", signed_in=False)
PROBES = (
    Probe("answers", _STATUS, "state"),
    Probe("runs", _STATUS, "RUNNING", again=True),
    Probe("is_bitbucket", Question(_PROPERTIES, signed_in=False), "displayName"),
    Probe("version", Question(_PROPERTIES, signed_in=False), '"version":"(9|10)[.]', again=True),
    Probe("signed_in", Question(_PROPERTIES), "version"),
    Probe("lists", _REPOS, '"values":[[][{]'),
    Probe("repository", _REPOS, f'"slug":"{_SLUG}"', again=True),
    Probe("links", _REPOS, '"href":"https://[^"]*/scm/', again=True),
    Probe("capabilities", Question("/rest/capabilities", signed_in=False), "https://[^/]*/rest"),
    Probe(
        "admin", Question("/rest/api/latest/repos?permission=REPO_ADMIN&limit=100"), f'"{_SLUG}"'
    ),
    Probe("webhooks", _HOOKS, '"values"'),
    Probe("webhook", _HOOKS, "appcircle", again=True),
    Probe("delivered", _HOOKS, '"outcome":"SUCCESS"', again=True),
    Probe(
        "user",
        Question("/rest/api/latest/users?filter=ci-bot%40example.com&permission=ADMIN"),
        "values",
    ),
    Probe(
        "clone",
        Question(f"/scm/{_PROJECT.lower()}/{_SLUG}.git/info/refs?service=git-upload-pack"),
        "refs/heads",
    ),
)
QUESTIONS = tuple(dict.fromkeys(probe.question for probe in PROBES))


def bbdiag(host: str, *options: str, limit: int = 300) -> Contender:
    argv = [str(BBDIAG), "check", f"https://{host}", "--repo", REPO, *options]
    return Contender("bbdiag check", argv, SECRET, limit=limit)


def curl(host: str, path: str = LISTING, *options: str, name: str = "curl") -> Contender:
    """One REST path with the token."""
    header = f"Authorization: Bearer {TOKEN}"
    argv = ["curl", "-sS", "--fail", *options, "-H", header, f"https://{host}{path}"]
    return Contender(name, argv, SECRET)


def by_hand(host: str) -> Contender:
    return Contender("shell script", [str(BY_HAND), host, _PROJECT, _SLUG], SECRET)


def check_http(host: str, path: str = LISTING, *, limit: int = 300) -> Contender:
    argv = [CHECK_HTTP, "-H", host, "-u", path, "--ssl", "--sni"]
    argv += ["-k", f"Authorization: Bearer {TOKEN}"]
    return Contender("check_http", argv, SECRET, limit=limit)


def nmap(host: str, ports: Sequence[int]) -> Contender:
    argv = ["nmap", "-Pn", "-p", ",".join(map(str, ports)), host]
    return Contender("nmap", argv, SECRET)


def netcat(host: str, port: int) -> Contender:
    return Contender("nc", ["nc", "-z", host, str(port)], SECRET)


class Exporter:
    """blackbox_exporter, running on the client with a module for each question."""

    def __init__(self, lab: Lab, process: subprocess.Popen[bytes]) -> None:
        self._lab = lab
        self._configs = 0
        self._pid = process.pid

    def cpu(self) -> float:
        """CPU seconds it has spent so far."""
        # What clock_getcpuclockid(3) makes of a process id; /proc has it in steps of 10 ms only.
        return time.clock_gettime((~self._pid << 3) | 2)

    def peak(self) -> float:
        """MB of memory at the most."""
        lines = Path("/proc", str(self._pid), "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def probes(self, hosts: Iterable[str], *, once: bool = False) -> Iterator[str]:
        """The URLs that make it ask each host all questions; `once`: each request only once."""
        for host in hosts:
            for server in RESOLVERS:
                yield _probe(f"dns_{host}_A", server)
                yield _probe(f"dns_{host}_AAAA", server)
            yield _probe("port", f"{host}:443")
            yield _probe("ssh", f"{host}:7999")
            yield _probe("certificate", f"{host}:443")
            for probe in PROBES:
                if not (once and probe.again):
                    yield _probe(probe.name, f"https://{host}{probe.question.path}")

    def reach(self, hosts: Iterable[str]) -> Iterator[str]:
        """The URLs that make it ask each host one thing."""
        for host in hosts:
            yield _probe("answers", f"https://{host}/status")

    def asked(
        self, name: str, urls: Iterable[str], *, at_once: int = 100, alone: bool = False
    ) -> Contender:
        """Have curl ask it for these; the time is curl's, the CPU that of both, or the exporter's
        alone."""
        self._configs += 1
        config = self._lab.path(f"probes-{self._configs}")
        answers = self._lab.path("answers")
        config.write_text("".join(f'url = "{url}"\noutput = "{answers}"\n' for url in urls))
        argv = ["curl", "-sS", "-Z", "--parallel-max", str(at_once), "-K", str(config)]
        return Contender(name, argv, environment(), helper=self.cpu, alone=alone)

    def verify(self, urls: Iterable[str]) -> list[str]:
        """Ask for each of these; those that did not succeed."""
        failed = []
        for url in urls:
            done = subprocess.run(["curl", "-sS", url], check=True, capture_output=True, text=True)
            if "\nprobe_success 1\n" not in done.stdout:
                failed.append(url)
        return failed


@contextlib.contextmanager
def exporter(lab: Lab, hosts: Iterable[str]) -> Iterator[Exporter]:
    """Start it, for these hosts: a DNS probe has the name in its configuration."""
    config = lab.path("blackbox.yml")
    config.write_text(json.dumps({"modules": _modules(hosts)}))  # YAML is JSON, and more
    argv = [EXPORTER, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{_PORT}"]
    log = lab.path("exporter.log").open("wb")
    with subprocess.Popen(argv, env=environment(), stdout=log, stderr=log) as process:
        try:
            wait_for("127.0.0.1", _PORT)
            yield Exporter(lab, process)
        finally:
            process.kill()


def _modules(hosts: Iterable[str]) -> dict[str, object]:
    modules: dict[str, object] = {
        "port": {"prober": "tcp", "tcp": {"preferred_ip_protocol": "ip4"}},
        "ssh": {
            "prober": "tcp",
            "tcp": {
                "preferred_ip_protocol": "ip4",
                "query_response": [{"expect": "^SSH-2.0-"}],
            },
        },
        "certificate": {"prober": "tcp", "tcp": {"preferred_ip_protocol": "ip4", "tls": True}},
    }
    for probe in PROBES:
        http: dict[str, object] = {
            "preferred_ip_protocol": "ip4",
            "fail_if_body_not_matches_regexp": [probe.says],
        }
        if probe.question.signed_in:
            http["bearer_token"] = TOKEN
        modules[probe.name] = {"prober": "http", "http": http}
    for host in hosts:
        for kind in ("A", "AAAA"):
            modules[f"dns_{host}_{kind}"] = {
                "prober": "dns",
                "dns": {
                    "query_name": host,
                    "query_type": kind,
                    "preferred_ip_protocol": "ip4",
                    "valid_rcodes": ["NOERROR"],
                },
            }
    return modules


def _probe(module: str, target: str) -> str:
    query = urlencode({"module": module, "target": target})
    return f"http://127.0.0.1:{_PORT}/probe?{query}"
