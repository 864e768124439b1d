"""Another host at a glance: does its name resolve, does it take connections, is its TLS good?

For hosts beside the target's, whose own faults are not to be isolated: one look at each layer.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Literal

from diag.net import dns, doors, tls
from diag.record import field, record, replace

if TYPE_CHECKING:
    from ssl import SSLContext

    from diag.net.dial import Dialer

_ADDRESSES = 4  # knocked at
_DEAD = {
    "refused": "refuses connections",
    "reset": "resets connections",
    "silent": "does not answer",
    "prohibited": "is rejected by a firewall",
    "host-unreachable": "is unreachable",
    "host-down": "is down",
}


@record
class Reach:
    """How far it went. `stage` is the layer that failed, "ok" if none did."""

    host: str
    port: int
    stage: Literal["ok", "dns", "tcp", "tls"]
    why: str = ""  # with words of OpenSSL or of the kernel: quote before showing
    certificate: bool = False  # it is the certificate that fails
    answers: tuple[doors.Answer, ...] = ()  # one for each address
    sock: socket.socket | None = field(default=None, repr=False)  # with TLS on it

    @property
    def dead6(self) -> list[str]:
        """The IPv6 addresses that do not work though others do: what a client with IPv6 meets."""
        if any(one.kind == "open" and ":" in one.address for one in self.answers):
            return []
        if not any(one.kind == "open" for one in self.answers):
            return []
        dead = (one for one in self.answers if ":" in one.address and one.kind in _DEAD)
        return [f"{one.address} {_DEAD[one.kind]}" for one in dead]


def reach(
    dialer: Dialer, context: SSLContext, host: str, port: int, timeout: float
) -> Reach | None:
    """Look at https://host:port, the way this run goes; None where the name may not be looked up:
    a connect-to rule stands for another port of the host.

    `timeout` is in seconds, for each layer. Never raises for network trouble.
    """
    result = Reach(host, port, "ok")
    dialer.prepare("https", host, port)
    answers: tuple[doors.Answer, ...] = ()
    if dialer.tunnelled(host, port):
        try:
            sock = dialer.connect(host, port, timeout, fresh=True)
        except OSError as error:
            return replace(result, stage="tcp", why=str(error))
    else:
        place = dialer.mapped(host, port) or (host, port)
        if place[0] == host and dialer.led_elsewhere(host):
            return None
        found = (place[0],) if dns.literal(place[0]) else dns.resolves(place[0], timeout)
        if not found:
            why = "the name does not exist" if found == () else "the name could not be resolved"
            return replace(result, stage="dns", why=why)
        answers = tuple(_knock(found, place[1], timeout))
        opened = [one for one in answers if one.sock is not None]
        if not opened or opened[0].sock is None:
            return replace(result, stage="tcp", why=_dead(answers), answers=answers)
        for spare in opened[1:]:
            if spare.sock is not None:
                spare.sock.close()
        dialer.prefer(place[0], [one.address for one in opened])
        sock = opened[0].sock
    shaken = tls.shake(sock, context, host, timeout)
    if shaken.failure is not None:
        verify = shaken.failure == "verify"
        why = shaken.detail or shaken.failure
        return replace(result, stage="tls", why=why, certificate=verify, answers=answers)
    return replace(result, answers=answers, sock=shaken.sock)


def _knock(addresses: tuple[str, ...], port: int, timeout: float) -> list[doors.Answer]:
    """Some addresses of either kind, IPv4 first."""
    by_kind = sorted(addresses, key=lambda address: ":" in address)
    chosen = [*by_kind[: _ADDRESSES // 2], *by_kind[::-1][: _ADDRESSES // 2]]
    knocked = [doors.Door(address, port) for address in dict.fromkeys(chosen)]
    end = time.monotonic() + timeout
    answers = list(doors.knock(knocked, timeout=timeout))
    for one in answers:
        if one.sock is not None:
            one.sock.settimeout(max(0.001, end - time.monotonic()))
    return sorted(answers, key=lambda one: (one.kind != "open", ":" in one.address))


def _dead(answers: tuple[doors.Answer, ...]) -> str:
    return ", ".join(f"{one.address} {_DEAD.get(one.kind, one.error)}" for one in answers)
