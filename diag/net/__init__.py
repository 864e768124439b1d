"""The only code that opens sockets; one protocol a module.

The modules are imported when first used, so that naming `net` costs nothing and heavy libraries
load while the network is awaited.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diag.net import (
        dial,
        dns,
        doors,
        http,
        inspectors,
        passage,
        proxy,
        proxyenv,
        reach,
        ssh,
        tcp,
        tls,
        tls_faults,
        tls_way,
        tunnel,
    )

__all__ = [
    "dial",
    "dns",
    "doors",
    "http",
    "inspectors",
    "passage",
    "proxy",
    "proxyenv",
    "reach",
    "ssh",
    "tcp",
    "tls",
    "tls_faults",
    "tls_way",
    "tunnel",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return importlib.import_module(f"diag.net.{name}")
    raise AttributeError(f"module 'diag.net' has no attribute {name!r}")
