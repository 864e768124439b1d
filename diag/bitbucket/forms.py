"""The form that JSON values have in common, as a regular expression for others of that form.

A server writes thousands of values in the same way: the same members, in the same order, without
blanks. An expression learned from some that were read in full goes over text several times as fast
as a JSON parser does. What it matches is JSON of that form, but for what stands inside strings and
numbers, which is not checked.

An escaped quote never passes for the end of its string. The quote that comes next would be taken
for one that opens, and closes; behind it stands a comma, a colon or a bracket, where the expression
wants a member's name, or the text ends in the middle of a string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diag.model import Json

_SCALARS = {str: rb'"[^"]*+"', int: rb"-?+\d++", type(None): b"null"}
_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


class FormError(ValueError):
    """Nothing can be learned from a value, or not together with what is known."""


@dataclass(frozen=True, slots=True)
class Form:
    """What some JSON values have in common: each is one of these scalars, or an object with these
    members, or an array of such elements."""

    scalars: frozenset[bytes] = frozenset()  # regular expressions
    members: Mapping[str, Form] | None = None  # in their order
    always: frozenset[str] = frozenset()  # the members that none of the objects lacks
    element: Form | None = None

    @classmethod
    def of(cls, value: Json) -> Form:
        """The form of one value. Raises FormError."""
        if isinstance(value, bool):
            return cls(frozenset([b"true" if value else b"false"]))
        if isinstance(value, Mapping):
            if not all(map(_NAME.fullmatch, value)):
                raise FormError("a member has a name out of the ordinary")
            members = {name: cls.of(one) for name, one in value.items()}
            return cls(members=members, always=frozenset(members))
        if isinstance(value, list):
            return cls(element=reduce(or_, map(cls.of, value), cls()))
        if type(value) not in _SCALARS:
            raise FormError("a number out of the ordinary")
        return cls(frozenset([_SCALARS[type(value)]]))

    @classmethod
    def text(cls, pattern: str) -> Form:
        """Strings that are spelt like this."""
        return cls(frozenset([f'"{pattern}"'.encode()]))

    @classmethod
    def row(cls, elements: Sequence[Form]) -> Form:
        """Arrays of so many elements, each of its own form."""
        return cls(frozenset([rb"\[%b\]" % b",".join(one.pattern() for one in elements)]))

    def having(self, members: Mapping[str, Form]) -> Form:
        """The same object with other forms of these members, if it has them."""
        old = self.members or {}
        return replace(self, members={name: members.get(name, one) for name, one in old.items()})

    def __or__(self, other: Form) -> Form:
        """The form of what has either. Raises FormError: their members contradict each other."""
        scalars = self.scalars | other.scalars
        elements = [one.element for one in (self, other) if one.element is not None]
        element = reduce(or_, elements) if elements else None
        if self.members is None or other.members is None:
            one = other if self.members is None else self
            return Form(scalars, one.members, one.always, element)
        both = self.members, other.members
        members = {
            name: reduce(or_, [one[name] for one in both if name in one])
            for name in _in_one_order(list(self.members), list(other.members))
        }
        return Form(scalars, members, self.always & other.always, element)

    def pattern(self) -> bytes:
        """The regular expression; it never goes back over text that it has passed, but for a member
        that may be missing. Raises FormError."""
        ways = sorted(self.scalars)
        if self.members is not None:
            ways.append(rb"\{%b\}" % b"".join(self._members(self.members)))
        if self.element is not None:
            one = self.element.pattern()
            ways.append(rb"\[(?:%b(?:,(?!\])|(?=\])))*+\]" % one if one else rb"\[\]")
        return ways[0] if len(ways) == 1 else b"(?:%b)" % b"|".join(ways) if ways else b""

    def _members(self, members: Mapping[str, Form]) -> Iterator[bytes]:
        """The first one has to be there always: the others bring their commas."""
        comma = b""
        for name, one in members.items():
            text = b'%b"%b":%b' % (comma, name.encode(), one.pattern())
            if not comma and name not in self.always:
                raise FormError("the first member is missing at times")
            yield text if name in self.always else b"(?:%b)?+" % text
            comma = b","


def _in_one_order(old: Sequence[str], new: Sequence[str]) -> list[str]:
    order, at = list(old), 0
    for name in new:
        if name not in order:
            order.insert(at, name)
        elif order.index(name) < at:
            raise FormError("members change places")
        at = order.index(name) + 1
    return order
