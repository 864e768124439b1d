"""Where faults register: what one is, and two short ways to write one down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

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
    "Bitbucket Cloud",
    "Rate limits",
    "Clock",
    "Webhook",
)
"""The sections of the list of verdicts that a single server can cause something in."""

Change = Callable[[Setup], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that can be wrong. `name` is "code", or "code/form" for a further form of it."""

    name: str
    layer: str  # one of LAYERS
    summary: str  # what is broken, in a few words
    apply: Change = field(repr=False, compare=False)

    @property
    def code(self) -> str:
        """The verdict that names it as the root cause."""
        return self.name.partition("/")[0]


class Registry:
    """The faults of one product."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    @property
    def faults(self) -> Mapping[str, Fault]:
        """All of them by name, in the order of the list of verdicts."""
        by_layer = sorted(self._faults.items(), key=lambda item: LAYERS.index(item[1].layer))
        return MappingProxyType(dict(by_layer))

    def fault(self, layer: str, name: str, summary: str) -> Callable[[Change], Change]:
        """Register the decorated function as what puts a fault in."""

        def register(change: Change) -> Change:
            if name in self._faults or layer not in LAYERS:
                raise ValueError(f"fault {name} is there twice or in no layer")
            self._faults[name] = Fault(name, layer, summary, change)
            return change

        return register

    def declare(
        self,
        layer: str,
        name: str,
        summary: str,
        *,
        instance: Mapping[str, object] | None = None,
        cloud: Mapping[str, object] | None = None,
        certificates: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> None:
        """Register a fault that only sets attributes: of the setup, or of one of its parts.

        Mappings are added to what is there.
        """

        @self.fault(layer, name, summary)
        def change(setup: Setup) -> None:
            assign(setup.instance, instance or {})
            assign(setup.cloud, cloud or {})
            assign(setup.certificates, certificates or {})
            assign(setup, attributes)


DATACENTER, CLOUD = Registry(), Registry()


def assign(target: object, values: Mapping[str, object]) -> None:
    """Set attributes; what is a dict is added to the one that is there."""
    for name, value in values.items():
        old = getattr(target, name)
        if isinstance(old, dict) and isinstance(value, dict):
            old.update(value)
        else:
            setattr(target, name, value)
