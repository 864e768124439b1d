"""Two places in network namespaces, and between them a cable whose length can be chosen.

    client 11.77.1.1  ===  server 11.77.2.1 and more, see below

The process itself is moved into new namespaces of network, mounts and processes (`enter`), and is
the client from then on. What it sees as /etc/resolv.conf and /etc/ssl/certs, its temporary files
and all that it starts is its own, and is gone when it is: the kernel cleans up, however it ends.

The addresses are public ones, for bbdiag tells who has private ones that a product in the internet
cannot get there; nothing leaves the namespaces.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.measuring import tool
from tests.certificates import Identity, root

CLIENT = "11.77.1.1"
SERVER = "11.77.2.1"  # nginx, and git over SSH
RESOLVERS = ("11.77.2.11", "11.77.2.12", "11.77.2.13")
REFUSED = "11.77.2.21"  # nothing listens
FILTERED = "11.77.2.22"  # 443 is dropped, 7999 answers
SILENT = "11.77.2.23"  # everything is dropped
TARPIT = "11.77.2.24"  # 443 accepts, and says nothing
DEAD = "11.77.2.200"  # there is no such machine: the last router tries in vain to find it

_PLACE = "server"
_NETNS = Path("/run/netns", _PLACE)
_HOME = Path("/run/bench")
_NEW = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child"),
)
_DNSMASQ = (
    "dnsmasq --keep-in-foreground --no-hosts --no-resolv --conf-file=/dev/null --pid-file="
    " --user=root --log-facility=/dev/null --bind-interfaces --port=53"
)
# Thousands of short connections in a row: without the first two, ports would run out.
_SYSCTL = (
    "net.ipv4.tcp_max_tw_buckets=1000",
    "net.ipv4.ip_local_port_range=2000 65000",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.ip_forward=1",
    "net.core.somaxconn=4096",
)
_WARM = 5  # connects that do not count
_QUEUE = "10000"  # packets that wait in a device


def enter(arguments: Sequence[str]) -> int:
    """Run `python -m bench` with these arguments as the client of a new lab; its exit status."""
    argv = [*_NEW, sys.executable, "-m", "bench", *arguments]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with subprocess.Popen(argv) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 130
        finally:
            process.kill()  # and with it the first process in there, and with that all others


class Lab:
    """The two places. Made inside of `enter`, once; never taken down."""

    def __init__(self) -> None:
        self._forwarder: subprocess.Popen[str] | None = None
        self._tables = 0
        _command("mount", "-t", "tmpfs", "bench", "/run")
        _HOME.mkdir()
        # Below it, so that whatever is left there is in nobody's way.
        tempfile.tempdir = os.environ["TMPDIR"] = str(_HOME)
        _command("ip", "netns", "add", _PLACE)
        self._connect()
        self.ca = root()
        self._trust(self.ca)

    # what there is

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program on the server; it ends with the lab."""
        log = self.path("log").open("a")
        return subprocess.Popen(
            ["ip", "netns", "exec", _PLACE, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        )

    def path(self, name: str) -> Path:
        """Where to put a file."""
        return _HOME / name

    def resolvers(self, hosts: Iterable[tuple[str, str]]) -> None:
        """Start three DNS servers that know these names and addresses, and no others; ask them."""
        file = self.path("hosts")
        file.write_text("".join(f"{address} {name}\n" for name, address in hosts))
        own = ["--local=/example.com/", "--local=/example.net/", f"--addn-hosts={file}"]
        for address in RESOLVERS:
            self.spawn(*_DNSMASQ.split(), f"--listen-address={address}", *own)
        conf = self.path("resolv.conf")
        conf.write_text("".join(f"nameserver {address}\n" for address in RESOLVERS))
        _bind(conf, Path("/etc/resolv.conf"))
        for address in RESOLVERS:
            wait_for(address, 53)

    def rules(self, *rules: str) -> None:
        """Filter what comes to the server: `"ip daddr 11.77.2.22 tcp dport 443 drop"`."""
        self._tables += 1
        chain = "\n".join(["type filter hook input priority 0;", *rules])
        ruleset = f"table ip t{self._tables} {{ chain c {{\n{chain}\n}}; }}"
        _command("ip", "netns", "exec", _PLACE, "nft", "-f", "-", text=ruleset)

    # the cable

    def distance(self, milliseconds: float) -> float:
        """Choose the round trip between the two places, for every packet; 0 is a plain cable.

        Returns:
            What a TCP connection takes now: milliseconds, the median of some.
        """
        if self._forwarder is not None:
            self._forwarder.kill()
            self._forwarder.wait()
            self._forwarder = None
        if milliseconds:
            self._lengthen(milliseconds)
        else:
            _route("cable", "via", "11.77.0.2")
            _route("cable", "via", "11.77.0.1", there=True)
        return self._connect_time()

    def _lengthen(self, milliseconds: float) -> None:
        argv = [str(tool("forwarder")), str(round(milliseconds * 500)), str(_NETNS)]
        self._forwarder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        if self._forwarder.stdout is None or self._forwarder.stdout.readline() != "ready\n":
            raise RuntimeError("the forwarder does not start")
        for there in (False, True):
            _ip("link", "set", "delayed", "txqueuelen", _QUEUE, "up", there=there)
            _route("delayed", there=there)

    def _connect_time(self) -> float:
        times = []
        for _ in range(_WARM + 20):
            began = time.perf_counter()
            socket.create_connection((RESOLVERS[0], 53)).close()
            times.append(time.perf_counter() - began)
        return statistics.median(times[_WARM:]) * 1000

    # building it

    def _connect(self) -> None:
        for there in (False, True):
            _ip("link", "set", "lo", "up", there=there)
            inside = ["ip", "netns", "exec", _PLACE] if there else []
            _command(*inside, "sysctl", "-qw", *_SYSCTL)
        _ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", _PLACE)
        _ip("addr", "add", f"{CLIENT}/32", "dev", "lo")
        for address in (SERVER, *RESOLVERS, REFUSED, FILTERED, SILENT, TARPIT):
            _ip("addr", "add", f"{address}/32", "dev", "lo", there=True)
        for there, address in ((False, "11.77.0.1/30"), (True, "11.77.0.2/30")):
            _ip("addr", "add", address, "dev", "cable", there=there)
            _ip("link", "set", "cable", "up", there=there)
        # A wire with nobody at its end, for the machine that does not exist.
        _ip("link", "add", "void", "type", "veth", "peer", "name", "end", there=True)
        for name in ("void", "end"):
            _ip("link", "set", name, "up", there=True)
        _ip("route", "add", "11.77.2.128/25", "dev", "void", "src", SERVER, there=True)
        _route("cable", "via", "11.77.0.2")
        _route("cable", "via", "11.77.0.1", there=True)

    def _trust(self, ca: Identity) -> None:
        """Put the CA where a company puts its own: into the system's store, which every program
        here reads by default, as one file and as a hashed directory."""
        store, system = self.path("certs"), Path("/etc/ssl/certs")
        shutil.copytree(system, store, symlinks=True)
        pem = self.path("ca.pem")
        pem.write_bytes(ca.pem)
        hashed = subprocess.run(
            ["openssl", "x509", "-noout", "-hash", "-in", str(pem)],
            check=True,
            capture_output=True,
            text=True,
        )
        (store / f"{hashed.stdout.strip()}.0").write_bytes(ca.pem)
        bundle = store / "ca-certificates.crt"
        known = bundle.read_bytes()
        bundle.unlink()  # it might be a link to the system's own
        bundle.write_bytes(known + ca.pem)
        _bind(store, system)


def wait_for(address: str, port: int) -> None:
    """Wait until something accepts connections there.

    Raises:
        RuntimeError: nothing does so in ten seconds, with what the servers have said.
    """
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                said = (_HOME / "log").read_text()
                raise RuntimeError(f"nothing at {address}:{port}: {error}; {said}") from None
            time.sleep(0.02)


def _route(device: str, *via: str, there: bool = False) -> None:
    to, own = ("11.77.1.0/24", SERVER) if there else ("11.77.2.0/24", CLIENT)
    _ip("route", "replace", to, *via, "dev", device, "src", own, there=there)


def _ip(*arguments: str, there: bool = False) -> None:
    _command("ip", *(("-n", _PLACE) if there else ()), *arguments)


def _bind(source: Path, place: Path) -> None:
    """Have `source` in the place of another file or directory, for this process and its own."""
    target = place.resolve()
    if not target.exists():  # a link into /run, which is our own here
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _command("mount", "--bind", str(source), str(target))


def _command(*argv: str, text: str | None = None) -> None:
    done = subprocess.run(argv, check=False, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
