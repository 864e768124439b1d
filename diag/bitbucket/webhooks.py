"""The webhooks of Bitbucket Data Center, and what it noted down of their deliveries.

The record keeps the last delivery of each outcome. A FAILURE has the HTTP status for a description;
an ERROR one of few sentences, by the cause of the Java exception: for UnknownHostException, for
SocketException (refused, no way, no connection in time), for SSLException, and one for the rest. To
the rest belong an answer that does not come in time, which can be told by how long it took, and
deliveries that Bitbucket left out, because the webhook failed too often: their details name the
class of that exception. The words of Java itself are understood as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from diag.bitbucket import datacenter, listing
from diag.facts import Delivery, Webhook
from diag.record import replace

if TYPE_CHECKING:
    from diag.bitbucket.rights import Ask
    from diag.net.http import Answer

SOCKET_TIMEOUT = 10.0  # seconds that Bitbucket waits for an answer by default
_MOST = 1 << 18  # bytes: details hold the whole of request and answer
_END_OF_DATES = 253_402_300_800_000  # milliseconds: the year 10000
_PUSHED = "repo:refs_changed"
_INSTEAD = {_PUSHED: "mirror:repo_synchronized"}  # for those who build from a mirror
_LOOPBACK = re.compile(r"localhost|.*\.localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0")
_ADDRESS = re.compile(r"(https?://)(?:[^/?#\s]*@)?([^/?#\s]+)\S*")

Reason = Literal[
    "skipped",  # Bitbucket did not even try
    "proxy",  # it asks for a sign-in
    "dns",
    "tls",
    "egress",  # no connection
    "timeout",  # no answer in time
    "not-found",
    "signature",
    "rejected",
    "other",
]
_STATUSES: dict[str, Reason] = {
    "404": "not-found",
    "410": "not-found",
    "407": "proxy",
    "408": "timeout",
    "504": "timeout",
    "401": "rejected",
    "403": "rejected",
}
_WORDS: tuple[tuple[str, Reason], ...] = (  # the first wins
    (r"DispatchFailed|skipping this webhook", "skipped"),
    (r"proxy auth\w* required|\b407\b", "proxy"),
    (r"unknown ?host", "dns"),
    (r"\bSSL|SSL\w*Exception|PKIX|certif", "tls"),
    (r"unable to connect|connect\w* timed out|timeout connecting|ConnectTimeout", "egress"),
    (r"refused|no ?route|unreachable|ConnectException", "egress"),
    (r"read timed out|SocketTimeout|timeout on connection", "timeout"),
)
_SIGNATURE = re.compile(r"signature|hmac", re.IGNORECASE)
_MAY_BE_SIGNATURE = {"400", "401", "403", "422"}


class Shown(NamedTuple):
    """The webhooks of an answer, and whether there are no others."""

    webhooks: tuple[Webhook, ...]
    complete: bool


def read(answer: Answer) -> Shown | None:
    """The webhooks in a page of them, None if it is none."""
    try:
        page = listing.read_page(answer)
    except listing.PageError:
        return None
    found = tuple(filter(None, map(_webhook, page.values)))
    return Shown(found, page.following is None and len(found) == len(page.values))


def of_project(ask: Ask, project: str, slug: str) -> Shown:
    """The webhooks that a repository has from its project. Versions that do not know the question
    have no such webhooks; any other refusal leaves open whether there are some."""
    path = datacenter.webhooks_path(project, slug) + "/search"
    query = {"scopeType": "project", "statistics": "true"}
    answer = ask(path, query, max_bytes=_MOST)
    found = read(answer)
    if found is None:
        return Shown((), answer.status == 404 and bool(datacenter.marks(answer)))
    return Shown(tuple(replace(one, inherited=True) for one in found.webhooks), found.complete)


def _webhook(value: Any) -> Webhook | None:
    if not isinstance(value, Mapping):
        return None
    number, url, events = value.get("id"), value.get("url"), value.get("events")
    if not isinstance(number, int) or not isinstance(url, str) or not isinstance(events, list):
        return None
    statistics = value.get("statistics")
    last = _deliveries(statistics) if isinstance(statistics, Mapping) else ()
    changed = _seconds(value.get("updatedDate", value.get("createdDate")))
    return Webhook(
        id=number,
        url=url,
        receiver=shown(url),
        active=value.get("active") is not False,
        events=tuple(event for event in events if isinstance(event, str)),
        changed=changed or 0.0,
        deliveries=tuple(sorted(last, key=lambda one: one.at, reverse=True)),
    )


def _deliveries(statistics: Mapping[str, Any]) -> Iterator[Delivery]:
    for name in ("lastSuccess", "lastFailure", "lastError"):
        entry = statistics.get(name)
        result = entry.get("result") if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(result, Mapping):
            continue
        at, outcome = _seconds(entry.get("finish", entry.get("start"))), result.get("outcome")
        if at is not None and outcome in ("SUCCESS", "FAILURE", "ERROR"):
            said = without_addresses(str(result.get("description") or ""))
            yield Delivery(outcome, at, said, _seconds(entry.get("duration")))


def _seconds(value: Any) -> float | None:
    """Out of milliseconds; None where there are none, or more than any date has."""
    return value / 1000 if isinstance(value, int) and 0 <= value < _END_OF_DATES else None


def shown(url: str) -> str:
    """What may be shown of a webhook's address: paths, parameters and names hold tokens."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{netloc}" if netloc else "an address that is none"


def without_addresses(text: str) -> str:
    """`text` with what may be shown of the addresses in it."""
    return _ADDRESS.sub(r"\1\2", text)


def fits(url: str, patterns: Iterable[str]) -> bool:
    """Whether a webhook's address is one of those; "*" in the host of a pattern ends with it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    usual = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    host = parts.netloc.rpartition("@")[2].removesuffix(usual)
    plain = f"{parts.scheme}://{host}{parts.path}{'?' + parts.query if parts.query else ''}"
    return any(re.fullmatch(_expression(pattern), plain, re.IGNORECASE) for pattern in patterns)


def _expression(pattern: str) -> str:
    scheme, mark, rest = pattern.rpartition("://")
    host, slash, path = rest.partition("/") if mark else ("", "", rest)
    inside = re.escape(host).replace(r"\*", r"[^/?#]*")
    return re.escape(scheme + mark) + inside + slash + re.escape(path).replace(r"\*", ".*")


def leads_back(webhook: Webhook) -> bool:
    """Whether the address is the loopback: Bitbucket would call itself."""
    try:
        host = urlsplit(webhook.url).hostname or ""
    except ValueError:
        return False
    return _LOOPBACK.fullmatch(host) is not None


def lacking(webhooks: Iterable[Webhook], events: Iterable[str]) -> list[str]:
    """The events that none of the webhooks tells of."""
    told = {event for one in webhooks for event in one.events}
    return [event for event in events if not told & {event, _INSTEAD.get(event, event)}]


def tells_of_pushes(webhook: Webhook) -> bool:
    return webhook.active and not lacking([webhook], [_PUSHED])


def details(ask: Ask, project: str, slug: str, webhook: Webhook, delivery: Delivery) -> str:
    """The words in the details of the last delivery of that outcome: the answer's body, or the
    exception. They are for `reason` to search, and never to be shown."""
    path = datacenter.webhook_path(project, slug, webhook.id) + "/latest"
    body = ask(path, {"outcome": delivery.outcome}, max_bytes=_MOST).json()
    result = body.get("result") if isinstance(body, Mapping) else None
    texts = result.values() if isinstance(result, Mapping) else ()
    return " ".join(text for text in texts if isinstance(text, str))


def reason(delivery: Delivery, more: str = "") -> Reason:
    """Why a delivery failed; `more` is what `details` found."""
    if delivery.outcome == "FAILURE":
        if delivery.said in _MAY_BE_SIGNATURE and _SIGNATURE.search(more):
            return "signature"
        return _STATUSES.get(delivery.said, "other")
    text = f"{delivery.said} {more}"
    for pattern, meaning in _WORDS:
        if re.search(pattern, text, re.IGNORECASE):
            return meaning
    waited = delivery.lasted is not None and delivery.lasted >= 0.95 * SOCKET_TIMEOUT
    return "timeout" if waited else "other"
