"""Requirement profiles: what the product that will connect needs. Data, not code.

A profile is a TOML file; docs/profiles.md describes the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from diag.record import record
from diag.scopes import NEEDS

FORMAT = 1  # of the files
RIGHTS = ("admin", "write", "read")
_BUILT_IN = Path(__file__).with_name("profiles")
_LARGEST = 1 << 20  # bytes


class ProfileError(ValueError):
    """A profile that cannot be used: which file, which key, and what is allowed there."""


@record
class Egress:
    """One address range that the product connects from."""

    cidr: str  # normalised: no host bits set
    published_as: str  # as the vendor writes it


@record
class CloudScopes:
    """What a credential for Bitbucket Cloud has to allow, as needs of `diag.scopes`: before and
    after the webhooks exist, and besides with credentials of one kind. Empty: not known."""

    setup: tuple[str, ...] = ()
    steady: tuple[str, ...] = ()
    api_token: tuple[str, ...] = ()
    oauth: tuple[str, ...] = ()
    access_token: tuple[str, ...] = ()  # of a repository, project or workspace

    def needs(self, stage: str, credential: str) -> tuple[str, ...]:
        """All needs at a stage, "setup" or "steady", of a credential with this
        X-Credential-Type."""
        always = self.setup if stage == "setup" else self.steady
        if not always:
            return ()
        kinds = {"api_token": self.api_token, "oauth2": self.oauth}
        ends = self.access_token if credential.endswith("_access_token") else ()
        return tuple(dict.fromkeys((*always, *kinds.get(credential, ends))))


@record
class Hooks:
    """How the product's webhooks in Bitbucket Data Center look: patterns, in which "*" stands for
    anything. No `url`: that is not known."""

    url: tuple[str, ...] = ()
    wrong_url: tuple[str, ...] = ()  # the product's addresses, too, but of no use (any more)
    events: tuple[str, ...] = ()  # each lets something start
    self_hosted: bool = False  # users can run the product themselves, at addresses of their own
    source: str = ""
    checked: date | None = None


@record
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
    hooks: Hooks = Hooks()
    egress_source: str = ""  # where the vendor publishes its addresses
    checked: date | None = None  # when the sources were last read
    cloud: CloudScopes = CloudScopes()


def names() -> list[str]:
    """The built-in profiles."""
    return sorted(path.stem for path in _BUILT_IN.glob("*.toml"))


def load(name_or_path: str) -> Profile:
    """A built-in profile by its name, or a person's own by the path of its file.

    Raises:
        ProfileError: there is no such profile, or its file is wrong.
    """
    built_in = names()
    if name_or_path in built_in:
        return _read(_BUILT_IN / f"{name_or_path}.toml")
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.name != name_or_path or path.is_file():
        return _read(path)
    raise ProfileError(
        f"there is no profile {name_or_path!r};{_near(name_or_path, built_in)} there are:"
        f" {', '.join(built_in)}. For your own, give the path of a TOML file"
    )


def _read(path: Path) -> Profile:
    import tomllib

    try:
        with path.open("rb") as file:
            document = tomllib.loads(file.read(_LARGEST).decode())
    except OSError as error:
        raise ProfileError(f"profile {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ProfileError(f"profile {path} is no UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"profile {path} is no TOML: {error}") from None
    return _profile(_Table(path, "", document))


def _profile(top: _Table) -> Profile:
    top.take("format", _format, required=True)
    datacenter, cloud, network = (
        top.take(name, _section(top.path, name), default=_Table(top.path, name, {}))
        for name in ("datacenter", "cloud", "network")
    )
    hooks = datacenter.take(
        "webhook",
        _section(top.path, "datacenter.webhook"),
        default=_Table(top.path, "datacenter.webhook", {}),
    )
    profile = Profile(
        name=top.take("name", _text, required=True),
        title=top.take("title", _text, required=True),
        source=top.take("source", _text, default=""),
        checked=top.take("checked", _date, default=None),
        minimum_version=datacenter.take("minimum_version", _version, default=None),
        setup=datacenter.take("setup", _right, default="admin"),
        steady=datacenter.take("steady", _right, default="read"),
        webhooks=datacenter.take("webhooks", _flag, default=True),
        hooks=Hooks(
            url=hooks.take("url", _texts, default=()),
            wrong_url=hooks.take("wrong_url", _texts, default=()),
            events=hooks.take("events", _events, default=()),
            self_hosted=hooks.take("self_hosted", _flag, default=False),
            source=hooks.take("source", _text, default=""),
            checked=hooks.take("checked", _date, default=None),
        ),
        from_internet=network.take("from_internet", _flag, default=False),
        egress=network.take("egress", _egress, default=()),
        egress_source=network.take("source", _text, default=""),
        cloud=CloudScopes(
            setup=cloud.take("setup", _needs, default=()),
            steady=cloud.take("steady", _needs, default=()),
            api_token=cloud.take("api_token", _needs, default=()),
            oauth=cloud.take("oauth", _needs, default=()),
            access_token=cloud.take("access_token", _needs, default=()),
        ),
    )
    for table in (top, datacenter, hooks, cloud, network):
        table.done()
    return profile


class _Table:
    """A table of the file, of which every key must be asked for before `done`."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self._name = name
        self._left = dict(values)
        self._known: list[str] = []

    def take(
        self, key: str, read: Callable[[Any], Any], *, default: Any = None, required: bool = False
    ) -> Any:
        """The value of a key, read by `read`, which raises an error saying what is allowed."""
        self._known.append(key)
        if key not in self._left:
            if required:
                raise ProfileError(f"profile {self.path}: {self._full(key)} is missing")
            return default
        try:
            return read(self._left.pop(key))
        except (TypeError, ValueError) as error:
            raise ProfileError(f"profile {self.path}: {self._full(key)} {error}") from None

    def done(self) -> None:
        for key in self._left:
            raise ProfileError(
                f"profile {self.path}: there is no key {self._full(key)};"
                f"{_near(key, self._known)} allowed here: {', '.join(self._known)}"
            )

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def _near(word: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f" did you mean {close[0]!r}?" if close else ""


# Readers: each takes what TOML holds; the message of its error completes "the key …".


def _format(value: Any) -> int:
    if value != FORMAT or isinstance(value, bool):
        raise ValueError(f"is {value!r}; this bbdiag knows format {FORMAT}")
    return FORMAT


def _section(path: Path, name: str) -> Callable[[Any], _Table]:
    def read(value: Any) -> _Table:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table: [{name}]")
        return _Table(path, name, value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'must be text in quotes, such as "…", not {_shown(value)}')
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f'must be a list such as ["…", "…"], not {_shown(value)}')
    return tuple(_text(item) for item in value)


def _needs(value: Any) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        if text not in NEEDS:
            near = _near(text, [*NEEDS])
            raise ValueError(f"holds {text!r}, no need;{near} there are: {', '.join(NEEDS)}")
    return texts


def _events(value: Any) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        if not re.fullmatch(r"[a-z_]+:[a-z_:]+", text):
            raise ValueError(f"holds {text!r}, no event such as repo:refs_changed")
    return texts


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"must be true or false, not {_shown(value)}")
    return value


def _date(value: Any) -> date:
    if type(value) is not date:
        raise ValueError(f"must be a date such as 2026-07-01, without quotes, not {_shown(value)}")
    return value


def _right(value: Any) -> str:
    if value not in RIGHTS:
        raise ValueError(f"must be one of {', '.join(RIGHTS)}, in quotes, not {_shown(value)}")
    return str(value)


def _version(value: Any) -> tuple[int, int, int]:
    parts = value.split(".") if isinstance(value, str) else []
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'must be a version in quotes, such as "7.14", not {_shown(value)}')
    major, minor, patch = (int(part) for part in [*parts, "0"][:3])
    return major, minor, patch


def _egress(value: Any) -> tuple[Egress, ...]:
    from ipaddress import ip_network

    ranges: list[Egress] = []
    for text in _texts(value):
        try:
            cidr = str(ip_network(text, strict=False))
        except ValueError:
            raise ValueError(
                f"holds {text!r}, which is no address or range such as 203.0.113.0/27"
            ) from None
        ranges.append(Egress(cidr, text))
    return tuple(ranges)


def _shown(value: Any) -> str:
    """A value as TOML would write it, more or less."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
