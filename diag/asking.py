"""How a check asks Bitbucket, and what is wrong with an answer that any request may get.

One after the other, with the run's secret; no more than once again, and only when the server names
a short time to wait. Never after a 401: see `diag.net.http`. Only the pages of a long listing are
under way side by side: see `diag.bitbucket.abreast`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from diag import bitbucket, verdicts
from diag.bitbucket import datacenter
from diag.context import Context, DeadlineExceededError
from diag.facts import Instance, Route
from diag.later import Later

if TYPE_CHECKING:
    from diag.model import Finding, Json, Verdict
    from diag.net.http import Answer, Begun
    from diag.net.ssh import Banner

_NO_SSH = {
    "refused": "the connection is refused",
    "silent": "there is no answer",
    "unreachable": "there is no way there",
    "reset": "the connection is reset",
    "closed": "the connection is closed at once",
    "unresolvable": "the name does not resolve",
}
LONGEST_PAUSE = 5  # seconds: Retry-After is honoured up to here, and told beyond


class Asker:
    """Requests of one check. `auth` sends the secret with them."""

    def __init__(self, ctx: Context, *, auth: bool) -> None:
        self._ctx = ctx
        self._auth = auth
        self.findings: list[Finding] = []  # what came up on the way

    def get(self, url: str, query: Mapping[str, str | int] | None = None, **options: Any) -> Answer:
        """One request below the base URL; `options` are those of `diag.net.http.Http.get`.

        Raises:
            DeadlineExceededError: the run's time is over.
        """
        ask = partial(self.once, url, query, **options)
        answer = ask()
        pause = self._pause(answer)
        if pause is not None:
            time.sleep(pause)
            answer = ask()
            if answer.status != 429:
                state = f"a request was let through only after a pause of {pause} s"
                self.findings.append(verdicts.RATE_LIMIT_NEAR(state=state, request=answer.url))
        if answer.failure == "deadline":
            raise DeadlineExceededError
        return answer

    def once(
        self, url: str, query: Mapping[str, str | int] | None = None, **options: Any
    ) -> Answer:
        """As `get`, but whatever comes is told: a limit that was met, the end of the run's time."""
        return self._ctx.http.get(url, query=query, auth=self._auth, **options)

    def begin(self, url: str, query: Mapping[str, str | int] | None = None) -> Begun | None:
        """As `once`, with the answer still to be read: see `diag.net.http.Http.begin`."""
        return self._ctx.http.begin(url, query=query, auth=self._auth)

    def _pause(self, answer: Answer) -> int | None:
        """Seconds after which to ask again, None not to."""
        pause = datacenter.retry_after(answer) if answer.status == 429 else None
        if pause is None or pause > LONGEST_PAUSE or pause > self._ctx.remaining / 2:
            return None
        return pause


class Troubles:
    """What `trouble` may conclude: a base of the checks that ask it."""

    SERVER_ERROR = verdicts.SERVER_ERROR
    RATE_LIMITED = verdicts.RATE_LIMITED
    RATE_LIMIT_NEAR = verdicts.RATE_LIMIT_NEAR
    GATEWAY_RATE_LIMITED = verdicts.GATEWAY_RATE_LIMITED
    BAD_GATEWAY = verdicts.BAD_GATEWAY
    GATEWAY_TIMEOUT = verdicts.GATEWAY_TIMEOUT
    GATEWAY_AUTH = verdicts.GATEWAY_AUTH
    SSO_LOGIN = verdicts.SSO_LOGIN
    WAF_BLOCKED = verdicts.WAF_BLOCKED
    BLOCK_PAGE = verdicts.BLOCK_PAGE
    HEADER_TOO_LARGE = verdicts.HEADER_TOO_LARGE
    EMPTY_REPLY = verdicts.EMPTY_REPLY
    BODY_TRUNCATED = verdicts.BODY_TRUNCATED
    RESPONSE_TIMEOUT = verdicts.RESPONSE_TIMEOUT
    SLOW_BODY = verdicts.SLOW_BODY
    BLACK_HOLE = verdicts.PMTU_BLACK_HOLE


_BY_FAILURE = {
    "empty": verdicts.EMPTY_REPLY,
    "reset": verdicts.EMPTY_REPLY,
    "truncated": verdicts.BODY_TRUNCATED,
    "timeout": verdicts.RESPONSE_TIMEOUT,
    "slow": verdicts.SLOW_BODY,
    "endless": verdicts.SLOW_BODY,
}
_BY_STATUS_OF_A_GATEWAY = {
    429: verdicts.GATEWAY_RATE_LIMITED,
    502: verdicts.BAD_GATEWAY,
    503: verdicts.GATEWAY_RATE_LIMITED,  # it has let requests through before
    504: verdicts.GATEWAY_TIMEOUT,
}


_BY_STRANGERS = {
    verdict.code: verdict
    for verdict in (
        *(verdicts.GATEWAY_AUTH, verdicts.SSO_LOGIN, verdicts.WAF_BLOCKED, verdicts.BLOCK_PAGE),
        verdicts.HEADER_TOO_LARGE,
    )
}


def trouble(ctx: Context, answer: Answer, *, plain: bool = False) -> Finding | None:
    """What is wrong with an answer, where that would be wrong with any: it came broken or not at
    all, a rate limit, a failing Bitbucket, a gateway. None if it is nothing of that.

    `plain`: a stranger only counts who shows what he is, as the caller has a better name for a
    refusal.
    """
    verdict = general(answer)
    if verdict is None:
        return stranger(ctx, answer, plain=plain)
    from diag.bitbucket import reception

    if reception.swallowed(ctx, answer):
        return verdicts.PMTU_BLACK_HOLE(request=answer.url, **reception.SWALLOWED)
    return _found(ctx, verdict, answer)


def stranger(ctx: Context, answer: Answer, *, plain: bool = False) -> Finding | None:
    """Somebody on the way who answers in Bitbucket's place, as far as it can be told: by what he
    sends, or unless `plain` by the marks that are missing and get through otherwise."""
    from diag.bitbucket import reception

    if answer.failure is not None or datacenter.errors(answer):
        return None
    fault = reception.judge(answer)
    if fault is None or fault.code not in _BY_STRANGERS:
        return None
    instance = ctx.run.facts.get(Instance)
    marked = isinstance(instance, Instance) and "X-AREQUESTID" in instance.marks
    sure = fault.certain and answer.status != 401
    refused = (answer.status or 0) >= 400
    if not sure and (plain or not (marked and refused)):
        return None
    return _found(ctx, _BY_STRANGERS[fault.code], answer, fault.more)


def _found(
    ctx: Context, verdict: Verdict, answer: Answer, more: Mapping[str, Json] | None = None
) -> Finding:
    curl = "{curl_auth}" if answer.credential_sent else "{curl}"
    told: dict[str, Any] = {
        name: ctx.quote(value) if isinstance(value, str) else value
        for name, value in (more or {}).items()
    }
    return verdict(
        reproduce=[line.replace("{curl}", curl) for line in verdict.reproduce],
        request=answer.url,
        status=answer.status,
        elapsed_ms=answer.elapsed_ms,
        detail=ctx.quote(answer.detail) or None,
        said=said(ctx, answer),
        server=ctx.quote(answer.header("server") or "") or None,
        retry_after=datacenter.retry_after(answer),
        request_id=ctx.quote(answer.header("x-arequestid") or "") or None,
        before=ctx.run.http.requests - 1,
        login=ctx.quote(answer.header("www-authenticate") or "") or None,
        **told,
    )


def general(answer: Answer) -> Verdict | None:
    """The verdict on an answer, where it would be one on any."""
    if answer.failure is not None:
        return _BY_FAILURE.get(answer.failure)
    status = answer.status or 0
    if not datacenter.marks(answer) and not datacenter.errors(answer):
        return _BY_STATUS_OF_A_GATEWAY.get(status)
    if status == 429:
        return verdicts.RATE_LIMITED
    return verdicts.SERVER_ERROR if status >= 500 else None


def said(ctx: Context, answer: Answer) -> str:
    """What an answer says, in a few words fit to be shown."""
    if answer.failure is not None:
        return ctx.quote(f"{answer.failure}: {answer.detail}" if answer.detail else answer.failure)
    for error in datacenter.errors(answer):
        return ctx.quote(": ".join(filter(None, (error.name, error.message))))
    if location := answer.header("location"):
        return ctx.quote(f"a redirect to {location}")
    if answer.content_type == "text/plain":
        return ctx.quote(answer.text(200))
    return ctx.quote(bitbucket.fingerprints.title(answer) or answer.content_type or "nothing")


def greet_ahead(ctx: Context, host: str, port: int, timeout: float) -> None:
    """Have `ssh_greeting` begin before its turn comes; it is then asked for with the same place."""
    if ctx.run.alone:
        greet = partial(_greeting, ctx, host, port, timeout, dns_works=False)
        ctx.run.greetings[host, port] = Later(greet)


def ssh_greeting(
    ctx: Context,
    host: str,
    port: int,
    timeout: float,
    *,
    dns_works: bool = False,
    opened: Callable[[], None] = lambda: None,
) -> Banner | None:
    """What an SSH server says first at host:port; None where that is not to be tried: a proxy or a
    --connect-to rule stands for the way there, or the name's address could not be told.

    `timeout` is in seconds, for name and connection together; `dns_works` is that of
    `diag.net.dns.resolves`. `opened` is called once the connection is up. The check must declare
    Target and Route.
    """
    begun = ctx.run.greetings.pop((host, port), None)
    if begun is not None and (banner := begun.wait(timeout)) is not None:
        if banner.failure is None or banner.text is not None:
            opened()
        return banner
    return _greeting(ctx, host, port, timeout, dns_works=dns_works, opened=opened)


def _greeting(
    ctx: Context,
    host: str,
    port: int,
    timeout: float,
    *,
    dns_works: bool,
    opened: Callable[[], None] = lambda: None,
) -> Banner | None:
    from diag import net

    route = ctx.get(Route)
    if route is not None and route.proxy is not None:
        return None
    end = time.monotonic() + min(timeout, ctx.timeout)
    if ctx.dialer.mapped(host, port) is None:
        if ctx.dialer.led_elsewhere(host):
            return None
        if host != ctx.target.host:  # else check `tcp` has found out which address works
            addresses = net.dns.resolves(host, end - time.monotonic(), dns_works=dns_works)
            if addresses is None:
                return None
            if not addresses:
                return net.ssh.Banner(None, "unresolvable")
            ctx.dialer.prefer(host, addresses)
    started, before = ctx.run.elapsed_ms(), time.monotonic()
    try:
        left = max(0.001, end - time.monotonic())
        sock = ctx.dialer.connect(host, port, left, fresh=True, direct=True)
    except OSError as error:
        return net.ssh.Banner(None, net.tcp.failure(error), str(error))
    finally:
        spent = round((time.monotonic() - before) * 1000)
        ctx.record("connect", f"ssh {host}:{port}", started, spent)
    opened()
    with sock, ctx.timed("connect", f"ssh {host}:{port}, its greeting"):
        return net.ssh.banner(sock, max(0.001, end - time.monotonic()))


def why_no_ssh(ctx: Context, banner: Banner) -> str:
    """Why there was no greeting, in words."""
    if banner.failure == "not-ssh":
        return ctx.quote(f"something answers that is no SSH server: {banner.detail}")
    return _NO_SSH.get(banner.failure or "", banner.failure or "")
