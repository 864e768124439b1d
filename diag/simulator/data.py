"""The people, projects and secrets of the simulated Bitbucket.

The secrets are obviously fake, of the right shape, and derived at run time from readable seeds, so
that nothing in this file looks like one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

VERSION = "10.2.7"


class Level(IntEnum):
    """A right on a project or repository; the higher ones include the lower."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Project:
    key: str
    id: int
    name: str

    @property
    def personal(self) -> bool:
        return self.key.startswith("~")


@dataclass(frozen=True, slots=True)
class Repository:
    project: str  # key
    slug: str
    id: int
    name: str = ""
    public: bool = False
    archived: bool = False
    state: str = "AVAILABLE"


@dataclass(frozen=True, slots=True)
class User:
    name: str  # what one signs in with; may hold characters that the slug may not
    slug: str
    id: int
    display_name: str
    password: str = field(repr=False)
    grants: Mapping[str, Level] = field(default_factory=dict)  # "MOB" or "MOB/app"
    active: bool = True
    licensed: bool = True
    admin: bool = False  # of the whole instance

    def level(self, project: str, slug: str | None = None) -> Level:
        """What this person may do with a project, or with one of its repositories."""
        if self.admin or project == f"~{self.slug}".upper():
            return Level.ADMIN
        granted = self.grants.get(project, Level.NONE)
        if slug is None:
            return granted
        return max(granted, self.grants.get(f"{project}/{slug}", Level.NONE))


@dataclass(frozen=True, slots=True)
class Token:
    """An HTTP access token: of a user, or of a project or repository (then without owner)."""

    id: str  # twelve digits, also in the secret
    name: str
    level: Level
    owner: str | None = None  # user name
    scope: str | None = None  # "MOB" or "MOB/app"
    valid: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from: nobody, a user, or a project's or repository's token."""

    user: User | None = None
    token: Token | None = None

    @property
    def anonymous(self) -> bool:
        return self.user is None and self.token is None

    def level(self, project: str, slug: str | None = None) -> Level:
        """The least of what the user may do and what the token may do."""
        if self.token is None:
            return self.user.level(project, slug) if self.user else Level.NONE
        if self.user is not None:
            return min(self.user.level(project, slug), self.token.level)
        inside = self.token.scope in {project, f"{project}/{slug}"}
        return self.token.level if inside else Level.NONE


ANONYMOUS = Caller()


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client sends: with `user` by basic auth, without as Bearer."""

    secret: str | None = field(repr=False)
    user: str | None = None


def token_secret(name: str) -> str:
    """A fake token: "BBDC-" and 44 characters of base64 that decode to "<id>:<20 bytes>"."""
    tail = hashlib.sha256(f"not a secret: {name}".encode()).hexdigest()[:20]
    return "BBDC-" + base64.b64encode(f"{token_id(name)}:{tail}".encode()).decode()


def token_id(name: str) -> str:
    """Twelve digits that stand for a token."""
    return f"{int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10**12:012d}"


def password(user: str) -> str:
    """The fake password of a user."""
    return "simulated-" + hashlib.sha256(f"not a password: {user}".encode()).hexdigest()[:12]


def _user(
    name: str, number: int, display_name: str, grants: Mapping[str, Level], **flags: bool
) -> User:
    slug = name.replace("@", "_")
    return User(name, slug, number, display_name, password(name), grants, **flags)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a webhook's record holds of its last delivery with this outcome."""

    description: str = "200"  # an HTTP status, or why no answer came
    outcome: str = "SUCCESS"  # "FAILURE", "ERROR"
    ago: float = 3600.0  # seconds
    took: float = 0.2  # seconds
    content: str = ""  # the answer's body, or the class of the exception


@dataclass(frozen=True, slots=True)
class Webhook:
    id: int
    name: str
    url: str = field(repr=False)
    events: tuple[str, ...] = ("repo:refs_changed", "pr:opened", "pr:merged")
    active: bool = True
    changed: float = 90 * 86400.0  # seconds ago
    record: tuple[Delivered, ...] = ()
    of_project: bool = False


CHAT = Webhook(1, "chat", "https://chat.example.com/hook", ("pr:opened",))
BUILDS = Webhook(  # Appcircle's, of the profile that is the default
    7, "builds", "https://hook.appcircle.io/build/v1/a-token-in-the-address", record=(Delivered(),)
)
BOT = "ci-bot@example.com"  # the service account of the healthy scenario

PROJECTS = (
    Project("FIN", 1, "Finance"),
    Project("LIB", 2, "Libraries"),
    Project("MIX", 3, "Mixed pickles"),
    Project("MOB", 4, "Mobile"),
    Project("OPEN", 5, "Open source"),
    Project("~CI-BOT_EXAMPLE.COM", 6, "CI bot"),
)

REPOSITORIES = (
    Repository("FIN", "ledger", 11, "Ledger"),
    Repository("LIB", "networking", 12, "Networking"),
    Repository("LIB", "widgets", 13, "Widgets"),
    Repository("MIX", "gherkin", 14, "Gherkin"),
    Repository("MIX", "onion", 15, "Onion"),
    Repository("MOB", "app", 16, "App"),
    Repository("MOB", "legacy", 17, "Legacy", archived=True),
    Repository("MOB", "tooling", 18, "Tooling"),
    Repository("OPEN", "docs", 19, "Docs", public=True),
    Repository("~CI-BOT_EXAMPLE.COM", "dotfiles", 20, "Dotfiles"),
)

USERS = (
    _user(BOT, 53, "CI bot", {"MOB": Level.ADMIN, "LIB": Level.READ}),
    _user("developer", 54, "Dev Eloper", {"MOB": Level.WRITE}),
    _user("outsider", 55, "Out Sider", {}),
    _user("former", 56, "For Mer", {"MOB": Level.ADMIN}, active=False),
    _user("contractor", 57, "Con Tractor", {"MOB": Level.ADMIN}, licensed=False),
    _user("admin", 2, "Administrator", {}, admin=True),
)


def _tokens() -> Iterator[tuple[str, Token]]:
    def token(
        name: str,
        level: Level,
        owner: str | None = BOT,
        scope: str | None = None,
        valid: bool = True,
    ) -> tuple[str, Token]:
        return name, Token(token_id(name), name, level, owner, scope, valid)

    yield token("admin-token", Level.ADMIN)
    yield token("write-token", Level.WRITE)
    yield token("read-token", Level.READ)
    yield token("expired-token", Level.ADMIN, valid=False)
    yield token("project-token", Level.ADMIN, None, "MOB")
    yield token("repository-token", Level.ADMIN, None, "MOB/app")
    yield token("repository-read-token", Level.READ, None, "MOB/app")
    yield token("developer-token", Level.ADMIN, "developer")
    yield token("outsider-token", Level.ADMIN, "outsider")
    yield token("inactive-token", Level.ADMIN, "former")
    yield token("unlicensed-token", Level.ADMIN, "contractor")
    yield token("sysadmin-token", Level.ADMIN, "admin")


TOKENS: Mapping[str, Token] = dict(_tokens())

CREDENTIALS: Mapping[str, Credential] = {
    **{name: Credential(token_secret(name)) for name in TOKENS},
    "revoked-token": Credential(token_secret("revoked-token")),  # the server does not know it
    "password": Credential(password(BOT), BOT),
    "wrong-password": Credential("simulated-typo", BOT),
    "sysadmin-password": Credential(password("admin"), "admin"),
    "token-as-password": Credential(token_secret("admin-token"), BOT),
    "project-token-as-password": Credential(token_secret("project-token"), "x-token-auth"),
    "anonymous": Credential(None),
}
"""Every way to sign in that the simulator knows, by name."""


@dataclass
class Instance:
    """One Bitbucket: its content, and all that its administrator could have set up differently."""

    version: str = VERSION
    display_name: str = "Bitbucket"
    context_path: str = ""
    base_url: str = ""  # with context path, no trailing slash
    ssh_url: str | None = ""  # "ssh://git@host:port"; None: SSH is off
    state: str = "RUNNING"
    page_limit: int = 1000
    public_access: bool = True
    anonymous_listing: bool | None = None  # None: as the version does
    ignores_bad_tokens: bool = False  # treats them as anonymous instead of refusing them
    basic_auth: bool = True
    captcha_after: int = 5  # failed logins
    git_http: bool = True
    requests_left: int | None = None  # before the rate limit; None: no limit
    retry_after: int = 120  # seconds
    projects: dict[str, Project] = field(default_factory=dict)
    repositories: Sequence[Repository] = REPOSITORIES
    webhooks: Sequence[Webhook] = (CHAT, BUILDS)  # of every repository and project
    users: dict[str, User] = field(default_factory=lambda: {user.name: user for user in USERS})
    tokens: dict[str, Token] = field(
        default_factory=lambda: {token_secret(name): token for name, token in TOKENS.items()}
    )
    captcha_failures: dict[str, int] = field(default_factory=dict)  # by user name

    def __post_init__(self) -> None:
        self.projects |= _projects_of(self.repositories)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, fit to be compared."""
        return tuple(int(part) for part in self.version.partition("-")[0].split("."))

    def repository(self, project: str, slug: str) -> Repository | None:
        """Keys are compared without case, as Bitbucket does, and so are slugs."""
        wanted = (project.upper(), slug.lower())
        return next((r for r in self.repositories if (r.project, r.slug) == wanted), None)


def _projects_of(repositories: Iterable[Repository]) -> dict[str, Project]:
    known = {project.key: project for project in PROJECTS}
    for key in {repository.project for repository in repositories} - known.keys():
        known[key] = Project(key, 100 + len(known), key.title())
    return known


def many_repositories(count: int) -> tuple[Repository, ...]:
    """The usual repositories and so many more in LIB, which are listed before those of MOB."""
    more = (Repository("LIB", f"part-{n:06}", 1000 + n, f"Part {n:06}") for n in range(count))
    return tuple(sorted((*REPOSITORIES, *more), key=lambda r: (r.project, r.slug)))
