"""Which proxy a client would take for a URL, and what made it do so: nothing here touches a socket.

Clients agree on the names of the variables and on little else. How each of them reads HTTPS_PROXY,
NO_PROXY and the rest is written down as data (`Dialect`), taken from their sources: curl 7.86 to
8.22 (lib/noproxy.c, lib/url.c), git 2.39 (http.c, on libcurl), CPython 3.11 (urllib.request),
requests 2.34 (utils.py), httpx 0.28 (_utils.py), OpenJDK 17 (DefaultProxySelector).
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal
from urllib.parse import unquote, urlsplit

from diag.secret import Secret, authorization

SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_SPELLINGS = {"socks": "socks4"}  # curl's reading
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")


class BadProxyUrlError(ValueError):
    """The text is no proxy URL; the message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy URL in parts."""

    scheme: str  # one of SCHEMES
    host: str  # lower case, an IPv6 literal without brackets
    port: int
    user: str | None = None
    password: Secret | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Without user name and password: fit to be shown."""
        return f"{self.scheme}://{self.address}"

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization, None without a user name."""
        if self.user is None:
            return None
        return authorization("basic", self.user, self.password or Secret(""))


def parse(text: str, default_port: int = 1080) -> Proxy:
    """Read a proxy URL as curl does: without a scheme it is http; without a port it is 443 for
    https, else `default_port`.

    Raises:
        BadProxyUrlError: curl would not take it either, or takes it for something never meant.
    """
    scheme, given, rest = text.partition("://")
    if not given:
        scheme, rest = "http", text
    scheme = _SPELLINGS.get(scheme.lower(), scheme.lower())
    _look(text, scheme, rest)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError as error:
        if "port" in str(error).lower():
            raise BadProxyUrlError("its port is no number from 1 to 65535") from None
        raise BadProxyUrlError("its host is no name or address") from None
    host = parts.hostname or ""
    if not host:
        raise BadProxyUrlError("it names no host")
    if ":" in host:
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise BadProxyUrlError("what stands in the brackets is no IPv6 address") from None
    else:
        try:
            host = host if host.isascii() else host.encode("idna").decode()
        except UnicodeError:
            host = ""
        if not _HOST.fullmatch(host):
            raise BadProxyUrlError("its host is no name or address")
    if port == 0:
        raise BadProxyUrlError("its port is 0")
    if port is None:
        port = 443 if scheme == "https" else default_port
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else Secret(unquote(parts.password))
    return Proxy(scheme, host, port, user, password)


def _look(text: str, scheme: str, rest: str) -> None:
    """The mistakes that are better named than parsed."""
    login, at, place = rest.rpartition("@")
    if text.startswith(("'", '"')):
        raise BadProxyUrlError("it has quotes around it")
    if re.match(r"(?:https?|socks\w*):(?!//)", text, re.IGNORECASE):
        raise BadProxyUrlError("its scheme is not followed by ://")
    if "$" in text and not at:
        raise BadProxyUrlError("it holds a variable that nobody expanded ($)")
    if any(char.isspace() or not char.isprintable() for char in text):
        raise BadProxyUrlError("it holds a blank or an invisible character")
    if scheme not in SCHEMES:
        raise BadProxyUrlError(f"its scheme is none of {', '.join(SCHEMES)}")
    if at and (bad := sorted(set(login) & set("@#/?[]\\"))):
        codes = ", ".join(f"{char} as %{ord(char):02X}" for char in bad)
        raise BadProxyUrlError(f"its user name or password must be URL-encoded: {codes}")
    if "," in place:
        raise BadProxyUrlError("it holds more than one proxy")
    path = re.sub(r"^[^/?#]*", "", place)
    if path.startswith("//"):
        raise BadProxyUrlError("the colon of its scheme is missing")
    if re.search(r"\.(?:pac|dat)$", path):
        raise BadProxyUrlError("it is the address of a proxy configuration script (PAC)")


def login_of(text: str) -> str | None:
    """What stands for user name and password in a URL, however malformed: up to the last "@"."""
    rest = text.partition("://")[2] if "://" in text else text
    login, at, _ = rest.rpartition("@")
    return login if at else None


def configured(environ: Mapping[str, str]) -> list[str]:
    """The values of all proxy variables that are set."""
    names = dict.fromkeys((*OWN.http, *OWN.https))
    return [environ[name] for name in names if environ.get(name)]


def secrets(text: str) -> Iterator[tuple[Secret, str]]:
    """What must not be shown of a proxy URL, with the user name that belongs to it."""
    user, colon, password = (login_of(text) or "").partition(":")
    secret = password if colon else user  # a name alone is a key
    for spelling in {secret, unquote(secret)} - {""}:
        yield Secret(spelling), unquote(user)


def shown(text: str, default_port: int = 1080) -> str:
    """A proxy URL as it may be shown: normalised, without user name and password."""
    try:
        return parse(text, default_port).url
    except BadProxyUrlError:
        login = login_of(text)
        return text if login is None else text.replace(f"{login}@", "")


@dataclass(frozen=True, slots=True)
class Choice:
    """What one client does with one URL."""

    client: str
    proxy: str | None = field(default=None, repr=False)  # as configured: may hold a password
    source: str | None = None  # what names the proxy, or says that there is none: "$HTTPS_PROXY"
    bypass: str | None = None  # what switches that proxy off, "$NO_PROXY" …
    entry: str | None = None  # … and which entry of it
    bypassed: str | None = field(default=None, repr=False)  # the proxy that is switched off
    error: str | None = None  # the client does not even start
    default_port: int = 1080

    @property
    def because(self) -> str:
        """What decided it, for people."""
        if self.bypass:
            return f"{self.entry!r} in {self.bypass}"
        return self.error or self.source or "no proxy variable applies"

    @property
    def way(self) -> str:
        """Where it goes, for people and to be compared."""
        if self.error:
            return "nowhere"
        return shown(self.proxy, self.default_port) if self.proxy else "directly"

    def __str__(self) -> str:
        return f"{self.way} ({self.because})"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of clients reads the environment."""

    client: str
    http: tuple[str, ...]  # variables for http:// URLs, the first one that is set counts
    https: tuple[str, ...]
    no_proxy: tuple[str, ...] = ("no_proxy", "NO_PROXY")
    empty_hides: bool = False  # an empty https_proxy hides HTTPS_PROXY …
    empty_hides_list: bool = False  # … and an empty no_proxy NO_PROXY
    separator: Literal["comma", "blank", "first-blank"] = "comma"  # "first-blank" ends the list
    star_among_others: bool = False  # "*" counts beside other entries; alone it always does
    apex: bool = True  # ".example.com" covers example.com itself
    trailing_dot: bool = False  # "example.com." is "example.com"
    ports: Literal["never", "written", "unusual"] = "written"  # "host:port" covers a URL's port
    address_tails: bool = True  # an address is compared as a name: "0.1" covers 10.0.0.1
    address_ports: bool = True  # "10.0.0.1:8443" covers it
    networks: frozenset[int] = frozenset()  # IP versions for which 10.0.0.0/8 is understood
    drops_masks: bool = False  # "10.0.0.0/8" is just 10.0.0.0
    ipv6: Literal["number", "bare", "brackets"] = "bare"  # how such an address must be written
    dies_of_brackets: bool = False  # "[::1]" in the list, and the client does not start
    urls: bool = False  # "https://host" is understood
    wildcards: bool = False  # "*.example.com" is understood
    default_ports: Mapping[str, int] = field(default_factory=lambda: {"http": 80, "https": 80})

    def decide(
        self, scheme: str, host: str, port: int | None, environ: Mapping[str, str]
    ) -> Choice:
        """What such a client does with scheme://host:port; `port` is None where not written.

        `host` is lower case, an IPv6 address without brackets.
        """
        no_proxy = _read(environ, self.no_proxy, self.empty_hides_list)
        entries = list(self._entries(environ[no_proxy])) if no_proxy else []
        if self.dies_of_brackets and any(map(_deadly, entries)):
            return Choice(self.client, error=f"it stops at an entry of ${no_proxy}: InvalidURL")
        names = self.https if scheme == "https" else self.http
        name = _read(environ, names, self.empty_hides)
        if name is None:
            return Choice(self.client)
        entry = next((e for e in entries if self._covers(e, scheme, host, port, entries)), None)
        default = self.default_ports[scheme]
        if entry is not None:
            proxy = environ[name]
            return Choice(self.client, None, f"${name}", f"${no_proxy}", entry, proxy)
        return Choice(self.client, environ[name], f"${name}", default_port=default)

    def _entries(self, text: str) -> Iterator[str]:
        if self.separator == "comma":
            yield from (entry.strip() for entry in text.split(",") if entry.strip())
            return
        for part in re.finditer(r"[^\s,]+([ \t]*)(,?)", text):
            yield part[0].rstrip(", \t")
            if self.separator == "first-blank" and part[1] and not part[2]:
                return

    def _covers(
        self, entry: str, scheme: str, host: str, port: int | None, entries: list[str]
    ) -> bool:
        if entry == "*":
            return self.star_among_others or len(entries) == 1
        entry = entry.lower()
        if "://" in entry:
            if not self.urls:
                return False
            kind, _, entry = entry.partition("://")
            return kind in ("all", scheme) and entry in (host, f"{host}:{port}")
        address = _address(host)
        if address is None:
            return self._covers_name(self._strip_port(entry, scheme, port), host)
        if address.version in self.networks and (network := _network(entry)) is not None:
            return address in network
        if self.address_ports:
            entry = self._strip_port(entry, scheme, port)
        if address.version == 6:
            return self.ipv6 != "number" and entry == (
                f"[{host}]" if self.ipv6 == "brackets" else host
            )
        if self.drops_masks:
            entry = entry.partition("/")[0]
        return self.address_tails and self._covers_name(entry, host)

    def _strip_port(self, entry: str, scheme: str, port: int | None) -> str:
        usual = {"http": 80, "https": 443}[scheme]
        counts = {"never": False, "written": True, "unusual": port != usual}[self.ports]
        return entry.removesuffix(f":{port}") if counts and port is not None else entry

    def _covers_name(self, entry: str, host: str) -> bool:
        if self.trailing_dot:
            entry, host = entry.removesuffix("."), host.removesuffix(".")
        if self.wildcards:
            entry = re.sub(r"^\*(?=\.)", "", entry)
        name = entry.removeprefix(".")
        if not name:
            return False
        return host.endswith(f".{name}") or (host == name and (self.apex or entry == name))


def _read(environ: Mapping[str, str], names: tuple[str, ...], empty_hides: bool) -> str | None:
    """The first of these variables that is set to something."""
    hidden = {name.upper() for name in names if empty_hides and environ.get(name) == ""}
    return next((name for name in names if environ.get(name) and name not in hidden), None)


def _deadly(entry: str) -> bool:
    """httpx makes a URL pattern of every entry: what follows a colon there must be a port."""
    if "://" in entry or _address(entry) is not None:
        return False
    return not entry.partition(":")[2].isdecimal() and ":" in entry


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    _, slash, bits = text.partition("/")
    if slash and (not bits.isdecimal() or int(bits) == 0):  # nobody takes /0 for "everything"
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


_PYTHON_HTTP, _PYTHON_HTTPS = ("http_proxy", "HTTP_PROXY"), ("https_proxy", "HTTPS_PROXY")
_ALL = ("all_proxy", "ALL_PROXY")

CURL = Dialect(
    "curl, git",
    http=("http_proxy", *_ALL),  # never HTTP_PROXY: a web server sets that from a request's header
    https=(*_PYTHON_HTTPS, *_ALL),
    separator="blank",
    trailing_dot=True,
    ports="never",
    address_tails=False,
    networks=frozenset({4}),
    default_ports={"http": 1080, "https": 1080},
)
CURL_8_9 = replace(CURL, client="curl, git (libcurl from 8.9)", separator="first-blank")
CURL_8_18 = replace(
    CURL_8_9,
    client="curl, git (libcurl from 8.18)",
    networks=frozenset({4, 6}),
    ipv6="number",
)
URLLIB = Dialect(
    "Python urllib",
    http=_PYTHON_HTTP,
    https=_PYTHON_HTTPS,
    empty_hides=True,
    empty_hides_list=True,
    ipv6="brackets",
    default_ports={"http": 80, "https": 443},
)
REQUESTS = Dialect(
    "Python requests, pip",
    http=(*_PYTHON_HTTP, *_ALL),
    https=(*_PYTHON_HTTPS, *_ALL),
    empty_hides=True,
    address_ports=False,
    networks=frozenset({4}),
)
HTTPX = Dialect(
    "Python httpx",
    http=(*_PYTHON_HTTP, *_ALL),
    https=(*_PYTHON_HTTPS, *_ALL),
    empty_hides=True,
    empty_hides_list=True,
    star_among_others=True,
    apex=False,
    ports="unusual",
    drops_masks=True,
    dies_of_brackets=True,
    urls=True,
)
DIALECTS = (CURL, CURL_8_9, CURL_8_18, URLLIB, REQUESTS, HTTPX)

# bbdiag decides as curl and git do, of each version what is meant best, and reads HTTP_PROXY as
# well: that variable is only dangerous to what a web server starts.
OWN = replace(CURL_8_18, client="bbdiag", http=(*_PYTHON_HTTP, *_ALL), separator="blank")

# What the authors of NO_PROXY entries hope for: every notation that any client understands.
HOPEFUL = replace(
    OWN, star_among_others=True, ports="written", urls=True, wildcards=True, address_tails=True
)


def upper_first(dialect: Dialect) -> Dialect:
    """The same dialect, but HTTPS_PROXY comes before https_proxy: as in programs written in Go."""

    def swap(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(names, key=lambda name: (name.lower().startswith("all"), name)))

    return replace(
        dialect,
        http=swap(dialect.http),
        https=swap(dialect.https),
        no_proxy=swap(dialect.no_proxy),
    )


def conflict(
    scheme: str, host: str, port: int | None, environ: Mapping[str, str]
) -> tuple[Choice, Choice] | None:
    """What the lower-case and the upper-case variables say, where the two are not the same."""
    lower = OWN.decide(scheme, host, port, environ)
    upper = upper_first(OWN).decide(scheme, host, port, environ)
    if lower.way != upper.way:
        return lower, upper
    logins = {login_of(choice.proxy) if choice.proxy else None for choice in (lower, upper)}
    return (lower, upper) if len(logins) > 1 else None


def others(
    own: Choice, scheme: str, host: str, port: int | None, environ: Mapping[str, str]
) -> dict[str, list[str]]:
    """The clients that go another way than `own`: their names by their way and its reason."""
    by_git = git(scheme, host, port, environ)
    choices = [dialect.decide(scheme, host, port, environ) for dialect in DIALECTS]
    if by_git is not None:
        choices = [replace(choice, client=choice.client.replace(", git", "")) for choice in choices]
        choices.append(by_git)
    choices.append(java(scheme, host, environ))
    result: dict[str, list[str]] = {}
    for choice in choices:
        clients = result.get(str(choice), [])
        if choice.way != own.way and not any(choice.client.startswith(name) for name in clients):
            result[str(choice)] = [*clients, choice.client]
    return result


def git(scheme: str, host: str, port: int | None, environ: Mapping[str, str]) -> Choice | None:
    """What git's own configuration makes it do; None where that names no proxy for the host."""
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port is not None else ""
    proxy = git_config(f"{scheme}://{netloc}/", environ)
    if proxy is None:
        return None
    source = "git config http.proxy"
    if not proxy:
        return Choice("git", None, f"{source} is empty")
    # libcurl applies NO_PROXY to a proxy from anywhere.
    lists = {name: environ[name] for name in CURL.no_proxy if name in environ}
    as_if = {**lists, "http_proxy": proxy, "https_proxy": proxy}
    return replace(CURL.decide(scheme, host, port, as_if), client="git", source=source)


_JAVA_NEVER = "localhost|127.*|[::1]|0.0.0.0|[::0]"  # is added to any other list but an empty one


def java(scheme: str, host: str, environ: Mapping[str, str]) -> Choice:
    """What a Java program does: it knows no proxy variable, only system properties. Those that it
    gets through variables of the JVM are seen here, those on its command line are not."""
    properties: dict[str, tuple[str, str]] = {}  # name: (value, variable)
    for variable in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):  # the last one wins
        for option in _words(environ.get(variable, "")):
            name, equals, value = option.removeprefix("-D").partition("=")
            if option.startswith("-D") and equals:
                properties[name] = (value, variable)
    for prefix, kind, default in (
        (f"{scheme}.proxy", "http", {"http": "80", "https": "443"}[scheme]),
        ("proxy", "http", "80"),
        ("socksProxy", "socks5", "1080"),
    ):
        name, variable = properties.get(f"{prefix}Host", ("", ""))
        if not name:
            continue
        port = properties.get(f"{prefix}Port", (default, ""))[0]
        listed = "socksNonProxyHosts" if kind == "socks5" else "http.nonProxyHosts"
        patterns, where = properties.get(listed, (_JAVA_NEVER, ""))
        literal = f"[{host}]" if ":" in host else host
        candidates = [*patterns.split("|"), *(_JAVA_NEVER.split("|") if patterns else [])]
        entry = next((p for p in candidates if _java_covers(p.lower(), literal)), None)
        source = f"-D{prefix}Host in ${variable}"
        if entry is None:
            return Choice("Java", f"{kind}://{name}:{port}", source)
        bypass = f"-D{listed} in ${where}" if where else f"the default of -D{listed}"
        return Choice("Java", None, source, bypass, entry)
    return Choice("Java", None, "it reads no such variable, and $JAVA_TOOL_OPTIONS sets no proxy")


def _java_covers(pattern: str, host: str) -> bool:
    """A star stands for anything, at the start and at the end only."""
    head, tail = pattern.startswith("*"), pattern.endswith("*")
    text = pattern[head : len(pattern) - tail] if pattern != "*" else ""
    if head and tail:
        return text in host
    if head or tail:
        return host.endswith(text) if head else host.startswith(text)
    return bool(pattern) and host == pattern


def _words(options: str) -> list[str]:
    try:
        return shlex.split(options)
    except ValueError:  # a quote without its end
        return options.split()


def git_config(url: str, environ: Mapping[str, str]) -> str | None:
    """What git's own configuration says for this URL (http.proxy): "" is "no proxy at all".

    None if it says nothing, if there is no git, or if git is too slow.
    """
    surroundings = tuple(
        (name, value) for name, value in sorted(environ.items()) if _GIT_READS.fullmatch(name)
    )
    if not _git(surroundings, "--get-regexp", r"^http\..*proxy$"):  # once for a whole process
        return None
    answer = _git(surroundings, "--get-urlmatch", "http.proxy", url)
    return None if answer is None else answer.rstrip("\n")


_GIT_READS = re.compile(r"PATH|HOME|USERPROFILE|XDG_CONFIG_HOME|GIT_CONFIG_\w+")
_GIT_PATIENCE = 1.0  # seconds


@cache
def _git(surroundings: tuple[tuple[str, str], ...], *question: str) -> str | None:
    import shutil
    import subprocess

    environ = dict(surroundings)
    program = shutil.which("git", path=environ["PATH"]) if environ.get("PATH") else None
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the URL is made of checked parts
            [program, "config", *question],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_PATIENCE,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
