"""Every fault, by code, in the order of the list of verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from diag.simulator import faults_bitbucket, faults_http, faults_network  # noqa: F401 - they register
from diag.simulator.registry import LAYERS, REGISTRY, Fault

FAULTS: Mapping[str, Fault] = MappingProxyType(
    dict(sorted(REGISTRY.items(), key=lambda item: LAYERS.index(item[1].layer)))
)
