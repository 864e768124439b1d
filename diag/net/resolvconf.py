"""How this machine was told to resolve names: resolv.conf, the hosts file and nsswitch.conf.

Read as the GNU C library reads them (see resolv.conf(5)), because its answer is what programs get.
A file that is missing gives the defaults of that library; no function here raises.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from diag.record import record

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
NSSWITCH = Path("/etc/nsswitch.conf")

_MOST_SERVERS = 3  # the library ignores further nameserver lines


@record
class Configuration:
    """What resolv.conf says."""

    servers: tuple[str, ...] = ()  # addresses; an IPv6 one may have a zone, "fe80::1%eth0"
    search: tuple[str, ...] = ()  # domains that are appended, without dots at the ends
    ndots: int = 1  # a name with fewer dots is first tried with the search domains
    edns: bool = False
    timeout: int = 5  # seconds that the library waits for the first server
    attempts: int = 2  # rounds through all servers
    readable: bool = True  # False where there is no such file: then nothing is known

    @property
    def asked(self) -> tuple[str, ...]:
        """The servers that the library asks: without a nameserver line, this machine itself."""
        return self.servers or (("127.0.0.1",) if self.readable else ())

    @property
    def patience(self) -> int:
        """Seconds until a program here is told that no server answered."""
        count = len(self.asked)
        rounds = (
            self.timeout if index == 0 else max(1, (self.timeout << index) // count)
            for index in range(count)
        )
        return self.attempts * sum(rounds)

    def suffixed(self, name: str) -> tuple[str, ...]:
        """The name with each search domain, in the order of trial; none for an absolute name."""
        if name.endswith("."):
            return ()
        return tuple(f"{name}.{domain}" for domain in self.search)

    def search_first(self, name: str) -> bool:
        """Whether the search domains come before the name itself."""
        return name.count(".") < self.ndots


def configuration(path: Path = RESOLV_CONF) -> Configuration:
    """Read resolv.conf."""
    servers: list[str] = []
    search: list[str] | None = None
    options: dict[str, str] = {}
    for keyword, *values in _lines(path, "#;"):
        if keyword == "nameserver" and values and _is_address(values[0]):
            servers.append(values[0])
        elif keyword in {"search", "domain"}:
            search = values  # the last line wins
        elif keyword == "options":
            options.update((name, value) for name, _, value in (v.partition(":") for v in values))
    if search is None:
        domain = socket.gethostname().partition(".")[2]
        search = [domain] if domain else []
    return Configuration(
        servers=tuple(servers[:_MOST_SERVERS]),
        search=tuple(domain.strip(".").lower() for domain in search if domain.strip(".")),
        ndots=_number(options.get("ndots"), 1, 15),
        edns="edns0" in options,
        timeout=_number(options.get("timeout"), 5, 30),
        attempts=_number(options.get("attempts"), 2, 5),
        readable=path.is_file(),
    )


def hosts_addresses(name: str, path: Path = HOSTS) -> tuple[str, ...]:
    """The addresses that the hosts file gives a name."""
    wanted = name.rstrip(".").lower()
    return tuple(
        dict.fromkeys(
            str(ip_address(address))
            for address, *names in _lines(path, "#")
            if _is_address(address) and wanted in (other.rstrip(".").lower() for other in names)
        )
    )


def name_services(path: Path = NSSWITCH) -> tuple[str, ...]:
    """Where host names are looked up, in order: "files", "dns", "mdns4_minimal", "resolve", …"""
    for keyword, *values in _lines(path, "#"):
        if keyword == "hosts:":
            return tuple(re.sub(r"\[[^]]*\]", " ", " ".join(values)).split())
    return ("files", "dns")


def _lines(path: Path, comment: str) -> tuple[tuple[str, ...], ...]:
    """The words of each line that has any, without comments."""
    try:
        return _words(path.read_text(encoding="utf-8", errors="replace"), comment)
    except OSError:
        return ()


@lru_cache(8)  # each run of a fleet reads the files, and hardly ever finds them changed
def _words(text: str, comment: str) -> tuple[tuple[str, ...], ...]:
    lines = (re.split(f"[{comment}]", line, maxsplit=1)[0] for line in text.splitlines())
    return tuple(tuple(words) for line in lines if (words := line.split()))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _number(text: str | None, default: int, most: int) -> int:
    return min(int(text), most) if text is not None and text.isdigit() else default
