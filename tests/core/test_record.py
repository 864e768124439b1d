"""Records behave as the frozen dataclasses that they are declared like."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar, cast

import pytest

from diag import record


@record.record
class Point:
    """Two numbers."""

    x: int
    y: int = 2
    tags: list[str] = record.field(default_factory=list, compare=False)
    hidden: str = record.field(default="h", repr=False)
    kind: ClassVar[str] = "point"

    @property
    def total(self) -> int:
        return self.x + self.y


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    x: int
    y: int = 2
    tags: list[str] = dataclasses.field(default_factory=list, compare=False)
    hidden: str = dataclasses.field(default="h", repr=False)


@record.record
class Place(Point):
    z: int = 3


def test_made_shown_and_compared_as_a_dataclass_is() -> None:
    point, reference = Point(1, tags=["a"]), Reference(1, tags=["a"])
    assert repr(point) == repr(reference).replace("Reference", "Point")
    assert (point.total, Point.kind, point.hidden) == (3, "point", "h")
    assert point == Point(1, tags=["other"]) != Point(2)
    assert point != cast("object", reference)
    assert hash(point) == hash(Point(1))
    assert Point(1).tags is not Point(1).tags
    assert not hasattr(point, "__dict__")
    assert Point.__doc__ == "Two numbers."
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize("wrong", [{}, {"x": 1, "z": 2}, {"y": 1}])
def test_made_wrongly(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"Point\.__init__"):
        Point(**wrong)


def test_cannot_be_changed() -> None:
    point: Any = Point(1)
    with pytest.raises(AttributeError, match="Point is immutable: x"):
        point.x = 2
    with pytest.raises(AttributeError, match="Point is immutable: x"):
        del point.x
    with pytest.raises(AttributeError):
        point.other = 1


def test_with_other_values_and_copied() -> None:
    point = Point(1, 5, ["a"])
    other = record.replace(point, y=6)
    assert record.values(other) == {"x": 1, "y": 6, "tags": ["a"], "hidden": "h"}
    assert copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    with pytest.raises(TypeError):
        record.replace(point, z=1)


def test_inherited_fields_come_first() -> None:
    place = Place(1, z=7)
    assert record.values(place) == {"x": 1, "y": 2, "tags": [], "hidden": "h", "z": 7}
    assert place.total == 3
    assert repr(place) == "Place(x=1, y=2, tags=[], z=7)"
