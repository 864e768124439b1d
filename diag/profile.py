"""Requirement profiles: what the product that will connect needs. Data, not code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Egress:
    """One address range that the product connects from."""

    cidr: str  # normalised: no host bits set
    published_as: str  # as the vendor writes it


@dataclass(frozen=True, slots=True)
class Profile:
    """What one product needs of Bitbucket."""

    name: str = "none"
    title: str = "any client"
    source: str = ""  # where the vendor says so
    minimum_version: tuple[int, int, int] | None = None  # of Bitbucket Data Center
    setup: str = "admin"  # right needed while webhooks are made: "admin", "write" or "read"
    steady: str = "read"  # right needed afterwards
    from_internet: bool = False  # the product connects from outside: the instance must be public
    egress: tuple[Egress, ...] = ()
    webhooks: bool = True
