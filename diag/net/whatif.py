"""What would come of another way out: tried anonymously, once the way of the run has failed.

A trial is a connection and the first sign of the next layer: a TLS handshake, or for http:// an
answer to GET. It proves that a way is open, not that it is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from diag.net.passage import Passage, directly, prove
from diag.net.tunnel import Way
from diag.record import record, replace

if TYPE_CHECKING:
    import ssl

    from diag.facts import Target
    from diag.model import Json
    from diag.net.dial import Dialer
    from diag.net.proxyenv import Proxy

_MOST = 4  # ways


@record
class Trial:
    """What came of one way."""

    option: str  # of bbdiag, that makes it go this way
    proof: str | None  # how the next layer answered; None: that way does not get there, either
    source: str = ""  # what names the proxy
    requests: int = 0  # that went to the target


@record
class Means:
    """What a trial needs. `timed(what, detail)` records how long its body takes."""

    target: Target
    dialer: Dialer
    context: ssl.SSLContext
    timed: Callable[[str, str], AbstractContextManager[None]]
    timeout: float  # seconds, for one operation


def trials(
    proxies: Iterable[tuple[Proxy, str]], means: Means, *, direct: bool
) -> Mapping[str, Callable[[], Trial]]:
    """The ways that can be tried, by their option; the proxies with what names them."""
    found: dict[str, Callable[[], Trial]] = {}
    if direct:
        found["--proxy none"] = lambda: _directly(means)
    for proxy, source in proxies:
        found.setdefault(option(proxy), _through(proxy, source, means))
    return dict(list(found.items())[:_MOST])


def option(proxy: Proxy) -> str:
    """The option that makes bbdiag take this proxy, without its login."""
    return f"--proxy {proxy.url}"


def without_login(proxy: Proxy, scheme: str) -> Proxy:
    """The same place, spoken to in another language; it is not known well enough for a password."""
    return replace(proxy, scheme=scheme, user=None, password=None)


def told(done: Iterable[Trial], target: Target) -> list[Json]:
    """The trials as evidence."""
    layer = "tls" if target.scheme == "https" else "http"
    return [
        {"with": one.option, "next_layer": layer, "passes": one.proof is not None} for one in done
    ]


def note(done: Iterable[Trial], target: Target) -> str:
    """The ways that lead further, in a sentence; empty if none does."""
    layer = "TLS" if target.scheme == "https" else "HTTP"
    text = "; ".join(
        f"with {one.option} the next layer passes ({layer}: {one.proof})"
        for one in done
        if one.proof is not None
    )
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _directly(means: Means) -> Trial:
    proof = directly(means.target, means.dialer, means.context, means.timeout)
    return Trial("--proxy none", proof)


def _through(proxy: Proxy, source: str, means: Means) -> Callable[[], Trial]:
    def attempt() -> Trial:
        way = Way(proxy, means.dialer, lambda: means.context)
        passage = Passage(way, means.target, means.dialer, means.timed, lambda: means.timeout)
        outcome = passage.attempt()
        proof = outcome.answer or None
        if outcome.tunnel is not None:  # some proxies open it before they have tried
            proof = prove(outcome.tunnel, means.target, means.context, means.timeout)
        if outcome.stop != "open":
            proof = None
        return Trial(option(proxy), proof, source, passage.requests)

    return attempt
