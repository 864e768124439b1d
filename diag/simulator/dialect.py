"""What any dialect of Bitbucket is built from: a table of resources, refusals, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from diag.simulator.server import Response

if TYPE_CHECKING:
    from diag.simulator.server import Request

H = TypeVar("H")

READING = frozenset({"GET", "HEAD"})


class RefusedError(Exception):
    """An answer that ends the handling of a request."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


@dataclass(frozen=True, slots=True)
class Route(Generic[H]):
    """One resource: its path, the query parameters it takes ("x.*": any that begins so)."""

    pattern: re.Pattern[str]
    parameters: frozenset[str]
    known: bool
    handler: H

    def takes(self, parameter: str) -> bool:
        return bool(self.parameters & {parameter, parameter.partition(".")[0] + ".*"})


class Routes(Generic[H]):
    """The resources of a dialect; all of them are for GET and HEAD."""

    def __init__(self) -> None:
        self._routes: list[Route[H]] = []

    def at(self, *paths: str, parameters: str = "", known: bool = True) -> Callable[[H], H]:
        """Register a handler. `{v}` is latest or 1.0, any other name matches one part of a path.

        `known=False` is for what exists, but is not to be used.
        """

        def register(handler: H) -> H:
            for path in paths:
                pattern = re.escape(path).replace(r"\{v\}", r"(?:latest|1\.0)")
                pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
                names = frozenset(parameters.split())
                self._routes.append(Route(re.compile(pattern), names, known, handler))
            return handler

        return register

    def find(self, path: str) -> tuple[Route[H], Mapping[str, str]] | None:
        """The resource at a path, and what the names in its path stand for."""
        for route in self._routes:
            if match := route.pattern.fullmatch(path):
                return route, match.groupdict()
        return None

    def know(self, path: str, request: Request) -> bool:
        """Whether this path, method and every parameter exist."""
        found = self.find(path)
        if found is None or request.method not in READING:
            return False
        route, _ = found
        return route.known and all(route.takes(name) for name, _ in request.parameters)


def as_json(status: int, value: object, *headers: tuple[str, str]) -> Response:
    """An answer as the REST resources of Bitbucket write it: compact, and chunked."""
    body = json.dumps(value, separators=(",", ":")).encode()
    kind = ("Content-Type", "application/json;charset=UTF-8")
    return Response(status, [kind, *headers], body, chunked=True)
