"""A look at another host: which layer it fails at."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from diag.net import doors
from diag.net.dial import Dialer
from diag.net.reach import Reach, reach
from diag.net.tls import Trust
from diag.settings import ConnectTo
from diag.simulator.server import Request, Response, talk_http
from tests.certificates import root, server_context
from tests.tls_server import serving

HOST = "bitbucket.org"
ROOT = root()
GOOD = ROOT.authority("Example Corp Issuing CA 1").issue(HOST)


@pytest.fixture
def trust(tmp_path: Path) -> ssl.SSLContext:
    file = tmp_path / "ca.pem"
    file.write_bytes(ROOT.pem)
    return Trust(str(file)).context()


def look(context: ssl.SSLContext, port: int, address: str = "127.0.0.1") -> Reach | None:
    dialer = Dialer([ConnectTo(HOST, 443, address, port)])
    return reach(dialer, context, HOST, 443, 1.0)


def fine(_request: Request) -> Response:
    return Response(200)


def test_all_is_well(trust: ssl.SSLContext) -> None:
    with serving(talk_http(fine, server_context(GOOD))) as server:
        found = look(trust, server.port)
        assert found is not None
        assert found.stage == "ok"
        assert isinstance(found.sock, ssl.SSLSocket)
        assert found.sock.version() is not None
        found.sock.close()
    assert [answer.kind for answer in found.answers] == ["open"]


def test_a_certificate_that_is_not_trusted() -> None:
    with serving(talk_http(fine, server_context(GOOD))) as server:
        found = look(Trust(None).context(), server.port)
    assert found is not None
    assert (found.stage, found.certificate, found.sock) == ("tls", True, None)


def test_no_tls_at_all(trust: ssl.SSLContext) -> None:
    with serving(lambda connection: connection.send(b"SSH-2.0-x\r\n")) as server:
        found = look(trust, server.port)
    assert found is not None
    assert (found.stage, found.certificate) == ("tls", False)


def test_a_closed_port(trust: ssl.SSLContext) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found = look(trust, sock.getsockname()[1])
    assert found is not None
    assert (found.stage, found.why) == ("tcp", "127.0.0.1 refuses connections")


def test_a_name_that_does_not_resolve(trust: ssl.SSLContext) -> None:
    found = look(trust, 443, "not a name.invalid")
    assert found is not None
    assert found.stage == "dns"


def test_a_rule_for_another_port_keeps_the_name_from_being_looked_up(
    trust: ssl.SSLContext,
) -> None:
    dialer = Dialer([ConnectTo(HOST, 22, "127.0.0.1", 1)])
    assert reach(dialer, trust, HOST, 443, 1.0) is None


def test_through_a_tunnel(trust: ssl.SSLContext) -> None:
    with serving(talk_http(fine, server_context(GOOD))) as server:
        dialer = Dialer()
        place = ("127.0.0.1", server.port)
        dialer.tunnel(HOST, 443, lambda _h, _p, timeout: socket.create_connection(place, timeout))
        found = reach(dialer, trust, HOST, 443, 1.0)
        assert found is not None
        assert found.stage == "ok"
        assert found.sock is not None
        found.sock.close()


def test_a_tunnel_that_fails(trust: ssl.SSLContext) -> None:
    def refuse(_host: str, _port: int, _timeout: float) -> socket.socket:
        raise ConnectionRefusedError("the proxy says 403")

    dialer = Dialer()
    dialer.tunnel(HOST, 443, refuse)
    found = reach(dialer, trust, HOST, 443, 1.0)
    assert found is not None
    assert (found.stage, found.why) == ("tcp", "the proxy says 403")


@pytest.mark.parametrize(
    ("kinds", "dead"),
    [
        ({"192.0.2.1": "open", "2001:db8::1": "silent"}, ["2001:db8::1 does not answer"]),
        ({"192.0.2.1": "open", "2001:db8::1": "open"}, []),
        ({"192.0.2.1": "open", "2001:db8::1": "no-route"}, []),  # this machine has no IPv6
        ({"192.0.2.1": "refused", "2001:db8::1": "refused"}, []),
        ({"192.0.2.1": "open"}, []),
    ],
)
def test_ipv6_that_does_not_work_though_ipv4_does(
    kinds: dict[str, doors.Kind], dead: list[str]
) -> None:
    answers = tuple(doors.Answer(address, 443, kind, 1.0) for address, kind in kinds.items())
    assert Reach(HOST, 443, "ok", answers=answers).dead6 == dead
