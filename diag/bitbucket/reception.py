"""Who answers under a URL: Bitbucket, somebody in its place, or somebody on the way.

Everything is asked anonymously. Who wrote an answer is found out before its status code means
anything: a 503 of Bitbucket is maintenance, a 503 of the gateway before it is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urldefrag, urljoin, urlsplit

from diag import net
from diag.bitbucket import datacenter, fingerprints
from diag.bitbucket.datacenter import CAPABILITIES, PROPERTIES, STATUS
from diag.facts import ServerTime
from diag.net.http import Answer
from diag.record import field, record, replace

if TYPE_CHECKING:
    from diag.context import Context
    from diag.model import Json

MAX_BODY = 2_000_000  # bytes: what is asked for is small, what answers instead may be a whole page
MAX_HOPS = 10  # redirects
USUAL_CONTEXTS = ("/bitbucket", "/stash")
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
# What is told of an answer that comes in small packets only.
SWALLOWED: Mapping[str, Any] = {
    "what": "the request",
    "segment": net.tcp.SMALL_SEGMENT,
    "heuristic": True,
}
_LONGER = 3.0  # seconds in addition: haproxy tries three before it says that nobody is there
_RECOVERY = 1.2  # seconds after which a gateway that limits requests lets one through again
_PATIENCE = 0.5  # seconds for a server that speaks first, or hangs up unasked
_PROBE = b"GET / HTTP/9.9\r\n\r\n"  # answered, or hung up on, by the web server itself
_PAGES = ("/dashboard", "/login", "/projects", "/setup")  # where Bitbucket sends browsers

_CODES: Mapping[fingerprints.Kind, str] = {
    "product": "http-other-product",
    "waf": "http-waf-blocked",
    "block-page": "http-block-page",
    "login": "http-sso-login",
    "default-page": "http-default-vhost",
}
_STATUSES = {
    401: "http-gateway-auth",
    405: "http-method-blocked",
    501: "http-method-blocked",
    502: "http-bad-gateway",
    503: "http-upstream-unavailable",
    504: "http-gateway-timeout",
    # Cloudflare's own: it cannot reach, or not agree on TLS with, what is behind it.
    **dict.fromkeys((520, 521, 523, 525, 526, 530), "http-bad-gateway"),
    **dict.fromkeys((522, 524), "http-gateway-timeout"),
}
_FAILURES = {
    "empty": "http-empty-reply",
    "reset": "http-empty-reply",
    "truncated": "http-body-truncated",
    "timeout": "http-response-timeout",
    "slow": "http-slow-body",
    "endless": "http-slow-body",
    "headers-too-large": "http-header-too-large",
}
_MISSING = {"timeout", "slow"}
# What may be meant for programs only, and not for browsers.
_PICKY = {"http-waf-blocked", "http-block-page", "http-method-blocked", "http-empty-reply"}
# What may come of asking the right host in the wrong place.
_ELSEWHERE = {"http-other-product", "http-default-vhost"}


@record
class Fault:
    """Why Bitbucket does not answer here: the code of a verdict and what it rests on."""

    code: str
    answer: Answer
    more: Mapping[str, Json] = field(default_factory=dict)  # from the network: not yet quoted
    certain: bool = True  # False: no more than the likeliest reading of the answer


@record
class Visit:
    """The two answers that everything rests on."""

    base: str  # the URL they were asked below
    status: Answer
    properties: Answer
    capabilities: Answer | None = None  # asked only where the two leave it open

    @property
    def marks(self) -> tuple[str, ...]:
        """What shows that a Bitbucket has its base here; empty if that cannot be told.

        Its own "not found" has marks too: then it answers, but has its base elsewhere.
        """
        answers = (self.properties, self.status, self.capabilities)
        found = dict.fromkeys(m for one in answers if one for m in datacenter.marks(one))
        lost = self.properties.status == 404 or self.redirect is not None
        return () if lost and datacenter.state(self.status) is None else tuple(found)

    @property
    def redirect(self) -> str | None:
        """Where the REST API is redirected to, unless to a page of Bitbucket's own."""
        target = location(self.properties)
        if target is None or not datacenter.marks(self.properties):
            return target
        return None if _split(target).path.endswith(_PAGES) else target


@record
class Arrival:
    """What came of it: the Bitbucket that was found, and what is wrong."""

    visit: Visit | None
    faults: tuple[Fault, ...] = ()


def visit(ctx: Context, base: str) -> Visit:
    """Ask both questions side by side."""
    paths = (STATUS, PROPERTIES)
    answers = _ask_all(ctx, {path: base + path for path in paths}, linger=_LONGER)
    for path, other in (paths, paths[::-1]):
        broken = answers[path].failure in {"connect", "tls", "empty", "reset"}
        if broken and answers[other].failure is None:
            # A second connection may be what fails: ask again on the one that works.
            answers[path] = _ask(ctx, base + path)
    return Visit(base, answers[STATUS], answers[PROPERTIES])


def arrive(ctx: Context, first: Visit) -> Arrival:
    """Who is there, once everything that the two answers leave open has been looked into."""
    if (limited := _limit(ctx, first)) is not None:
        return Arrival(None, (limited,))
    if datacenter.properties(first.properties) is not None:
        return Arrival(first)
    state = datacenter.state(first.status)
    if state not in {None, "RUNNING"} and fingerprints.recognise(first.status) is None:
        return Arrival(first)  # down by its own word: what else is answered now means nothing
    if first.redirect is not None:
        return _follow(ctx, first)
    fault = judge(first.properties)
    if fault is None or not fault.certain:
        if state is not None and not first.marks:  # Jira's answer looks the same
            first = replace(first, capabilities=_ask(ctx, first.base + CAPABILITIES))
        if first.marks:
            return Arrival(first)
        other = _relation(first.capabilities) or judge(first.status)
        fault = other if other and other.certain else fault
    return Arrival(None, (_look_around(ctx, first, fault),))


def judge(answer: Answer) -> Fault | None:
    """What is wrong with an answer to a question of the REST API, as far as it can be seen from it
    alone. None if it is Bitbucket's own, or might be anybody's."""
    if answer.failure is not None:
        code = _FAILURES.get(answer.failure)
        return Fault(code, answer, {"what": "those of the answer do not end"}) if code else None
    if fingerprints.header_too_large(answer):
        token = "the token" if answer.credential_sent else "no token"
        what = f"those of a small request, with {token} in it, are answered HTTP {answer.status}"
        return Fault("http-header-too-large", answer, {"what": what})
    own = bool(datacenter.marks(answer))
    if answer.status == 429 and own:
        return Fault("rate-limited", answer)
    if not own and (fault := _judge_stranger(answer)) is not None:
        return fault
    if answer.status != 200 or not answer.body or fingerprints.is_page(answer):
        return None
    if own or answer.content_type == "application/json":
        try:
            json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            return Fault("http-invalid-json", answer, {"said": str(error)})
    return None


def _judge_stranger(answer: Answer) -> Fault | None:
    """The same for an answer without any mark of Bitbucket."""
    if fingerprints.wants_tls(answer) and answer.url.startswith("http:"):
        return Fault("http-on-tls-port", answer)
    if fingerprints.wants_client_certificate(answer):
        return Fault("tls-client-cert-required", answer)
    if fingerprints.limits_rate(answer):
        return Fault("http-gateway-rate-limited", answer, {"before": 0})
    if (seen := fingerprints.recognise(answer)) is not None:
        return Fault(_CODES[seen.kind], answer, {"product": seen.name, "sign": seen.sign})
    target = location(answer)
    if target is not None and fingerprints.login_address(target):
        return Fault("http-sso-login", answer, {"product": "a login page", "sign": target})
    status = answer.status or 0
    if status in _STATUSES:
        return Fault(_STATUSES[status], answer)
    if 400 <= status < 500 and status not in {404, 410}:
        sign = fingerprints.title(answer) or "without a word"
        unnamed = {"product": "a gateway or firewall", "sign": sign}
        return Fault("http-waf-blocked", answer, unnamed, certain=False)
    if status == 200 and fingerprints.is_page(answer):
        sign = fingerprints.title(answer) or "without a title"
        unnamed = {"product": "an unknown page", "sign": sign}
        return Fault("http-block-page", answer, unnamed, certain=False)
    return None


def location(answer: Answer) -> str | None:
    """Where an answer redirects to, absolute and without fragment."""
    target = answer.header("location")
    if answer.status is None or not 300 <= answer.status < 400 or not target:
        return None
    try:
        return urldefrag(urljoin(answer.url, target)).url
    except ValueError:
        return target


def server_time(seen: Visit) -> ServerTime | None:
    """The server's clock, by the answer that came soonest. Not from a cache: that time is old."""
    answers = [a for a in (seen.properties, seen.status) if a.status and "age" not in a.headers]
    for answer in sorted(answers, key=lambda a: a.head_ms):
        told = answer.moment("date")
        if told is None:
            continue
        # It was written at some moment between request and answer, and cut to whole seconds.
        trip = answer.head_ms / 1000
        return ServerTime(told + 0.5, answer.at - trip / 2, 0.5 + trip / 2)
    return None


# asking


def _ask(ctx: Context, url: str, **options: Any) -> Answer:
    return ctx.http.get(url, max_bytes=MAX_BODY, **options)


def _ask_all(ctx: Context, urls: Mapping[str, str], **options: Any) -> dict[str, Answer]:
    """Side by side; who has not answered when the run must end, is late.

    Among other runs one after the other, as long as that goes well: each further connection costs
    as much as all the requests on it.
    """
    left = dict(urls)
    got: dict[str, Answer] = {}
    while left and not ctx.run.alone and all(one.failure is None for one in got.values()):
        key = next(iter(left))
        got[key] = _ask(ctx, left.pop(key), **options)
    got |= ctx.parallel({key: partial(_ask, ctx, url, **options) for key, url in left.items()})
    return {key: got.get(key) or Answer(url, failure="deadline") for key, url in urls.items()}


def _hop(ctx: Context, url: str) -> Answer:
    """Follow a redirect. Its host may be one that no resolver answers for, at least not soon."""
    got = ctx.parallel({url: partial(_ask, ctx, url)}, wait=2 * ctx.timeout + 0.5)
    return got.get(url) or Answer(url, failure="connect", detail="no answer in time")


# looking closer


def _limit(ctx: Context, seen: Visit) -> Fault | None:
    """Where one of the two questions was answered and the other refused on the way: is that a
    limit of requests?

    A limit lets a request through again after a pause, and refuses the next ones at once; or by
    then it refuses what it let through before. A refusal that stays the same is about the path.
    """
    for refused, other in ((seen.status, seen.properties), (seen.properties, seen.status)):
        if refused.status not in {429, 503} or _is_own(refused) or not _is_served(other):
            continue
        fault = Fault("http-gateway-rate-limited", refused, {"before": 1})
        if fingerprints.limits_rate(refused):
            return fault
        time.sleep(min(_RECOVERY, ctx.remaining))
        if not _is_served(_ask(ctx, refused.url)):
            again = _ask(ctx, other.url)
            return fault if again.status == refused.status and not _is_own(again) else None
        at_once = _ask_all(ctx, {"one": refused.url, "two": refused.url})
        return None if all(map(_is_served, at_once.values())) else fault
    return None


def _is_own(answer: Answer) -> bool:
    return bool(datacenter.marks(answer)) or datacenter.state(answer) is not None


def _is_served(answer: Answer) -> bool:
    """Whether Bitbucket answers the question as it does when it is up."""
    return answer.status == 200 and _is_own(answer)


def _relation(answer: Answer | None) -> Fault | None:
    """Another product of Atlassian, by its own word: all of them have /rest/capabilities."""
    body = answer.json() if answer is not None else None
    name = body.get("application") if isinstance(body, Mapping) else None
    if answer is None or not isinstance(name, str) or name in {"stash", "bitbucket"}:
        return None
    told = {"product": name.capitalize(), "sign": f'"application": "{name}"'}
    return Fault("http-other-product", answer, told)


def _look_around(ctx: Context, seen: Visit, fault: Fault | None) -> Fault:
    """The fault, or what turns out to be behind it: asked as a browser, or in other places."""
    looks = {
        "late": partial(_why_late, ctx, seen.properties),
        "beneath": partial(_beneath, ctx, seen),
    }
    found = ctx.parallel(looks)
    if (why := found.get("late") or found.get("beneath")) is not None:
        return why
    if fault is None and seen.properties.failure is not None:
        return _unclear(seen)
    asked: dict[str, Callable[[], Answer]] = {}
    if fault is None or not fault.certain or fault.code in _ELSEWHERE:
        for base in _other_bases(seen.base):
            asked[base] = partial(_ask, ctx, base + PROPERTIES)
        asked["/"] = partial(_front_page, ctx, seen.base + "/")
    if fault is not None and fault.code in _PICKY:
        asked["browser"] = partial(_ask, ctx, seen.properties.url, headers=BROWSER)
    wait = ctx.explaining + seen.properties.elapsed_ms / 1000  # whoever is slow gets more
    answers = ctx.parallel(asked, wait) if asked else {}
    as_browser, front = answers.pop("browser", None), answers.pop("/", None)
    if as_browser is not None and datacenter.marks(as_browser):
        return Fault("http-user-agent-blocked", seen.properties)
    for base, answer in answers.items():
        if datacenter.properties(answer) is not None:
            return Fault("http-context-path-missing", seen.properties, {"right_url": base})
    there = _land(ctx, seen, front, None) if front and datacenter.marks(front) else None
    if there is not None and (elsewhere := _arrived(seen, there, {"location": there.base})):
        return elsewhere[0]
    if fault is not None and fault.certain:
        return fault
    lost = bool(datacenter.marks(seen.properties))  # Bitbucket's own "not found"
    if front is not None and not lost and (page := _judge_front(front)) is not None:
        return page
    return fault or _unclear(seen)


def _why_late(ctx: Context, answer: Answer) -> Fault | None:
    """Why an answer is missing: large packets vanish, or a gateway takes its time to say so."""
    probes: dict[str, Callable[[], Answer | bool | None]] = {
        "swallowed": partial(swallowed, ctx, answer)
    }
    if answer.later is not None:
        probes["later"] = partial(answer.later, min(_LONGER, ctx.remaining))
    found = ctx.parallel(probes, enough=lambda got: bool(got.get("swallowed") or _told(got)))
    if found.get("swallowed"):
        return Fault("tcp-pmtu-blackhole", answer, SWALLOWED)
    return _told(found)


def _told(found: Mapping[str, Answer | bool | None]) -> Fault | None:
    """What the late answer says, if that is certain."""
    later = found.get("later")
    fault = judge(later) if isinstance(later, Answer) and later.failure is None else None
    return fault if fault is not None and fault.certain else None


def swallowed(ctx: Context, answer: Answer) -> bool:
    """Whether an answer that is missing comes at once where both sides send small packets only,
    and with ordinary ones is missing again: then large ones vanish on the way.

    Asks both side by side, unless a proxy is on the way, where it would show nothing.
    """
    if answer.failure not in _MISSING or _by_proxy(ctx, answer.url):
        return False
    patience = net.patience
    ask = partial(ctx.http.get, answer.url, auth=answer.credential_sent, fresh=True)
    probes = {
        "small": partial(ask, small=True, timeout=patience.REPEAT),
        "again": partial(ask, timeout=patience.AGAIN),
    }
    found = ctx.parallel(probes, patience.REPEAT, lambda got: "small" in got and _is_broken(got))
    small, again = found.get("small"), found.get("again")
    if small is None or again is None or small.failure or again.failure not in _MISSING:
        return False
    enough = patience.again(small.elapsed_ms / 1000)
    if enough > patience.AGAIN:
        again = ask(timeout=min(enough, ctx.settings.timeout))
    return again.failure in _MISSING


def _is_broken(found: Mapping[str, Answer]) -> bool:
    return found["small"].failure is not None


def _by_proxy(ctx: Context, url: str) -> bool:
    parts = _split(url)
    place = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return ctx.dialer.tunnelled(*place) or ctx.dialer.forwarder(*place) is not None


def _other_bases(base: str) -> list[str]:
    """Where else on that host Bitbucket may be: above the path that was typed, or below it."""
    parts = urlsplit(base)
    origin = f"{parts.scheme}://{parts.netloc}"
    steps = parts.path.strip("/").split("/") if parts.path else []
    above = ["/" + "/".join(steps[:n]) if n else "" for n in range(len(steps) - 1, -1, -1)]
    paths = dict.fromkeys((*above[:3], *USUAL_CONTEXTS))
    return [origin + path for path in paths if path != parts.path]


def _front_page(ctx: Context, url: str) -> Answer:
    """What a browser would see there."""
    headers = {"Accept": "text/html,application/json;q=0.9,*/*;q=0.8"}
    answer = _ask(ctx, url, headers=headers)
    for _ in range(5):
        target = location(answer)
        if target is None or datacenter.marks(answer) or judge(answer) is not None:
            break
        answer = _ask(ctx, target, headers=headers)
    return answer


def _judge_front(front: Answer) -> Fault | None:
    """What the page for people says about who is there."""
    if datacenter.marks(front):  # people get through to Bitbucket, programs do not
        names = {"product": "a gateway or firewall", "sign": "only the REST API is kept back"}
        return Fault("http-waf-blocked", front, names)
    fault = judge(front)
    return fault if fault is not None and fault.code in _ELSEWHERE else None


def _unclear(seen: Visit) -> Fault:
    answer = seen.properties
    if answer.failure is not None:
        what = f"the request came to nothing ({answer.failure}: {answer.detail})"
    elif datacenter.marks(answer):
        what = f"Bitbucket itself says HTTP {answer.status}: its REST API is not below this URL"
    else:
        what = f"it answers HTTP {answer.status} without any mark of Bitbucket"
    return Fault("http-unclear", answer, {"what": what})


# beneath HTTP, where the user typed http:// and no layer before has looked


def _beneath(ctx: Context, seen: Visit) -> Fault | None:
    """What a port is that does not answer plain HTTP."""
    answer = seen.properties
    place = urlsplit(seen.base)
    host, port = place.hostname or "", place.port or 80
    if place.scheme != "http" or ctx.dialer.forwarder(host, port) is not None:
        return None
    if answer.failure not in {"empty", "reset", "not-http", "timeout"}:
        return None
    if answer.greeting.startswith(b"SSH-"):
        return Fault("tcp-wrong-service-ssh", answer, {"banner": _line(answer.greeting)})
    probes: dict[str, Callable[[], net.tls.Talk | bool | None]] = {
        "tls": partial(_speaks_tls, ctx, host, port),
        "talk": partial(_talk, ctx, host, port),
    }
    with ctx.timed("connect", f"{host} {port}, looking closer"):
        found = ctx.parallel(probes)
    if found.get("tls"):
        return Fault("http-on-tls-port", answer)
    talk = found.get("talk")
    if not isinstance(talk, net.tls.Talk):
        return None
    if talk.greeting.startswith(b"SSH-"):
        return Fault("tcp-wrong-service-ssh", answer, {"banner": _line(talk.greeting)})
    if talk.cut is not None and talk.at_once:
        return Fault(f"tcp-{talk.cut}-after-accept", answer)
    if answer.failure == "timeout" and not (talk.greeting or talk.reply or talk.cut):
        return Fault("tcp-silent-after-accept", answer)
    return None


def _speaks_tls(ctx: Context, host: str, port: int) -> bool:
    try:
        sock = ctx.dialer.connect(host, port, ctx.explaining, fresh=True)
    except OSError:
        return False
    shaken = net.tls.shake(sock, ctx.trust.unverified(), host, ctx.explaining)
    shaken.close()
    return shaken.answered or shaken.alert is not None


def _talk(ctx: Context, host: str, port: int) -> net.tls.Talk | None:
    try:
        sock = ctx.dialer.connect(host, port, ctx.explaining, fresh=True)
    except ConnectionResetError:  # so soon that connect() itself hears of it
        return net.tls.Talk(cut="reset", at_once=True)
    except OSError:
        return None
    return net.tls.talk(sock, _PROBE, min(_PATIENCE, ctx.explaining / 2), ctx.explaining)


def _line(greeting: bytes) -> str:
    return greeting.split(b"\n")[0].decode("latin-1")


# redirects


def _follow(ctx: Context, seen: Visit) -> Arrival:
    """Follow the redirects of the REST API by hand, without secret and without cookies."""
    answer = seen.properties
    hops = [answer.url]
    told: dict[str, Json] = {}
    while (target := location(answer)) is not None:
        told = {"location": target, "hops": list(hops)}
        if target in hops or len(hops) > MAX_HOPS:
            return Arrival(None, (Fault("http-redirect-loop", answer, told),))
        if answer.url.startswith("https:") and target.startswith("http:"):
            return Arrival(None, (Fault("http-downgrade-redirect", answer, told),))
        if (fault := judge(answer)) is not None and fault.certain:
            fault = replace(fault, more={**told, **fault.more})
            return Arrival(None, (_look_around(ctx, seen, fault),))
        hops.append(target)
        answer = _hop(ctx, target)
        if datacenter.marks(answer):
            break  # what Bitbucket itself redirects to, it means for browsers
    told = {"location": hops[-1], "hops": list(hops)}
    if answer.failure == "connect":
        host = _split(hops[-1]).hostname or hops[-1]
        more = {**told, "to_host": host}
        return Arrival(None, (Fault("http-redirect-dead-host", answer, more),))
    fault = judge(answer)
    if (there := _land(ctx, seen, answer, fault)) is not None:
        faults = _arrived(seen, there, told)
        goes_on = all(fault.code == "http-redirects-to-https" for fault in faults)
        return Arrival(there if goes_on else None, faults)
    if seen.marks:
        return Arrival(seen)  # /status is Bitbucket's own
    if fault is None:
        reason = answer.detail or f"HTTP {answer.status}"
        what = f"it redirects to {hops[-1]}, where no Bitbucket was found ({reason})"
        fault = Fault("http-unclear", answer, {"what": what})
    fault = replace(fault, more={**told, **fault.more})
    if _becomes_tls(seen.base, hops[-1]):
        told["right_url"] = hops[-1].removesuffix(PROPERTIES)
        moved = Fault("http-redirects-to-https", seen.properties, told)
        return Arrival(None, (moved, fault))
    return Arrival(None, (fault,))


def _land(ctx: Context, seen: Visit, answer: Answer, fault: Fault | None) -> Visit | None:
    """The Bitbucket at the end of the redirects."""
    if answer.failure is not None:
        return None
    parts = urlsplit(answer.url)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if path.endswith(PROPERTIES):
        base = origin + path.removesuffix(PROPERTIES)
        there = Visit(base, _ask(ctx, base + STATUS), answer)
    elif fault is not None and fault.certain:
        return None
    else:  # the redirect forgot what was asked for
        page = next((page for page in _PAGES if page in path), None)
        base = origin + (path[: path.index(page)] if page else path)
        if base == seen.base:
            return None
        there = visit(ctx, base)
    return there if there.marks else None


def _arrived(seen: Visit, there: Visit, told: Mapping[str, Json]) -> tuple[Fault, ...]:
    """What is wrong with a URL from which redirects lead to Bitbucket at another."""
    old, new = urlsplit(seen.base), urlsplit(there.base)
    if old.hostname != new.hostname or (old.scheme == new.scheme and old.netloc != new.netloc):
        code = "http-redirects-to-other-host"
    elif old.path != new.path:
        code = "http-context-path-missing"
    elif old.scheme != new.scheme:
        code = "http-redirects-to-https"
    else:
        return ()
    return (Fault(code, seen.properties, {**told, "right_url": there.base}),)


def _becomes_tls(old: str, new: str) -> bool:
    one, other = _split(old), _split(new)
    return (one.scheme, other.scheme) == ("http", "https") and one.hostname == other.hostname


def _split(url: str) -> SplitResult:
    """The parts of a URL from the network, all empty if it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
