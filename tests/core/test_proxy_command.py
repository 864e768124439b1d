"""`bbdiag proxy`: offline, complete, and without a password."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
URL = "https://bitbucket.example.com"


def bbdiag(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with no other proxy settings than these."""
    home = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "diag", *arguments],
        cwd=ROOT,
        env={**home, "GIT_CONFIG_GLOBAL": os.devnull, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def explain(*arguments: str, **environ: str) -> dict[str, Any]:
    done = bbdiag("proxy", URL, *arguments, "--format", "json", **environ)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert list(document) == ["schema_version", "url", "agree", "clients", "entries", "hints"]
    for client in document["clients"]:
        assert list(client) == ["client", "way", "because", "variable", "entry"]
    return dict(document)


def ways(document: dict[str, Any]) -> dict[str, str]:
    return {one["client"]: one["way"] for one in document["clients"]}


def test_without_a_proxy_all_agree() -> None:
    document = explain()
    assert document["agree"] is True
    assert set(ways(document).values()) == {"direct"}
    assert document["entries"] == document["hints"] == []


def test_what_decided_it_and_who_differs() -> None:
    document = explain(HTTPS_PROXY="http://p:3128", NO_PROXY="localhost,*.example.com")
    assert document["agree"] is False
    assert ways(document) == {
        "bbdiag": "http://p:3128",
        "curl, git": "http://p:3128",
        "Python urllib": "http://p:3128",
        "Python requests, pip": "http://p:3128",
        "Python httpx": "http://p:3128",
        "Go": "direct",
        "Node axios": "direct",
        "Node": "direct",
        "Java": "direct",
    }
    by_name = {one["client"]: one for one in document["clients"]}
    assert by_name["curl, git"]["variable"] == "$HTTPS_PROXY"
    assert by_name["curl, git"]["entry"] is None
    assert (by_name["Go"]["variable"], by_name["Go"]["entry"]) == ("$NO_PROXY", "*.example.com")
    (entry,) = document["entries"]
    assert entry == {
        "entry": "*.example.com",
        "variable": "$NO_PROXY",
        "understood_by": ["Go", "Node axios"],
        "ignored_by": ["curl, git", "Python urllib", "Python requests, pip", "Python httpx"],
    }
    assert any("bitbucket.example.com" in hint for hint in document["hints"])


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "NODE_USE_ENV_PROXY=1"),
        ({"HTTPS_PROXY": "http://p:1"}, "-Dhttps.proxyHost=p -Dhttps.proxyPort=1"),
        ({"HTTPS_PROXY": "p:1"}, "Write http:// before the proxy in $HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://p"}, "Name the proxy's port"),
        ({"HTTPS_PROXY": "http://p:31x8"}, "is no proxy URL: its port is no number"),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "give them one value"),
        ({"ALL_PROXY": "http://p:1"}, "Not all clients read $ALL_PROXY: set https_proxy."),
        ({"ALL_PROXY": "socks5h://p:1"}, "-DsocksProxyHost=p -DsocksProxyPort=1"),
    ],
)
def test_hints(environ: dict[str, str], hint: str) -> None:
    assert any(hint in one for one in explain(**environ)["hints"])


@pytest.mark.parametrize("proxy", ["socks5://p:1", "p:1"])
def test_node_is_not_told_to_take_what_it_would_not_start_with(proxy: str) -> None:
    assert not any("NODE_USE_ENV_PROXY" in one for one in explain(HTTPS_PROXY=proxy)["hints"])
    started = explain(HTTPS_PROXY=proxy, NODE_USE_ENV_PROXY="1")
    assert any("Node does not start" in one["because"] for one in started["clients"])


def test_java_s_options_and_a_missing_hint() -> None:
    options = "-Dhttps.proxyHost=p -Dhttps.proxyPort=1"
    document = explain(https_proxy="http://p:1", JAVA_TOOL_OPTIONS=options, NODE_USE_ENV_PROXY="1")
    assert document["agree"] is True
    assert document["hints"] == []


@pytest.mark.parametrize("form", ["json", "table"])
def test_no_password_is_shown(form: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[http]\n\tproxy = http://me:gitHidden1@p:3\n")
    done = bbdiag(
        "proxy",
        URL,
        "--format",
        form,
        HTTPS_PROXY="http://me:upperHidden1@p:1",
        https_proxy="http://me:lower%20Hidden1@p:2",
        all_proxy="http://me:allHidden1@[p",
        NO_PROXY="http://me:listHidden1@bitbucket.example.com",
        JAVA_TOOL_OPTIONS="-Dhttps.proxyHost=http://me:javaHidden1@p -Dhttp.proxyPassword=Hidden1",
        GIT_CONFIG_GLOBAL=str(tmp_path / "config"),
    )
    assert done.returncode == 0, done.stderr
    assert "Hidden1" not in done.stdout + done.stderr
    assert "http://p:2" in done.stdout


def test_the_table_names_everybody_once() -> None:
    done = bbdiag("proxy", URL, HTTPS_PROXY="http://p:3128", NO_PROXY="*.example.com")
    assert done.returncode == 0
    for name in ("curl, git", "urllib", "requests", "httpx", "Go", "axios", "Java"):
        assert name in done.stdout
    assert "'*.example.com' in $NO_PROXY is not understood by all" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_proxy_s_address_stays_whole_however_long() -> None:
    proxy = f"http://{'proxy-of-the-company.' * 3}example.com:3128"
    assert proxy in bbdiag("proxy", URL, HTTPS_PROXY=proxy).stdout


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://bad host.example.com", "SPACE inside"),
        ("ssh://git@a.example.com", "is for ssh"),
        ("http://", "is missing"),
    ],
)
def test_a_wrong_url_is_a_wrong_call(url: str, why: str) -> None:
    done = bbdiag("proxy", url, "--format", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["problems"][0]["code"] == "input-config-invalid"
    assert why in done.stderr
    assert bbdiag("proxy", url).stdout == ""


def test_a_password_in_the_url_is_not_shown_either() -> None:
    done = bbdiag("proxy", URL.replace("//", "//me:urlHidden1@"), "--format", "json")
    assert done.returncode == 2
    assert "password" in done.stderr
    assert "Hidden1" not in done.stdout + done.stderr


def test_two_ways_out_are_a_wrong_call() -> None:
    done = bbdiag("check", "https://a.invalid", "--no-proxy", "--proxy", "env")
    assert done.returncode == 2
    assert "--no-proxy" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environ", "way"),
    [
        (["--no-proxy"], {}, "--proxy none"),
        (["--no-proxy"], {"BBDIAG_PROXY": "http://p:1"}, "--proxy none"),
        (["--proxy", "env"], {"BBDIAG_NO_PROXY": "1"}, "no proxy variable applies"),
        ([], {"BBDIAG_NO_PROXY": "1"}, "--proxy none"),
    ],
)
def test_no_proxy_is_proxy_none(arguments: list[str], environ: dict[str, str], way: str) -> None:
    """What the call says beats what the environment says."""
    rule = ["--connect-to", "a.invalid:443:127.0.0.1:1", "--only", "proxy"]
    call = ["check", "https://a.invalid", *rule, *arguments, "--format", "json"]
    report = json.loads(bbdiag(*call, **environ).stdout)
    (check,) = (one for one in report["checks"] if one["id"] == "proxy")
    assert check["findings"][0]["evidence"]["decided_by"] == way


def test_the_report_shows_the_clients_only_where_it_matters() -> None:
    rule = ["--connect-to", "a.invalid:443:127.0.0.1:1", "--only", "proxy"]
    call = ["check", "https://a.invalid", *rule]
    title = "The way out, by the proxy settings of this place:"
    assert title not in bbdiag(*call).stdout
    assert title in bbdiag(*call, HTTPS_PROXY="http://127.0.0.1:1").stdout
    assert title not in bbdiag(*call, HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY="*").stdout
    some = bbdiag(*call, HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY=".invalid:443").stdout
    assert title in some
