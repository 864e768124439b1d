"""What the user asked for: the options of one run, already checked for form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from diag.profile import Profile
from diag.record import field, record
from diag.secret import Secret


@record
class ConnectTo:
    """`--connect-to HOST:PORT:ADDRESS:PORT`: go elsewhere, name and certificate unchanged."""

    host: str
    port: int
    address: str
    to_port: int


@record
class Resolver:
    """`--resolver IP[:PORT]`."""

    address: str
    port: int = 53


@record
class GivenSecret:
    """The secret as it was read, before check `input` has looked at it.

    `announced` tells an anonymous run (nothing announced) from an empty variable or file.
    """

    secret: Secret | None = None
    source: str = "none"
    announced: bool = False
    user: str | None = None  # a name that came with it, out of a netrc or credential helper


@record
class Settings:
    """All options of `check`. Times are in seconds."""

    url: str
    profile: Profile
    repo: str | None = None
    stage: Literal["setup", "steady"] = "setup"
    user: str | None = None
    given: GivenSecret = field(default_factory=GivenSecret)
    ca_file: str | None = None
    insecure: bool = False
    resolvers: tuple[Resolver, ...] = ()
    proxy: str = "env"  # "env", "none" or a URL
    timeout: float = 3.0
    deadline: float = 20.0
    connect_to: tuple[ConnectTo, ...] = ()
    all_pages: bool = False
    fetch_issuers: bool = False
    check_revocation: bool = False
    repeat: int = 1
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    label: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)  # where proxy variables are read
