"""Runs cases side by side: most of the time one of them waits for an answer that will not come."""

from __future__ import annotations

import subprocess
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.gallery.case import Call
from tests.gallery.town import Result, Town
from tests.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gallery.case import Case

SIDE_BY_SIDE = 6

Peer = Callable[[Town, Call], str]


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    result: Result | None = None  # None: it could not be built, or the report breaks the contract
    error: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)  # what other programs said, by name

    @property
    def seconds(self) -> float:
        """How long the run took, by its own report; in a comparison, the longest."""
        runs = () if self.result is None else (self.result.runs or (self.result,))
        return max((run.report["run"]["duration_ms"] / 1000 for run in runs), default=0.0)

    @property
    def wrong(self) -> str:
        """What is not as the case wants it; empty if all is."""
        case, result = self.case, self.result
        if result is None:
            return self.error
        codes = result.codes
        first = codes[0] if codes else None
        if first != case.root and not (case.is_healthy and first in case.also):
            return f"{first} instead of {case.root}; all of it: {codes}\n{result.text}"
        missing = [code for code in case.seen if code not in codes]
        more = set(codes) - {case.root, *case.seen} - case.also
        if missing or more:
            return f"not told: {missing}, told beyond need: {sorted(more)}\n{result.text}"
        if case.is_healthy and (result.status != 0 or not 0 < result.requests <= case.requests):
            return f"exit status {result.status}, {result.requests} requests\n{result.text}"
        problems = result.report["problems"][:1]
        texts = [one[part] for one in problems for part in ("message", "remedy")]
        silent = [one for one in case.told if not any(one in text for text in texts)]
        return f"{silent} is not in {texts}" if silent else ""


@contextmanager
def town() -> Iterator[Town]:
    """A lab of its own to build a Bitbucket in."""
    with Lab() as lab, ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="town-"))
        Path(directory).chmod(0o755)  # for squid, which becomes somebody else
        yield Town(lab, Path(directory), stack)


def run(case: Case, peers: Mapping[str, Peer]) -> Outcome:
    """Build a case, run bbdiag there, and the other programs after it."""
    try:
        with town() as built:
            calls = case.build(built)
            result = built.answer(calls)
            first = calls if isinstance(calls, Call) else calls[0] if calls else Call()
            said = {name: _said(peer, built, first) for name, peer in peers.items()}
            return Outcome(case, result, "", said)
    except Exception:  # the test of this case is to fail, not that of another one
        return Outcome(case, error=traceback.format_exc())


def _said(peer: Peer, built: Town, call: Call) -> str:
    try:
        said = peer(built, call)
        for secret in filter(None, (built.token, *built.secrets)):
            said = said.replace(secret.strip(), "SECRET")
        return said
    except subprocess.TimeoutExpired as error:
        return f"still running after {error.timeout:.0f} s"


class Gallery:
    """The cases that are to be run, each once, as many at a time as `side_by_side`."""

    def __init__(
        self,
        cases: Sequence[Case],
        peers: Callable[[Case], Mapping[str, Peer]],
        side_by_side: int = SIDE_BY_SIDE,
    ) -> None:
        self._pool = ThreadPoolExecutor(side_by_side)
        self._futures: dict[str, Future[Outcome]] = {
            case.id: self._pool.submit(run, case, peers(case)) for case in cases
        }

    def outcome(self, id_: str) -> Outcome:
        """What came of a case; waits for its end."""
        return self._futures[id_].result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
