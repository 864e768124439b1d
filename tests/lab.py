"""A small network of one's own: client - router - server, in network namespaces.

    client 10.77.1.2  fd77:1::2 --- 10.77.1.1  fd77:1::1
                                       router
    server 10.77.2.2  fd77:2::2 --- 10.77.2.1  fd77:2::1

`lab.lengthen(n)` puts up to three more routers between the router and the server.

The fixture `lab` builds it for one test (about 0.1 s) and removes it afterwards, with everything
that was started in it. What runs inside is real: the kernel's TCP, its ICMP errors, nftables.

There are two ways in. `lab.run`, `lab.spawn` and `lab.bbdiag` start programs, which see the name
space's own /etc/resolv.conf and /etc/hosts. `lab.call` and `lab.serve` are cheaper: a thread of the
test process moves into the namespace, and the sockets it opens stay there.

Needs root, ip, nft and setpriv. Without them a test skips, but fails where CI=true, where the lab
is expected.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from diag.simulator import Simulator

P = ParamSpec("P")
T = TypeVar("T")
Place = Literal["client", "router", "server", "router2", "router3", "router4"]
PLACES: tuple[Place, ...] = ("client", "router", "server")

CLIENT4, CLIENT6 = "10.77.1.2", "fd77:1::2"
ROUTER4, ROUTER6 = "10.77.1.1", "fd77:1::1"  # the router as the client sees it
SERVER4, SERVER6 = "10.77.2.2", "fd77:2::2"
# Which address each router, from the client on, gives as its own in an ICMP error.
ROUTERS4 = (ROUTER4, "10.77.12.2", "10.77.13.2", "10.77.14.2")
ROUTERS6 = (ROUTER6, "fd77:12::2", "fd77:13::2", "fd77:14::2")

_ROOT = Path(__file__).parents[1]
_ETC = Path("/etc/netns")
_RUN = Path("/run/netns")
_PREFIX = "bblab"
_WEAKENED = ("setpriv", "--bounding-set=-net_raw,-net_admin")
_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_GLINK = 0x0000000A
_ROUTERS: tuple[Place, ...] = ("router", "router2", "router3", "router4")
_FORWARDING = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


class Lab:
    """The namespaces and everything that was put into them."""

    def __init__(self) -> None:
        self._stem = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._routers: list[Place] = ["router"]
        self._stack = contextlib.ExitStack()
        self._tables = itertools.count()

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # layout

    def name(self, place: Place) -> str:
        """The namespace's name, as `ip netns` has it."""
        return f"{self._stem}-{place}"

    def lengthen(self, more: int) -> None:
        """Put so many more routers between the router and the server: "router2" and so on. The
        server keeps its addresses; its own router, now the last one, has 10.77.2.1."""
        for _ in range(more):
            last, place = self._routers[-1], _ROUTERS[len(self._routers)]
            number = 11 + len(self._routers)
            self._add(place)
            self._routers.append(place)
            self.sysctl(place, *_FORWARDING)
            self.ip(last, f"link set r1 netns {self.name(place)}")  # the cable to the server
            self.ip(
                place,
                *("addr add 10.77.2.1/24 dev r1", "addr add fd77:2::1/64 dev r1", "link set r1 up"),
            )
            self._link(place, last, "r2", f"10.77.{number}", f"fd77:{number}:")
            self.ip(
                last,
                f"route add 10.77.2.0/24 via 10.77.{number}.2",
                f"-6 route add fd77:2::/64 via fd77:{number}::2",
            )

    def _build(self) -> None:
        for place in PLACES:
            self._add(place)
        self.sysctl("router", *_FORWARDING)
        self._link("client", "router", "r0", "10.77.1", "fd77:1:")
        self._link("server", "router", "r1", "10.77.2", "fd77:2:")

    def _add(self, place: Place) -> None:
        """A namespace without any cable."""
        name = self.name(place)
        self._stack.callback(_remove, name)
        _command("ip", "netns", "add", name)
        etc = _ETC / name
        while not etc.exists():
            with contextlib.suppress(FileNotFoundError):  # another process may just remove _ETC
                etc.mkdir(parents=True)
        (etc / "resolv.conf").write_text("")
        (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        # Without waiting for duplicate address detection: one second for each link. And kernel
        # defaults would hold back all but the first few ICMP errors of a test.
        self.sysctl(
            place,
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv6.icmp.ratelimit=0",
        )
        self.ip(place, "link set lo up")

    def _link(self, place: Place, router: Place, inner: str, v4: str, v6: str) -> None:
        """A cable from eth0 of `place` (…2) to an interface of a router (…1)."""
        self.ip(place, f"link add eth0 type veth peer name {inner} netns {self.name(router)}")
        ends: tuple[tuple[Place, str, int], ...] = ((router, inner, 1), (place, "eth0", 2))
        for end, interface, last in ends:
            self.ip(
                end,
                f"addr add {v4}.{last}/24 dev {interface}",
                f"addr add {v6}:{last}/64 dev {interface}",
                f"link set {interface} up",
            )
        self.ip(place, f"route add default via {v4}.1", f"-6 route add default via {v6}:1")
        for end, interface, _ in ends:
            self.call(end, _settle, interface)

    def ip(self, place: Place, *commands: str) -> None:
        """Run `ip` commands there: `lab.ip("client", "route add unreachable 10.9.0.0/16")`."""
        name = self.name(place)
        for command in commands:
            _command("ip", "-n", name, *command.split())

    def sysctl(self, place: Place, *settings: str) -> None:
        """Set kernel parameters of the namespace: `"net.ipv4.ip_forward=0"`."""

        def write() -> None:
            for setting in settings:
                key, _, value = setting.partition("=")
                Path("/proc/sys", *key.split(".")).write_text(value)

        self.call(place, write)

    def nft(self, place: Place, ruleset: str) -> None:
        """Load an nftables ruleset into the namespace."""
        _command("ip", "netns", "exec", self.name(place), "nft", "-f", "-", text=ruleset)

    def rules(self, place: Place, hook: str, *rules: str) -> None:
        """Add filter rules: `lab.rules("router", "forward", "tcp dport 443 drop")`."""
        chain = "\n".join([f"type filter hook {hook} priority 0;", *rules])
        self.nft(place, f"table inet t{next(self._tables)} {{ chain c {{\n{chain}\n}}; }}")

    def expose(self, place: Place, port: int, to_port: int) -> None:
        """Make 127.0.0.1:`to_port` of that place reachable at `port` from outside (IPv4)."""
        self.sysctl(place, "net.ipv4.conf.all.route_localnet=1")
        chain = (
            f"type nat hook prerouting priority -100;\ntcp dport {port} dnat to 127.0.0.1:{to_port}"
        )
        self.nft(place, f"table ip t{next(self._tables)} {{ chain c {{\n{chain}\n}}; }}")

    def resolv_conf(self, place: Place, text: str) -> None:
        """What programs started there find in /etc/resolv.conf."""
        (_ETC / self.name(place) / "resolv.conf").write_text(text)

    def hosts(self, place: Place, names: Mapping[str, Sequence[str]]) -> None:
        """Add names and their addresses to the namespace's /etc/hosts."""
        with (_ETC / self.name(place) / "hosts").open("a") as file:
            file.writelines(f"{one} {name}\n" for name, all_ in names.items() for one in all_)

    # programs

    def run(
        self,
        place: Place,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 30,
        check: bool = False,
        privileged: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace until it ends; `env` is added to the environment.

        Not `privileged`: root without the capabilities to capture packets and to read the
        firewall's and IPsec's rules, which to the network is any other user.
        """
        return subprocess.run(
            ["ip", "netns", "exec", self.name(place), *([] if privileged else _WEAKENED), *argv],
            env=_environ(env or {}),
            cwd=_ROOT,
            timeout=timeout,
            check=check,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def spawn(
        self, place: Place, argv: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a program in the namespace; it is terminated when the lab is removed."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name(place), *argv],
            env=_environ(env or {}),
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._stack.callback(_stop, process)
        return process

    def bbdiag(
        self,
        place: Place,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        timeout: float = 30,
        privileged: bool = True,
    ) -> dict[str, Any]:
        """Run `bbdiag ARGUMENTS --format json` in the namespace; the report."""
        done = self.run(
            place,
            [sys.executable, "-m", "diag", *arguments, "--format", "json"],
            env=env,
            timeout=timeout,
            privileged=privileged,
        )
        try:
            report = json.loads(done.stdout)
        except ValueError:
            pytest.fail(f"exit status {done.returncode}, no JSON: {done.stdout}\n{done.stderr}")
        assert isinstance(report, dict)
        return report

    # threads of this process

    def call(self, place: Place, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread inside the namespace; its result, or its exception.

        Sockets made there, and threads started there, stay in the namespace. The mounts are those
        of the test process: no own resolv.conf, and /proc/self/net is not the namespace's either,
        /proc/thread-self/net is.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                _enter(self.name(place))
                results.append(function(*args, **kwargs))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def listen(
        self, place: Place, port: int, address: str = "::", backlog: int = 128
    ) -> socket.socket:
        """A listening socket in the namespace, by default for IPv4 and IPv6."""

        def make() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((address, port))
            sock.listen(backlog)
            return sock

        sock = self.call(place, make)
        self._stack.callback(sock.close)
        return sock

    def serve(
        self,
        place: Place,
        port: int,
        talk: Callable[[socket.socket], object] | None = None,
        *,
        address: str = "::",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """A TCP (or TLS) server in the namespace: `talk(connection)` for each connection, which is
        closed afterwards. Without `talk` connections are accepted and left alone."""
        listener = self.listen(place, port, address)
        closing = threading.Event()
        open_: set[socket.socket] = set()

        from diag.simulator.server import wrap

        def handle(sock: socket.socket) -> None:
            open_.add(sock)
            try:
                if tls is not None:
                    sock = wrapped = wrap(tls, sock)
                    open_.add(wrapped)
                    wrapped.do_handshake()
                if talk is None:
                    closing.wait()
                else:
                    talk(sock)
            except OSError:
                pass  # the client went away
            finally:
                sock.close()

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(sock,), daemon=True).start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()

        def close() -> None:
            closing.set()
            for sock in (listener, *open_):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS
            acceptor.join(5)

        self._stack.callback(close)

    def simulator(self, place: Place, fault: str | None = None, **knobs: Any) -> Simulator:
        """Start the embedded Bitbucket there, reachable at its usual ports from outside (IPv4).

        What to call it with is in its `scenario`; leave the `connect_to` of that out.
        """
        from diag.simulator import Simulator

        started = Simulator(fault, **knobs)
        self.call(place, started.start)
        self._stack.callback(self.call, place, started.stop)
        for rule in started.scenario.connect_to:
            _, port, _, to_port = rule.rsplit(":", 3)
            self.expose(place, int(port), int(to_port))
        return started

    def wait_for(self, place: Place, port: int, address: str = "127.0.0.1") -> None:
        """Wait until a program started with `spawn` accepts connections."""
        end = time.monotonic() + 10
        while True:
            try:
                self.call(place, socket.create_connection, (address, port), 1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A fresh lab for one test."""
    if missing := missing_here():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the network lab needs {missing}")
        pytest.skip(f"the network lab needs {missing}")
    sweep()
    with Lab() as built:
        yield built


def http_answer(status: int, body: str = "", **headers: str) -> Callable[[socket.socket], None]:
    """For `lab.serve`: answer one HTTP request, whatever it is; "_" in a header name means "-"."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body.encode())}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    answer = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def talk(sock: socket.socket) -> None:
        sock.settimeout(10)
        if sock.recv(65536):
            sock.sendall(answer)

    return talk


def missing_here() -> str | None:
    """What this machine lacks for a lab; None if nothing."""
    if sys.platform != "linux":
        return "Linux"
    if os.geteuid() != 0:
        return "root"
    programs = [name for name in ("ip", "nft", "setpriv") if shutil.which(name) is None]
    if programs:
        return " and ".join(programs)
    probe = f"{_PREFIX}-{os.getpid()}-probe"
    made = subprocess.run(
        ["ip", "netns", "add", probe], check=False, capture_output=True, text=True
    )
    if made.returncode:
        return f"network namespaces ({made.stderr.strip()})"
    _remove(probe)
    return None


def sweep() -> None:
    """Remove what test processes that were killed have left behind."""
    for path in _RUN.glob(f"{_PREFIX}-*"):
        pid = path.name.split("-")[1]
        if re.fullmatch(r"\d+", pid) and not Path("/proc", pid).exists():
            _remove(path.name)


def _remove(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    shutil.rmtree(_ETC / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        _ETC.rmdir()  # other labs may be using it


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def _settle(interface: str) -> None:
    """Have the kernel act on the carrier that has just come, as it may put that off for a second:
    it looks at who asks for it, and until then it drops what is sent."""
    question = ctypes.create_string_buffer(struct.pack("II", _GLINK, 0))
    request = struct.pack("16sQ", interface.encode(), ctypes.addressof(question))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request.ljust(40, b"\0"))


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process and `more`. It is read variable by variable, as pytest
    changes it with each test while other threads start programs."""
    own = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in own.items() if value is not None} | dict(more)


def _command(*argv: str, text: str | None = None) -> None:
    done = subprocess.run(argv, check=False, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _enter(name: str) -> None:
    """Move the calling thread into a network namespace."""
    with (_RUN / name).open() as handle:
        if _libc.setns(handle.fileno(), _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
