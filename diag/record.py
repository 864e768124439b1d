"""Immutable records, declared as dataclasses are, for a fifth of the time at import.

`dataclasses` writes, compiles and runs the source of half a dozen methods for each class: some 0.5
ms of CPU time, with a hundred of them as long as all else that is loaded before the first packet
leaves. Here all classes share those methods, and `__init__` is compiled when it is first called.
Type checkers read the declarations as they read those of dataclasses (PEP 681).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, cast, dataclass_transform, overload

T = TypeVar("T")

_MISSING: Any = object()
_set = object.__setattr__


class _Field:
    """What `field` declares."""

    __slots__ = ("compared", "default", "factory", "shown")

    def __init__(
        self,
        default: Any,
        factory: Callable[[], Any] | None = None,
        *,
        shown: bool = True,
        compared: bool = True,
    ) -> None:
        self.default = default
        self.factory = factory
        self.shown = shown
        self.compared = compared


@overload
def field(*, default_factory: Callable[[], T], repr: bool = ..., compare: bool = ...) -> T: ...
@overload
def field(*, default: T, repr: bool = ..., compare: bool = ...) -> T: ...
@overload
def field(*, repr: bool = ..., compare: bool = ...) -> Any: ...
def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    repr: bool = True,  # noqa: A002 - as dataclasses call it
    compare: bool = True,
) -> Any:
    """A field with a default that is made anew each time, or that is not shown or compared."""
    return _Field(default, default_factory, shown=repr, compared=compare)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make an immutable record with slots of a class whose annotations are its fields."""
    body = dict(cls.__dict__)
    fields: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        fields |= base.__dict__.get("__fields__", {})
    own = [
        name
        for name, kind in body.get("__annotations__", {}).items()
        if not str(kind).startswith("ClassVar")
    ]
    for name in own:
        default = body.pop(name, _MISSING)
        known = isinstance(default, _Field)
        fields[name] = default if known else _Field(default)
    body.pop("__dict__", None)
    body.pop("__weakref__", None)
    body |= {"__slots__": tuple(own), "__fields__": fields, "__match_args__": tuple(fields)}
    body |= {"__init__": _first_init, "__setattr__": _frozen, "__delattr__": _frozen}
    for name, method in _METHODS.items():
        body.setdefault(name, method)
    made: Any = type(cls)
    return cast("type[T]", made(cls.__name__, cls.__bases__, body))


def values(instance: Any) -> dict[str, Any]:
    """The fields of a record and what they hold."""
    return {name: getattr(instance, name) for name in instance.__fields__}


def replace(instance: T, /, **changes: Any) -> T:
    """The same record with other values in some fields."""
    return type(instance)(**{**values(instance), **changes})


def _first_init(self: Any, /, *args: Any, **kwargs: Any) -> None:
    """Compile the real one, and put it in this one's place."""
    cls = next(one for one in type(self).__mro__ if "__fields__" in one.__dict__)
    init = _compile(cls)
    type.__setattr__(cls, "__init__", init)
    init(self, *args, **kwargs)


def _compile(cls: Any) -> Callable[..., None]:
    names: dict[str, Any] = {"_set": _set, "_missing": _MISSING}
    parameters, lines = [], []
    for name, one in cls.__fields__.items():
        parameter, value = name, name
        if one.factory is not None:
            names[f"_new_{name}"] = one.factory
            parameter = f"{name}=_missing"
            value = f"_new_{name}() if {name} is _missing else {name}"
        elif one.default is not _MISSING:
            names[f"_default_{name}"] = one.default
            parameter = f"{name}=_default_{name}"
        parameters.append(parameter)
        lines.append(f"    _set(self, {name!r}, {value})")
    source = f"def __init__(self, {', '.join(parameters)}):\n" + ("\n".join(lines) or "    pass")
    exec(source, names)  # noqa: S102 - names of our own fields
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _frozen(self: Any, name: str, *_value: Any) -> NoReturn:
    raise AttributeError(f"{type(self).__name__} is immutable: {name} cannot be changed")


def _repr(self: Any) -> str:
    shown = (f"{n}={getattr(self, n)!r}" for n, one in self.__fields__.items() if one.shown)
    return f"{type(self).__qualname__}({', '.join(shown)})"


@cache
def _compared(cls: Any) -> Callable[[Any], Any]:
    """What gets the values of a record that count when two are compared."""
    names = [name for name, one in cls.__fields__.items() if one.compared]
    return attrgetter(*names) if names else lambda _: ()


def _eq(self: Any, other: object) -> bool:
    compared: Callable[[Any], Any] = _compared(type(self))  # type: ignore[arg-type]
    return compared(self) == compared(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    compared: Callable[[Any], Any] = _compared(type(self))  # type: ignore[arg-type]
    return hash(compared(self))


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), tuple(values(self).values())


_METHODS = {"__repr__": _repr, "__eq__": _eq, "__hash__": _hash, "__reduce__": _reduce}
