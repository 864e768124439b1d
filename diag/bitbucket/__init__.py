"""What is particular to each Bitbucket product: paths, paging, error bodies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diag.bitbucket import (
        abreast,
        cloud,
        datacenter,
        fingerprints,
        lifecycle,
        listing,
        reader,
        reception,
        rights,
        search,
        turns,
        webhooks,
    )

__all__ = [
    "abreast",
    "cloud",
    "datacenter",
    "fingerprints",
    "lifecycle",
    "listing",
    "reader",
    "reception",
    "rights",
    "search",
    "turns",
    "webhooks",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return importlib.import_module(f"diag.bitbucket.{name}")
    raise AttributeError(f"module 'diag.bitbucket' has no attribute {name!r}")
