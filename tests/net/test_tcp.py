"""Knocking at doors, the kernel's and the wire's evidence, and what speaks on a port."""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from diag.net import capture, doors, kernel, tcp
from diag.net.doors import Answer, Door
from tests.lab import CLIENT4, CLIENT6, ROUTER4, ROUTER6, SERVER4, SERVER6, http_answer

if TYPE_CHECKING:
    from tests.lab import Lab, Place

Serve = Callable[[Callable[[socket.socket], object]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve on loopback: `port = serve(talk)`; each connection is closed after `talk(sock)`."""
    with ExitStack() as stack:

        def start(talk: Callable[[socket.socket], object]) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work() -> None:
                while True:
                    try:
                        sock, _ = listener.accept()
                    except OSError:
                        return
                    with sock:
                        sock.settimeout(5)
                        try:
                            talk(sock)
                        except OSError:
                            pass

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return int(listener.getsockname()[1])

        yield start


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port where nothing listens, and nothing else will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def knock(
    *addresses: str, port: int, others: tuple[int, ...] = (), timeout: float = 3
) -> list[Answer]:
    """All answers, connections closed."""
    answers = list(
        doors.knock(
            [Door(address, port) for address in addresses],
            [Door(address, other) for address in addresses for other in others],
            timeout=timeout,
        )
    )
    for answer in answers:
        if answer.sock is not None:
            answer.sock.close()
    return answers


def reset(sock: socket.socket) -> None:
    """Let the end of the connection be a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# knocking


def test_an_open_port_costs_one_connect(serve: Serve) -> None:
    accepted: list[object] = []
    port = serve(accepted.append)
    [answer] = knock("127.0.0.1", port=port, others=(1, 2))
    assert (answer.kind, answer.tries, answer.error) == ("open", 1, None)
    assert answer.source == "127.0.0.1"
    time.sleep(0.3)
    assert len(accepted) == 1


def test_the_connection_is_handed_out_ready_for_use(serve: Serve) -> None:
    port = serve(lambda sock: sock.sendall(sock.recv(10)))
    [answer] = doors.knock([Door("127.0.0.1", port)], timeout=3)
    assert answer.sock is not None
    with answer.sock as sock:
        assert sock.gettimeout() is None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.sendall(b"echo")
        assert sock.recv(10) == b"echo"


def test_a_refusal_is_told_at_once_with_its_errno(closed_port: int) -> None:
    [answer] = knock("127.0.0.1", port=closed_port)
    assert (answer.kind, answer.error, answer.icmp) == ("refused", "ECONNREFUSED", None)
    assert answer.tries == 1
    assert answer.evidence()["result"] == "refused"


def test_a_reset_during_connect_is_no_refusal() -> None:
    """The accept queue does the accepting; the reset is already there when anyone looks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(20):
            answers = doors.knock([Door("127.0.0.1", server.getsockname()[1])], timeout=2)
            accepting = threading.Thread(target=lambda: tcp.abort(server.accept()[0]))
            accepting.start()
            [answer] = answers
            accepting.join()
            assert answer.kind in {"open", "reset"}
            assert (answer.kind == "open") is (answer.sock is not None)
            if answer.sock is not None:
                answer.sock.close()


def test_a_generator_that_is_given_up_leaves_no_connection_open(serve: Serve) -> None:
    ends: list[bytes] = []
    port = serve(lambda sock: ends.append(sock.recv(1)))
    answers = doors.knock([Door("127.0.0.1", port)] * 3, timeout=3)
    first = next(answers)
    time.sleep(0.1)
    answers.close()  # type: ignore[attr-defined]
    assert first.sock is not None
    first.sock.close()
    deadline = time.monotonic() + 3
    while len(ends) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ends == [b""] * 3


@pytest.mark.lab
@pytest.mark.parametrize(
    ("rule", "kind", "type4", "type6"),
    [
        ("icmpx admin-prohibited", "prohibited", (3, 13), (1, 1)),
        ("icmpx port-unreachable", "prohibited", (3, 3), (1, 4)),
        ("icmpx host-unreachable", "host-unreachable", (3, 1), (1, 3)),
        ("icmpx no-route", "net-unreachable", (3, 0), (1, 0)),
    ],
)
def test_a_rejection_tells_who_sent_it(
    lab: Lab, rule: str, kind: str, type4: tuple[int, int], type6: tuple[int, int]
) -> None:
    places: tuple[tuple[Place, str, int, str, str], ...] = (
        ("router", "forward", 1001, ROUTER4, ROUTER6),
        ("server", "input", 1002, SERVER4, SERVER6),
        ("client", "output", 1003, CLIENT4, CLIENT6),
    )
    for place, hook, port, _, _ in places:
        lab.rules(place, hook, f"tcp dport {port} reject with {rule}")
    for place, _, port, sender4, sender6 in places:
        answers = {
            one.address: one for one in lab.call("client", knock, SERVER4, SERVER6, port=port)
        }
        expected = "blocked-here" if place == "client" else kind
        four, six = answers[SERVER4], answers[SERVER6]
        assert (four.kind, six.kind) == (expected, expected)
        assert four.icmp == doors.Icmp(*type4, sender4)
        assert six.icmp == doors.Icmp(*type6, sender6)
        assert (four.tries, six.tries) == (1, 1)


@pytest.mark.lab
def test_no_route_is_this_machines_own(lab: Lab) -> None:
    for kind, network in (("unreachable", 1), ("prohibit", 2), ("blackhole", 3)):
        lab.ip("client", f"route add {kind} 10.9.{network}.0/24")
    answers = lab.call("client", knock, "10.9.1.1", "10.9.2.1", "10.9.3.1", port=443)
    assert {one.kind for one in answers} == {"no-route"}
    assert {one.error for one in answers} == {"EHOSTUNREACH", "EACCES", "EINVAL"}


@pytest.mark.lab
def test_a_machine_that_is_not_there(lab: Lab) -> None:
    """On the local network the neighbour is missing, behind a router its word comes after 3 s."""
    answers = {
        one.address: one
        for one in lab.call("client", knock, "10.77.1.9", "fd77:1::9", "10.77.2.9", port=443)
    }
    assert {one.kind for one in answers.values()} == {"host-down"}
    assert answers["10.77.1.9"].neighbour == "10.77.1.9"
    assert answers["fd77:1::9"].neighbour == "fd77:1::9"
    router = answers["10.77.2.9"].icmp
    assert router is not None
    assert router.sender == ROUTER4


@pytest.mark.lab
def test_silence_needs_four_connects_and_as_much_time_as_others_took(lab: Lab) -> None:
    lab.rules("router", "forward", "tcp dport 443 drop")
    lab.serve("server", 80)
    beside = lab.call("client", knock, SERVER4, port=443, others=(80, 7990))
    assert {(one.port, one.kind) for one in beside} == {
        (80, "open"),
        (7990, "refused"),
        (443, "silent"),
    }
    assert (beside[-1].port, beside[-1].tries) == (443, 4)
    assert 850 < beside[-1].elapsed_ms < 2800  # another port of the machine answered

    def elsewhere() -> list[Answer]:
        asked = [Door(SERVER4, 443), Door(SERVER6, 80)]
        answers = list(doors.knock(asked, timeout=3))
        for answer in answers:
            if answer.sock is not None:
                answer.sock.close()
        return answers

    assert 1200 < lab.call("client", elsewhere)[-1].elapsed_ms < 2800  # only another address did
    [alone] = lab.call("client", knock, SERVER4, port=443, timeout=1)
    assert alone.kind == "silent"
    assert 950 < alone.elapsed_ms < 2800  # nothing did: the whole time-out


# evidence from the kernel and from the wire


@pytest.mark.lab
def test_what_the_kernel_knows(lab: Lab) -> None:
    lab.ip("client", "addr add 10.77.1.3/24 dev eth0", "route add unreachable 10.9.0.0/16")

    def look() -> None:
        assert kernel.own_addresses(SERVER4) == (CLIENT4, "10.77.1.3")
        assert kernel.own_addresses(SERVER6) == (CLIENT6,)
        assert kernel.source(SERVER6) == CLIENT6
        assert kernel.is_here("10.77.1.3")
        assert kernel.is_here("127.0.0.9")
        assert not kernel.is_here(SERVER4)
        assert kernel.route_error("10.9.0.1") == "EHOSTUNREACH"
        assert kernel.route_error(SERVER4) is None
        assert kernel.silent_neighbour(SERVER4) is None
        assert kernel.has_ipsec() is False
        knock("10.77.1.9", port=1, timeout=0.3)
        assert kernel.silent_neighbour("10.77.1.9") == "10.77.1.9"

    lab.call("client", look)
    lab.ip("client", "route replace default via 10.77.1.9")
    assert lab.call("client", knock, SERVER4, port=1, timeout=1)[0].neighbour == "10.77.1.9"


@pytest.mark.lab
def test_a_local_rule_that_drops_or_resets_is_seen_on_the_wire(lab: Lab) -> None:
    lab.rules("client", "output", "tcp dport 1001 drop", "tcp dport 1002 reject with tcp reset")
    lab.rules("router", "forward", "tcp dport 1003 drop")
    for address in (SERVER4, SERVER6):
        for port, kind, blocked in (
            (1001, "silent", True),
            (1002, "refused", True),
            (1003, "silent", False),
            (1004, "refused", False),
        ):
            [answer] = lab.call("client", knock, address, port=port, timeout=0.5)
            assert answer.kind == kind
            look = lab.call("client", tcp.look, answer, [])
            assert look is not None
            assert look.blocked_here is blocked, (address, port)


@pytest.mark.lab
def test_nothing_is_concluded_where_packets_change_their_shape(lab: Lab) -> None:
    lab.rules("client", "output", "tcp dport 1001 drop")
    lab.ip(
        "client",
        f"xfrm policy add src {CLIENT4} dst 10.99.0.0/16 dir out "
        f"tmpl src {CLIENT4} dst 10.99.0.1 proto esp mode tunnel",
    )
    [answer] = lab.call("client", knock, SERVER4, port=1001, timeout=0.5)
    assert lab.call("client", tcp.look, answer, []) is None


@pytest.mark.lab
@pytest.mark.parametrize("address", [SERVER4, SERVER6])
def test_a_reset_from_nearer_than_the_host(lab: Lab, address: str) -> None:
    lab.rules("router", "forward", "tcp dport 1001 reject with tcp reset")
    [answer] = lab.call("client", knock, address, port=1001)
    assert answer.kind == "refused"
    by_port = lab.call("client", tcp.look, answer, [80])
    assert by_port == tcp.Look(False, 0, 1, "port 80")
    by_ping = lab.call("client", tcp.look, answer, [])
    assert by_ping == tcp.Look(False, 0, 1, "ping")
    [honest] = lab.call("client", knock, address, port=1002)
    assert lab.call("client", tcp.look, honest, [80]) == tcp.Look(False, reset_hops=1)


@pytest.mark.lab
def test_a_capture_that_cannot_see_loopback_is_not_believed(lab: Lab) -> None:
    lab.ip("client", "link set lo down")
    assert lab.call("client", capture.observe, SERVER4, [1001], 0.2) is None


@pytest.mark.lab
def test_a_capture_that_is_looked_at_late_misses_nothing(lab: Lab) -> None:
    lab.rules("router", "forward", "tcp dport 1001 drop")
    seen = lab.call("client", capture.observe, SERVER4, [1001], 0.0)
    assert seen is not None
    assert seen[1001].left == "eth0"


@pytest.mark.lab
def test_without_privileges_nothing_is_captured(lab: Lab) -> None:
    code = (
        "from diag.net import capture as c;"
        f"print(c.observe('{SERVER4}', [80], 0.2), c.echo_ttl('{SERVER4}', 0.2))"
    )
    done = lab.run("client", [sys.executable, "-c", code], privileged=False)
    assert done.stdout == "None None\n", done.stderr


def test_distance_is_counted_from_the_usual_starts() -> None:
    assert [capture.hops(ttl) for ttl in (64, 63, 128, 117, 255, 250)] == [0, 1, 0, 11, 0, 5]


@pytest.mark.lab
def test_a_full_queue_is_counted_on_the_own_machine(lab: Lab) -> None:
    lab.call("client", _fill_a_queue)  # where nobody else's count along


def _fill_a_queue() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        assert tcp.overflows("127.0.0.1", port) == 0  # there is room for one
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        assert (tcp.overflows("127.0.0.1", port) or 0) > 0
        assert tcp.overflows("192.0.2.99", port) is None


# a connection that came up


def _says(text: bytes) -> Callable[[socket.socket], object]:
    def talk(sock: socket.socket) -> None:
        sock.sendall(text)
        sock.recv(1)

    return talk


def test_connect_can_bound_the_segments(serve: Serve) -> None:
    received: list[int] = []
    port = serve(
        lambda sock: received.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    )
    with tcp.connect("127.0.0.1", port, 2, mss=536) as sock:
        assert sock.gettimeout() == 2
        info = tcp.tcp_info(sock)
        assert info is not None
        assert info.send_mss <= 536
        select.select([sock], [], [], 10)
    assert received[0] <= 536


def test_connect_raises_what_the_kernel_says(closed_port: int) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        tcp.connect("127.0.0.1", closed_port, 2)
    assert tcp.failure(caught.value) == "refused"
    assert tcp.failure(TimeoutError()) == "silent"
    assert tcp.failure(ConnectionResetError()) == "reset"


@pytest.mark.lab
def test_small_segments_pass_a_path_that_swallows_large_packets(lab: Lab) -> None:
    lab.rules("router", "forward", "tcp sport 443 meta length > 600 drop")
    lab.serve("server", 443, _says(b"x" * 4000))

    def read(mss: int | None, timeout: float) -> tuple[int, tcp.Info | None]:
        with tcp.connect(SERVER4, 443, timeout, mss=mss) as sock:
            received = 0
            try:
                while received < 4000:
                    received += len(sock.recv(4000))
            except TimeoutError:
                pass
            return received, tcp.tcp_info(sock)

    assert lab.call("client", read, 536, 5)[0] == 4000
    received, info = lab.call("client", read, None, 0.7)
    assert received < 4000
    assert info is not None
    assert info.bytes_received == received


def test_first_bytes_are_left_to_be_read(serve: Serve) -> None:
    port = serve(_says(b"220 hello\r\n"))
    with tcp.connect("127.0.0.1", port, 2) as sock:
        assert tcp.first_bytes(sock, 1) == b"220 hello\r\n"
        assert sock.gettimeout() == 2
        assert sock.recv(3) == b"220"


def _later(end: Callable[[socket.socket], object]) -> Callable[[socket.socket], object]:
    """A moment after accepting."""

    def talk(sock: socket.socket) -> None:
        time.sleep(0.05)
        end(sock)

    return talk


def test_first_bytes_of_who_says_nothing_or_hangs_up(serve: Serve) -> None:
    with tcp.connect("127.0.0.1", serve(lambda sock: sock.recv(1)), 2) as sock:
        assert tcp.first_bytes(sock, 0.05) is None
    with tcp.connect("127.0.0.1", serve(lambda _: None), 2) as sock:
        assert tcp.first_bytes(sock, 5) == b""
    connected = threading.Event()  # an immediate reset may end connect() itself

    def soon(sock: socket.socket) -> None:
        connected.wait(5)
        reset(sock)

    with tcp.connect("127.0.0.1", serve(soon), 2) as sock:
        connected.set()
        with pytest.raises(ConnectionResetError):
            tcp.first_bytes(sock, 5)


def _after_request(end: Callable[[socket.socket], object]) -> Callable[[socket.socket], object]:
    return lambda sock: (sock.recv(65536), end(sock))


def _alert(sock: socket.socket) -> None:
    if sock.recv(65536)[:1] == b"\x16":
        sock.sendall(bytes.fromhex("15030300020228"))


def _http_only(sock: socket.socket) -> None:
    if sock.recv(4, socket.MSG_PEEK) == b"GET ":
        http_answer(200, "{}")(sock)


@pytest.mark.parametrize(
    ("talk", "kind", "unasked"),
    [
        (_says(b"SSH-2.0-Server\r\n"), "ssh", True),
        (_says(b"220 smtp\r\n"), "other", True),
        (http_answer(400), "http", False),
        (_http_only, "http", False),
        (_alert, "tls", False),
        (lambda _: None, "closed", True),
        (reset, "reset", True),
        (_later(reset), "reset", True),
        (_after_request(lambda _: None), "closed", False),
        (_after_request(reset), "reset", False),
        (lambda _: time.sleep(1.7), "silent", False),
    ],
    ids=[
        "ssh",
        "smtp",
        "http",
        "http-only",
        "tls",
        "closes",
        "resets",
        "resets-soon",
        "closes-later",
        "resets-later",
        "silent",
    ],
)
def test_what_speaks_there(
    serve: Serve, talk: Callable[[socket.socket], object], kind: str, unasked: bool
) -> None:
    timeout = 0.5 if kind == "silent" else 5
    spoken = tcp.speaks("127.0.0.1", serve(talk), timeout, "bitbucket.example.com")
    assert (spoken.kind, spoken.unasked) == (kind, unasked)


def test_nothing_speaks_where_nothing_listens(closed_port: int) -> None:
    assert tcp.speaks("127.0.0.1", closed_port, 1).kind == "unreachable"
