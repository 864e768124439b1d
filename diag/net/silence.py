"""A door that stays quiet: what is looked into meanwhile, so that the verdict need not wait for it.

Whether the packets leave this machine, whether another own address is let through, and where on the
way they stop: all begin while the door is still being knocked at, side by side, and what has been
learned by then also says how long the silence must last before it counts.
"""

from __future__ import annotations

from collections.abc import Callable

from diag.net import hops, kernel, tcp
from diag.net.beside import Task
from diag.net.doors import Answer, Door
from diag.net.patience import ELSEWHERE, silence

_FROM_ELSEWHERE = 0.9  # seconds, as long as the trace: four connects from each own address


class Inquiry:
    """The look around a door that may turn out to be silent; a `doors.Rumours`."""

    def __init__(
        self,
        door: Door,
        seconds: float,
        *,
        beside: Callable[[], int] | None,
        answered: Callable[[], bool],
        others_answered: Callable[[], bool],
        thorough: bool = True,
    ) -> None:
        """`seconds`: how long the trace may take; `beside`: what goes beside the connects, as in
        `hops.trace`; `answered`: whether there is nothing to be explained, as the door (or another)
        has answered; `others_answered`: whether anybody outside this machine has in this run. Not
        `thorough`: nothing but the trace is begun."""
        address, port = door.address, door.port
        self.door = door
        self._answered = answered
        self._thorough = thorough
        self._others_answered = others_answered
        unanswered = Answer(address, port, "silent", 0.0)
        self._trace = Task(
            lambda: hops.trace(address, port, seconds, beside, lambda: not answered())
        )
        self._look = Task(lambda: tcp.look(unanswered, ()))
        self._sources = Task(lambda: tcp.by_source(address, port, _FROM_ELSEWHERE))

    def begin(self) -> None:
        if not self._answered():
            self._trace.start()
            if self._thorough:
                self._look.start()
                self._sources.start()

    def patience(self, address: str) -> float | None:
        """The silence of a host that answers other packets counts at once, and that of one to which
        other packets get farther than connects after 1.25 s, as if another address had answered.

        Behind the last router that answers there may be no such machine: then that router says so,
        after three ARP requests, one a second. It is another verdict, and worth the wait; so is the
        word of this machine's own kernel. Where nobody can say such a thing, it is enough that the
        network answers at all.
        """
        trace = self._trace.result
        if trace is None or address != self.door.address or trace.answered or trace.missing:
            return None
        if trace.distance is not None:
            return silence(trace.others.seconds)
        farther = trace.beyond is not None or trace.neighbour or trace.connects.loop
        if not farther and (trace.last is not None or kernel.silent_neighbour(address)):
            return None
        return ELSEWHERE if farther or self._others_answered() else None

    # What was learned; waits for it.

    @property
    def trace(self) -> hops.Trace | None:
        return self._trace.wait()

    @property
    def look(self) -> tcp.Look | None:
        return self._look.wait()

    @property
    def sources(self) -> tuple[Answer, Answer] | None:
        return self._sources.wait()
