"""Which proxy a client would take for a URL, and what made it do so: nothing here touches a socket.

Clients agree on the names of the variables and on little else. How each of them reads HTTPS_PROXY,
NO_PROXY and the rest is written down as data (`Dialect`). Here are curl's, which bbdiag follows:
curl 7.86 to 8.22 (lib/noproxy.c, lib/url.c); `diag.net.proxyclients` has those of other clients.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from diag.record import field, record, replace
from diag.secret import Secret, authorization

if TYPE_CHECKING:
    from diag.model import Json

SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_SPELLINGS = {"socks": "socks4"}  # curl's reading
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")


class BadProxyUrlError(ValueError):
    """The text is no proxy URL; the message says why, and quotes nothing of it."""


@record
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


@record
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

    def to_json(self) -> dict[str, Json]:
        """For a report: `way` is "direct", the proxy without its login, or "none" for a client that
        does not even start."""
        way = {"directly": "direct", "nowhere": "none"}.get(self.way, self.way)
        return {"client": self.client, "way": way, "because": self.because}


@record
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
    # Whether "host:port" covers a URL with that port: also where the URL does not write it
    # ("always"), only where it does, or only where it is not the usual one.
    ports: Literal["never", "always", "written", "unusual"] = "written"
    address_tails: bool = True  # an address is compared as a name: "0.1" covers 10.0.0.1
    address_ports: bool = True  # "10.0.0.1:8443" covers it
    networks: frozenset[int] = frozenset()  # IP versions for which 10.0.0.0/8 is understood
    zero_mask: bool = False  # "0.0.0.0/0" is everything: nobody else takes it so
    drops_masks: bool = False  # "10.0.0.0/8" is just 10.0.0.0
    ranges: bool = False  # "10.0.0.1-10.0.0.9" is understood
    # How such an address must be written. "port": in brackets, but only before a port.
    ipv6: Literal["number", "bare", "brackets", "either", "port"] = "bare"
    dies_of_brackets: bool = False  # "[::1]" in the list, and the client does not start
    urls: bool = False  # "https://host" is understood
    wildcards: bool = False  # "*.example.com" is understood
    # For clients to whom "example.com" is no more than itself: what a host must end with to be
    # covered by an entry, None where it must be the entry.
    ending: Callable[[str], str | None] | None = None
    spares_loopback: bool = False  # localhost and 127.0.0.1 never go through a proxy
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
        if self.spares_loopback and _is_loopback(host):
            rule = "its own list of exceptions"
            return Choice(self.client, None, f"${name}", rule, host, environ[name])
        entry = next((e for e in entries if self._covers(e, scheme, host, port, entries)), None)
        default = self.default_ports[scheme]
        if entry is not None:
            proxy = environ[name]
            return Choice(self.client, None, f"${name}", f"${no_proxy}", entry, proxy)
        return Choice(self.client, environ[name], f"${name}", default_port=default)

    def understands(self, entry: str, text: str, scheme: str, host: str, port: int | None) -> bool:
        """Whether, of the list `text`, such a client takes `entry` to cover scheme://host:port."""
        entries = list(self._entries(text))
        return entry in entries and self._covers(entry, scheme, host, port, entries)

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
        if address.version in self.networks:
            network = _network(entry, zero=self.zero_mask)
            if network is not None:
                return address in network
        given = entry
        if self.address_ports:
            entry = self._strip_port(entry, scheme, port)
        if address.version == 6:
            forms = {
                "number": (),
                "bare": (host,),
                "brackets": (f"[{host}]",),
                "either": (host, f"[{host}]"),
                "port": (f"[{host}]",) if entry != given else (),
            }
            return entry in forms[self.ipv6]
        if self.ranges and _in_range(address, entry):
            return True
        if self.drops_masks:
            entry = entry.partition("/")[0]
        return entry == host or (self.address_tails and self._covers_name(entry, host))

    def _strip_port(self, entry: str, scheme: str, port: int | None) -> str:
        usual = {"http": 80, "https": 443}[scheme]
        if self.ports == "always":
            return entry.removesuffix(f":{port or usual}")
        counts = {"never": False, "written": True, "unusual": port != usual}[self.ports]
        return entry.removesuffix(f":{port}") if counts and port is not None else entry

    def _covers_name(self, entry: str, host: str) -> bool:
        if self.trailing_dot:
            entry, host = entry.removesuffix("."), host.removesuffix(".")
        if self.ending is not None:
            ending = self.ending(entry)
            return host == entry if ending is None else host.endswith(ending)
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


def _network(text: str, *, zero: bool) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    _, slash, bits = text.partition("/")
    if slash and (not bits.isdecimal() or (int(bits) == 0 and not zero)):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _in_range(address: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> bool:
    first, _, last = (_address(part.strip()) for part in text.partition("-"))
    if not isinstance(first, ipaddress.IPv4Address) or not isinstance(last, ipaddress.IPv4Address):
        return False
    return int(first) <= int(address) <= int(last)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


HTTP, HTTPS = ("http_proxy", "HTTP_PROXY"), ("https_proxy", "HTTPS_PROXY")
ALL = ("all_proxy", "ALL_PROXY")

CURL = Dialect(
    "curl, git",
    http=("http_proxy", *ALL),  # never HTTP_PROXY: a web server sets that from a request's header
    https=(*HTTPS, *ALL),
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
# bbdiag decides as curl and git do, of each version what is meant best, and reads HTTP_PROXY as
# well: that variable is only dangerous to what a web server starts.
OWN = replace(CURL_8_18, client="bbdiag", http=(*HTTP, *ALL), separator="blank")

# What the authors of NO_PROXY entries hope for: every notation that any client understands.
HOPEFUL = replace(
    OWN,
    star_among_others=True,
    ports="always",
    address_tails=True,
    ranges=True,
    ipv6="either",
    urls=True,
    wildcards=True,
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
