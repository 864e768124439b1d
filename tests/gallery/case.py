"""What the gallery is made of: one fault, or one healthy shape, with the way to bring it about.

A case is a function that builds something in a `Town`, with a line of data for each case it can
build. Its id begins with the row of the fault table that it stands for; cases of one row are told
apart by a word after it ("T02-ipv6").

    TCP = Family("tcp", "TCP: firewalls, routes and ports")

    @TCP.fault("T02", "tcp-filtered", "a router drops the packets", rule="tcp dport 443 drop")
    @TCP.fault("T03", "tcp-admin-prohibited", "…", rule="tcp dport 443 reject with …")
    def firewall(town: Town, rule: str) -> None:
        town.healthy()
        town.lab.rules("router", "forward", rule)

    TCP.near_miss("no answer", "T02", "T11")

What the function returns says how the person calls bbdiag; nothing means `bbdiag check` of the
usual URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias

if TYPE_CHECKING:
    from tests.gallery.town import Town
    from tests.lab import Place

P = ParamSpec("P")

HOST = "bb.lab.test"
URL = f"https://{HOST}"
REPO = "MOB/app"
REQUESTS = 12  # of a run where all is well, unless more are asked for
ORDER = (  # of the families: the way a connection goes
    "input",
    "dns",
    "tcp",
    "proxy",
    "tls",
    "http",
    "bitbucket",
    "cloud",
    "compare",
    "healthy",
)


@dataclass(frozen=True)
class Call:
    """How bbdiag is called, and what other programs are given in its place."""

    url: str = URL
    options: tuple[str, ...] = ()
    place: Place = "client"
    repo: str | None = REPO
    ca_file: Path | None = None  # None: that of the town's CA
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # a program to run it under, faketime
    probe: str | None = None  # what one would give to curl; None: the listing below `url`

    @property
    def asked(self) -> str:
        """The URL that somebody without bbdiag would try."""
        return self.probe or f"{self.url.rstrip('/')}/rest/api/1.0/repos"


# Several calls: the command runs once in each place, and `bbdiag compare` tells the rest.
Built: TypeAlias = "Call | Sequence[Call] | None"


@dataclass(frozen=True)
class Case:
    """One entry of the gallery."""

    id: str
    title: str
    build: Callable[[Town], Built]
    root: str | None  # the root cause that must be named; None: all is well
    also: frozenset[str] = frozenset()  # what may be told besides
    seen: tuple[str, ...] = ()  # what must be told besides: the other fault of two
    told: tuple[str, ...] = ()  # texts that the message or the remedy must hold
    excuse: str = ""  # why something else than `root` is expected: then nothing is asserted of it
    requests: int = REQUESTS  # the most that may be sent where all is well

    @property
    def row(self) -> str:
        """The row of the fault table."""
        return re.split(r"[-+]", self.id, maxsplit=1)[0]

    @property
    def is_healthy(self) -> bool:
        return self.root is None

    @property
    def is_double(self) -> bool:
        return bool(self.seen)


@dataclass(frozen=True)
class NearMiss:
    """Two faults that look the same to curl, and have different causes."""

    symptom: str
    one: str
    other: str


class Family:
    """The cases of one layer: the name of its module, and the heading of its chapter."""

    def __init__(self, name: str, heading: str) -> None:
        self.name = name
        self.heading = heading
        self.near_misses: list[NearMiss] = []
        self._cases: list[Case] = []

    @property
    def cases(self) -> list[Case]:
        return sorted(self._cases, key=lambda case: (case.is_healthy, _natural(case.id)))

    def fault(
        self,
        id_: str,
        root: str,
        title: str,
        *,
        also: Iterable[str] = (),
        seen: Iterable[str] = (),
        told: Iterable[str] = (),
        excuse: str = "",
        **arguments: Any,
    ) -> Callable[[Callable[Concatenate[Town, P], Built]], Callable[Concatenate[Town, P], Built]]:
        """Declare a fault that the decorated function brings about, called with `arguments`.

        `also`: codes that may be reported besides the root cause; `seen`: codes that must be (a
        double fault); `told`: texts that must be found in message or remedy of the root cause.
        """

        def declare(
            build: Callable[Concatenate[Town, P], Built],
        ) -> Callable[Concatenate[Town, P], Built]:
            self._cases.append(
                Case(
                    id_,
                    title,
                    partial(build, **arguments),
                    root,
                    frozenset(also),
                    tuple(seen),
                    tuple(told),
                    excuse,
                )
            )
            return build

        return declare

    def healthy(
        self,
        id_: str,
        title: str,
        *,
        deserved: Iterable[str] = (),
        requests: int = REQUESTS,
        **arguments: Any,
    ) -> Callable[[Callable[Concatenate[Town, P], Built]], Callable[Concatenate[Town, P], Built]]:
        """Declare a shape that is in order; `deserved`: warnings that are true all the same;
        `requests`: how many may be sent at most."""

        def declare(
            build: Callable[Concatenate[Town, P], Built],
        ) -> Callable[Concatenate[Town, P], Built]:
            made = partial(build, **arguments)
            case = Case(f"ok-{id_}", title, made, None, frozenset(deserved), requests=requests)
            self._cases.append(case)
            return build

        return declare

    def near_miss(self, symptom: str, one: str, other: str) -> None:
        """Declare that two cases, of whichever family, show curl the same."""
        self.near_misses.append(NearMiss(symptom, one, other))


def families() -> list[Family]:
    """All families, in the order of the layers.

    Raises:
        ValueError: an id is there twice, or a near miss names a case that is not there.
    """
    found: list[Family] = []
    for file in (Path(__file__).parent / "faults").glob("*.py"):
        module = import_module(f"tests.gallery.faults.{file.stem}")
        found += [one for one in vars(module).values() if isinstance(one, Family)]
    found.sort(key=lambda family: ORDER.index(family.name))
    ids = [case.id for family in found for case in family.cases]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    strangers = [
        one
        for family in found
        for pair in family.near_misses
        for one in (pair.one, pair.other)
        if one not in ids
    ]
    if twice or strangers:
        raise ValueError(f"ids that are there twice: {twice}, or not at all: {strangers}")
    return found


def _natural(text: str) -> list[tuple[str, int]]:
    """For sorting: T9 before T10."""
    return [(word, int(part or 0)) for word, part in re.findall(r"(\D+)(\d*)", text)]
