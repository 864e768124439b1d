"""What is learned about a quiet port meanwhile, and how long its silence must last for that."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from diag.net import doors, patience
from diag.net.beside import Task
from diag.net.doors import Door
from diag.net.hops import UDP
from diag.net.silence import Inquiry
from tests.lab import SERVER4, SERVER6

if TYPE_CHECKING:
    from tests.lab import Lab

SILENT = "tcp dport 443 drop"
NO_WORD = ("icmp type { time-exceeded, destination-unreachable } drop",)


def ask(lab: Lab, address: str = SERVER4, *, echoed: bool = True, opened: bool = False) -> Inquiry:
    """An inquiry from the client that has come to its end."""

    def go() -> Inquiry:
        inquiry = Inquiry(
            Door(address, 443),
            patience.TRACE,
            beside=lambda: UDP,
            answered=lambda: opened,
            others_answered=lambda: echoed,
        )
        assert inquiry.patience(address) is None  # nothing is known yet
        inquiry.begin()
        _ = inquiry.trace, inquiry.look, inquiry.sources
        return inquiry

    return lab.call("client", go)


@pytest.mark.lab
@pytest.mark.parametrize("address", [SERVER4, SERVER6])
def test_a_host_that_answers_other_packets_is_near(lab: Lab, address: str) -> None:
    lab.rules("router", "forward", SILENT)
    inquiry = ask(lab, address)
    assert inquiry.trace is not None
    assert inquiry.trace.distance == 2
    assert inquiry.patience(address) == patience.silence(inquiry.trace.others.seconds)
    assert inquiry.patience("192.0.2.1") is None


@pytest.mark.lab
def test_other_packets_that_get_farther_make_the_rest_no_matter(lab: Lab) -> None:
    lab.lengthen(1)
    lab.rules("router", "forward", SILENT)
    lab.rules("server", "input", "udp dport > 33000 drop")
    inquiry = ask(lab, echoed=False)
    assert inquiry.trace is not None
    assert (inquiry.trace.distance, inquiry.trace.beyond is None) == (None, False)
    assert inquiry.patience(SERVER4) == patience.ELSEWHERE


@pytest.mark.lab
def test_the_last_router_that_answers_may_yet_have_something_to_say(lab: Lab) -> None:
    lab.rules("router", "forward", "ip daddr 10.77.2.0/24 drop")
    inquiry = ask(lab)
    assert inquiry.trace is not None
    assert inquiry.trace.last is not None
    assert inquiry.patience(SERVER4) is None


@pytest.mark.lab
def test_where_no_router_says_anything_it_is_enough_that_somebody_else_does(lab: Lab) -> None:
    lab.rules("router", "forward", "ip daddr 10.77.2.0/24 drop")
    lab.rules("router", "output", *NO_WORD)
    assert ask(lab).patience(SERVER4) == patience.ELSEWHERE
    assert ask(lab, echoed=False).patience(SERVER4) is None


@pytest.mark.lab
def test_this_machines_own_search_on_its_network_is_awaited(lab: Lab) -> None:
    assert ask(lab, "10.77.1.9").patience("10.77.1.9") is None


@pytest.mark.lab
def test_a_door_that_has_opened_is_not_looked_into(lab: Lab) -> None:
    lab.rules("router", "forward", SILENT)
    assert ask(lab, opened=True).trace is None


@pytest.mark.lab
def test_a_silence_lasts_as_long_as_it_is_told(lab: Lab) -> None:
    """And what is to tell is begun once, only where nothing opens at once."""

    class Told:
        begun = 0

        def begin(self) -> None:
            self.begun += 1

        def patience(self, address: str) -> float | None:
            return 1.2 if address == SERVER4 else None

    lab.rules("router", "forward", "tcp dport 443 drop")
    lab.serve("server", 80)
    told = Told()

    def knock(port: int) -> list[doors.Answer]:
        return list(doors.knock([Door(SERVER4, port)], timeout=3, rumours=told))

    [opened] = lab.call("client", knock, 80)
    assert opened.sock is not None
    opened.sock.close()
    assert told.begun == 0
    [silent] = lab.call("client", knock, 443)
    assert (silent.kind, silent.tries, told.begun) == ("silent", 4, 1)
    assert 1190 < silent.elapsed_ms < 3000  # its first connect began a moment after the knocking


@pytest.mark.lab
def test_siblings_are_silent_only_after_all_their_connects(lab: Lab) -> None:
    lab.rules("router", "forward", "tcp dport { 443, 80 } drop")

    def knock(port: int) -> dict[int, tuple[str, int]]:
        siblings = [Door(SERVER4, 80), Door(SERVER4, 81)]
        answers = doors.knock([Door(SERVER4, port)], siblings, timeout=3)
        return {one.port: (one.kind, one.tries) for one in answers}

    assert lab.call("client", knock, 443) == {
        443: ("silent", 4),
        80: ("silent", 4),
        81: ("refused", 1),
    }
    assert lab.call("client", knock, 82) == {82: ("refused", 1)}  # there was no need to ask them


def test_a_task_is_done_once_and_waited_for() -> None:
    numbers = itertools.count(1)
    task = Task(lambda: next(numbers))
    assert task.result is None
    task.start()
    task.start()
    assert [task.wait(), task.wait(), task.result] == [1, 1, 1]
    assert Task(threading.active_count).wait()  # begun by who waits for it

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Task(fail).wait()
