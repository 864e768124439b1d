"""What the user asked for: the options of one run, already checked for form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from diag.profile import Profile
from diag.record import field, record, replace
from diag.secret import Secret

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)"
_CONNECT_TO = re.compile(rf"({_HOST}):(\d+):({_HOST}):(\d+)")


@record
class ConnectTo:
    """`--connect-to HOST:PORT:ADDRESS:PORT`: go elsewhere, name and certificate unchanged."""

    host: str
    port: int
    address: str
    to_port: int

    @classmethod
    def parse(cls, text: str) -> ConnectTo:
        """Read what stands behind the option.

        Raises:
            ValueError: it is not of that form; the message is meant for the user.
        """
        match = _CONNECT_TO.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not HOST:PORT:ADDRESS:PORT"
                " (for example bitbucket.example.com:443:10.0.0.7:8443)"
            )
        host, port, address, to_port = match.groups()
        if not (0 < int(port) < 65536 and 0 < int(to_port) < 65536):
            raise ValueError(f"{text!r}: a port is between 1 and 65535")
        return cls(host.strip("[]").lower(), int(port), address.strip("[]"), int(to_port))


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
    name: str | None = None  # what the target is called in a fleet
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

    def with_secret(self, given: GivenSecret) -> Settings:
        """The same with a secret, and the name that came with it unless `user` says another."""
        return replace(self, given=given, user=self.user or given.user)
