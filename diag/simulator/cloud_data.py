"""The people, workspaces, scopes and secrets of the simulated Bitbucket Cloud.

As in `data`, the secrets are obviously fake, of the right shape, and derived at run time from
readable seeds.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

from diag.simulator.data import Credential, Level, password, token_secret

SITE, API, ALTSSH = "bitbucket.org", "api.bitbucket.org", "altssh.bitbucket.org"

Kind = Literal[
    "api_token",
    "repo_access_token",
    "project_access_token",
    "workspace_access_token",
    "oauth2",
]
"""The values of X-Credential-Type."""

# scopes

LEGACY_IMPLIES: Mapping[str, frozenset[str]] = {
    "account": frozenset({"email"}),
    "account:write": frozenset({"account", "email"}),
    "team:write": frozenset({"team"}),
    "project": frozenset({"repository"}),
    "repository:write": frozenset({"repository"}),
    "pullrequest": frozenset({"repository"}),
    "pullrequest:write": frozenset({"pullrequest", "repository", "repository:write"}),
    "pipeline:write": frozenset({"pipeline"}),
    "pipeline:variable": frozenset({"pipeline", "pipeline:write"}),
    "runner:write": frozenset({"runner"}),
}
"""What a scope of access tokens and OAuth includes. Scopes of API tokens include nothing."""

APPCIRCLE_API_TOKEN = (
    "read:account",
    "read:project:bitbucket",
    "read:repository:bitbucket",
    "read:pullrequest:bitbucket",
    "read:workspace:bitbucket",
    "read:webhook:bitbucket",
    "write:webhook:bitbucket",
    "delete:webhook:bitbucket",
)
APPCIRCLE_OAUTH = ("email", "team", "project", "repository", "pullrequest", "webhook")
ACCESS_TOKEN = ("project", "repository", "pullrequest", "webhook")
REPOSITORY_TOKEN = ("repository", "pullrequest", "webhook")  # no projects to be chosen there
"""What the credentials may do unless they say otherwise: Appcircle's list, as far as it applies."""


@dataclass(frozen=True, slots=True)
class Need:
    """The scopes that an operation asks for, all of them, in either vocabulary."""

    legacy: tuple[str, ...] = ()
    granular: tuple[str, ...] = ()


# what there is


@dataclass(frozen=True, slots=True)
class Workspace:
    slug: str
    name: str
    private: bool = True  # whether others can tell that it exists


@dataclass(frozen=True, slots=True)
class CloudRepository:
    workspace: str
    slug: str
    project: str  # key
    public: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.workspace}/{self.slug}"


@dataclass(frozen=True, slots=True)
class CloudUser:
    username: str  # what git wants
    email: str  # what the API wants
    display_name: str
    memberships: frozenset[str] = frozenset()  # workspaces
    roles: Mapping[str, Level] = field(default_factory=dict)  # by full name of a repository


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for. It belongs to a user, or to what `resource` names."""

    kind: Kind
    scopes: tuple[str, ...]
    owner: CloudUser | None = None
    resource: str = ""  # "workspace", "workspace/PROJECT" or "workspace/repository"
    expired: bool = False
    app_user: bool = False  # an OAuth consumer acting for its workspace

    @property
    def granular(self) -> bool:
        return self.kind == "api_token"

    @property
    def usable(self) -> bool:
        """API tokens that were made without scopes are not for Bitbucket at all."""
        return not self.expired and (not self.granular or bool(self.scopes))

    @property
    def effective(self) -> frozenset[str]:
        """The scopes with all that they include."""
        return self._implied.union(self.scopes)

    @property
    def shown(self) -> tuple[str, ...]:
        """The scopes as X-OAuth-Scopes lists them: without those that another one includes."""
        return tuple(scope for scope in self.scopes if scope not in self._implied)

    @property
    def _implied(self) -> frozenset[str]:
        none: frozenset[str] = frozenset()
        if self.granular:
            return none
        return none.union(*(LEGACY_IMPLIES.get(scope, none) for scope in self.scopes))

    def needed(self, need: Need) -> tuple[str, ...]:
        """What an operation asks of this token, in the token's vocabulary."""
        return need.granular if self.granular else need.legacy

    def lacks(self, need: Need) -> bool:
        return not self.effective.issuperset(self.needed(need))

    def level(self, repository: CloudRepository) -> Level:
        """The role with a repository; a token that belongs to nobody has that of its scopes."""
        if self.owner is not None:
            return self.owner.roles.get(repository.full_name, Level.NONE)
        places = {
            "repo_access_token": repository.full_name,
            "project_access_token": f"{repository.workspace}/{repository.project}",
        }
        if self.resource != places.get(self.kind, repository.workspace):
            return Level.NONE
        if self.app_user:
            return Level.ADMIN
        if "repository:admin" in self.effective:
            return Level.ADMIN
        return Level.WRITE if "repository:write" in self.effective else Level.READ


@dataclass(frozen=True, slots=True)
class Consumer:
    """An OAuth consumer. For its key and secret it gets `token`, which is worth `grant`."""

    key: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    grant: Grant
    public: bool = False
    callback: bool = True


# secrets

B62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _letters(seed: str, length: int) -> str:
    """So many letters and digits that stand for a seed."""
    digests = (hashlib.sha512(f"not a secret: {seed} {n}".encode()).digest() for n in count())
    text = ""
    while len(text) < length:
        text += "".join(B62[byte % len(B62)] for byte in next(digests))
    return text[:length]


def _with_checksum(text: str) -> str:
    return f"{text}={zlib.crc32(text.encode()):08X}"


def api_token(name: str) -> str:
    """A fake API token of 192 characters."""
    return _with_checksum("ATATT3xFfGF0" + _letters(name, 171))


def access_token(name: str) -> str:
    """A fake access token of a repository, project or workspace, of 192 characters."""
    return _with_checksum("ATCTT3xFfGN0" + _letters(name, 171))


def oauth_token(name: str) -> str:
    """A fake OAuth access token; real ones are longer than 2,500 characters since 2026."""
    return _letters(name, 2600)


def app_password(name: str) -> str:
    """A fake app password of 36 characters."""
    return "ATBB" + _letters(name, 32)


def consumer_key(name: str) -> str:
    return _letters(f"key of {name}", 18)


def consumer_secret(name: str) -> str:
    return _letters(f"secret of {name}", 32)


def embedded_token() -> str:
    """What the HTML error pages give away, which must be printed nowhere."""
    head = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"HS256"}').decode().rstrip("=")
    return f"{head}.{_letters('web token', 60)}.{_letters('signature', 43)}"


def uid(name: str) -> str:
    """The UUID of something, as Bitbucket Cloud writes them."""
    return f"{{{uuid.uuid5(uuid.NAMESPACE_DNS, name)}}}"


# the healthy content

TEAM, PARTNER = "example-team", "partner-team"

WORKSPACES = (
    Workspace(TEAM, "Example team", private=False),
    Workspace(PARTNER, "Partner team"),
)

REPOSITORIES = (
    CloudRepository(TEAM, "app", "MOB"),
    CloudRepository(TEAM, "docs", "OPEN", public=True),
    CloudRepository(TEAM, "ledger", "FIN"),
    CloudRepository(TEAM, "tooling", "LIB"),
    CloudRepository(PARTNER, "portal", "WEB"),
)


def _user(name: str, app: Level, *workspaces: str, tooling: Level = Level.NONE) -> CloudUser:
    roles = {f"{TEAM}/docs": Level.READ, f"{TEAM}/app": app, f"{TEAM}/tooling": tooling}
    email = f"{name}@example.com"
    return CloudUser(f"{name}-example", email, name.title(), frozenset(workspaces), roles)


BOT = _user("ci-bot", Level.ADMIN, TEAM, tooling=Level.READ)
DEVELOPER = _user("developer", Level.WRITE, TEAM)
READER = _user("reader", Level.READ, TEAM)
OUTSIDER = _user("outsider", Level.NONE, PARTNER)

USERS = (BOT, DEVELOPER, READER, OUTSIDER)

TOKEN_USER = "x-token-auth"  # noqa: S105 - the user name of access tokens and OAuth for git
API_TOKEN_USER = "x-bitbucket-api-token-auth"  # noqa: S105 - beside the real one, for git only


# credentials: each kind, and each with one thing wrong

API_TOKEN = Grant("api_token", APPCIRCLE_API_TOKEN, BOT)
OAUTH = Grant("oauth2", APPCIRCLE_OAUTH, BOT)
APP = Grant("oauth2", APPCIRCLE_OAUTH, resource=TEAM, app_user=True)
BY_REPOSITORY = Grant("repo_access_token", REPOSITORY_TOKEN, resource=f"{TEAM}/app")
BY_PROJECT = Grant("project_access_token", ACCESS_TOKEN, resource=f"{TEAM}/MOB")
BY_WORKSPACE = Grant("workspace_access_token", ACCESS_TOKEN, resource=TEAM)

ELSEWHERE: Mapping[str, dict[str, Any]] = {
    "api-token": {"owner": OUTSIDER},
    "repository-token": {"resource": f"{TEAM}/tooling"},
    "project-token": {"resource": f"{TEAM}/LIB"},
    "workspace-token": {"resource": PARTNER},
    "oauth-token": {"owner": OUTSIDER},
    "oauth-consumer": {"resource": PARTNER},
}
"""What turns a credential into one that is good, but not for this repository."""


def _without_webhooks(grant: Grant) -> Grant:
    return replace(grant, scopes=tuple(s for s in grant.scopes if "webhook" not in s))


def _granted(name: str, grant: Grant) -> Iterator[tuple[str, Grant]]:
    """A token and the same with one thing wrong that its server knows of."""
    yield name, grant
    yield f"{name}-missing-scope", _without_webhooks(grant)
    yield f"{name}-expired", replace(grant, expired=True)
    yield f"{name}-other", replace(grant, **ELSEWHERE[name])


def _grants() -> Iterator[tuple[str, Grant]]:
    """Every token that Bitbucket knows, by name."""
    yield from _granted("api-token", API_TOKEN)
    more = (*APPCIRCLE_API_TOKEN, "read:user:bitbucket")
    yield "api-token-read-user", replace(API_TOKEN, scopes=more)
    broad = ("write:repository:bitbucket", "admin:repository:bitbucket")
    yield "api-token-broad", replace(API_TOKEN, scopes=(*more, *broad))
    yield "api-token-steady", _without_webhooks(API_TOKEN)
    yield "api-token-unscoped", replace(API_TOKEN, scopes=())
    yield "api-token-writer", replace(API_TOKEN, owner=DEVELOPER)
    yield "api-token-reader", replace(API_TOKEN, owner=READER)
    for name, grant in (
        ("repository-token", BY_REPOSITORY),
        ("project-token", BY_PROJECT),
        ("workspace-token", BY_WORKSPACE),
    ):
        yield from _granted(name, grant)
        yield f"{name}-broad", replace(grant, scopes=(*grant.scopes, "repository:admin"))
    yield from _granted("oauth-token", OAUTH)
    yield "oauth-token-account", replace(OAUTH, scopes=("account", *APPCIRCLE_OAUTH[1:]))
    yield "oauth-token-writer", replace(OAUTH, owner=DEVELOPER)


GRANTS: Mapping[str, Grant] = dict(_grants())


def _secret_of(name: str) -> str:
    make = {"api": api_token, "oauth": oauth_token}.get(name.partition("-")[0], access_token)
    return make(name)


def _consumers() -> Iterator[tuple[str, Consumer]]:
    """Every OAuth consumer, by name."""

    def consumer(name: str, grant: Grant = APP, **flags: bool) -> tuple[str, Consumer]:
        token = oauth_token(f"granted to {name}")
        return name, Consumer(consumer_key(name), consumer_secret(name), token, grant, **flags)

    yield consumer("oauth-consumer")
    yield consumer("oauth-consumer-missing-scope", _without_webhooks(APP))
    yield consumer("oauth-consumer-other", replace(APP, **ELSEWHERE["oauth-consumer"]))
    yield consumer("oauth-consumer-public", public=True)
    yield consumer("oauth-consumer-no-callback", callback=False)


CONSUMERS: Mapping[str, Consumer] = dict(_consumers())


def _credentials() -> Iterator[tuple[str, Credential]]:
    for name, grant in GRANTS.items():
        user = grant.owner.email if grant.granular and grant.owner else None
        yield name, Credential(_secret_of(name), user)
    yield "api-token-revoked", Credential(api_token("api-token-revoked"), BOT.email)
    yield "api-token-username", Credential(api_token("api-token"), BOT.username)
    yield "api-token-wrong-scheme", Credential(api_token("api-token"))
    for kind in ("repository-token", "project-token", "workspace-token", "oauth-token"):
        yield f"{kind}-revoked", Credential(_secret_of(f"{kind}-revoked"))
        yield f"{kind}-wrong-scheme", Credential(_secret_of(kind), TOKEN_USER)
    for name in (*CONSUMERS, "oauth-consumer-revoked"):
        yield name, Credential(consumer_secret(name), consumer_key(name))
    wrong = consumer_secret("somebody else")
    yield "oauth-consumer-wrong-secret", Credential(wrong, consumer_key("oauth-consumer"))
    yield "oauth-consumer-wrong-scheme", Credential(consumer_secret("oauth-consumer"))
    yield "app-password", Credential(app_password("app-password"), BOT.username)
    yield "app-password-email", Credential(app_password("app-password"), BOT.email)
    yield "account-password", Credential(password(BOT.email), BOT.email)
    yield "datacenter-token", Credential(token_secret("admin-token"))
    yield "anonymous", Credential(None)


CLOUD_CREDENTIALS: Mapping[str, Credential] = dict(_credentials())
"""Every way to sign in to the simulated Cloud, by name."""


@dataclass
class CloudInstance:
    """Bitbucket Cloud as far as one caller meets it, and all that can be the matter with it."""

    workspaces: Sequence[Workspace] = WORKSPACES
    repositories: Sequence[CloudRepository] = REPOSITORIES
    grants: dict[str, Grant] = field(
        default_factory=lambda: {_secret_of(name): grant for name, grant in GRANTS.items()}
    )
    consumers: dict[str, Consumer] = field(  # by key
        default_factory=lambda: {consumer.key: consumer for consumer in CONSUMERS.values()}
    )
    blocked: frozenset[str] = frozenset()  # workspaces whose IP allowlist lacks the caller
    blocked_answer: Literal["blanket", "sentence", "hidden"] = "blanket"  # of the API; none is sure
    removed: Literal[404, 410] | None = None  # how all resources of a repository answer, if gone
    html_errors: bool = False  # what is not found is told in a page
    limited: Literal["json", "text"] | None = None  # the rate limit is reached, and how it is told
    retry_after: int = 1800  # seconds
    near_limit: str = "false"

    def workspace(self, slug: str) -> Workspace | None:
        return next((w for w in self.workspaces if w.slug == slug.lower()), None)

    def repository(self, workspace: str, slug: str) -> CloudRepository | None:
        wanted = f"{workspace}/{slug}".lower()
        return next((r for r in self.repositories if r.full_name == wanted), None)

    def consumer(self, credential: Credential) -> Consumer | None:
        """The OAuth consumer whose key and secret these are."""
        found = self.consumers.get(credential.user or "")
        return found if found and found.secret == credential.secret else None

    def limit_scopes(self, credential: Credential, scopes: Sequence[str]) -> None:
        """Let a credential have these scopes, and no others.

        Raises:
            KeyError: it is none that has scopes.
        """
        if (consumer := self.consumer(credential)) is not None:
            grant = replace(consumer.grant, scopes=tuple(scopes))
            self.consumers[consumer.key] = replace(consumer, grant=grant)
        else:
            secret = credential.secret or ""
            self.grants[secret] = replace(self.grants[secret], scopes=tuple(scopes))


def many_cloud_repositories(number: int) -> tuple[CloudRepository, ...]:
    """The usual repositories and so many more, which are listed before the others."""
    more = (CloudRepository(TEAM, f"a-{n:06}", "OPEN", public=True) for n in range(number))
    return (*more, *REPOSITORIES)
