"""What a check is, and what it is given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from diag.facts import Fact
from diag.model import Finding, Verdict

if TYPE_CHECKING:
    from diag.context import Context


class Concluding:
    """What comes to conclusions: its verdicts are class attributes, its docstring what `bbdiag
    explain` prints, `title` reads right after a check mark."""

    id: ClassVar[str]
    title: ClassVar[str]

    @classmethod
    @cache
    def verdicts(cls) -> tuple[Verdict, ...]:
        """The verdicts this class declares, in the order of its source."""
        found: dict[str, Verdict] = {}
        for base in reversed(cls.__mro__):
            found |= {
                name: value for name, value in vars(base).items() if isinstance(value, Verdict)
            }
        return tuple(found.values())

    @classmethod
    def documentation(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "")


class Check(Concluding):
    """One question about the way to Bitbucket. The subclass's docstring is its documentation.

    Subclasses set `id` (also the file name, "-" written "_"), `title` (reads right after a check
    mark: "the port accepts connections"), the verdicts as class attributes, the facts they need and
    give, and `run`. `run` yields findings and facts as soon as they are known: a fact sets free the
    checks that wait for it while this one goes on.
    """

    order: ClassVar[int] = 500  # place in the report, causes first; plug-ins come after built-ins
    kinds: ClassVar[frozenset[str]] = frozenset({"datacenter", "cloud", "unknown"})
    requires: ClassVar[tuple[type[Fact], ...]] = ()  # without one of these the check is skipped
    after: ClassVar[tuple[type[Fact], ...]] = ()  # used where there; waited for, not required
    provides: ClassVar[tuple[type[Fact], ...]] = ()
    foresees: ClassVar[tuple[type[Fact], ...]] = ()  # further facts that `ahead` looks at

    def ahead(self, ctx: Context) -> Iterator[tuple[type[Fact], ...]]:
        """Begin with what `run` is going to ask in a healthy run, before its turn comes.

        With `ctx.http.ahead`; each yield waits until the facts that it names are known. The runner
        waits for what is done here, so that it may not take time.

        It only saves time: what is foreseen wrongly is asked once more, and nothing is concluded.
        """
        del ctx
        return iter(())

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        """Diagnose. An exception here is bbdiag's own fault and is reported as such."""
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not getattr(cls, "id", None) or not getattr(cls, "title", None):
            raise TypeError(f"{cls.__module__}.{cls.__name__} has no id or no title")
