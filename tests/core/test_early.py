"""The look-up that is begun before the program is loaded: only one that the run makes as well."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from diag import early
from diag.net import dns


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    early._begun.clear()


@pytest.mark.parametrize(
    ("arguments", "environ", "name"),
    [
        ("check https://bb.example.test/projects/MOB", {}, "bb.example.test"),
        ("check --repo MOB/app http://bb.example.test:7990", {}, "bb.example.test"),
        ("check https://bb.example.test --proxy none", {}, None),
        ("check https://bb.example.test --proxy=none", {}, None),
        ("check https://bb.example.test --connect-to a:1:b:2", {}, None),
        ("check https://bb.example.test --only input", {}, None),
        ("check https://bb.example.test", {"https_proxy": "http://p:1"}, None),
        ("check https://bb.example.test", {"BBDIAG_CONNECT_TO": "a:1:b:2"}, None),
        ("check https://user:secret@bb.example.test", {}, None),
        ("check https://BB.example.test", {}, None),  # left to who knows how to read it
        ("check https://10.0.0.7/", {}, None),
        ("check https://[::1]/", {}, None),
        ("check https://bitbucket.org/workspace/repo", {}, None),
        ("check https://host/", {}, None),  # with search domains it is another name
        ("check bb.example.test", {}, None),
        ("explain https://bb.example.test", {}, None),
        ("", {}, None),
    ],
)
def test_which_name_is_looked_up(arguments: str, environ: dict[str, str], name: str | None) -> None:
    assert early._host(arguments.split(), environ) == name


def test_what_was_found_is_taken_up_once() -> None:
    early.begin(["check", "https://localhost.localdomain/"], {})
    early.begin(["check", "https://no.such.name.invalid/"], {})
    for name in ("localhost.localdomain", "no.such.name.invalid"):
        begun, now = dns.lookup(name), dns.lookup(name)
        assert early.taken_up(name) is None
        assert (begun.addresses, begun.canonical, begun.error) == (
            now.addresses,
            now.canonical,
            now.error,
        )
        assert begun.elapsed_ms >= 0


def test_it_is_light() -> None:
    """It is there to save time: nothing that is not loaded anyhow."""
    code = "import sys; old = set(sys.modules); import diag.early; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"diag", "diag.early", "_socket"}


def test_the_numbers_are_those_of_the_socket_module() -> None:
    import _socket

    assert (_socket.SOCK_STREAM, _socket.AI_CANONNAME) == (socket.SOCK_STREAM, socket.AI_CANONNAME)
