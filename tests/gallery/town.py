"""A Bitbucket as companies run it: in the lab's network, with real programs around it.

dnsmasq on the router answers for bb.lab.test, nginx with a certificate of a private CA stands
before the embedded Bitbucket on the server, squid may stand on the router. `Town.check` runs the
real command on the client, and holds each of its reports against the contract.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from diag.schema import schema
from diag.simulator import Simulator
from diag.simulator.data import CREDENTIALS
from tests.certificates import Identity, root
from tests.dns_server import DnsServer
from tests.gallery.case import HOST, REPO, URL, Call
from tests.lab import ROUTER4, SERVER4
from tests.proxy_server import serving

if TYPE_CHECKING:
    from diag.simulator.scenario import Scenario
    from tests.dns_server import Zone
    from tests.lab import Lab, Place
    from tests.proxy_server import Talk

PROXY = f"http://{ROUTER4}:3128"
TINYPROXY = f"http://{ROUTER4}:8888"
# Deserved in all of this network: the product of the default profile comes from the internet.
PRIVATE = "dns-private-address"
USAGE = "input-config-invalid"  # alone is told on standard error too
DEADLINE = 20.0  # seconds, the default
_START = 5.0  # seconds that starting Python may take beside the run itself, on a busy machine
_VALIDATOR = jsonschema.Draft202012Validator(schema())
_DNSMASQ = (
    "dnsmasq --no-daemon --no-hosts --no-resolv --conf-file=/dev/null --pid-file= --user=root"
    " --log-facility=/dev/null --bind-interfaces --port=53"
)
_SQUID = """http_port {address}
pid_filename none
cache deny all
cache_mem 8 MB
access_log none
cache_log {directory}/log
coredump_dir {directory}
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
dns_nameservers {resolver}
{rules}
"""
_HAPROXY = """global
  log /dev/null local0
defaults
  mode http
  timeout connect 3s
  timeout client 30s
  timeout server 30s
{sections}
"""
_TINYPROXY = """Listen {host}
Port {port}
Timeout 30
Allow 10.77.0.0/16
DisableViaHeader Yes
{more}
"""
_UNBOUND = """server:
  chroot: ""
  directory: "{directory}"
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: "{directory}/log"
  interface: {address}
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  module-config: "validator iterator"
  do-not-query-localhost: no
{rules}
remote-control:
  control-enable: no
"""


@dataclass(frozen=True)
class Result:
    """What came of one run of the command."""

    report: dict[str, Any]
    text: str
    status: int
    seconds: float = 0.0  # that the program took
    runs: tuple[Result, ...] = ()  # that are compared, if it is a comparison

    @property
    def codes(self) -> list[str]:
        """The problems but the one that everybody has here."""
        return [one["code"] for one in self.report["problems"] if one["code"] != PRIVATE]

    @property
    def requests(self) -> int:
        """How many were sent; in a comparison, the most of one run."""
        number: int = self.report["run"]["requests"]
        return max([number, *[run.requests for run in self.runs]])

    @property
    def root_cause(self) -> str | None:
        code: str | None = self.report["root_cause"]
        return code

    @property
    def message(self) -> str:
        message: str = self.report["problems"][0]["message"]
        return message


class Town:
    """The lab with everything that a test had built in it; gone when the lab is."""

    def __init__(self, lab: Lab, directory: Path, stack: ExitStack) -> None:
        self.lab = lab
        self.directory = directory
        self.token = CREDENTIALS["admin-token"].secret
        self.secrets: list[str] = []  # what no output may hold besides the token
        self.ca = root()
        self.ca_file = self.write("ca.pem", self.ca.pem)
        self._stack = stack

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    # what is there

    def dns(self, *options: str, addresses: Sequence[str] = (SERVER4,)) -> None:
        """Have dnsmasq on the router answer for bb.lab.test, and the client ask it."""
        records = [f"--host-record={HOST},{address}" for address in addresses]
        own = ["--local=/lab.test/", f"--listen-address={ROUTER4}", *records, *options]
        self.lab.spawn("router", [*_DNSMASQ.split(), *own])
        self.lab.wait_for("router", 53, ROUTER4)
        self.lab.resolv_conf("client", f"nameserver {ROUTER4}\n")

    def bitbucket(
        self,
        fault: str | None = None,
        *,
        base_url: str = URL,
        ssh: str | None = HOST,
        instance: Mapping[str, object] | None = None,
        **knobs: Any,
    ) -> int:
        """Start the embedded Bitbucket on the server; its port on loopback, without TLS.

        `ssh`: the host of its clone links; None: SSH is off. `instance`: what its administrator has
        set up differently, by the names of the simulator's `Instance`.
        """
        started = Simulator(fault, tls=False, base_url=base_url, **knobs)
        started.instance.ssh_url = ssh and f"ssh://git@{ssh}:7999"
        for name, value in (instance or {}).items():
            setattr(started.instance, name, value)
        scenario = self.start(started)
        if fault is not None:
            self.token = scenario.token
        if ssh:
            self.lab.serve("server", 7999, lambda sock: sock.sendall(b"SSH-2.0-lab\r\n"))
        return started.port

    def start(self, simulator: Simulator) -> Scenario:
        """Start an embedded Bitbucket on the server's loopback; how it expects to be called."""
        self.lab.call("server", simulator.start)
        self._stack.callback(self.lab.call, "server", simulator.stop)
        return simulator.scenario

    def dns_server(
        self, zone: Zone, place: Place = "router", address: str = ROUTER4, **options: Any
    ) -> DnsServer:
        """Start a DNS server that misbehaves as `zone` says; `options` are those of `DnsServer`."""
        server = self.lab.call(place, DnsServer, zone, address=address, port=53, **options)
        self.lab.call(place, server.__enter__)
        self._stack.callback(server.__exit__)
        return server

    def unbound(self, rules: str, place: Place = "router", address: str = ROUTER4) -> None:
        """Start unbound, which validates; `rules` are lines of its section `server`, and others."""
        home = self.directory / f"unbound-{place}"
        home.mkdir()
        text = _UNBOUND.format(directory=home, address=address, rules=rules)
        (home / "conf").write_text(text)
        self.lab.spawn(place, ["unbound", "-d", "-c", str(home / "conf")])
        self.lab.wait_for(place, 53, address)

    def haproxy(self, sections: str, *ports: int, place: Place = "server") -> None:
        """Start haproxy with these frontends and backends, and wait until `ports` are open."""
        conf = self.write(f"haproxy-{place}.conf", _HAPROXY.format(sections=sections))
        self.lab.spawn(place, ["haproxy", "-db", "-q", "-f", str(conf)])
        for port in ports:
            self.lab.wait_for(place, port)

    def bundle(self, identity: Identity) -> Path:
        """One file with chain and key, as haproxy and `openssl s_server` take it."""
        return self.write("bundle.pem", identity.chain() + identity.key_pem)

    def nginx(self, *sites: str, http: str = "") -> None:
        """Start nginx on the server with these server blocks, the first on port 443 or 80."""
        home = self.directory / "nginx"
        home.mkdir()
        stores = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = " ".join(f"{store}_temp_path {home}/{store};" for store in stores)
        (home / "conf").write_text(
            f"user root; pid {home}/pid; error_log {home}/log; events {{}}\n"
            f"http {{ access_log off; {paths} {http}\n" + "\n".join(sites) + "\n}\n"
        )
        options = ["-p", str(home), "-c", f"{home}/conf", "-e", f"{home}/log", "-g", "daemon off;"]
        self.lab.spawn("server", ["nginx", *options])
        self.lab.wait_for("server", 443 if " 443" in sites[0] else 80)

    def site(
        self,
        port: int,
        *,
        certificate: Identity | tuple[Path, Path] | None = None,
        listen: str = "listen 443 ssl; listen [::]:443 ssl;",
        path: str = "/",
        site: str = "",
        location: str = "",
    ) -> str:
        """A server block that passes requests on to Bitbucket; `site` and `location` are added."""
        if not isinstance(certificate, tuple):
            identity = certificate or self.ca.issue(HOST)
            chain = self.write("site.pem", identity.chain())
            certificate = chain, self.write("site.key", identity.key_pem)
        tls = "ssl_certificate {}; ssl_certificate_key {};".format(*certificate)
        passing = (
            f"proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1;"
            " proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;"
        )
        tls = tls if "ssl" in listen else ""
        return f"server {{ {listen} {tls} {site} location {path} {{ {passing} {location} }} }}"

    def healthy(self, **options: Any) -> None:
        """Name, Bitbucket and nginx, as they should be; `options` are those of `site`."""
        self.dns()
        self.nginx(self.site(self.bitbucket(), **options))

    def plain(self) -> None:
        """The same without TLS, on port 80."""
        self.dns()
        port = self.bitbucket(base_url=f"http://{HOST}")
        self.nginx(self.site(port, listen="listen 80;"))

    def squid(self, rules: str = "http_access allow all") -> dict[str, str]:
        """Start squid on the router; the environment of who is to use it."""
        home = self.directory / "squid"
        home.mkdir()
        home.chmod(0o777)  # as root, squid becomes somebody else
        text = _SQUID.format(
            address=PROXY.removeprefix("http://"), directory=home, resolver=ROUTER4, rules=rules
        )
        (home / "conf").write_text(text)
        service = self.lab.name("router").replace("-", "x")  # names its shared memory
        argv = ["squid", "-N", "-n", service, "-f", str(home / "conf")]
        process = self.lab.spawn("router", argv)
        self._stack.callback(_forget, service)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)  # it takes its time to end otherwise
        self.lab.wait_for("router", 3128, ROUTER4)
        return {"HTTPS_PROXY": PROXY, "http_proxy": PROXY}

    def tinyproxy(self, more: str = "") -> dict[str, str]:
        """Start tinyproxy on the router; the environment of who is to use it."""
        host, _, port = TINYPROXY.removeprefix("http://").partition(":")
        text = _TINYPROXY.format(host=host, port=port, more=more)
        conf = self.write("tinyproxy.conf", text)
        # It asks the resolver of the place it runs in.
        self.lab.resolv_conf("router", f"nameserver {ROUTER4}\n")
        self.lab.spawn("router", ["tinyproxy", "-d", "-c", str(conf)])
        self.lab.wait_for("router", int(port), host)
        return {"HTTPS_PROXY": TINYPROXY, "http_proxy": TINYPROXY}

    def own_proxy(self, talk: Talk, port: int = 3129) -> str:
        """Start a proxy of `tests.proxy_server` on the server, whose ports it reaches on loopback;
        its address."""
        running = serving(talk)
        server = self.lab.call("server", running.__enter__)
        self._stack.callback(self.lab.call, "server", running.__exit__, None, None, None)
        self.lab.expose("server", port, server.port)
        return f"{SERVER4}:{port}"

    # the command

    def check(
        self,
        url: str = URL,
        *options: str,
        place: Place = "client",
        repo: str | None = REPO,
        ca_file: Path | None = None,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Result:
        """Run `bbdiag check URL`: the default profile, the default timeouts, and the secret."""
        call = Call(url, options, place, repo, ca_file, env or {}, tuple(prefix))
        return self.answer(call)

    def answer(self, built: Call | Sequence[Call] | None) -> Result:
        """Run the command as a case wants it; in several places, and compare what came of it."""
        if built is None or isinstance(built, Call):
            return self._run(built or Call())
        files, runs = [], []
        for number, call in enumerate(built):
            labelled = replace(call, options=("--label", call.place, *call.options))
            runs.append(self._run(labelled))
            files.append(self.write(f"{number}.json", runs[-1].text))
        return replace(self._bbdiag("client", "compare", *map(str, files)), runs=tuple(runs))

    def _run(self, call: Call) -> Result:
        arguments = [
            "check",
            call.url,
            *call.options,
            "--ca-file",
            str(call.ca_file or self.ca_file),
        ]
        arguments += ["--repo", call.repo] if call.repo else []
        secret = {"BITBUCKET_TOKEN": self.token} if self.token else {}
        env = {**secret, **call.env}
        return self._bbdiag(call.place, *arguments, env=env, prefix=call.prefix)

    def _bbdiag(
        self,
        place: Place,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Result:
        argv = [*prefix, sys.executable, "-m", "diag", *arguments, "--format", "json"]
        began = time.monotonic()
        done = self.lab.run(place, argv, env=env, timeout=2 * DEADLINE)
        spent = time.monotonic() - began
        assert spent < DEADLINE + _START
        return self._held_against_the_contract(done, spent)

    def _held_against_the_contract(
        self, done: subprocess.CompletedProcess[str], spent: float
    ) -> Result:
        report = json.loads(done.stdout)
        _VALIDATOR.validate(report)
        problems = report["problems"]
        wrong_call = bool(problems) and problems[0]["check"] == "input"
        usage = bool(problems) and problems[0]["code"] == USAGE
        assert bool(done.stderr) is usage, done.stderr
        statuses = {"ok": 0, "warn": 0, "unknown": 4, "fail": 2 if wrong_call else 1}
        assert done.returncode == statuses[report["verdict"]]
        order = [("fail", "unknown", "warn").index(one["status"]) for one in problems]
        assert order == sorted(order)
        assert PRIVATE not in [one["code"] for one in problems[:-1]], "the least of all worries"
        assert report["run"]["duration_ms"] <= DEADLINE * 1000
        for secret in (self.token or "", *self.secrets):
            assert not secret or secret.strip() not in done.stdout + done.stderr
        assert not any(unfit(text) for text in texts(report))
        return Result(report, done.stdout, done.returncode, spent)


def texts(value: object) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def unfit(text: str) -> bool:
    """Whether a terminal would do something with the text other than show it."""
    return any(not c.isprintable() and c not in "\n\u00a0" for c in text)


def _forget(service: str) -> None:
    for left in Path("/dev/shm").glob(f"{service}-*"):
        left.unlink(missing_ok=True)
