"""Bitbucket itself: its state and version, secrets and rights, links to itself, webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diag.simulator.data import (
    BUILDS,
    CHAT,
    CREDENTIALS,
    REPOSITORIES,
    VERSION,
    Delivered,
    many_repositories,
)
from diag.simulator.faults_bitbucket import (
    FOR_JENKINS,
    NO_CONNECTION,
    NO_HOST,
    NO_IDEA,
    NO_TLS,
    SKIPPED,
)
from tests.gallery.case import HOST, REPO, URL, Call, Family
from tests.lab import SERVER4

if TYPE_CHECKING:
    from diag.simulator.data import Webhook
    from tests.gallery.town import Town

BITBUCKET = Family("bitbucket", "Bitbucket: state, version, secrets, rights, links and webhooks")

CLEARTEXT, OLD = "auth-token-in-cleartext", "version-end-of-life"
PRIVATE_REPOSITORIES = [one for one in REPOSITORIES if not one.public]
OTHER = "code.lab.test"


def before(
    town: Town,
    port: int,
    *,
    front: str = "nginx",
    path: str = "/",
    site: str = "",
    listen: str = "listen 443 ssl;",
) -> None:
    """Put the name, and nginx or haproxy, before Bitbucket on this port."""
    town.dns(f"--host-record=ssh.lab.test,{SERVER4}", f"--host-record={OTHER},{SERVER4}")
    if front == "nginx":
        town.nginx(town.site(port, path=path, site=site, listen=listen))
        return
    crt = town.bundle(town.ca.issue(HOST))
    town.haproxy(
        f"frontend web\nbind :443 ssl crt {crt}\ndefault_backend bitbucket\n"
        f"backend bitbucket\nserver one 127.0.0.1:{port}",
        443,
    )


def call(url: str = URL, repo: str = REPO, user: str | None = None, **options: str) -> Call:
    """A call with `--option value` for each of `options`; no `repo`: none is named."""
    given = {"user": user or "", **options}
    words = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    return Call(url, tuple(words), repo=repo or None)


# state


@BITBUCKET.fault("S01", "server-maintenance", "an administrator locked it", state="MAINTENANCE")
@BITBUCKET.fault("S02", "server-starting", "it is starting", state="STARTING")
@BITBUCKET.fault("S03", "server-setup-incomplete", "nobody has set it up", state="FIRST_RUN")
@BITBUCKET.fault("S04", "server-error-state", "it could not start", state="ERROR")
@BITBUCKET.fault(
    "S04-haproxy", "server-error-state", "haproxy in front", state="ERROR", front="haproxy"
)
@BITBUCKET.fault(
    "S01-path",
    "server-maintenance",
    "in maintenance, below a path",
    state="MAINTENANCE",
    path="/bitbucket",
)
# version
@BITBUCKET.fault(
    "V01",
    "version-unsupported",
    "7.10.0, and Appcircle needs 7.14",
    also=[OLD],
    version="7.10.0",
    told=["7.14"],
)
@BITBUCKET.fault("V02", "version-no-tokens", "5.4.0 knows no tokens", also=[OLD], version="5.4.0")
@BITBUCKET.fault("V04", OLD, "8.9.10", version="8.9.10")
@BITBUCKET.fault("V04-server", OLD, "Bitbucket Server 7.21.4", version="7.21.4")
# who is calling
@BITBUCKET.fault("A01", "auth-token-invalid", "a token that was revoked", secret="revoked-token")
@BITBUCKET.fault(
    "A01-expired", "auth-token-invalid", "a token that expired", secret="expired-token"
)
@BITBUCKET.fault("A01-typo", "auth-token-invalid", "a mistyped password", secret="wrong-password")
@BITBUCKET.fault(
    "A02",
    "auth-anonymous-fallback",
    "an expired token counts as none, and there are public repositories",
    secret="expired-token",
    ignores_bad_tokens=True,
    anonymous_listing=True,
)
@BITBUCKET.fault(
    "A02-empty",
    "auth-anonymous-fallback",
    "an expired token counts as none, and nothing is public",
    secret="expired-token",
    ignores_bad_tokens=True,
    anonymous_listing=True,
    public_access=False,
    repo="",
)
@BITBUCKET.fault(
    "A03", "auth-captcha-required", "too many failed logins", secret="password", captcha_after=0
)
@BITBUCKET.fault(
    "A04",
    "auth-scheme-wrong",
    "the token of a project as a password",
    secret="project-token-as-password",
)
@BITBUCKET.fault(
    "A05", "auth-basic-disabled", "passwords are switched off", secret="password", basic_auth=False
)
@BITBUCKET.fault("A06", "auth-user-inactive", "the user has left", secret="inactive-token")
@BITBUCKET.fault(
    "A06-licence", "auth-user-inactive", "the user has no licence", secret="unlicensed-token"
)
# what for
@BITBUCKET.fault(
    "R01",
    "perm-no-repositories",
    "the user sees nothing",
    secret="outsider-token",
    repositories=PRIVATE_REPOSITORIES,
    repo="",
)
@BITBUCKET.fault("R02", "perm-repo-not-visible", "it is hidden from the user", repo="FIN/ledger")
@BITBUCKET.fault(
    "R02-token",
    "perm-repo-not-visible",
    "the token of another repository",
    secret="repository-token",
    repo="MOB/tooling",
)
@BITBUCKET.fault(
    "R03", "perm-admin-missing", "the user may write, not administer", secret="developer-token"
)
@BITBUCKET.fault(
    "R03-token",
    "perm-admin-missing",
    "the token of a repository, made for reading",
    secret="repository-read-token",
)
@BITBUCKET.fault(
    "R04", "perm-token-scope-limited", "the user may, the token only reads", secret="read-token"
)
@BITBUCKET.fault(
    "R04-write", "perm-token-scope-limited", "the user may, the token writes", secret="write-token"
)
@BITBUCKET.fault("R05", "perm-project-not-found", "letters swapped in the key", repo="MBO/app")
@BITBUCKET.fault("R05-person", "perm-project-not-found", "nobody's own project", repo="~jdoe/app")
@BITBUCKET.fault(
    "R07",
    "perm-public-only",
    "nothing but what everybody sees",
    secret="outsider-token",
    repo="",
    stage="steady",
)
@BITBUCKET.fault(
    "R08", "perm-too-broad", "the token of Bitbucket's administrator", secret="sysadmin-token"
)
@BITBUCKET.fault(
    "R08-steady", "perm-too-broad", "the token that made the webhooks, kept", stage="steady"
)
@BITBUCKET.fault("R09", "perm-repo-archived", "put into the archive", repo="MOB/legacy")
@BITBUCKET.fault("R10", "git-http-disabled", "cloning over HTTP is switched off", git_http=False)
# links
@BITBUCKET.fault(
    "B01", "base-url-localhost", "never told its address", base="http://localhost:7990"
)
@BITBUCKET.fault("B02", "base-url-loopback", "127.0.0.1", base="http://127.0.0.1:7990")
@BITBUCKET.fault("B02-ipv6", "base-url-loopback", "::1", base="http://[::1]:7990")
@BITBUCKET.fault("B03", "base-url-private-ip", "an address", base="http://10.1.2.3:7990")
@BITBUCKET.fault(
    "B03-tls", "base-url-private-ip", "the address of the server", base=f"https://{SERVER4}"
)
@BITBUCKET.fault(
    "B04", "base-url-unresolvable", "a name nobody knows", base="https://bitbucket.lab.test"
)
@BITBUCKET.fault("B05", "base-url-scheme-mismatch", "http:// behind TLS", base=f"http://{HOST}")
@BITBUCKET.fault("B06", "base-url-port-mismatch", "its own port", base=f"{URL}:7990")
@BITBUCKET.fault(
    "B06-haproxy", "base-url-port-mismatch", "behind haproxy", base=f"{URL}:8443", front="haproxy"
)
@BITBUCKET.fault(
    "B07", "base-url-context-mismatch", "without the path", path="/bitbucket", base=URL
)
@BITBUCKET.fault("B07-more", "base-url-context-mismatch", "with another path", base=f"{URL}/stash")
@BITBUCKET.fault("B08", "base-url-host-mismatch", "another name", base=f"https://{OTHER}")
# double faults
@BITBUCKET.fault(
    "B01+R03",
    "base-url-localhost",
    "links to localhost, and a user who may not administer",
    seen=["perm-admin-missing"],
    base="http://localhost:7990",
    secret="developer-token",
)
@BITBUCKET.fault(
    "V01+R04",
    "version-unsupported",
    "too old, and a token that only reads",
    seen=["perm-token-scope-limited"],
    also=[OLD],
    version="7.10.0",
    secret="read-token",
)
@BITBUCKET.fault(
    "R04+V04",
    "perm-token-scope-limited",
    "a token that only reads, and a version that is no longer mended",
    seen=[OLD],
    version="8.19.3",
    secret="read-token",
)
@BITBUCKET.fault(
    "B05+R10",
    "base-url-scheme-mismatch",
    "http:// in the links, and no clones over HTTP",
    seen=["git-http-disabled"],
    base=f"http://{HOST}",
    git_http=False,
)
@BITBUCKET.fault(
    "V04+R09",
    OLD,
    "no longer mended, and the repository is in the archive",
    seen=["perm-repo-archived"],
    version="8.9.10",
    repo="MOB/legacy",
)
# in order
@BITBUCKET.healthy(
    "bitbucket-read",
    "the webhooks are made, and the token reads",
    secret="read-token",
    stage="steady",
)
@BITBUCKET.healthy(
    "bitbucket-third-page", "on the third page", repositories=many_repositories(60), page_limit=25
)
@BITBUCKET.healthy(
    "bitbucket-scheme",
    "http:// in the links, and http:// is what is used",
    deserved=[CLEARTEXT],
    base=f"http://{HOST}",
    url=f"http://{HOST}",
)
def bitbucket(
    town: Town,
    /,
    secret: str = "admin-token",
    repo: str = REPO,
    stage: str = "",
    version: str = VERSION,
    base: str = "",
    path: str = "",
    front: str = "nginx",
    url: str = URL,
    **instance: Any,
) -> Call:
    """One that its administrator has set up like this, or that is in this state."""
    limit = instance.pop("page_limit", 1000)
    port = town.bitbucket(
        base_url=base or url + path,
        context_path=path,
        version=version,
        page_limit=limit,
        instance=instance,
    )
    listen = "listen 443 ssl;" if url == URL else "listen 80;"
    before(town, port, front=front, path=path or "/", listen=listen)
    given = CREDENTIALS[secret]
    town.token = given.secret
    return call(url + path, repo, given.user, stage=stage)


# what it takes a program in front for


@BITBUCKET.fault(
    "V03",
    "version-unknown",
    "a gateway does not let the version through",
    site="location ~ /application-properties { return 404; }",
)
@BITBUCKET.fault(
    "V03-page",
    "version-unknown",
    "a gateway has a page where the version should be",
    site="location ~ /application-properties { default_type text/html; return 200 '<p>no'; }",
)
@BITBUCKET.fault(
    "R10-gateway",
    "git-http-disabled",
    "a gateway lets no clones through",
    site="location /scm { return 403; }",
)
@BITBUCKET.fault(
    "R10-missing",
    "git-http-disabled",
    "a gateway that knows nothing of clones",
    site="location /scm { return 404; }",
)
def gateway(town: Town, site: str) -> None:
    before(town, town.bitbucket(), site=site)


@BITBUCKET.fault("A07", CLEARTEXT, "http:// and a token")
@BITBUCKET.fault(
    "R03+A07",
    "perm-admin-missing",
    "http:// and a token, whose user may not administer",
    seen=[CLEARTEXT],
    secret="developer-token",
)
def cleartext(town: Town, secret: str = "admin-token") -> Call:
    town.plain()
    town.token = CREDENTIALS[secret].secret
    return call(f"http://{HOST}")


@BITBUCKET.fault("A04-reverse", "auth-scheme-wrong", "a password where a token belongs")
def password_as_token(town: Town) -> None:
    town.healthy()
    town.token = CREDENTIALS["password"].secret


@BITBUCKET.fault("A01-cut", "auth-token-invalid", "the last letters were not copied")
def cut_token(town: Town) -> None:
    town.healthy()
    town.token = (town.token or "")[:-6]


# SSH


@BITBUCKET.fault("R11", "git-ssh-unreachable", "a firewall drops SSH", rule="tcp dport 7999 drop")
@BITBUCKET.fault(
    "R11-reject",
    "git-ssh-unreachable",
    "a firewall rejects SSH",
    rule="tcp dport 7999 reject with icmpx admin-prohibited",
)
@BITBUCKET.fault(
    "B09",
    "base-url-ssh-unreachable",
    "another host in the SSH links, and no way there",
    ssh="ssh.lab.test",
    rule="tcp dport 7999 drop",
)
@BITBUCKET.fault(
    "B09-name",
    "base-url-ssh-unreachable",
    "a name nobody knows in the SSH links",
    ssh="git.lab.test",
)
@BITBUCKET.fault(
    "B01+R11",
    "base-url-localhost",
    "links to localhost, and no way to SSH",
    seen=["git-ssh-unreachable"],
    rule="tcp dport 7999 drop",
    base="http://localhost:7990",
)
def ssh(town: Town, rule: str = "", ssh: str = HOST, base: str = URL) -> None:
    before(town, town.bitbucket(ssh=ssh, base_url=base))
    if rule:
        town.lab.rules("router", "forward", rule)


# webhooks: as Bitbucket noted them down


def failed(said: str, content: str = "", took: float = 0.2) -> dict[str, Any]:
    """A webhook whose last delivery came to this."""
    outcome = "FAILURE" if said.isdecimal() else "ERROR"
    last = Delivered(said, outcome, 60.0, took, content)
    return {"hook": replace(BUILDS, record=(Delivered(ago=86400.0), last))}


JENKINS = replace(BUILDS, url="https://ci.lab.test/bitbucket-scmsource-hook/notify")


@BITBUCKET.fault("W01", "webhook-egress-blocked", "no way out", **failed(NO_CONNECTION, took=10.0))
@BITBUCKET.fault("W02", "webhook-dns-failure", "its resolver lacks the name", **failed(NO_HOST))
@BITBUCKET.fault("W03", "webhook-tls-untrusted", "an unknown CA", **failed(NO_TLS))
@BITBUCKET.fault("W04", "webhook-proxy-required", "a proxy wants a sign-in", **failed("407"))
@BITBUCKET.fault(
    "W04-silent",
    "webhook-egress-blocked",
    "only a proxy leads out, and it does not know that",
    told=["proxy"],
    **failed(NO_CONNECTION, took=10.0),
)
@BITBUCKET.fault("W05", "webhook-endpoint-not-found", "the app was deleted", **failed("404"))
@BITBUCKET.fault("W05-gone", "webhook-endpoint-not-found", "the app is gone", **failed("410"))
@BITBUCKET.fault("W06", "webhook-endpoint-rejected", "not let in: 403", **failed("403"))
@BITBUCKET.fault("W06-401", "webhook-endpoint-rejected", "not let in: 401", **failed("401"))
@BITBUCKET.fault("W07", "webhook-endpoint-timeout", "too slow", **failed(NO_IDEA, took=10.0))
@BITBUCKET.fault("W07-504", "webhook-endpoint-timeout", "a slow backend", **failed("504"))
@BITBUCKET.fault(
    "W08", "webhook-circuit-open", "left out after five failures", **failed(NO_IDEA, SKIPPED, 0.0)
)
@BITBUCKET.fault(
    "W09", "webhook-missing", "it was deleted", also=["perm-too-broad"], hook=CHAT, stage="steady"
)
@BITBUCKET.fault(
    "W09-jenkins",
    "webhook-missing",
    "there are others",
    profile="jenkins",
    hook=BUILDS,
    stage="steady",
)
@BITBUCKET.fault("W10", "webhook-inactive", "switched off", hook=replace(BUILDS, active=False))
@BITBUCKET.fault(
    "W11",
    "webhook-events-missing",
    "pushes alone",
    told=["pr:opened"],
    hook=replace(BUILDS, events=("repo:refs_changed",)),
)
@BITBUCKET.fault(
    "W11-push",
    "webhook-events-missing",
    "pull requests alone",
    told=["repo:refs_changed"],
    hook=replace(JENKINS, events=("pr:opened",)),
    profile="jenkins",
)
@BITBUCKET.fault(
    "W12",
    "webhook-wrong-url",
    "the address of former years",
    also=["perm-too-broad"],
    hook=replace(BUILDS, url="https://www.bitrise.io/hooks/x"),
    profile="bitrise",
)
@BITBUCKET.fault(
    "W12-loopback",
    "webhook-wrong-url",
    "Jenkins does not know its own address",
    hook=replace(BUILDS, url=FOR_JENKINS, record=()),
    profile="jenkins",
)
@BITBUCKET.fault(
    "W13",
    "webhook-secret-mismatch",
    "another secret here than there",
    **failed("401", '{"error": "X-Hub-Signature does not match"}'),
)
@BITBUCKET.fault(
    "W05+V04",
    "webhook-endpoint-not-found",
    "the app was deleted, and this version is no longer mended",
    seen=[OLD],
    version="8.9.10",
    **failed("404"),
)
@BITBUCKET.fault(
    "B01+W02",
    "base-url-localhost",
    "links to localhost, and a resolver that lacks the name",
    seen=["webhook-dns-failure"],
    base="http://localhost:7990",
    **failed(NO_HOST),
)
@BITBUCKET.healthy("webhook-none", "no webhook yet, before the set-up", hook=CHAT)
@BITBUCKET.healthy(
    "webhook-foreign",
    "somebody else's webhook is broken",
    hook=replace(CHAT, record=failed("404")["hook"].record),
    others=(BUILDS,),
)
@BITBUCKET.healthy(
    "webhook-recovered",
    "deliveries failed, and work again",
    hook=replace(BUILDS, record=(Delivered("404", "FAILURE", 900.0), Delivered(ago=60.0))),
)
@BITBUCKET.healthy(
    "webhook-changed",
    "it failed before it was mended",
    hook=replace(BUILDS, changed=60.0, record=(Delivered("404", "FAILURE", 900.0),)),
)
@BITBUCKET.healthy(
    "webhook-project",
    "the webhook is the project's",
    hook=replace(JENKINS, of_project=True),
    profile="jenkins",
    stage="steady",
    deserved=["perm-too-broad"],
)
def webhooks(
    town: Town,
    /,
    hook: Webhook,
    others: tuple[Webhook, ...] = (CHAT,),
    profile: str = "",
    stage: str = "",
    version: str = VERSION,
    base: str = URL,
) -> Call:
    """Bitbucket's own calls go to another place: what became of them stands in its record."""
    hooks = {"webhooks": (*others, hook)}
    before(town, town.bitbucket(version=version, base_url=base, instance=hooks))
    return call(stage=stage, **{"for": profile})


BITBUCKET.near_miss("401", "A01", "A03")
BITBUCKET.near_miss("401", "A01-expired", "A06")
BITBUCKET.near_miss("503", "S01", "S02")
BITBUCKET.near_miss("an empty list", "R01", "A02-empty")
BITBUCKET.near_miss("a list of repositories", "R03", "R04")
BITBUCKET.near_miss("a list of repositories", "R02", "R05")
BITBUCKET.near_miss("a list of repositories", "B01", "B05")
BITBUCKET.near_miss("a list of repositories", "R10", "R11")
BITBUCKET.near_miss("a list of repositories", "W01", "W07")
BITBUCKET.near_miss("a list of repositories", "W06-401", "W13")
