"""What is particular to each Bitbucket product: paths, paging, error bodies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diag.bitbucket import (
        cloud,
        datacenter,
        lifecycle,
        listing,
        reception,
        rights,
        turns,
        webhooks,
    )

__all__ = [
    "cloud",
    "datacenter",
    "lifecycle",
    "listing",
    "reception",
    "rights",
    "turns",
    "webhooks",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return importlib.import_module(f"diag.bitbucket.{name}")
    raise AttributeError(f"module 'diag.bitbucket' has no attribute {name!r}")
