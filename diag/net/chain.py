"""What a server must send: certificates in order, from its own up to the one below the root.

Nothing here asks the network or decides what is trusted. `entries` works on names and bytes alone,
for the healthy run; the walks follow signatures and key identifiers, not names only: a CA that was
given a new key keeps its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from diag.net import der

if TYPE_CHECKING:
    from diag.model import Json
    from diag.net.x509 import Certificate

_DEEPEST, _MOST = 8, 16  # certificates in a way, and ways, that are looked at
_ROOT = "a root: clients have their own"
_HAS_OTHER_KEY = "the name fits, but it has another key"
_SHOWN = 16  # hexadecimal digits of a fingerprint that stand in a text; the evidence has all

Entry = dict[str, "str | None"]


# in order?


def is_tidy(sent: Sequence[bytes], built: Sequence[bytes]) -> bool:
    """Whether a server sends what it should and no more: each certificate followed by its issuer's,
    without the root. `built` is the chain that was verified; empty if that is not known."""
    try:
        if sent[1:] and _is_root(sent[-1]):
            return False
        if sent == built[: len(sent)]:
            return True
        return all(der.names(one)[0] == der.names(other)[1] for one, other in pairwise(sent))
    except (IndexError, ValueError):  # OpenSSL reads more than DER: of that nothing is claimed
        return True


def entries(
    sent: Sequence[bytes],
    way: Sequence[bytes],
    sources: Mapping[bytes, str] | None = None,
    *,
    namesakes: Collection[bytes] = (),
    late: Mapping[bytes, str | None] | None = None,
) -> list[Entry]:
    """What is to be sent, in order, and after that what is to be left out, with the reason.

    Args:
        sent: what the server sends, as DER.
        way: leaf first, up to the root or as far as it is known.
        sources: where certificates of the way that are missing were found.
        namesakes: sent ones that have the name of an issuer, but another key.
        late: expired ones of the way, and where their successors can be had.
    """
    late = late or {}
    wanted = [one for place, one in enumerate(way) if place == 0 or not _is_root(one)]
    known = {(der.names(one)[1], der.key(one)) for one in way}
    named = {subject for subject, _ in known}
    others = [one for one in sent if one not in (*wanted, *namesakes) and not _is_root(one)]
    for one in others:  # for clients that go another way up: cross-signed, or to another root
        issuers_issuer, _ = der.names(wanted[-1])
        subject = der.names(one)[1]
        if (subject, der.key(one)) in known or subject == issuers_issuer:
            wanted.append(one)
    result = [
        gap(der.describe(one)["subject"], late[one])
        if one in late
        else _entry(one, "send" if one in sent else "missing", source=(sources or {}).get(one))
        for one in wanted
    ]
    seen: set[bytes] = set()
    for one in sent:
        why = None
        if one in seen:
            why = "it is there twice"
        elif one in late:
            why = "it has expired"
        elif one not in wanted:
            misleads = one in namesakes or (one not in way and der.names(one)[1] in named)
            belongs = one in way or (der.names(wanted[-1])[0] == der.names(one)[1])
            why = _HAS_OTHER_KEY if misleads else _ROOT if belongs else "foreign"
        if why is not None:
            result.append(_entry(one, "leave out", why=why))
        seen.add(one)
    return result


def gap(issuer: str | None, source: str | None) -> Entry:
    """The entry for a certificate of which only the name is known."""
    nothing = dict.fromkeys(("subject", "issuer", "sha256", "not_before", "not_after"))
    return {**nothing, "subject": issuer, "state": "missing", "from": source}


def disorder(sent: Sequence[bytes], told: Sequence[Entry]) -> str | None:
    """What is wrong with what is sent, in words; None if it is merely incomplete or all right."""
    found = []
    order = [one["sha256"] for one in told if one["state"] == "send"]
    as_sent = [print_ for print_ in map(der.fingerprint, sent) if print_ in order]
    if list(dict.fromkeys(as_sent)) != order:
        found.append("not in the order in which each is followed by its issuer")
    if surplus := [one for one in told if one["state"] == "leave out"]:
        found.append("with " + ", ".join(f"{name(one)} ({one['why']})" for one in surplus))
    return " and ".join(found) or None


def untidy(sent: Sequence[bytes], way: Sequence[bytes]) -> dict[str, Json] | None:
    """What a server sends beside what it should, or in another order, as evidence; None if it does
    not. `way` as for `entries`."""
    if not way or is_tidy(sent, way):
        return None
    told = entries(sent, way)
    found = disorder(sent, told)
    return None if found is None else {"disorder": found, "must_send": told}


def name(entry: Mapping[str, str | None]) -> str:
    """The common name of an entry's certificate, or all of its subject."""
    subject = entry["subject"] or "a certificate without a name"
    parts = [part[3:] for part in subject.split(",") if part.startswith("CN=")]
    return parts[0] if parts else subject


def lines(told: Sequence[Entry]) -> list[str]:
    """The entries for people, numbered as they are to be sent."""
    result, number = [], 0
    for one in told:
        print_ = f", SHA-256 {one['sha256'][:_SHOWN]}…" if one["sha256"] else ""
        if one["state"] == "leave out":
            result.append(f"-  {name(one)}: leave it out ({one['why']})")
            continue
        number += 1
        state = "is sent"
        if one["state"] == "missing":
            place = f", get it from {one['from']}" if one["from"] else ", get it from the CA"
            state = f"MISSING{place}"
        result.append(f"{number}. {name(one)}{print_}: {state}")
    return result


def ca(told: Mapping[str, str | None]) -> str:
    """A CA that is to be trusted, for people."""
    if told["sha256"] is None:
        place = f" (see {told['from']})" if told["from"] else ""
        return f"the certificate of {name(told)}{place}"
    return f"the certificate of {name(told)}, SHA-256 {told['sha256']},"


def _entry(one: bytes, state: str, *, source: str | None = None, why: str | None = None) -> Entry:
    result: Entry = {**der.describe(one), "state": state}
    if state == "missing":
        result["from"] = source
    if why is not None:
        result["why"] = why
    return result


def _is_root(certificate: bytes) -> bool:
    return len(set(der.names(certificate))) == 1


# the walk


def ways(chain: Sequence[Certificate]) -> list[list[Certificate]]:
    """Every way from the first certificate up, as far as `chain` holds the issuers, whatever its
    order and extras. More than one where a CA is cross-signed."""
    found: list[list[Certificate]] = []
    open_ = [list(chain[:1])] if chain else []
    while open_ and len(found) < _MOST:
        way = open_.pop(0)
        top = way[-1]
        above = [
            one
            for one in dict.fromkeys(chain)
            if one not in way and len(way) < _DEEPEST and top.issued_by(one)
        ]
        if top.self_issued or not above:
            found.append(way)
        else:
            open_ = [*open_, *([*way, one] for one in above)][:_MOST]
    return found


def path(chain: Sequence[Certificate], now: datetime) -> list[Certificate]:
    """The best of these ways: valid now, up to a root, and the longest."""

    def worth(way: list[Certificate]) -> tuple[bool, bool, int]:
        return all(one.valid_at(now) for one in way[1:]), way[-1].self_issued, len(way)

    return max(ways(chain), key=worth, default=[])


def namesakes(top: Certificate, others: Iterable[Certificate]) -> list[Certificate]:
    """Those that have the name of the issuer of `top`, but not the key that signed it."""
    return [one for one in others if one.named_as_issuer_of(top) and not top.issued_by(one)]


def describe_ways(found: Sequence[Sequence[Certificate]], now: datetime) -> list[Json]:
    """Ways as evidence: names from the server's certificate up, and where each ends or breaks."""
    result: list[Json] = []
    for way in found:
        late = next((one for one in way[1:] if not one.valid_at(now)), None)
        end = way[-1].short if way[-1].self_issued else f"{way[-1].issuer_short}, which is not sent"
        ending = f"{late.short} is not valid now" if late else f"it leads to {end}"
        result.append({"names": [one.short for one in way], "ends": ending})
    return result
