"""A small forward proxy: CONNECT tunnels, and plain http requests in absolute form."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from diag.simulator.scenario import Answer, Policy
from diag.simulator.server import Connection, Request, Response, html, page

SOFTWARE = "squid/5.7"
VIA = f"1.1 proxy.example.com ({SOFTWARE})"


class Proxy:
    """Talks to the proxy's clients.

    `policy` may answer itself; what it lets pass goes to `routes` ("host:port" to a loopback port)
    through a tunnel, or to `forward` for plain http.
    """

    def __init__(self, policy: Policy, routes: Mapping[str, int], forward: Answer) -> None:
        self._policy = policy
        self._routes = routes
        self._forward = forward

    def talk(self, connection: Connection) -> None:
        first = connection.peek()
        if first and not first.isalpha():  # a TLS or SOCKS greeting
            connection.send(proxy_error(400, "Bad Request", "ERR_PROTOCOL_UNKNOWN").head())
            return
        while (request := connection.read_request()) is not None:
            response = self._policy(request)
            if response is None and request.method == "CONNECT":
                port = self._routes.get(request.target.lower())
                if port is not None:
                    connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    connection.splice(port)
                    return
                response = proxy_error(503, "Service Unavailable", "ERR_DNS_FAIL 0")
            elif response is None:
                response = self._pass_on(request)
            if not connection.respond(request, response):
                return

    def _pass_on(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        if parts.scheme != "http":
            return proxy_error(400, "Bad Request", "ERR_INVALID_URL 0")
        request.path, request.query = parts.path or "/", parts.query
        response = self._forward(request)
        response.headers.append(("Via", VIA))
        return response


def proxy_error(
    status: int, reason: str, code: str, *headers: tuple[str, str], text: str = ""
) -> Response:
    """A refusal in the words of squid, whose X-Squid-Error says why."""
    marks = [("X-Squid-Error", code), ("Via", VIA), *headers]
    body = page("ERROR: The requested URL could not be retrieved", SOFTWARE, text)
    return html(status, body, *marks, reason=reason, server=SOFTWARE)
