"""Where a request goes: an http:// or https:// address, taken apart as it will be sent."""

from __future__ import annotations

import re

from diag.record import record

PORTS = {"http": 80, "https": 443}

# What httpx would leave exactly as it is: no dot segments, nothing that has to be quoted.
_PLAIN = re.compile(
    r"(https?)://((?:[a-z0-9-]+\.)*[a-z0-9-]+\.?)(?::([1-9][0-9]{0,4}))?"
    r"((?:/(?!\.)(?:[A-Za-z0-9_.~!$&'()*+,;=:@-]|%[0-9A-F]{2})*)*)"
    r"(\?(?:[A-Za-z0-9_.~!$&()*+,;=:@/?-]|%[0-9A-F]{2})*)?"
)


@record
class Address:
    """An address as it is sent: encoded, without user information and fragment."""

    scheme: str  # "http" or "https"
    host: str  # lower case, IDNA-encoded, an IPv6 literal without brackets
    port: int
    target: str  # path and query, as the request line has them
    text: str  # all of it

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what a secret is sent to."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        """The Host header: an IPv6 literal in brackets, the port unless it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def read(text: str) -> Address:
    """Take an address apart. What is not plain is left to httpx, which is imported for it.

    Raises:
        ValueError: it is no http:// or https:// address that could be asked.
    """
    match = _PLAIN.fullmatch(text)
    if match is None or int(match[3] or 0) > 65535:
        return _by_httpx(text)
    scheme, host, given, path, query = match.groups("")
    port = int(given or PORTS[scheme])
    shown = f"{scheme}://{host}" + (f":{port}" if port != PORTS[scheme] else "")
    target = (path or "/") + query
    return Address(scheme, host, port, target, shown + path + query)


def _by_httpx(text: str) -> Address:
    import httpx

    try:
        url = httpx.URL(text).copy_with(fragment=None, userinfo=b"")
        shown = str(url)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from None
    # httpx writes "%20" for a blank in a host
    named = bool(url.host) and ("%" not in url.host or ":" in url.host)
    if url.scheme not in PORTS or not named or not 0 < (url.port or 1) <= 65535:
        raise ValueError("no http:// or https:// address")
    return Address(
        url.scheme,
        url.raw_host.decode("ascii").lower(),
        url.port or PORTS[url.scheme],
        url.raw_path.decode("ascii"),
        shown,
    )
