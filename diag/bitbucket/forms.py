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
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from operator import or_
from typing import TYPE_CHECKING

from diag.record import field, record, replace

if TYPE_CHECKING:
    from diag.model import Json

_SCALARS = {str: rb'"[^"]*+"', int: rb"-?+\d++", type(None): b"null"}
_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


class FormError(ValueError):
    """Nothing can be learned from a value, or not together with what is known."""


@record
class Form:
    """What some JSON values have in common: each is one of these scalars, or an object with these
    members, or an array of such elements."""

    scalars: frozenset[bytes] = frozenset()  # regular expressions
    members: Mapping[str, Form] = field(default_factory=dict)
    orders: frozenset[tuple[str, ...]] = frozenset()  # in which objects had them, or some of them
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
            return cls(members=members, orders=frozenset([tuple(members)]))
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
        own = {name: members.get(name, one) for name, one in self.members.items()}
        return replace(self, members=own)

    def __or__(self, other: Form) -> Form:
        """The form of what has either."""
        elements = [one.element for one in (self, other) if one.element is not None]
        members = dict(self.members)
        for name, one in other.members.items():
            members[name] = members[name] | one if name in members else one
        return Form(
            self.scalars | other.scalars,
            members,
            self.orders | other.orders,
            reduce(or_, elements) if elements else None,
        )

    def pattern(self) -> bytes:
        """The regular expression. It goes over text once, but for members that may be missing.

        Groups are atomic, and not repeated possessively: Python before 3.11.5 then finds no match.

        Raises:
            FormError: there is no order that the members always keep to.
        """
        ways = sorted(self.scalars)
        if self.orders:
            ways.append(rb"\{%b\}" % b"".join(self._in_order()))
        if self.element is not None:
            one = self.element.pattern()
            ways.append(rb"\[(?>(?:%b(?:,(?!\])|(?=\])))*)\]" % one if one else rb"\[\]")
        return ways[0] if len(ways) == 1 else b"(?:%b)" % b"|".join(ways) if ways else b""

    def _in_order(self) -> Iterator[bytes]:
        """The members. The first is always there, as each of the others brings its comma."""
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for order in sorted(self.orders):
            for before, name in pairwise(["", *order]):
                sorter.add(name, before)
        try:
            _, *names = sorter.static_order() if self.members else [""]
        except CycleError:
            raise FormError("members change places") from None
        if any(order[:1] != tuple(names[:1]) for order in self.orders):
            raise FormError("the first member is missing at times")
        always = frozenset.intersection(*map(frozenset, self.orders))
        for name in names:
            comma = b"," if name != names[0] else b""
            text = b'%b"%b":%b' % (comma, name.encode(), self.members[name].pattern())
            yield text if name in always else b"(?>(?:%b)?)" % text
