"""Check `http`: is it Bitbucket that answers, before any status code is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from diag.api import (
    Check,
    Context,
    DeadlineExceededError,
    Fact,
    Finding,
    Instance,
    Json,
    Reply,
    Route,
    ServerTime,
    Target,
    Wire,
    bitbucket,
    fail,
    net,
    ok,
    said,
    unknown,
    verdicts,
    warn,
)

if TYPE_CHECKING:
    Answer = net.http.Answer
    Fault = bitbucket.reception.Fault
    Visit = bitbucket.reception.Visit

_SEE = "{curl} -i '{request}'"
_SEE_HEAD = "{curl} -i -o /dev/null -D - '{request}'"


class Http(Check):
    """Ask /status and /rest/api/latest/application-properties, anonymously, and see who answers.

    A login page, a firewall's block page or Jira answer 200 as well, and a 503 may come from
    Bitbucket or from the gateway before it: so the marks of Bitbucket (X-AREQUESTID and others) are
    looked for first. Where they are missing it is found out who it is, whether Bitbucket is below
    another path, and whether it is only this client that is kept away. Redirects are followed by
    hand, without the secret and without cookies.
    """

    id = "http"
    title = "Bitbucket itself answers"
    order = 60
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Wire)
    after = (Route,)
    provides = (Instance, ServerTime)

    OK = ok("http-ok", "Bitbucket itself answers at {base_url} ({marks})")
    UNCLEAR = unknown(
        "http-unclear",
        "who answers at {url} could not be told: {what}",
        remedy="Check the URL. If Bitbucket has a path of its own there, as in https://host/git, "
        "it belongs to the URL.",
        owner="you",
        reproduce=_SEE,
    )

    # the wrong place

    ON_TLS_PORT = fail(
        "http-on-tls-port",
        "the URL begins with http://, but port {port} speaks TLS",
        remedy="Write https:// instead: https://{host}:{port}.",
        owner="you",
        reproduce="openssl s_client -connect {connect} -servername {host} </dev/null",
    )
    CONTEXT_PATH = fail(
        "http-context-path-missing",
        "Bitbucket answers at {right_url}, not at {url}",
        remedy="Use {right_url}: the context path belongs to the base URL.",
        owner="you",
        reproduce="{curl} {right_url}/status",
    )
    MOVED = fail(
        "http-redirects-to-other-host",
        "{url} only redirects to Bitbucket at {right_url}; no token is sent along to another "
        "address, neither by bbdiag nor by most other programs",
        remedy="Use {right_url} as the base URL.",
        owner="you",
        reproduce=_SEE_HEAD,
    )
    OTHER_PRODUCT = fail(
        "http-other-product",
        "{product} answers, not Bitbucket ({sign})",
        remedy="Use the base URL of Bitbucket. If {url} should be it, the name or the reverse "
        "proxy leads to the wrong machine.",
        owner="you",
        reproduce=_SEE,
    )
    DEFAULT_VHOST = fail(
        "http-default-vhost",
        "a web server answers with its default page ({product}): nobody has told it about {host}",
        remedy="On the web server or ingress add a site for the name {host} that leads to "
        "Bitbucket (nginx: server_name, Apache: ServerName, Kubernetes: Ingress host).",
        owner="server-admin",
        reproduce=_SEE,
    )

    # redirects

    TO_HTTPS = warn(
        "http-redirects-to-https",
        "the URL begins with http://, and everything there is redirected to {right_url}",
        remedy="Use {right_url}. Whoever sends a token to http:// has sent it unencrypted before "
        "the redirect comes; bbdiag goes on at the https address without it.",
        owner="server-admin",
        reproduce=_SEE_HEAD,
    )
    DOWNGRADE = fail(
        "http-downgrade-redirect",
        "https is redirected to http: {location}",
        remedy="Tell Bitbucket that it is behind https: server.secure=true, server.scheme=https, "
        "server.proxy-name, server.proxy-port=443 in bitbucket.properties; or correct the redirect "
        "in the reverse proxy. A client that follows it sends its token unencrypted.",
        owner="server-admin",
        reproduce=_SEE_HEAD,
    )
    LOOP = fail(
        "http-redirect-loop",
        "the redirects lead in a circle: {location}",
        remedy="Mostly two that want to enforce https: the reverse proxy ends TLS, and Bitbucket, "
        "not told of it, redirects to https again: set server.secure=true and server.scheme=https "
        "in bitbucket.properties. A sign-on that waits for its cookie looks the same: exempt "
        "/rest, /scm and /status from it.",
        owner="server-admin",
        reproduce="{curl} -iL --max-redirs 5 '{request}'",
    )
    DEAD_HOST = fail(
        "http-redirect-dead-host",
        "everything is redirected to {location}, but {to_host} cannot be reached: {detail}",
        remedy="Correct the redirect in the web server or reverse proxy (mostly an old name), or "
        "make {to_host} reachable.",
        owner="server-admin",
        reproduce=_SEE_HEAD,
    )
    SSO = verdicts.SSO_LOGIN

    # somebody on the way

    GATEWAY_AUTH = verdicts.GATEWAY_AUTH
    WAF = verdicts.WAF_BLOCKED
    BLOCK_PAGE = verdicts.BLOCK_PAGE
    USER_AGENT = fail(
        "http-user-agent-blocked",
        "requests of programs are rejected (HTTP {status}); the same one passes under the name of "
        "a browser",
        remedy="Remove the rule on the User-Agent header in the firewall or reverse proxy, or add "
        "an exception for {profile} and for git.",
        owner="server-admin",
        reproduce=(_SEE, "{curl} -i -A Mozilla/5.0 '{request}'"),
    )
    METHOD = fail(
        "http-method-blocked",
        "a gateway in front of Bitbucket forbids the method GET (HTTP {status}, allowed: {allow})",
        remedy="Allow GET, HEAD, POST, PUT and DELETE to Bitbucket in the gateway's rules. Whether "
        "it lets POST pass, which making webhooks needs, is only seen by sending one.",
        owner="server-admin",
        reproduce=_SEE,
    )
    RATE_LIMITED = verdicts.RATE_LIMITED
    GATEWAY_RATE_LIMITED = verdicts.GATEWAY_RATE_LIMITED
    BAD_GATEWAY = verdicts.BAD_GATEWAY
    UPSTREAM = verdicts.UPSTREAM_UNAVAILABLE
    GATEWAY_TIMEOUT = verdicts.GATEWAY_TIMEOUT

    # broken answers

    EMPTY = verdicts.EMPTY_REPLY
    TRUNCATED = verdicts.BODY_TRUNCATED
    INVALID_JSON = verdicts.INVALID_JSON
    TIMEOUT = verdicts.RESPONSE_TIMEOUT
    SLOW = verdicts.SLOW_BODY
    HEADER_TOO_LARGE = verdicts.HEADER_TOO_LARGE

    # what lies below, where the URL begins with http://

    BLACK_HOLE = verdicts.PMTU_BLACK_HOLE
    RESET = verdicts.RESET_AFTER_ACCEPT
    CLOSED = verdicts.CLOSED_AFTER_ACCEPT
    SILENT = verdicts.SILENT_AFTER_ACCEPT
    SSH = verdicts.WRONG_SERVICE_SSH
    CLIENT_CERTIFICATE = verdicts.CLIENT_CERTIFICATE_REQUIRED

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        reception = bitbucket.reception
        seen = reception.visit(ctx, ctx.target.base_url)
        if (moment := reception.server_time(seen)) is not None:
            yield moment
        if "deadline" in {seen.status.failure, seen.properties.failure}:
            raise DeadlineExceededError
        arrival = reception.arrive(ctx, seen)
        by_code = {verdict.code: verdict for verdict in self.verdicts()}
        for fault in arrival.faults:
            yield by_code[fault.code](**_evidence(ctx, fault))
        if arrival.visit is not None:
            instance = _instance(ctx, arrival.visit)
            ctx.http.base = instance.base_url
            yield instance
            yield self.OK(base_url=instance.base_url, marks=list(instance.marks))


def _evidence(ctx: Context, fault: Fault) -> dict[str, Any]:
    """What an answer was, and what makes it a fault."""
    answer = fault.answer
    told: dict[str, Json] = {
        "request": answer.url,
        "status": answer.status,
        "elapsed_ms": answer.elapsed_ms,
        "server": answer.header("server"),
        "login": answer.header("www-authenticate"),
        "allow": answer.header("allow"),
        "retry_after": answer.header("retry-after"),
        "detail": answer.detail or None,
        "said": said(ctx, answer),
        **fault.more,
    }
    return {name: _quoted(ctx, value) for name, value in told.items()}


def _quoted(ctx: Context, value: Json) -> Json:
    if isinstance(value, str):
        return ctx.quote(value)
    return [_quoted(ctx, one) for one in value] if isinstance(value, list) else value


def _instance(ctx: Context, seen: Visit) -> Instance:
    state = bitbucket.datacenter.state(seen.status)
    properties = bitbucket.datacenter.properties(seen.properties)
    return Instance(
        base_url=seen.base,
        marks=seen.marks or ("/status",),
        same_origin=urljoin(seen.base, "/") == f"{ctx.target.origin}/",
        status=_reply(ctx, seen.status, {"state": state} if state else None),
        properties=_reply(ctx, seen.properties, properties),
    )


def _reply(ctx: Context, answer: Answer, content: Mapping[str, str] | None) -> Reply:
    target = bitbucket.reception.location(answer)
    return Reply(
        request=answer.url,
        code=answer.status if answer.failure is None else None,
        content=content and {name: ctx.quote(value) for name, value in content.items()},
        said=said(ctx, answer),
        location=ctx.quote(target) if target else None,
        request_id=ctx.quote(answer.header("x-arequestid") or "") or None,
    )
