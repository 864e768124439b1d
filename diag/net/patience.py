"""How long to wait, and why: what several modules go by. The reasons are in docs/timeouts.md.

All of it in seconds. What a single protocol waits for stands in its own module.
"""

from __future__ import annotations

TRIES = 4  # connects per door …
SPACING = 0.2  # … started so far apart: surer and faster than one long connect
QUIET = 0.25  # without an answer, after which other ports are asked, and the way is looked at
ELSEWHERE = 1.25  # a silence counts then if anybody else has answered: each of the connects has had
# the 0.65 s of a satellite, and two of them the SYN that the kernel sends again after a second
RESENT = 1.5  # a single connect: its second SYN has had half a second
ARP = 0.9  # "host unreachable" as late as this comes from a neighbour that never answered

EXPLAIN = 3.0  # what explains a failure is over so long after the failure is known …
LEAST = 0.3  # … a probe that begins late gets so much all the same
OPEN_WAY = 2.0  # to see whether another way out gets to the next layer
OTHER_PORT = 1.2  # four connects to a port that is only asked to explain
SSH = 1.5  # name, connect and greeting of a host beside the target
TRACE = 1.8  # at most, to find the hop where connects stop; it usually takes half of that
REPEAT = 2.0  # a question that nobody answered within the time-out, asked again in another form …
AGAIN = 1.5  # … and in the same, where the other form is answered at once


def silence(round_trip: float, tries: int = TRIES, spacing: float = SPACING) -> float:
    """When a silence counts that began with `tries` connects, `spacing` apart, to an address whose
    round trip is known."""
    return (tries - 1) * spacing + max(0.3, 1.5 * round_trip)


def again(answered_in: float) -> float:
    """How long the repetition of a question is waited for, when a variant of it, sent at the same
    time, was answered within `answered_in`. A lost packet is sent again twice meanwhile."""
    return max(AGAIN, 3 * answered_in)
