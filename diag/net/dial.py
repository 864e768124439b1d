"""Opens connections the way this run goes, and hands observed ones from layer to layer.

Each layer is seen once: the socket that check `tcp` opened is parked here, TLS shakes hands on it,
and the first HTTP request travels on it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from diag.record import field, record, replace
from diag.settings import ConnectTo

Connector = Callable[[str, int, float], socket.socket]
Router = Callable[[str, str, int], "Connector | Forwarder | None"]


@record
class Forwarder:
    """A proxy that takes http:// requests whole (absolute form)."""

    connect: Connector
    authorization: str | None = field(default=None, repr=False)  # for Proxy-Authorization


class Dialer:
    """Connections to (host, port), through connect-to rules and the proxy where one applies."""

    def __init__(self, rules: Sequence[ConnectTo] = ()) -> None:
        self._rules = {(rule.host.lower(), rule.port): rule for rule in rules}
        self._parked: defaultdict[tuple[str, int], deque[socket.socket]] = defaultdict(deque)
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._tunnels: dict[tuple[str, int], Connector] = {}
        self._forwarders: dict[tuple[str, int], Forwarder] = {}
        self._router: Router | None = None
        self._routed: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def mapped(self, host: str, port: int) -> tuple[str, int] | None:
        """Where a connect-to rule sends (host, port)."""
        rule = self._rules.get((host.lower(), port))
        return (rule.address, rule.to_port) if rule else None

    def led_elsewhere(self, host: str) -> bool:
        """Whether a connect-to rule stands for any port of `host`: then nothing about the name
        itself is looked up."""
        return any(name == host.lower() for name, _ in self._rules)

    def prefer(self, host: str, addresses: Sequence[str]) -> None:
        """Use these addresses for `host`, best first, instead of asking the resolver again."""
        self._addresses[host] = tuple(addresses)

    def addresses(self, host: str) -> tuple[str, ...]:
        """Those that are used for `host`, best first; the name itself where nobody has said."""
        return self._addresses.get(host, (host,))

    def tunnel(self, host: str, port: int, connector: Connector) -> None:
        """Reach (host, port) by `connector(host, port, timeout)`: a proxy's tunnel."""
        self._tunnels[host, port] = connector

    def forward(self, host: str, port: int, forwarder: Forwarder) -> None:
        """Reach http://host:port by sending whole requests to a proxy."""
        self._forwarders[host, port] = forwarder

    def route(self, router: Router) -> None:
        """Have `router(scheme, host, port)` decide how to reach what nobody has registered."""
        self._router = router

    def prepare(self, scheme: str, host: str, port: int) -> None:
        """Before a request to scheme://host:port: settle which way it goes."""
        place = (host, port)
        with self._lock:
            if self._router is None or place in self._routed:
                return
            self._routed.add(place)
            if place in self._tunnels or place in self._forwarders:
                return
            way = self._router(scheme, host, port)
            if isinstance(way, Forwarder):
                self._forwarders[place] = way
            elif way is not None:
                self._tunnels[place] = way

    def tunnelled(self, host: str, port: int) -> bool:
        """Whether a proxy's tunnel leads to (host, port)."""
        return (host, port) in self._tunnels

    def login_refused(self, host: str, port: int) -> None:
        """The proxy answered 407 to a request for that place: its password is not sent again."""
        if (forwarder := self.forwarder(host, port)) is not None:
            self._forwarders[host, port] = replace(forwarder, authorization=None)

    def forwarder(self, host: str, port: int) -> Forwarder | None:
        return self._forwarders.get((host, port))

    def park(self, host: str, port: int, sock: socket.socket) -> None:
        """Keep an open, unused connection for whoever needs one next; when the run is over, close
        it."""
        with self._lock:
            if not self._closed:
                self._parked[host, port].append(sock)
                return
        sock.close()

    def take(self, host: str, port: int) -> socket.socket | None:
        """A parked connection, or None."""
        with self._lock:
            queue = self._parked[host, port]
            return queue.popleft() if queue else None

    def connect(
        self,
        host: str,
        port: int,
        timeout: float,
        *,
        fresh: bool = False,
        direct: bool = False,
        mss: int | None = None,
    ) -> socket.socket:
        """An open TCP connection (or tunnel) to (host, port), a parked one unless `fresh`.

        `timeout` is in seconds, for all addresses together. `direct`: past any proxy. `mss` bounds
        the segments of a direct connection, in bytes.

        Raises:
            OSError: as the last address tried failed; TimeoutError when none answered in time.
        """
        if not fresh and (parked := self.take(host, port)) is not None:
            return parked
        mapped = self.mapped(host, port)
        if not direct:
            if (tunnel := self._tunnels.get((host, port))) is not None:
                return tunnel(*(mapped or (host, port)), timeout)
            if (forwarder := self.forwarder(host, port)) is not None:
                return forwarder.connect(host, port, timeout)
        address, to_port = mapped or (host, port)
        end = time.monotonic() + timeout
        failure: OSError = TimeoutError(f"no answer within {timeout:g} s")
        for candidate in self.addresses(address):
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                sock = self._open(candidate, to_port, left, mss)
            except OSError as error:
                failure = error
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        raise failure

    @staticmethod
    def _open(host: str, port: int, timeout: float, mss: int | None) -> socket.socket:
        if mss is None:
            return socket.create_connection((host, port), timeout=timeout)
        from diag.net import tcp

        return tcp.connect(host, port, timeout, mss=mss)

    def close(self) -> None:
        """Close what nobody took, and whatever is parked from now on."""
        with self._lock:
            self._closed = True
            for queue in self._parked.values():
                while queue:
                    queue.popleft().close()
