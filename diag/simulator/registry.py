"""Where faults register: what one is, and two short ways to write one down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diag.simulator.scenario import Setup

LAYERS = (
    "Input",
    "TCP",
    "Proxy",
    "TLS",
    "HTTP and gateways",
    "Bitbucket state",
    "Version",
    "Authentication",
    "Permission",
    "Clone path",
    "Base URL",
    "Rate limits",
    "Clock",
)
"""The sections of the list of verdicts that a single server can cause something in."""

Change = Callable[[Setup], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that can be wrong; `code` is the verdict that names it as the root cause."""

    code: str
    layer: str  # one of LAYERS
    summary: str  # what is broken, in a few words
    apply: Change = field(repr=False, compare=False)


REGISTRY: dict[str, Fault] = {}


def fault(layer: str, code: str, summary: str) -> Callable[[Change], Change]:
    """Register the decorated function as what puts a fault in."""

    def register(change: Change) -> Change:
        if code in REGISTRY or layer not in LAYERS:
            raise ValueError(f"fault {code} is there twice or in no layer")
        REGISTRY[code] = Fault(code, layer, summary, change)
        return change

    return register


def declare(
    layer: str,
    code: str,
    summary: str,
    *,
    instance: Mapping[str, object] | None = None,
    certificates: Mapping[str, object] | None = None,
    **attributes: object,
) -> None:
    """Register a fault that only sets attributes: of the setup, its instance, its certificates.

    Mappings are added to what is there.
    """

    @fault(layer, code, summary)
    def change(setup: Setup) -> None:
        assign(setup.instance, instance or {})
        assign(setup.certificates, certificates or {})
        assign(setup, attributes)


def assign(target: object, values: Mapping[str, object]) -> None:
    """Set attributes; what is a dict is added to the one that is there."""
    for name, value in values.items():
        old = getattr(target, name)
        if isinstance(old, dict) and isinstance(value, dict):
            old.update(value)
        else:
            setattr(target, name, value)
