"""Which proxy applies: bbdiag's reading of the environment against the clients' own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.net import proxyclients, proxyenv
from diag.net.proxyclients import (
    AXIOS,
    AXIOS_1_21,
    GO,
    HTTPX,
    NODE_FETCH,
    NODE_FETCH_7_22,
    NODE_HTTP,
    REQUESTS,
    URLLIB,
)
from diag.net.proxyenv import CURL, CURL_8_9, CURL_8_18, HOPEFUL, OWN, Choice, Dialect
from diag.secret import Secret

PROXY = "http://127.0.0.1:9"
NAME, SUB, IP4, IP6 = HOSTS = "bb.example.com", "a.bb.example.com", "10.1.2.3", "fd00::7"

# One case: a URL and a NO_PROXY list. Whether it bypasses is for the clients to say.
LISTS = [
    *((f"https://{NAME}/", entry) for entry in ("bb.example.com", "example.com", ".example.com")),
    *((f"https://{NAME}/", entry) for entry in (".bb.example.com", "b.example.com", "ample.com")),
    *((f"https://{NAME}/", entry) for entry in ("*", "x,*", "*.example.com", "BB.Example.COM")),
    *((f"https://{NAME}/", entry) for entry in ("bb.example.com.", ".example.com.", "com", "")),
    *((f"https://{NAME}/", entry) for entry in ("x bb.example.com", "x, bb.example.com", ",,")),
    *((f"https://{NAME}/", entry) for entry in ("bb.example.com x", "bb.example.com:443", "x.y z")),
    *((f"https://{NAME}/", entry) for entry in ("https://bb.example.com", "http://bb.example.com")),
    *((f"https://{SUB}/", entry) for entry in ("bb.example.com", ".example.com", "a.bb", "*")),
    *((f"https://{NAME}:8443/", entry) for entry in ("bb.example.com:8443", "example.com:8443")),
    *((f"https://{NAME}:8443/", entry) for entry in ("bb.example.com:443", "bb.example.com", "*")),
    *((f"https://{NAME}:443/", entry) for entry in ("bb.example.com:443", "bb.example.com:8443")),
    *((f"http://{NAME}/", entry) for entry in ("bb.example.com:80", "example.com", "*.com")),
    *((f"https://{IP4}/", entry) for entry in ("10.1.2.3", "10.0.0.0/8", "10.1.2.0/24")),
    *((f"https://{IP4}/", entry) for entry in ("10.2.0.0/16", "10.", "2.3", ".2.3", "10.1.2.3/32")),
    *(
        (f"https://{IP4}/", entry)
        for entry in ("0.0.0.0/0", "10.1.2.3:443", "10.1.2.*", "10.1.2.3.")
    ),
    *((f"https://{IP4}:8443/", entry) for entry in ("10.1.2.3:8443", "10.1.2.3")),
    *((f"https://[{IP6}]/", entry) for entry in ("fd00::7", "[fd00::7]", "fd00::/8", "fd00:0::7")),
    *((f"https://[{IP6}]/", entry) for entry in ("fd01::/16", "::1", "*", "[fd00::7]:443")),
    *((f"https://[{IP6}]:8443/", entry) for entry in ("[fd00::7]:8443", "fd00::7")),
]
# Which variable is taken, for http:// and for https://.
VARIABLES: list[dict[str, str]] = [
    {"https_proxy": PROXY},
    {"HTTPS_PROXY": PROXY},
    {"http_proxy": PROXY},
    {"HTTP_PROXY": PROXY},
    {"all_proxy": PROXY},
    {"ALL_PROXY": PROXY},
    {"https_proxy": "", "HTTPS_PROXY": PROXY},
    {"https_proxy": PROXY, "NO_PROXY": NAME},
    {"https_proxy": PROXY, "NO_PROXY": NAME, "no_proxy": "x"},
    {"https_proxy": PROXY, "NO_PROXY": NAME, "no_proxy": ""},
    {"http_proxy": "", "ALL_PROXY": PROXY},
    {"NO_PROXY": NAME},
    {},
]
Oracle = Callable[[str, Mapping[str, str]], bool | None]


def parts(url: str) -> tuple[str, str, int | None]:
    split = urlsplit(url)
    return split.scheme, split.hostname or "", split.port


def decided(dialect: Dialect, url: str, environ: Mapping[str, str]) -> bool | None:
    """Whether the proxy is taken, None if the client does not start."""
    choice = dialect.decide(*parts(url), environ)
    return None if choice.error else choice.proxy is not None


CASES = [
    *((url, {"http_proxy": PROXY, "https_proxy": PROXY, "NO_PROXY": text}) for url, text in LISTS),
    *((f"{scheme}://{NAME}/", environ) for scheme in ("http", "https") for environ in VARIABLES),
]


RECORDED = Path(__file__).with_name("proxy_clients.json")


@dataclass(frozen=True)
class Recorded:
    """What a program that is not everywhere answered, in the order of the questions.

    It is asked itself where it is installed; UPDATE_GOLDEN=1 keeps what it says, for elsewhere.
    """

    version: str
    answers: list[Any]

    @classmethod
    def of(cls, client: str, asked: Recorded | None) -> Recorded:
        kept: dict[str, Any] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        if asked is not None and os.environ.get("UPDATE_GOLDEN"):
            lines = {**kept, client: vars(asked)}
            text = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(lines.items()))
            RECORDED.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
        return asked or cls(**kept[client])

    def oracle(self) -> Oracle:
        """The answers to `CASES`, by case."""
        asked = [json.dumps(case) for case in CASES]
        answers = dict(zip(asked, self.answers, strict=True))
        return lambda url, environ: answers[json.dumps([url, environ])]


def disagreements(dialect: Dialect, oracle: Oracle) -> list[str]:
    """The cases in which our data and the real client differ."""
    return [
        f"{url} with {environ}: we say {ours}, the client {theirs}"
        for url, environ in CASES
        if (ours := decided(dialect, url, environ)) != (theirs := oracle(url, environ))
    ]


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Replace every proxy variable of this process."""
    names = {name for _, environ in CASES for name in environ}

    def replace(environ: Mapping[str, str]) -> None:
        for name in names:
            if name in environ:
                monkeypatch.setenv(name, environ[name])
            else:
                monkeypatch.delenv(name, raising=False)

    return replace


def test_curl_decides_as_the_data_says() -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    version = subprocess.run([curl, "--version"], capture_output=True, text=True, check=True).stdout
    numbers = tuple(map(int, version.split()[1].split(".")[:2]))
    if numbers < (7, 86):
        pytest.skip("curl before 7.86 knows no networks in NO_PROXY")
    with socket.socket() as proxy, socket.socket() as direct:  # bound, not listening: refused
        for sock in (proxy, direct):
            sock.bind(("127.0.0.1", 0))
        to_proxy, to_direct = proxy.getsockname()[1], direct.getsockname()[1]

        def oracle(url: str, environ: Mapping[str, str]) -> bool | None:
            done = subprocess.run(
                [curl, "-q", "-sS", "--connect-to", f"::127.0.0.1:{to_direct}", url],
                env={
                    k: v.replace(PROXY, f"http://127.0.0.1:{to_proxy}") for k, v in environ.items()
                },
                capture_output=True,
                text=True,
                check=False,
            )
            seen = re.search(r"port (\d+)", done.stderr)
            assert seen is not None, done.stderr
            return seen[1] == f"{to_proxy}"

        dialect = CURL if numbers < (8, 9) else CURL_8_9 if numbers < (8, 18) else CURL_8_18
        assert disagreements(dialect, oracle) == []


def test_urllib_decides_as_the_data_says(setenv: Callable[[Mapping[str, str]], None]) -> None:
    import urllib.request

    def oracle(url: str, environ: Mapping[str, str]) -> bool | None:
        setenv(environ)
        split = urlsplit(url)
        proxies: dict[str, str] = urllib.request.getproxies_environment()
        bypassed = urllib.request.proxy_bypass_environment(split.netloc, proxies)  # type: ignore[attr-defined]
        return split.scheme in proxies and not bool(bypassed)

    assert disagreements(URLLIB, oracle) == []


def test_requests_decides_as_the_data_says(setenv: Callable[[Mapping[str, str]], None]) -> None:
    requests = pytest.importorskip("requests", reason="requests is not installed")

    def oracle(url: str, environ: Mapping[str, str]) -> bool | None:
        setenv(environ)
        proxies = requests.utils.get_environ_proxies(url)
        selected: str | None = requests.utils.select_proxy(url, proxies)
        return selected is not None

    assert disagreements(REQUESTS, oracle) == []


def test_httpx_decides_as_the_data_says(setenv: Callable[[Mapping[str, str]], None]) -> None:
    import httpx

    def oracle(url: str, environ: Mapping[str, str]) -> bool | None:
        setenv(environ)
        try:
            client = httpx.Client(verify=False)
        except httpx.InvalidURL:
            return None
        with client:
            transport = client._transport_for_url(httpx.URL(url))
            return transport is not client._transport

    assert disagreements(HTTPX, oracle) == []


JAVA = """
import java.net.*;
public class Ask {
    public static void main(String[] urls) throws Exception {
        for (String url : urls)
            System.out.println(ProxySelector.getDefault().select(new URI(url)).get(0));
    }
}
"""
JAVA_CASES: list[tuple[dict[str, str], tuple[str, ...]]] = [
    (
        {
            "JAVA_TOOL_OPTIONS": "-Dhttps.proxyHost=p -Dhttps.proxyPort=3128 "
            "-Dhttp.nonProxyHosts=*.a.com|b.*|*x*|[fd00::7]|10.*"
        },
        (
            *("https://y.a.com/", "https://a.com/", "https://b.c/", "https://qxq/", "http://q/"),
            *(f"https://[{IP6}]/", "https://[fd00::8]/", f"https://{IP4}/", "https://127.0.0.1/"),
        ),
    ),
    (
        {"JAVA_TOOL_OPTIONS": "-Dhttp.proxyHost=p", "_JAVA_OPTIONS": "-Dhttp.proxyHost=q"},
        ("http://a/", "https://a/", "http://127.0.0.1/", "http://localhost/"),
    ),
    (
        {"JDK_JAVA_OPTIONS": "'-Dhttps.proxyHost=p' -Dignored", "https_proxy": PROXY},
        ("https://a/", "http://a/"),
    ),
    ({"JAVA_TOOL_OPTIONS": "-DsocksProxyHost=s"}, ("https://a/", "http://127.0.0.1/")),
    ({"JAVA_TOOL_OPTIONS": "-DproxyHost=d -DproxyPort=1"}, ("https://a/", "http://a/")),
    ({"https_proxy": PROXY, "http_proxy": PROXY}, ("https://a/", "http://a/")),
]


def ask_java(directory: Path) -> Recorded | None:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        return None
    (directory / "Ask.java").write_text(JAVA)
    subprocess.run(["javac", "Ask.java"], cwd=directory, capture_output=True, check=True)
    answers = []
    for environ, urls in JAVA_CASES:
        argv = [java, "-XX:TieredStopAtLevel=1", "-cp", str(directory), "Ask", *urls]
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
        answers.append([as_url(line) for line in done.stdout.splitlines()])
    asked = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)
    return Recorded(asked.stderr.partition("\n")[0], answers)


def test_java_decides_as_we_say(tmp_path: Path) -> None:
    theirs = Recorded.of("java", ask_java(tmp_path)).answers
    ours = [
        [proxyclients.java(*parts(url)[:2], environ).proxy for url in urls]
        for environ, urls in JAVA_CASES
    ]
    assert ours == theirs


def as_url(line: str) -> str | None:
    """`HTTP @ p/<unresolved>:3128` of Java as a proxy URL; None for DIRECT."""
    seen = re.fullmatch(r"(HTTP|SOCKS) @ ([^/]+)/?\S*:(\d+)", line)
    return seen and f"{'http' if seen[1] == 'HTTP' else 'socks5'}://{seen[2]}:{seen[3]}"


GO_PROGRAM = """
package main
import ("fmt"; "net/http"; "os")
func main() {
    request, _ := http.NewRequest("GET", os.Args[1], nil)
    fmt.Println(http.ProxyFromEnvironment(request))
}
"""


def ask_go(directory: Path) -> Recorded | None:
    go = shutil.which("go")
    if go is None:
        return None
    (directory / "ask.go").write_text(GO_PROGRAM)
    subprocess.run([go, "build", "-o", "ask", "ask.go"], cwd=directory, check=True)
    program = str(directory / "ask")
    answers = []
    for url, environ in (*CASES, *GO_NEVER):
        done = subprocess.run([program, url], env=environ, capture_output=True, check=True)
        answers.append(not done.stdout.startswith(b"<nil>"))
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
    return Recorded(version.strip(), answers)


GO_NEVER = [
    (url, {"http_proxy": PROXY, "https_proxy": PROXY})
    for url in ("https://localhost/", "https://127.1.2.3/", "http://[::1]/")
]


def test_go_decides_as_the_data_says(tmp_path: Path) -> None:
    found = Recorded.of("go", ask_go(tmp_path))
    usual = Recorded(found.version, found.answers[: len(CASES)])
    assert disagreements(GO, usual.oracle()) == []
    assert found.answers[len(CASES) :] == [decided(GO, *case) for case in GO_NEVER] == [False] * 3


# Says for each of the cases whether the connection went to the proxy; nothing is ever connected.
NODE_PROGRAM = """
const http = require("http"), https = require("https"), net = require("net");
const cases = JSON.parse(require("fs").readFileSync(0));
let to;
net.Socket.prototype.connect = function (...args) {
    const options = Array.isArray(args[0]) ? args[0][0] : args[0];
    to = Number(options.port);
    throw new Error("no connection");
};
(async () => {
    const found = [];
    for (const [url, environ] of cases) {
        to = null;
        for (const name of ["no_proxy", "NO_PROXY"]) delete process.env[name];
        Object.assign(process.env, environ);
        if (process.argv.at(-1) === "fetch") {
            await fetch(url).catch(() => {});
        } else {
            const library = url.startsWith("https") ? https : http;
            const agent = new library.Agent({ proxyEnv: environ });
            await new Promise((done) => {
                try { library.get(url, { agent }).on("error", done).on("close", done); }
                catch { done(); }
            });
        }
        found.push(to);
    }
    console.log(JSON.stringify(found));
    process.exit(0);
})();
"""


def ask_node(kind: str) -> Recorded | None:
    """What Node does in each of the cases. The proxies are read once, when it starts; NO_PROXY is
    read for every request."""
    program = shutil.which("node")
    if program is None:
        return None
    asked = "console.log(process.versions.node, process.versions.undici ?? '0.0')"
    line = subprocess.run([program, "-e", asked], capture_output=True, text=True, check=True).stdout
    own = tuple(map(int, line.split()[0].split(".")[:2]))
    if not ((22, 21) <= own < (23, 0) or own >= (24, 5)):
        return None  # it does not know NODE_USE_ENV_PROXY
    answers: dict[str, bool] = {}
    groups: dict[str, list[tuple[str, Mapping[str, str]]]] = {}
    for url, environ in CASES:
        proxies = {name: value for name, value in environ.items() if name.lower() != "no_proxy"}
        groups.setdefault(json.dumps(proxies), []).append((url, environ))
    for group, cases in groups.items():
        done = subprocess.run(
            [program, "-e", NODE_PROGRAM, kind],
            env={**json.loads(group), "NODE_USE_ENV_PROXY": "1"},
            input=json.dumps(cases),
            capture_output=True,
            text=True,
            check=True,
        )
        for case, port in zip(cases, json.loads(done.stdout), strict=True):
            assert port is not None, case
            answers[json.dumps(case)] = port == 9
    return Recorded(line.strip(), [answers[json.dumps(case)] for case in CASES])


def test_node_s_fetch_decides_as_the_data_says() -> None:
    found = Recorded.of("node-fetch", ask_node("fetch"))
    undici = tuple(map(int, found.version.split()[1].split(".")[:2]))
    dialect = NODE_FETCH if undici < (7, 22) else NODE_FETCH_7_22
    assert disagreements(dialect, found.oracle()) == []


def test_node_s_http_decides_as_the_data_says() -> None:
    found = Recorded.of("node-http", ask_node("http"))
    assert disagreements(NODE_HTTP, found.oracle()) == []


# bbdiag itself

WAYS: list[tuple[str, dict[str, str], str]] = [
    ("https://bb.example.com/", {}, "directly (no proxy variable applies)"),
    ("https://bb.example.com/", {"http_proxy": "a:1"}, "directly (no proxy variable applies)"),
    ("https://bb.example.com/", {"HTTPS_PROXY": "a:1"}, "http://a:1 ($HTTPS_PROXY)"),
    (
        "https://bb.example.com/",
        {"HTTPS_PROXY": "a:1", "https_proxy": "b"},
        "http://b:1080 ($https_proxy)",
    ),
    (
        "https://bb.example.com/",
        {"HTTPS_PROXY": "a:1", "https_proxy": ""},
        "http://a:1 ($HTTPS_PROXY)",
    ),
    ("https://bb.example.com/", {"ALL_PROXY": "socks5h://u:p@a"}, "socks5h://a:1080 ($ALL_PROXY)"),
    ("http://bb.example.com/", {"HTTP_PROXY": "https://a"}, "https://a:443 ($HTTP_PROXY)"),
    (
        "https://bb.example.com/",
        {"https_proxy": "a:1", "NO_PROXY": "x .example.com"},
        "directly ('.example.com' in $NO_PROXY)",
    ),
    (
        "https://10.1.2.3/",
        {"https_proxy": "a:1", "NO_PROXY": "10.0.0.0/8"},
        "directly ('10.0.0.0/8' in $NO_PROXY)",
    ),
    (
        "https://[fd00::7]/",
        {"https_proxy": "a:1", "NO_PROXY": "fd00::/8"},
        "directly ('fd00::/8' in $NO_PROXY)",
    ),
]


@pytest.mark.parametrize(("url", "environ", "way"), WAYS)
def test_what_bbdiag_decides(url: str, environ: dict[str, str], way: str) -> None:
    assert str(OWN.decide(*parts(url), environ)) == way


@pytest.mark.parametrize(
    "entry", ["*.example.com", "https://bb.example.com", "bb.example.com:8443", "x,*"]
)
def test_an_entry_that_only_others_understand_is_recognised(entry: str) -> None:
    environ = {"https_proxy": "a:1", "no_proxy": entry}
    assert OWN.decide("https", NAME, 8443, environ).proxy == "a:1"
    assert HOPEFUL.decide("https", NAME, 8443, environ).bypass == "$no_proxy"


@pytest.mark.parametrize(
    ("environ", "differ"),
    [
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "a:1"}, False),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://a:2"}, True),
        ({"HTTPS_PROXY": "http://u:x@a:1", "https_proxy": "http://u:y@a:1"}, True),
        ({"HTTPS_PROXY": "http://a:1", "http_proxy": "http://b:1"}, False),
        ({"https_proxy": "a:1", "no_proxy": NAME, "NO_PROXY": "other"}, True),
        ({"https_proxy": "a:1", "no_proxy": NAME, "NO_PROXY": ".example.com"}, False),
        ({"no_proxy": NAME, "NO_PROXY": "other"}, False),
    ],
)
def test_variables_contradict_only_where_it_matters(environ: dict[str, str], differ: bool) -> None:
    assert (proxyenv.conflict("https", NAME, None, environ) is not None) is differ


def test_a_missing_port_means_something_else_to_everybody() -> None:
    environ = {"https_proxy": "http://proxy", "JAVA_TOOL_OPTIONS": "-Dhttps.proxyHost=proxy"}
    assert ways("https", NAME, environ) == {
        "http://proxy:1080": ["curl, git"],
        "http://proxy:443": ["Python urllib", "Java"],
        "http://proxy:80": ["Python requests, pip", "Python httpx", "Go", "Node axios"],
        "directly": ["Node"],
    }


def ways(scheme: str, host: str, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """The clients by their way."""
    nobody = Choice("nobody", error="asked for all")
    return proxyclients.differing(nobody, proxyclients.choices(scheme, host, None, environ))


def test_versions_of_a_client_that_agree_are_one_client() -> None:
    found = ways("http", NAME, {"HTTP_PROXY": "http://a:1"})
    assert found["directly"] == ["curl, git", "Node", "Java"]
    found = ways("https", IP6, {"https_proxy": "http://a:1", "no_proxy": "fd00::/8"})
    assert found["directly"][:2] == ["curl, git (libcurl from 8.18)", "Go"]
    assert "curl, git" in found["http://a:1"]


# What axios 1.13 and 1.21 do, read off them: whether the entry leads past the proxy.
AXIOS_SAYS = [
    (f"https://{NAME}/", "bb.example.com", True, True),
    (f"https://{NAME}/", "example.com", False, False),
    (f"https://{NAME}/", ".example.com", True, True),
    (f"https://{NAME}/", ".bb.example.com", False, False),
    (f"https://{NAME}/", "*.example.com", True, True),
    (f"https://{NAME}/", "x,*", True, True),
    (f"https://{NAME}/", "x bb.example.com", True, True),
    (f"https://{NAME}/", "bb.example.com.", False, True),
    (f"https://{NAME}/", "bb.example.com:443", True, True),
    (f"https://{NAME}:8443/", "bb.example.com:443", False, False),
    (f"https://{SUB}/", "bb.example.com", False, False),
    (f"https://{SUB}/", ".example.com", True, True),
    (f"https://{IP4}/", "10.1.2.3", True, True),
    (f"https://{IP4}/", "10.0.0.0/8", False, True),
    (f"https://[{IP6}]/", "fd00::7", False, True),
    (f"https://[{IP6}]/", "[fd00::7]", True, True),
]


@pytest.mark.parametrize(("url", "entry", "old", "new"), AXIOS_SAYS)
def test_axios_decides_as_the_data_says(url: str, entry: str, old: bool, new: bool) -> None:
    environ = {"https_proxy": PROXY, "no_proxy": entry}
    assert (decided(AXIOS, url, environ), decided(AXIOS_1_21, url, environ)) == (not old, not new)


def test_axios_completes_a_proxy_without_a_scheme() -> None:
    found = proxyclients.choices("https", NAME, None, {"https_proxy": "p:1"})
    assert {choice.way for choice in found if choice.client == "Node axios"} == {"https://p:1"}


@pytest.mark.parametrize(
    ("environ", "way"),
    [
        ({}, {"directly": ["Node"]}),
        ({"NODE_OPTIONS": "--use-env-proxy"}, {"http://p:1": ["Node fetch", "Node http"]}),
        ({"NODE_USE_ENV_PROXY": "1"}, {"http://p:1": ["Node fetch", "Node http"]}),
        ({"NODE_USE_ENV_PROXY": "true"}, {"directly": ["Node"]}),
        (
            {"NODE_USE_ENV_PROXY": "1", "NODE_OPTIONS": "--no-use-env-proxy"},
            {"directly": ["Node"]},
        ),
        (
            {"NODE_USE_ENV_PROXY": "1", "NO_PROXY": "example.com"},
            {
                "http://p:1": ["Node fetch", "Node http"],
                "directly": ["Node fetch (undici from 7.22)"],
            },
        ),
        ({"NODE_USE_ENV_PROXY": "1", "https_proxy": "p:1"}, {"nowhere": ["Node"]}),
        ({"NODE_USE_ENV_PROXY": "1", "http_proxy": "p:1"}, {"nowhere": ["Node"]}),
    ],
)
def test_node_reads_the_variables_when_it_is_told_to(
    environ: dict[str, str], way: dict[str, list[str]]
) -> None:
    environ = {"https_proxy": "http://p:1", **environ}
    found: dict[str, list[str]] = {}
    for choice in proxyclients.node("https", NAME, None, environ):
        found.setdefault(choice.way, []).append(choice.client)
    assert found == way


@pytest.mark.parametrize(
    ("entry", "host", "by", "not_by"),
    [
        ("bb.example.com", NAME, None, None),
        ("other.example.com", NAME, None, None),
        ("*.example.com", NAME, ["Go", "Node axios"], ["curl, git", "Python urllib"]),
        ("bb.*", NAME, [], ["curl, git", "Go"]),
        ("bb.example.com:443", NAME, ["Go", "Node axios"], ["curl, git", "Python httpx"]),
        ("https://bb.example.com", NAME, ["Python httpx"], ["curl, git", "Go"]),
        ("x;bb.example.com", NAME, [], ["curl, git"]),
        ("x|*.example.com", NAME, [], ["curl, git"]),
        ("10.0.0.0/8", IP4, ["curl, git", "Go"], ["Python urllib", "Python httpx"]),
        ("10.1.2.*", IP4, [], ["curl, git", "Go"]),
        ("[fd00::7]", IP6, ["Python urllib"], ["curl, git"]),
        ("<local>", "bb", [], ["curl, git"]),
        ("<local>", NAME, None, None),
        ("*", NAME, None, None),
    ],
)
def test_entries_that_are_not_understood_by_all(
    entry: str, host: str, by: list[str] | None, not_by: list[str] | None
) -> None:
    environ = {"https_proxy": "http://p:1", "no_proxy": entry}
    found = proxyclients.doubts("https", host, None, environ)
    if by is None or not_by is None:
        assert found == []
        return
    (doubt,) = found
    assert (doubt.entry, doubt.variable) == (entry, "$no_proxy")
    assert set(by) <= set(doubt.by)
    assert bool(by) == bool(doubt.by)
    assert set(not_by) <= set(doubt.not_by)
    assert not set(doubt.by) & set(doubt.not_by)


def test_a_list_without_commas_and_a_star_among_others() -> None:
    environ = {"https_proxy": "http://p:1", "NO_PROXY": f"x {NAME}"}
    (doubt,) = proxyclients.doubts("https", NAME, None, environ)
    assert "Python requests, pip" in doubt.not_by
    assert {"curl, git", "Node axios"} <= set(doubt.by)
    assert "curl, git (libcurl from 8.9)" in doubt.not_by  # the blank ends the list there
    environ["NO_PROXY"] = "x,*"
    (doubt,) = proxyclients.doubts("https", NAME, None, environ)
    assert {"Go", "Python httpx"} <= set(doubt.by)
    assert "curl, git" in doubt.not_by


def test_without_a_proxy_no_entry_is_worth_a_word() -> None:
    assert proxyclients.doubts("https", NAME, None, {"no_proxy": "*.example.com"}) == []


def test_every_proxy_that_this_machine_knows() -> None:
    environ = {
        "https_proxy": "http://me:own@a:1",
        "HTTPS_PROXY": "http://b:1",
        "http_proxy": "a:1",
        "ALL_PROXY": "socks5h://c",
        "JAVA_TOOL_OPTIONS": "-Dhttps.proxyHost=d -Dhttps.proxyPort=1",
        "no_proxy": "*",
    }
    found = proxyclients.known("https", NAME, None, environ)
    assert {url: source for url, (_, source) in found.items()} == {
        "http://a:1": "$https_proxy",
        "http://b:1": "$HTTPS_PROXY",
        "http://d:1": "-Dhttps.proxyHost in $JAVA_TOOL_OPTIONS",
        "socks5h://c:1080": "$ALL_PROXY",
    }
    assert found["http://a:1"][0].user == "me"


@pytest.mark.parametrize(
    ("text", "url", "user", "password"),
    [
        ("proxy", "http://proxy:1080", None, None),
        ("proxy.example.com:3128/", "http://proxy.example.com:3128", None, None),
        ("HTTPS://Proxy", "https://proxy:443", None, None),
        ("socks://proxy", "socks4://proxy:1080", None, None),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None, None),
        ("http://me@proxy:1", "http://proxy:1", "me", None),
        ("http://d%5Cme:a%40b%3A%2F@proxy:1", "http://proxy:1", "d\\me", "a@b:/"),
        ("http://pröxy:1", "http://xn--prxy-6qa:1", None, None),
    ],
)
def test_a_proxy_url_is_read_as_curl_does(
    text: str, url: str, user: str | None, password: str | None
) -> None:
    proxy = proxyenv.parse(text)
    assert (proxy.url, proxy.user) == (url, user)
    assert proxy.password == (None if password is None else Secret(password))
    assert proxyenv.shown(text) == url
    if password:
        assert password not in repr(proxy)


@settings(deadline=None)
@given(
    text=st.text(alphabet=" ,.*:/[]@0123456789abcdef-", max_size=30), host=st.sampled_from(HOSTS)
)
def test_no_list_makes_a_dialect_stumble(text: str, host: str) -> None:
    environ = {"https_proxy": PROXY, "no_proxy": text}
    everybody = [dialect for family in proxyclients.FAMILIES for dialect in family]
    for dialect in (*everybody, NODE_FETCH, NODE_FETCH_7_22, NODE_HTTP, OWN, HOPEFUL):
        choice = dialect.decide("https", host, 8443, environ)
        assert choice.error or (choice.proxy is None) == (choice.entry is not None)


@settings(deadline=None)
@given(text=st.text(max_size=30))
def test_any_text_is_a_proxy_url_or_is_refused(text: str) -> None:
    try:
        proxy = proxyenv.parse(text)
    except proxyenv.BadProxyUrlError:
        return
    assert 0 < proxy.port < 65536
    assert proxyenv.parse(proxy.url).url == proxy.url
