"""The vocabulary of the tool: what one check establishes and another builds on.

Every fact is a record. A check yields it, the runner keeps it, and hands it to the checks
that declare it in `requires` or `after`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from diag.record import field, record
from diag.scopes import Vocabulary, vocabulary
from diag.secret import Secret


class Fact:
    """Base of all facts."""

    __slots__ = ()


@record
class Target(Fact):
    """What the user wants to reach, read out of whatever was pasted. From check `input`."""

    text: str  # as given, without credentials
    scheme: Literal["http", "https"]
    host: str  # lower case, IDNA-encoded, an IPv6 literal without brackets
    port: int
    context: str = ""  # "" or "/bitbucket": no trailing slash
    project: str | None = None  # "MOB", "~jdoe"; on Cloud the workspace
    repository: str | None = None  # slug
    kind: Literal["datacenter", "cloud", "unknown"] = "datacenter"
    port_given: bool = False

    @property
    def netloc(self) -> str:
        """Host, in brackets if IPv6, and the port unless it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    @property
    def base_url(self) -> str:
        return self.origin + self.context


@record
class Credential(Fact):
    """The secret and how it is to be sent; `secret` is None in an anonymous run. From `input`.

    With "grant" it is the secret of an OAuth consumer of Bitbucket Cloud, `user` its key: both are
    exchanged for a token (`Http.client_credentials_grant`), and no other request carries them.
    """

    secret: Secret | None
    scheme: Literal["basic", "bearer", "grant"] = "bearer"
    user: str | None = None
    source: str = "none"  # "$BITBUCKET_TOKEN", "file token.txt", …


@record
class Route(Fact):
    """How to get out: directly or through a proxy, and what decided it. From check `proxy`."""

    proxy: str | None = None  # "http://proxy.example.com:3128", without credentials
    decided_by: str = "no proxy variable is set"


@record
class Addresses(Fact):
    """What the host name resolves to, in the order the system would try them. From `dns`."""

    host: str
    addresses: tuple[str, ...]
    source: str = "system"  # "system", "literal", "connect-to", "hosts"


@record
class Knocked(Fact):
    """Whether the target's port takes connections, known before it is known why not. From `tcp`."""

    is_open: bool
    others: Mapping[tuple[str, int], str] = field(default_factory=dict)  # what came of other ports
    # of the host, by address and port, as far as they were asked: "open", "refused", "silent", …


@record
class Channel(Fact):
    """A TCP connection (or a proxy's tunnel) to the target's port can be had. From `tcp`, `proxy`.

    The connection itself is parked with `ctx.dialer` under (host, port).
    """

    host: str
    port: int
    address: str  # "10.0.0.7" or "proxy http://…"
    rtt_ms: float | None = None


@record
class Wire(Fact):
    """The HTTP requests may travel: TLS is up, or the user asked for plain http. From `tls`."""

    secure: bool  # TLS
    verified: bool  # its certificate passed verification; without it no secret is sent over TLS
    version: str | None = None  # "TLSv1.3"


@record
class ServerTime(Fact):
    """The server's `Date` header against this machine's clock. From `tls` (dates in doubt: read
    over an unverified connection, without any secret) or `http`."""

    server: float  # seconds since the epoch
    local: float  # the same instant by this clock
    uncertainty: float  # seconds: the round trip, and the header's resolution of one second


@record
class CertificateDates(Fact):
    """The validity of the served certificates, when it is what failed. From `tls`."""

    not_before: float  # seconds since the epoch; the latest start in the chain
    not_after: float  # the earliest end


@record
class Reply:
    """What one question to the instance brought, asked without secret: part of `Instance`."""

    request: str = ""  # the URL
    code: int | None = None  # HTTP status; None when no whole answer came
    content: Mapping[str, str] | None = None  # what was asked for, None if it is not there
    said: str = ""  # what the answer says instead, in a few words fit to be shown
    location: str | None = None  # where it redirects to
    request_id: str | None = None  # X-AREQUESTID: under this, Bitbucket's log has it


@record
class Instance(Fact):
    """Bitbucket itself answered, here is its base. From check `http`."""

    base_url: str  # "https://host/context", no trailing slash
    marks: tuple[str, ...]  # what gave it away: "X-AREQUESTID", …
    same_origin: bool = True  # as the user typed it: only then is the secret sent
    status: Reply = field(default_factory=Reply)  # of /status: {"state": "RUNNING"}
    properties: Reply = field(default_factory=Reply)  # of application-properties


@record
class Running(Fact):
    """`/status` says RUNNING (or cannot be read, which proves nothing). From check `server`."""

    state: str | None


@record
class Version(Fact):
    """Product version from application-properties. From check `version`."""

    text: str
    numbers: tuple[int, int, int]
    display_name: str = "Bitbucket"


@record
class Identity(Fact):
    """Who the server takes us for. From check `auth`.

    `kind` is "anonymous" where no secret was given, "user" where X-AUSERNAME names one, "service"
    for a credential that works but names nobody (project and repository tokens).
    """

    kind: Literal["anonymous", "user", "service"]
    name: str | None = None
    user_id: str | None = None

    @property
    def who(self) -> str:
        """What to call it in a message; the name comes from the network."""
        if self.kind == "user":
            return f"user {self.name}"
        return "nobody in particular" if self.kind == "anonymous" else "the token"


@record
class CloudAccess(Fact):
    """What Bitbucket Cloud says about the credential in the headers of its answers. From
    `cloud-auth`."""

    kind: str  # X-Credential-Type: "api_token", "repo_access_token", "oauth2", …; "" if not told
    scopes: tuple[str, ...] | None  # X-OAuth-Scopes; None if not told
    app: bool = False  # an OAuth consumer that acts for its workspace, not for a user

    @property
    def vocabulary(self) -> Vocabulary:
        return vocabulary(self.scopes or (), self.kind)

    @property
    def of_resource(self) -> bool:
        """It belongs to a repository, project or workspace, and not to a person."""
        return self.app or self.kind.endswith("_access_token")


@record
class CloudTried:
    """What came of doing a thing that a product needs: part of `CloudReads` and `CloudHooks`.

    `outcome` is that of `diag.bitbucket.cloud`; the scopes are those that a 403 names.
    """

    need: str  # of `diag.scopes.NEEDS`
    request: str
    outcome: str
    required: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()


@record
class CloudReads(Fact):
    """The wanted repository is there, or only a scope is in the way of telling; and what may be
    read of it. From `cloud-repository`."""

    full_name: str  # as Bitbucket writes it, else as it was given
    private: bool | None
    tried: tuple[CloudTried, ...]


@record
class CloudHooks(Fact):
    """What came of asking for the webhooks of the wanted repository. From `cloud-permission`."""

    tried: tuple[CloudTried, ...]


@record
class Link(Fact):
    """One absolute link that the server wrote about itself."""

    href: str  # without user information
    kind: Literal["self", "http", "ssh", "capabilities", "realm", "location"]
    where: str  # "repos: MOB/app links.self"
    base: str = ""  # the part that says where Bitbucket is: "http://localhost:7990/context"
    count: int = 1  # how many links of this kind and base were seen; this one is the first


@record
class Repository(Fact):
    """One repository of a listing."""

    project: str
    slug: str
    id: int | None = None
    name: str = ""
    public: bool = False
    archived: bool = False
    links: tuple[Link, ...] = ()


@record
class Repositories(Fact):
    """The listing, as far as it was read. From check `repos`."""

    seen: int
    complete: bool  # every page was read
    wanted: Repository | None = None  # the repository that must work, when it was found
    first: Repository | None = None  # the first one of the wanted project, or of all
    links: tuple[Link, ...] = field(default=(), repr=False)


@record
class Realm(Fact):
    """The base URL that Bitbucket names in the OAuth realm of a 401. From `auth`, `repos`."""

    link: Link


@record
class Clone(Fact):
    """The clone links of the wanted (or first) repository. From check `repos`."""

    project: str
    slug: str
    http: str | None
    ssh: str | None


@record
class CloneTried(Fact):
    """The clone path over HTTP was tried, whatever came of it: what may cost us the secret (a 401)
    can be asked now. From check `git`."""

    limited: bool = False  # nothing more is let through: a rate limit


@record
class Delivery:
    """What Bitbucket noted down of one call of a webhook: part of `Webhook`."""

    outcome: Literal["SUCCESS", "FAILURE", "ERROR"]  # FAILURE: an answer that is no success
    at: float  # seconds since the epoch, by Bitbucket's clock
    said: str  # in Bitbucket's words, without addresses: an HTTP status, or why no answer came
    lasted: float | None = None  # seconds


@record
class Webhook:
    """One webhook of Bitbucket Data Center, without its secrets: part of `Webhooks`."""

    id: int
    url: str = field(repr=False)  # can hold a token: `receiver` is what may be shown of it
    receiver: str  # "https://hooks.example.com"
    active: bool
    events: tuple[str, ...]
    changed: float = 0.0  # seconds since the epoch
    deliveries: tuple[Delivery, ...] = ()  # the last one of each outcome, the latest first
    inherited: bool = False  # it belongs to the project


@record
class Webhooks(Fact):
    """The secret administers the wanted repository, so that its webhooks are shown to it. From
    `permission`."""

    webhooks: tuple[Webhook, ...] | None  # None: they were not asked for
    complete: bool = False  # there are no others on this repository
