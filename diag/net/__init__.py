"""The only code that opens sockets; one protocol a module.

The modules are imported when first used, so that naming `net` costs nothing and heavy libraries
load while the network is awaited.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diag.net import (
        beside,
        chain,
        der,
        dial,
        dns,
        doors,
        hops,
        http,
        inspectors,
        passage,
        patience,
        proxy,
        proxyclients,
        proxyenv,
        ratio,
        reach,
        revocation,
        silence,
        ssh,
        steady,
        stores,
        tcp,
        tls,
        tls_faults,
        tls_issuer,
        tls_way,
        tunnel,
        whatif,
    )

__all__ = [
    "beside",
    "chain",
    "der",
    "dial",
    "dns",
    "doors",
    "hops",
    "http",
    "inspectors",
    "passage",
    "patience",
    "proxy",
    "proxyclients",
    "proxyenv",
    "ratio",
    "reach",
    "revocation",
    "silence",
    "ssh",
    "steady",
    "stores",
    "tcp",
    "tls",
    "tls_faults",
    "tls_issuer",
    "tls_way",
    "tunnel",
    "whatif",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return importlib.import_module(f"diag.net.{name}")
    raise AttributeError(f"module 'diag.net' has no attribute {name!r}")
