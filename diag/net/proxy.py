"""What the answers of a proxy mean: nothing here touches a socket.

They are judged by the marks that proxies leave: squid's X-Squid-Error (with the errno of the
connection that failed), Proxy-Status (RFC 9209), and the words of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from diag.record import field, record

if TYPE_CHECKING:
    import socket

    from diag.model import Json

Failure = Literal["timeout", "empty", "reset", "not-http", "socks"]
Kind = Literal[
    "auth-required",
    "auth-rejected",
    "denied",
    "block-page",
    "upstream-dns-failure",
    "upstream-refused",
    "upstream-timeout",
    "not-a-proxy",
    "cannot-forward",  # squid found no way at all: its resolver failed, or all its parent proxies
    "cannot-connect",  # tinyproxy says no more: the name, the port or the way there is at fault
    "unclear",
]


@record
class Reply:
    """What a proxy answered."""

    status: int | None = None
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: str = field(default="", repr=False)
    failure: Failure | None = None  # None: an answer in HTTP, or an open tunnel
    detail: str = ""
    tunnel: socket.socket | None = field(default=None, repr=False)
    elapsed_ms: int = 0

    @property
    def silent(self) -> bool:
        """Whether nothing came that can be judged."""
        return self.failure not in (None, "socks")

    @property
    def line(self) -> str:
        """The status line, as far as it matters."""
        return f"{self.status} {self.reason}".strip() if self.status else ""


@record
class Judgement:
    """What an answer means; `evidence` names the marks that say so."""

    kind: Kind
    why: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


_ERRNO: dict[int, tuple[Kind, str]] = {  # Linux, BSD and Windows: the proxy may run on any
    **dict.fromkeys((111, 61, 10061), ("upstream-refused", "connection refused")),
    **dict.fromkeys((110, 60, 10060), ("upstream-timeout", "connection timed out")),
    **dict.fromkeys((113, 65, 10065), ("upstream-timeout", "no route to the host")),
    **dict.fromkeys((101, 51, 10051), ("upstream-timeout", "network is unreachable")),
}
_SQUID: dict[str, tuple[Kind, str]] = {
    "ERR_ACCESS_DENIED": ("denied", "its rules deny access"),
    "ERR_CACHE_ACCESS_DENIED": ("denied", "its rules deny access"),
    "ERR_DNS_FAIL": ("upstream-dns-failure", "its resolver does not know the name, or fails"),
    "ERR_CANNOT_FORWARD": ("cannot-forward", "it found no way to forward the request"),
    "ERR_READ_TIMEOUT": ("upstream-timeout", "the target did not answer it in time"),
    "ERR_LIFETIME_EXP": ("upstream-timeout", "the target did not answer it in time"),
}
_STATUS_ERRORS: dict[str, Kind] = {  # RFC 9209, Proxy-Status
    "dns_error": "upstream-dns-failure",
    "dns_timeout": "upstream-dns-failure",
    "connection_refused": "upstream-refused",
    "connection_timeout": "upstream-timeout",
    "destination_ip_unroutable": "upstream-timeout",
    "destination_unavailable": "upstream-timeout",
    "http_response_timeout": "upstream-timeout",
    "destination_ip_prohibited": "denied",
    "http_request_denied": "denied",
}
_WORDS: dict[Kind, str] = {
    "upstream-dns-failure": (
        r"no such (?:host|domain)|name or service not known|\bnxdomain\b|\benotfound\b"
        r"|(?:could not|cannot|can't|can not|unable to|failed to) (?:be )?resolve"
        r"|unresolved[ _]host|host ?name lookup fail|dns (?:lookup |resolution )?(?:error|fail)"
        r"|unknown host|host(?: ?name)? (?:was )?not found|nodename nor servname|getaddrinfo"
        r"|errno -[235]\b"
    ),
    "upstream-refused": (
        r"connection (?:was |has been )?refused|econnrefused|actively refused|errno 111\b"
    ),
    "upstream-timeout": (
        r"timed[ -]?out|connection time-?out|etimedout|i/o timeout|errno 11[03]\b"
        r"|no route to host|host (?:is )?(?:unreachable|down)|network is unreachable"
    ),
}
_PROXY_SOFTWARE = re.compile(
    r"squid|tinyproxy|privoxy|mitmproxy|blue ?coat|proxysg|zscaler|mcafee|skyhigh|forcepoint"
    r"|websense|ironport|cisco (?:secure )?web|umbrella|sophos|forti(?:proxy|gate|guard)|3proxy"
    r"|cntlm|cc ?proxy|wingate|ziproxy|polipo|kerio|untangle|netskope|menlo|iboss",
    re.IGNORECASE,
)
_WEB_SOFTWARE = re.compile(
    r"nginx|openresty|apache(?!-?proxy)|coyote|tomcat|jetty|iis|httpapi|lighttpd|caddy|cloudflare"
    r"|cloudfront|akamai|awselb|elb|envoy|gunicorn|werkzeug|basehttp|simplehttp|kestrel|litespeed"
    r"|gws|uvicorn|node|express|undertow|openlitespeed|haproxy|traefik",
    re.IGNORECASE,
)
_PROXY_HEADERS = (
    "x-squid-error",
    "proxy-authenticate",
    "proxy-status",
    "proxy-agent",
    "proxy-connection",
    "via",
    "x-cache-lookup",
)
_BLOCKING = re.compile(
    r"access to (?:this|the requested|the) (?:web ?)?(?:site|page|url|resource) (?:is|has been|was)"
    r" (?:blocked|denied|restricted|not allowed)"
    r"|web ?(?:site|page) (?:is |has been )?blocked"
    r"|(?:url|site|web|content|page) ?(?:filter|categor)|\bcategor(?:y|ies)\b[^.]{0,80}\bblocked"
    r"|blocked[^.]{0,120}\b(?:url |web ?site )?categor(?:y|ies)\b"
    r"|(?:internet|web|acceptable)[ -](?:usage|use|access) polic"
    r"|blocked by (?:your|the) (?:organi[sz]ation|company|administrator|network administrator)",
    re.IGNORECASE,
)
_BITBUCKET = ("x-arequestid", "x-asessionid", "x-ausername")


def proxy_marks(headers: Mapping[str, str]) -> list[str]:
    """The headers that only a proxy sets."""
    marks = [f"{name}: {headers[name]}" for name in _PROXY_HEADERS if name in headers]
    server = headers.get("server", "")
    if _PROXY_SOFTWARE.search(server):
        marks.append(f"server: {server}")
    return marks


def title(page: str) -> str | None:
    """The title, or else the first heading, of an HTML page."""
    for tag in ("title", "h1", "h2"):
        found = re.search(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.IGNORECASE | re.DOTALL)
        if found and (text := _plain(found[1])):
            return text
    return None


def _plain(page: str) -> str:
    """The words of an HTML page."""
    page = re.sub(r"(?is)<(style|script|address)\b.*?</\1>|<!--.*?-->", " ", page)
    import html

    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _is_page(reply: Reply) -> bool:
    kind = reply.headers.get("content-type", "")
    return "html" in kind or reply.body.lstrip()[:1] == "<"


def judge(reply: Reply, *, login_sent: bool) -> Judgement:
    """What an answer to CONNECT (or a SOCKS request) that opened no tunnel means."""
    if _asks_for_a_login(reply):
        return _judge_login(reply, login_sent)
    if reply.failure == "socks":
        return _judge_socks(reply)
    marks = proxy_marks(reply.headers)
    evidence = _evidence(reply, marks)
    status = reply.status or 0
    if (known := _judge_marks(reply) or _judge_words(reply)) is not None:
        return Judgement(known[0], known[1], evidence)
    server = reply.headers.get("server", "")
    web = bool(_WEB_SOFTWARE.search(server)) and not marks
    if status in (403, 451):
        if web:
            return Judgement(
                "unclear", "this may be a web server, or a proxy that refuses", evidence
            )
        return Judgement("denied", "it refuses to connect there", evidence)
    if status == 504:
        return Judgement("upstream-timeout", "the target did not answer it in time", evidence)
    if marks:
        if status in (405, 501):
            return Judgement("denied", "it does not open tunnels (CONNECT)", evidence)
        return Judgement("unclear", "it does not say why", evidence)
    if status in (405, 501):
        return Judgement("not-a-proxy", "it does not know the method CONNECT", evidence)
    if status < 500 and (web or _is_page(reply) or "location" in reply.headers):
        return Judgement("not-a-proxy", "it answers as a web server does", evidence)
    return Judgement("unclear", "it does not say why", evidence)


def judge_forwarded(reply: Reply, host: str, *, login_sent: bool) -> Judgement | None:
    """The same for the answer to a GET of http://host; None where the target may have given it."""
    if _asks_for_a_login(reply):
        return _judge_login(reply, login_sent)
    page = looks_like_proxy_page(reply.headers, reply.body)
    if page is None:
        # A gateway before the target reports trouble with its own upstream in the same words: they
        # are taken for the proxy's where they name the very host that it was asked for.
        words = _judge_words(reply, host)
        return words and Judgement(*words, _evidence(reply))
    evidence = {**_evidence(reply, proxy_marks(reply.headers)), **page}
    kind, why = _judge_marks(reply) or _judge_words(reply) or ("unclear", "it does not say why")
    refusal = reply.status in (200, 401, 403, 451) and kind in ("denied", "unclear")
    if refusal and _is_page(reply):
        return Judgement("block-page", "it answers with a page of its own", evidence)
    return Judgement("denied" if refusal and reply.status != 200 else kind, why, evidence)


def may_be_web_server(reply: Reply) -> bool:
    """Whether an answer bears no mark of a proxy nor of Bitbucket, and is not about the form of
    the request, either."""
    if proxy_marks(reply.headers) or any(name in reply.headers for name in _BITBUCKET):
        return False
    return reply.status is not None and (reply.status < 400 or reply.status in (401, 403, 404))


def judge_web_server(reply: Reply) -> Judgement:
    """Of something that answers a proxy's request as it answers its own address."""
    return Judgement("not-a-proxy", "it answers with its own pages", _evidence(reply))


def looks_like_proxy_page(headers: Mapping[str, str], body: str) -> dict[str, Json] | None:
    """The marks by which an answer to an http:// request was made by a proxy or web filter on the
    way, not by the target; None if there are none. `headers` have lower-case names.

    `Via` is no such mark: a proxy sets it on what it passes on, too.
    """
    if any(name in headers for name in _BITBUCKET):
        return None
    found: dict[str, Json] = {}
    for name in ("x-squid-error", "proxy-authenticate", "proxy-agent"):
        if name in headers:
            found[name] = headers[name]
    if _PROXY_SOFTWARE.search(headers.get("server", "")):
        found["server"] = headers["server"]
    words = _plain(body)
    match = _BLOCKING.search(words)
    if match is None and re.search(r"block|denied|forbid|restrict", words, re.IGNORECASE):
        match = _PROXY_SOFTWARE.search(title(body) or "")
    if match is not None:
        found["words"] = match[0]
    if not found:
        return None
    return {**found, "title": title(body)}


def _evidence(reply: Reply, marks: Iterable[str] = ()) -> dict[str, Json]:
    result: dict[str, Json] = {"status": reply.status, "reason": reply.reason}
    if marks := list(marks):
        result["marks"] = marks
    if server := reply.headers.get("server"):
        result["server"] = server
    if _is_page(reply) and (heading := title(reply.body)):
        result["title"] = heading
    return result


def _asks_for_a_login(reply: Reply) -> bool:
    """A 407; and tinyproxy says 401 to a login that is wrong."""
    return reply.status == 407 or (
        reply.status == 401 and bool(_PROXY_SOFTWARE.search(reply.headers.get("server", "")))
    )


def _judge_login(reply: Reply, login_sent: bool) -> Judgement:
    challenge = reply.headers.get("proxy-authenticate", reply.headers.get("www-authenticate", ""))
    schemes = re.findall(r"(?:^|,\s*)([A-Za-z][\w-]*)(?=\s|,|$)(?!\s*=)", challenge)
    offered = list({scheme.lower(): scheme for scheme in reversed(schemes)}.values())[::-1]
    evidence: dict[str, Json] = {
        "status": reply.status,
        "reason": reply.reason,
        "schemes": list(offered),
    }
    if marks := proxy_marks(reply.headers):
        evidence["marks"] = list(marks)
    basic = not offered or any(scheme.lower() == "basic" for scheme in offered)
    if login_sent and basic:
        return Judgement("auth-rejected", "it does not accept the login", evidence)
    if login_sent:
        why = "does not take one in the clear (Basic)"
        return Judgement("auth-required", why, evidence)
    return Judgement("auth-required", "none is given", evidence)


def _judge_socks(reply: Reply) -> Judgement:
    evidence: dict[str, Json] = {"answer": reply.detail}
    if "error 2:" in reply.detail:
        return Judgement("denied", "its rules deny access", evidence)
    if "error 5:" in reply.detail:
        return Judgement("upstream-refused", "connection refused", evidence)
    if "error 6:" in reply.detail or "error 3:" in reply.detail:
        return Judgement("upstream-timeout", reply.detail.partition(": ")[2], evidence)
    return Judgement("unclear", reply.detail, evidence)


def _judge_marks(reply: Reply) -> tuple[Kind, str] | None:
    """What the headers say that are made to say it."""
    code, _, number = reply.headers.get("x-squid-error", "").partition(" ")
    if code == "ERR_CONNECT_FAIL" and number.isdecimal() and int(number) in _ERRNO:
        return _ERRNO[int(number)]
    if (code, number) == ("ERR_READ_ERROR", "0"):  # what squid 5 says for a GET
        return _SQUID["ERR_CANNOT_FORWARD"]
    if code in _SQUID:
        return _SQUID[code]
    tiny = "tinyproxy" in reply.headers.get("server", "").lower()
    if tiny and (reply.status, reply.reason) == (500, "Unable to connect"):
        return "cannot-connect", "it was unable to connect"
    error = re.search(r"\berror=\"?([a-z_]+)", reply.headers.get("proxy-status", ""))
    if error is not None and error[1] in _STATUS_ERRORS:
        return _STATUS_ERRORS[error[1]], error[1].replace("_", " ")
    return None


def _judge_words(reply: Reply, host: str | None = None) -> tuple[Kind, str] | None:
    """What the words say of an answer that admits an error: one thing only, or it is not told.

    With `host`, only words that stand near that name count.
    """
    if (reply.status or 0) < 500 and reply.status != 404:
        return None
    text = f"{reply.reason} {_plain(reply.body)}"
    found = {
        kind: match
        for kind, pattern in _WORDS.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
        if host is None or host in text[max(0, match.start() - 100) : match.end() + 100]
    }
    if len(found) != 1:
        return None
    kind, match = found.popitem()
    return kind, f"it says {match[0]!r}"
