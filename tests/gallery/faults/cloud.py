"""Bitbucket Cloud: three hosts of which a filter may know one, and many kinds of secrets.

The embedded Cloud stands behind nginx, which has a certificate of the lab's CA for Atlassian's
names; each host has an address of its own, as a firewall sees them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from diag.simulator import Simulator
from diag.simulator.cloud_data import ALTSSH, API, SITE, TEAM
from tests.certificates import DAY, Identity
from tests.certificates import root as make_root
from tests.gallery.case import Call, Family
from tests.lab import CLIENT4, SERVER4

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.gallery.town import Town

CLOUD = Family("cloud", "Bitbucket Cloud")

API4, SSH4 = "10.77.2.3", "10.77.2.4"  # the website has the server's own address
GONE6 = "fd77:2::9"
ADDRESSES = {SITE: SERVER4, API: API4, ALTSSH: SSH4}
RESOURCE = f"https://{API}/2.0/repositories"
BANNER = b"SSH-2.0-conker_1.1.23-lab\r\n"
INVALID, IDENTITY, SCOPE = "auth-token-invalid", "cloud-auth-identity-wrong", "cloud-scope-missing"
BLOCKED, OTHER, INCIDENT = "cloud-api-host-blocked", "cloud-token-other-resource", "cloud-incident"
LIMITED, HIDDEN, SSH = "rate-limited", "perm-repo-not-visible", "git-ssh-unreachable"
TO_API = f"ip daddr {API4} tcp dport 443 "
TO_CLOUD = f"ip daddr {{ {SERVER4}, {API4}, {SSH4} }} tcp dport {{ 22, 80, 443 }} "
TO_SSH = f"ip daddr {SERVER4} tcp dport 22 drop"
TO_ANY_SSH = f"{TO_SSH}; ip daddr {SSH4} tcp dport 443 drop"
SQUID_WEB_ONLY = f"acl web dstdomain {SITE}\nhttp_access allow web\nhttp_access deny all"
SQUID_NONE = f"acl cloud dstdomain .{SITE}\nhttp_access deny cloud\nhttp_access allow all"
EDGE = "proxy_pass_header Server;"  # Atlassian's own name, not nginx's
CATEGORY = 'return 200 "<title>Blocked</title><p>Category: file sharing</p>";'


def build(
    town: Town,
    fault: str | None = None,
    *,
    credential: str | None = None,
    certificate: Identity | None = None,
    names: Mapping[str, str] = ADDRESSES,
    api: str = "",
    url: str | None = None,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Call:
    """Bitbucket Cloud as it is on a good day, or with a fault of the simulator's; `api` is added
    to nginx's server block of the API, `names` is what DNS knows."""
    records = [f"--host-record={name},{address}" for name, address in names.items()]
    town.dns(f"--local=/{SITE}/", *records)
    town.lab.ip("server", f"addr add {API4}/24 dev eth0", f"addr add {SSH4}/24 dev eth0")
    simulator = Simulator(fault, cloud=True, tls=False, credential=credential)
    scenario = town.start(simulator)
    town.token = scenario.token
    issued = certificate or town.ca.issue(SITE, API, ALTSSH)
    town.nginx(
        f"server {{ listen 80; server_name {SITE} {API}; return 301 https://$host$request_uri; }}",
        town.site(
            simulator.port,
            certificate=issued,
            listen=f"listen {SERVER4}:443 ssl; server_name {SITE};",
            location=EDGE,
        ),
        town.site(
            simulator.port,
            certificate=issued,
            listen=f"listen {API4}:443 ssl; server_name {API};",
            site=api,
            location=EDGE,
        ),
    )
    for address, port in ((SERVER4, 22), (SSH4, 443)):
        town.lab.serve("server", port, lambda sock: sock.sendall(BANNER), address=address)
    path = urlsplit(scenario.url).path
    said = [part for name, value in scenario.options.items() for part in (f"--{name}", str(value))]
    user = ["--user", scenario.user] if scenario.user else []
    return Call(
        url or scenario.url,
        (*user, *said, *options),
        repo=None,
        env=env or {},
        prefix=tuple(prefix),
        probe=f"{RESOURCE}{path}/refs/branches",
    )


# the secret, and what it may do


@CLOUD.fault("C01", "cloud-app-password-removed", "an app password", credential="app-password")
@CLOUD.fault(
    "C01-email",
    "cloud-app-password-removed",
    "an app password, with the e-mail address",
    credential="app-password-email",
)
@CLOUD.fault("C02", SCOPE, "an API token without webhooks", credential="api-token-missing-scope")
@CLOUD.fault(
    "C02-repository",
    SCOPE,
    "a repository's token without webhooks",
    credential="repository-token-missing-scope",
)
@CLOUD.fault("C02-oauth", SCOPE, "OAuth without webhooks", credential="oauth-token-missing-scope")
@CLOUD.fault("C07", IDENTITY, "the user name, not the e-mail", credential="api-token-username")
@CLOUD.fault("C07-bearer", IDENTITY, "an API token alone", credential="api-token-wrong-scheme")
@CLOUD.fault(
    "C07-basic",
    IDENTITY,
    "a repository's token as a password",
    credential="repository-token-wrong-scheme",
)
@CLOUD.fault(
    "C07-public", IDENTITY, "a consumer that is not private", credential="oauth-consumer-public"
)
@CLOUD.fault("C08", OTHER, "a token of another repository", credential="repository-token-other")
@CLOUD.fault("C08-project", OTHER, "a token of another project", credential="project-token-other")
@CLOUD.fault("A01-cloud", INVALID, "an API token that expired", credential="api-token-expired")
@CLOUD.fault(
    "A01-revoked", INVALID, "an API token that was revoked", credential="api-token-revoked"
)
@CLOUD.fault("A01-oauth", INVALID, "an OAuth token that expired", credential="oauth-token-expired")
@CLOUD.fault(
    "I12-cloud-datacenter",
    "input-token-wrong-product",
    "a token of Bitbucket Data Center",
    credential="datacenter-token",
)
@CLOUD.fault(
    "R03-cloud", "perm-admin-missing", "a user who may only write", credential="api-token-writer"
)
@CLOUD.fault("R08-cloud", "perm-too-broad", "a token that may do more", fault="perm-too-broad")
@CLOUD.healthy("cloud", "an API token, and the address of a repository's page")
@CLOUD.healthy("cloud-repository", "a repository's token", credential="repository-token")
@CLOUD.healthy("cloud-oauth", "an OAuth access token", credential="oauth-token")
@CLOUD.healthy("cloud-consumer", "an OAuth consumer", credential="oauth-consumer")
@CLOUD.healthy(
    "cloud-anonymous",
    "a public repository, and no secret",
    credential="anonymous",
    url=f"https://{SITE}/{TEAM}/docs",
)
@CLOUD.healthy("cloud-clone", "the clone URL", url=f"https://ci-bot@{SITE}/{TEAM}/app.git")
@CLOUD.healthy(
    "cloud-steady",
    "only reading is needed",
    credential="api-token-steady",
    options=("--stage", "steady"),
)
# the workspace, and Atlassian
@CLOUD.fault("C03", "cloud-api-removed", "410", fault="cloud-api-removed")
@CLOUD.fault("C03-404", "cloud-api-removed", "404 for all of it", fault="cloud-api-removed/404")
@CLOUD.fault("C04", "cloud-workspace-not-found", "a typo", fault="cloud-workspace-not-found")
@CLOUD.fault("C05", "cloud-ip-not-allowlisted", "403", fault="cloud-ip-not-allowlisted")
@CLOUD.fault(
    "C05-hidden", "cloud-ip-not-allowlisted", "404", fault="cloud-ip-not-allowlisted/hidden"
)
@CLOUD.fault("C09", LIMITED, "429", fault="rate-limited")
@CLOUD.fault("C09-text", LIMITED, "429, in plain text", fault="rate-limited/text")
@CLOUD.fault("C10", INCIDENT, "the edge reaches nothing", fault="cloud-incident")
@CLOUD.fault("C10-api", INCIDENT, "the API alone breaks, with a page", fault="cloud-incident/api")
@CLOUD.fault("Q03-cloud", "rate-limit-near", "few requests are left", fault="rate-limit-near")
@CLOUD.fault("R02-cloud", HIDDEN, "hidden from this user", fault=HIDDEN)
@CLOUD.fault("R02-page", HIDDEN, "hidden, and told in a page", fault=f"{HIDDEN}/html")
def signed_in(
    town: Town,
    fault: str | None = None,
    credential: str | None = None,
    url: str | None = None,
    options: Sequence[str] = (),
) -> Call:
    return build(town, fault, credential=credential, url=url, options=options)


# the way: firewalls


@CLOUD.fault("C06", BLOCKED, "a firewall knows the website alone", rule=TO_API + "drop")
@CLOUD.fault(
    "C06-reset",
    BLOCKED,
    "a firewall resets what goes to the API",
    rule=TO_API + "reject with tcp reset",
)
@CLOUD.fault("T02-cloud", "tcp-filtered", "all hosts are filtered", rule=TO_CLOUD + "drop")
@CLOUD.fault(
    "T03-cloud",
    "tcp-admin-prohibited",
    "a firewall rejects what goes to any host",
    rule=TO_CLOUD + "reject with icmpx admin-prohibited",
)
@CLOUD.fault(
    "C06-website",
    "cloud-website-unreachable",
    "a firewall knows the API alone",
    rule=f"ip daddr {SERVER4} tcp dport 443 drop",
)
@CLOUD.fault("R11-cloud", SSH, "port 22 is closed, SSH on port 443 works", rule=TO_SSH)
@CLOUD.fault("R11-both", SSH, "both ports for SSH are closed", rule=TO_ANY_SSH)
@CLOUD.fault(
    "T12-cloud",
    "tcp-pmtu-blackhole",
    "packets above 600 bytes are lost on the way back",
    rule=f"ip saddr {{ {SERVER4}, {API4} }} tcp sport 443 ip length > 600 drop",
)
@CLOUD.healthy("cloud-ping", "a firewall that drops ICMP", rule="ip protocol icmp drop")
def firewall(town: Town, rule: str) -> Call:
    call = build(town)
    town.lab.rules("router", "forward", *rule.split("; "))
    return call


# the way: names


@CLOUD.fault(
    "D14-cloud",
    "dns-aaaa-broken",
    "the API has an IPv6 address that is dead",
    more={API: f"{API4},{GONE6}"},
)
@CLOUD.fault("C06-name", BLOCKED, "DNS knows the website alone", without=(API,))
@CLOUD.fault("D01-cloud", "dns-nxdomain", "DNS knows none of the hosts", without=tuple(ADDRESSES))
@CLOUD.fault(
    "D11-cloud", "dns-sinkholed", "a filter in DNS blocks all hosts", sinkhole=tuple(ADDRESSES)
)
def by_name(
    town: Town,
    without: Sequence[str] = (),
    sinkhole: Sequence[str] = (),
    more: Mapping[str, str] = {},
) -> Call:
    names = {name: at for name, at in ADDRESSES.items() if name not in without}
    return build(town, names={**names, **dict.fromkeys(sinkhole, "0.0.0.0"), **more})


# the way: proxies


@CLOUD.fault(
    "P06-cloud-api",
    "proxy-denied",
    "squid allows the website alone",
    rules=SQUID_WEB_ONLY,
    told=[API],
)
@CLOUD.fault("P06-cloud", "proxy-denied", "squid denies all of Cloud", rules=SQUID_NONE)
@CLOUD.healthy("cloud-squid", "no way but squid")
def by_squid(
    town: Town, rules: str = "http_access allow all", credential: str | None = None
) -> Call:
    call = build(town, credential=credential, env=town.squid(rules))
    town.lab.rules("router", "forward", f"ip saddr {CLIENT4} drop")
    return call


# who answers


@CLOUD.fault("L09-cloud", "tls-interception", "an inspection signs anew", also=[SSH])
def inspected(town: Town) -> Call:
    zscaler = make_root("Zscaler Root CA", organisation="Zscaler Inc.")
    return build(town, certificate=zscaler.issue(SITE, API))


@CLOUD.fault("L01-cloud", "tls-expired", "a certificate that has expired")
def expired(town: Town) -> Call:
    return build(town, certificate=town.ca.issue(SITE, API, ends=-DAY))


@CLOUD.fault("H01-cloud", "http-block-page", "a web filter answers for the API", api=CATEGORY)
@CLOUD.fault("H03-cloud", "http-sso-login", "a portal wants a login first", api="{portal}")
def somebody_else(town: Town, api: str) -> Call:
    portal = 'return 302 "https://login.example.com/adfs/ls?SAMLRequest=x";'
    return build(town, api=f"default_type text/html; {api.format(portal=portal)}")


@CLOUD.fault("K01-cloud", "clock-skew-ahead", "the client lives in 2031", when="2031-01-01")
@CLOUD.fault("K02-cloud", "clock-skew-behind", "the client lives in 2019", when="2019-01-01")
def clock(town: Town, when: str) -> Call:
    return build(town, prefix=("faketime", "-f", f"@{when} 00:00:00"))


# two faults


@CLOUD.fault(
    "C01+R11", "cloud-app-password-removed", "an app password, and no SSH",
    credential="app-password", rule=TO_ANY_SSH, seen=[SSH],
)  # fmt: skip
@CLOUD.fault(
    "C02+R11", SCOPE, "a scope is missing, and no SSH",
    credential="api-token-missing-scope", rule=TO_ANY_SSH, seen=[SSH],
)  # fmt: skip
@CLOUD.fault(
    "C07+C06", IDENTITY, "an API token alone, and no website",
    credential="api-token-wrong-scheme", rule=f"ip daddr {SERVER4} tcp dport 443 drop",
    seen=["cloud-website-unreachable"],
)  # fmt: skip
@CLOUD.fault(
    "C08+R11", OTHER, "a token of another repository, and no SSH",
    credential="repository-token-other", rule=TO_ANY_SSH, seen=[SSH],
)  # fmt: skip
def two(town: Town, credential: str, rule: str) -> Call:
    call = build(town, credential=credential)
    town.lab.rules("router", "forward", *rule.split("; "))
    return call


CLOUD.near_miss("401", "C01", "A01-cloud")
CLOUD.near_miss("401", "C07", "A01-revoked")
CLOUD.near_miss("401 to a token alone", "C07-bearer", "A01-oauth")
CLOUD.near_miss("404", "C04", "C03-404")
CLOUD.near_miss("404", "C05-hidden", "R02-cloud")
CLOUD.near_miss("200", "C02", "R03-cloud")
CLOUD.near_miss("no answer", "C06", "T02-cloud")
CLOUD.near_miss("no such name", "C06-name", "D01-cloud")
CLOUD.near_miss("404", "C08-project", "R02-cloud")
CLOUD.near_miss("404", "C04", "R02-page")
CLOUD.near_miss("an expired certificate", "L01-cloud", "K01-cloud")
