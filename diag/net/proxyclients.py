"""What other clients make of the same environment: curl and git, Python, Go, Node, Java.

From their sources, held against the programs by the tests: CPython 3.11 (urllib.request), requests
2.34 (utils.py), httpx 0.28 (_utils.py), golang.org/x/net (http/httpproxy), Node 22.21 and 24.19
(lib/internal/http.js; undici's EnvHttpProxyAgent, which changed in 7.22), axios 1.13 and 1.21
(proxy-from-env), git 2.39 (http.c, on libcurl), OpenJDK 17 (DefaultProxySelector).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache

from diag.net.proxyenv import (
    ALL,
    CURL,
    CURL_8_9,
    CURL_8_18,
    HOPEFUL,
    HTTP,
    HTTPS,
    OWN,
    BadProxyUrlError,
    Choice,
    Dialect,
    Proxy,
    conflict,
    parse,
)
from diag.record import record, replace

URLLIB = Dialect(
    "Python urllib",
    http=HTTP,
    https=HTTPS,
    empty_hides=True,
    empty_hides_list=True,
    ipv6="brackets",
    default_ports={"http": 80, "https": 443},
)
REQUESTS = Dialect(
    "Python requests, pip",
    http=(*HTTP, *ALL),
    https=(*HTTPS, *ALL),
    empty_hides=True,
    address_ports=False,
    networks=frozenset({4}),
)
HTTPX = Dialect(
    "Python httpx",
    http=(*HTTP, *ALL),
    https=(*HTTPS, *ALL),
    empty_hides=True,
    empty_hides_list=True,
    star_among_others=True,
    apex=False,
    ports="unusual",
    drops_masks=True,
    dies_of_brackets=True,
    urls=True,
)
GO = Dialect(
    "Go",  # net/http: git-lfs, docker, terraform, many an agent
    http=HTTP[::-1],
    https=HTTPS[::-1],
    no_proxy=("NO_PROXY", "no_proxy"),
    star_among_others=True,
    apex=False,
    ports="always",
    address_tails=False,
    networks=frozenset({4, 6}),
    zero_mask=True,
    ipv6="port",
    wildcards=True,
    spares_loopback=True,
)


def _star_or_dot(entry: str) -> str | None:
    """ ".example.com" and "*.example.com" are what a host must end with; "*ample.com", too."""
    return entry.removeprefix("*") if entry.startswith((".", "*")) else None


def _after_the_first(entry: str) -> str | None:
    """ ".example.com" covers what ends with "example.com", "*.example.com" only what is below."""
    return entry[1:] if entry.startswith((".", "*.")) else None


AXIOS = Dialect(
    "Node axios",
    http=(*HTTP, *ALL),
    https=(*HTTPS, *ALL),
    separator="blank",
    star_among_others=True,
    ports="always",
    ipv6="brackets",
    ending=_star_or_dot,
)
AXIOS_1_21 = replace(
    AXIOS,
    client="Node axios (from 1.21)",
    trailing_dot=True,
    networks=frozenset({4, 6}),
    zero_mask=True,
    ipv6="either",
)
NODE_FETCH = Dialect(
    "Node fetch",
    http=HTTP,
    https=(*HTTPS, *HTTP),
    empty_hides=True,
    empty_hides_list=True,
    separator="blank",
    star_among_others=True,
    ports="always",
    ipv6="brackets",
    ending=_star_or_dot,
)
NODE_FETCH_7_22 = replace(
    NODE_FETCH,
    client="Node fetch (undici from 7.22)",
    star_among_others=False,
    wildcards=True,
    ending=None,
)
NODE_HTTP = Dialect(
    "Node http",
    http=HTTP,
    https=HTTPS,
    star_among_others=True,
    ports="always",
    ranges=True,
    ending=_after_the_first,
)
# Clients that read the variables unasked; of each the versions that differ, the oldest first.
FAMILIES: tuple[tuple[Dialect, ...], ...] = (
    (CURL, CURL_8_9, CURL_8_18),
    (URLLIB,),
    (REQUESTS,),
    (HTTPX,),
    (GO,),
    (AXIOS, AXIOS_1_21),
)


def choices(scheme: str, host: str, port: int | None, environ: Mapping[str, str]) -> list[Choice]:
    """What each client does with scheme://host:port; `port` is None where not written. Versions of
    a client are named apart only where they differ."""
    found: list[Choice] = []
    for family in FAMILIES:
        decided = [dialect.decide(scheme, host, port, environ) for dialect in family]
        if family[0] is AXIOS:
            decided = [_with_scheme(choice, scheme) for choice in decided]
        found += _apart(decided)
    by_git = git(scheme, host, port, environ)
    if by_git is not None:
        found = [replace(one, client=one.client.replace(", git", "")) for one in found]
        found.insert(1, by_git)
    return [*found, *node(scheme, host, port, environ), java(scheme, host, environ)]


def _apart(decided: Sequence[Choice]) -> list[Choice]:
    """One choice for versions that do the same."""
    found: list[Choice] = []
    for choice in decided:
        if not found or str(choice) != str(found[-1]):
            found.append(choice)
    return found


def _with_scheme(choice: Choice, scheme: str) -> Choice:
    """axios completes a proxy without a scheme by that of the URL that is asked for."""
    if choice.proxy is None or "://" in choice.proxy:
        return choice
    return replace(choice, proxy=f"{scheme}://{choice.proxy}")


def differing(own: Choice, found: Sequence[Choice]) -> dict[str, list[str]]:
    """The clients that go another way than `own`: their names, by their way."""
    result: dict[str, list[str]] = {}
    for choice in found:
        if choice.way != own.way:
            result.setdefault(choice.way, []).append(choice.client)
    return result


@record
class Doubt:
    """An entry of NO_PROXY that could be meant for the URL, and is understood by some only."""

    entry: str
    variable: str
    by: tuple[str, ...]  # the clients that take it so
    not_by: tuple[str, ...]


def doubts(scheme: str, host: str, port: int | None, environ: Mapping[str, str]) -> list[Doubt]:
    """The entries that are worth a word, where a proxy would apply at all."""
    applied = OWN.decide(scheme, host, port, environ)
    if not (applied.proxy or applied.bypassed):
        return []
    families = FAMILIES
    if node_reads(environ):
        families = (*families, (NODE_FETCH, NODE_FETCH_7_22), (NODE_HTTP,))
    found: list[Doubt] = []
    for variable in OWN.no_proxy:
        text = environ.get(variable, "")
        for entry in dict.fromkeys(re.findall(r"[^\s,]+", text)):
            if not _meant(entry, scheme, host, port):
                continue
            by: list[str] = []
            not_by: list[str] = []
            for family in families:
                taken = [one.understands(entry, text, scheme, host, port) for one in family]
                sides = [(by if yes else not_by) for yes in taken]
                for index, (dialect, side) in enumerate(zip(family, sides, strict=True)):
                    if index == 0 or side is not sides[index - 1]:
                        side.append(dialect.client)
            if not_by:
                found.append(Doubt(entry, f"${variable}", tuple(by), tuple(not_by)))
    return found


def _meant(entry: str, scheme: str, host: str, port: int | None) -> bool:
    """Whether somebody may have written the entry for this URL, in whichever notation."""
    for part in filter(None, re.split(r"[;|]", entry.lower())):
        plain = re.sub(r"^[a-z]+://|/$", "", part)
        if any(HOPEFUL.understands(one, one, scheme, host, port) for one in (part, plain)):
            return True
        pattern = plain.partition(":")[0]
        if "*" in pattern and fnmatchcase(host, pattern.replace("[", "[[]")):
            return True
    return entry == "<local>" and "." not in host


# git


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


# Node


def node_reads(environ: Mapping[str, str]) -> bool:
    """Whether Node is told to read the variables, which it does from 22.21 and 24.5."""
    flags = [word for word in _words(environ.get("NODE_OPTIONS", "")) if word in _NODE_FLAGS]
    if flags:
        return _NODE_FLAGS[flags[-1]]
    return environ.get("NODE_USE_ENV_PROXY") == "1"


_NODE_FLAGS = {"--use-env-proxy": True, "--no-use-env-proxy": False}


def node(scheme: str, host: str, port: int | None, environ: Mapping[str, str]) -> list[Choice]:
    """What a Node program does that asks by the built-in fetch or http."""
    new = NODE_FETCH_7_22.decide(scheme, host, port, environ)
    if not node_reads(environ):
        why = "it reads no such variable without NODE_USE_ENV_PROXY=1"
        return [Choice("Node", None, why if new.source else None)]
    for kind in ("http", "https"):  # both are read when Node starts, whatever is asked for later
        taken = NODE_FETCH.decide(kind, "any.invalid", None, {**environ, "no_proxy": ""})
        if taken.proxy and not re.match(r"https?://", taken.proxy, re.IGNORECASE):
            why = f"{taken.source} has neither http:// nor https://, and Node does not start"
            return [Choice("Node", error=why)]
    old = NODE_FETCH.decide(scheme, host, port, environ)
    return [*_apart([old, new]), NODE_HTTP.decide(scheme, host, port, environ)]


# Java

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
        proxy = f"{kind}://{name}:{port}"
        if entry is None:
            return Choice("Java", proxy, source)
        bypass = f"-D{listed} in ${where}" if where else f"the default of -D{listed}"
        return Choice("Java", None, source, bypass, entry, proxy)
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


# all of them


def known(
    scheme: str, host: str, port: int | None, environ: Mapping[str, str]
) -> dict[str, tuple[Proxy, str]]:
    """Every proxy that this machine has been told of, by its URL without the login, with what names
    it: those that apply to the URL first, then those of other variables."""
    found: dict[str, tuple[Proxy, str]] = {}
    for text, source in _named(scheme, host, port, environ):
        try:
            proxy = parse(text)
        except BadProxyUrlError:
            continue
        found.setdefault(proxy.url, (proxy, source))
    return found


def _named(
    scheme: str, host: str, port: int | None, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for choice in choices(scheme, host, port, environ):
        if text := choice.proxy or choice.bypassed:
            yield text, choice.source or ""
    for name in dict.fromkeys((*OWN.https, *OWN.http)):
        if text := environ.get(name):
            yield text, f"${name}"


def hints(scheme: str, host: str, port: int | None, environ: Mapping[str, str]) -> list[str]:
    """What to do so that all clients go the same way, a sentence each."""
    own = OWN.decide(scheme, host, port, environ)
    named = own.proxy or own.bypassed
    if named is None:
        return []
    found: list[str] = []
    if conflict(scheme, host, port, environ):
        found.append("The variables in small letters and in capitals differ: give them one value.")
    try:
        proxy = parse(named)
    except BadProxyUrlError as error:
        found.append(f"{own.source} is no proxy URL: {error}.")
        return found
    if "://" not in named:
        found.append(f"Write http:// before the proxy in {own.source}: some clients demand it.")
    if not re.search(r":\d+/?$", named):
        found.append(f"Name the proxy's port in {own.source}: each client takes another one.")
    if own.source == "$HTTP_PROXY":
        found.append("curl and git do not read HTTP_PROXY: set http_proxy.")
    if doubts(scheme, host, port, environ):
        found.append(f"What every client understands in a comma-separated NO_PROXY: {host}")
    if own.proxy is None:
        return found
    socks = proxy.scheme.startswith("socks")
    if own.source in ("$ALL_PROXY", "$all_proxy") and not socks:
        found.append(f"Not all clients read {own.source}: set {scheme}_proxy.")
    told = {**environ, "NODE_USE_ENV_PROXY": "1"}
    if not node_reads(environ) and any(one.proxy for one in node(scheme, host, port, told)):
        found.append("Node (from 22.21 and 24.5) takes the proxy with NODE_USE_ENV_PROXY=1.")
    if java(scheme, host, environ).proxy is None and proxy.scheme != "https":
        prefix = "socksProxy" if socks else f"{scheme}.proxy"
        place = f"-D{prefix}Host={proxy.host} -D{prefix}Port={proxy.port}"
        found.append(f"Java takes it with {place}, for example in JAVA_TOOL_OPTIONS.")
    return found
