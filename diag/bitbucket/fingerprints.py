"""What others that answer in Bitbucket's place look like: data, and how it is compared.

Every sign is something that only the product named sends: a header of its own, a cookie of its own,
or words that its pages are known by. A sign that Bitbucket itself could send is none.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from diag.record import record

if TYPE_CHECKING:
    from diag.net.http import Answer

Kind = Literal["product", "waf", "block-page", "login", "default-page"]

_LOOKED_AT = 65536  # bytes of a body that are compared


@record
class Sign:
    """One thing that gives somebody away: a regular expression, not minding case.

    `where` is "body", "cookie" (a Set-Cookie header from its beginning), or the name of a header.
    """

    kind: Kind
    name: str  # who it is
    where: str
    pattern: str = ""  # "": it is enough that the header is there
    statuses: frozenset[int] = frozenset()  # empty: with any


@record
class Sighting:
    """Somebody recognised."""

    kind: Kind
    name: str
    sign: str  # what gave it away, as it came from the network: quote before showing


def _signs(kind: Kind, name: str, *where: tuple[str, str] | str, on: str = "") -> list[Sign]:
    statuses = frozenset(map(int, on.split()))
    pairs = [(one, "") if isinstance(one, str) else one for one in where]
    return [Sign(kind, name, place, pattern, statuses) for place, pattern in pairs]


# In order: the first that fits counts, so what names one product stands before what many send.
SIGNS: tuple[Sign, ...] = (
    # Other products. Jira, Confluence and Bamboo are near relations and share some of the marks.
    *_signs(
        "product",
        "Confluence",
        "x-confluence-request-time",
        (
            "body",
            r'name="(?:confluence-base-url|ajs-version-number)"|id="com-atlassian-confluence"',
        ),
    ),
    *_signs("product", "Bamboo", ("body", r"<title>[^<]*Bamboo</title>|Atlassian Bamboo")),
    *_signs(
        "product",
        "Jira",
        ("cookie", r"atlassian\.xsrf\.token="),
        ("body", r'name="application-name" content="JIRA|^\s*\{"errorMessages":\['),
        ("x-arequestid", r"\d+x\d+x\d+$"),
    ),
    *_signs("product", "Crowd", ("body", r"<title>Atlassian Crowd")),
    *_signs("product", "Fisheye or Crucible", ("body", r"<title>[^<]*(?:FishEye|Crucible)\b")),
    *_signs("product", "Jira or another Atlassian product", "x-seraph-loginreason", "x-anodeid"),
    *_signs(
        "product",
        "Bitbucket Cloud",
        ("body", r'id="bb-bootstrap"|bitbucket\.org/account/signin|"type": ?"error", ?"error":'),
        ("location", r"https://bitbucket\.org/"),
        "x-usage-quota-remaining",
    ),
    *_signs(
        "product",
        "GitLab",
        "x-gitlab-meta",
        ("cookie", r"_gitlab_session="),
        ("location", r".*/users/sign_in$"),
        ("body", r'content="GitLab|^\s*\{"error":"404 Not Found"\}'),
    ),
    *_signs(
        "product",
        "GitHub Enterprise",
        "x-github-request-id",
        "x-github-enterprise-version",
        ("server", r"GitHub\.com"),
    ),
    *_signs(
        "product",
        "Gitea or Forgejo",
        ("cookie", r"i_like_(?:gitea|forgejo)="),
        ("body", r"Powered by (?:Gitea|Forgejo)|content=\"(?:Gitea|Forgejo)\b"),
    ),
    *_signs("product", "Gogs", ("cookie", r"i_like_gogs="), ("body", r'content="Gogs\b')),
    *_signs(
        "product", "GitBucket", ("body", r"<title>GitBucket|>GitBucket</a>|/assets/gitbucket/")
    ),
    *_signs(
        "product", "Gerrit", ("body", r"<title>Gerrit Code Review|gerrit_ui"), "x-gerrit-trace"
    ),
    *_signs("product", "SCM-Manager", ("body", r"<title>SCM-Manager")),
    *_signs("product", "RhodeCode", "x-rhodecode-version", ("cookie", r"rhodecode=")),
    *_signs("product", "Azure DevOps Server", "x-tfs-processid", "x-vss-e2eid"),
    *_signs("product", "Jenkins", "x-jenkins", "x-hudson"),
    *_signs("product", "TeamCity", "teamcity-node-id", ("cookie", r"TCSESSIONID=")),
    *_signs("product", "Nexus Repository", ("server", r"Nexus/"), ("cookie", r"NXSESSIONID=")),
    *_signs(
        "product", "Artifactory", "x-jfrog-version", "x-artifactory-id", "x-artifactory-node-id"
    ),
    *_signs("product", "SonarQube", ("body", r"<title>SonarQube|content=\"SonarQube")),
    *_signs("product", "Harbor", ("cookie", r"harbor-lang="), ("body", r"<title>Harbor</title>")),
    *_signs("product", "Argo CD", ("body", r"<title>Argo CD")),
    *_signs("product", "Grafana", ("cookie", r"grafana_session="), ("body", r"<title>Grafana")),
    *_signs("product", "Redmine", ("cookie", r"_redmine_session=")),
    *_signs("product", "YouTrack", ("body", r"<title>[^<]*YouTrack")),
    *_signs("product", "Synology DSM", ("body", r"webman/|<title>[^<]*Synology")),
    # Web application firewalls: they know what was asked, and did not like it.
    *_signs(
        "waf",
        "F5 BIG-IP ASM",
        ("body", r"requested URL was rejected.{0,120}(?:consult|support ID)|Your support ID is"),
    ),
    *_signs(
        "waf",
        "Imperva",
        ("body", r"_Incapsula_Resource|Incapsula incident ID|Powered By Incapsula"),
    ),
    *_signs(
        "waf",
        "Cloudflare",
        ("cf-mitigated", "challenge"),
        ("body", r"Attention Required! \| Cloudflare|cf-error-details|error code: 10\d\d"),
        on="403 429 503",
    ),
    *_signs(
        "waf",
        "Akamai",
        ("body", r"Reference&#32;&#35;|Reference #\d+\.[0-9a-f]+|errors\.edgesuite\.net"),
        ("server", "AkamaiGHost"),
        on="400 403",
    ),
    *_signs("waf", "AWS WAF", "x-amzn-waf-action", ("server", r"awselb/"), on="202 403 405"),
    *_signs("waf", "Amazon CloudFront", ("body", r"Generated by cloudfront"), on="403"),
    *_signs(
        "waf",
        "Azure Application Gateway or Front Door",
        ("body", r"Microsoft-Azure-Application-Gateway|The request is blocked\."),
        on="403",
    ),
    *_signs("waf", "Google Cloud Armor", ("body", r"<title>403</title>403 Forbidden"), on="403"),
    *_signs(
        "waf",
        "ModSecurity",
        ("body", r"Mod_?Security|appropriate representation of the requested resource could not"),
        ("server", r"Mod_?Security"),
        on="400 403 406 501",
    ),
    *_signs("waf", "FortiWeb", ("body", r"FortiWeb|Attack ID.{0,80}Message ID")),
    *_signs("waf", "Barracuda", ("body", r"Barracuda.{0,200}(?:block|firewall)"), on="403"),
    *_signs("waf", "Sucuri", "x-sucuri-block", ("body", "Sucuri Website Firewall"), on="403"),
    *_signs(
        "waf",
        "Citrix NetScaler",
        ("body", r"NS Transaction ID|Application Firewall Block Page"),
    ),
    *_signs("waf", "Radware", ("body", r"Unauthorized Activity Has Been Detected|rdwr-")),
    *_signs("waf", "Wallarm", ("body", r"nginx-wallarm|wallarm-block"), on="403"),
    *_signs("waf", "NAXSI", ("body", r"blocked by NAXSI"), on="403"),
    *_signs(
        "waf", "Sophos UTM", ("body", r"Sophos UTM|Blocked by Web Application Firewall"), on="403"
    ),
    *_signs(
        "waf",
        "a web application firewall",
        (
            "body",
            r"web application firewall|request (?:was|has been) blocked by (?:a |our )?security",
        ),
        on="400 403 405 406 429 501",
    ),
    # Page filters and portals on the way out: they know who asks, and for which site.
    *_signs(
        "block-page",
        "Zscaler",
        ("body", "zscaler"),
        ("server", "zscaler"),
        ("location", r".*zscaler"),
    ),
    *_signs(
        "block-page",
        "FortiGuard",
        ("body", "fortiguard|fgtauth"),
        ("server", "fortiguard"),
        ("location", r".*fgtauth"),
    ),
    *_signs(
        "block-page",
        "Palo Alto Networks",
        ("body", r"paloaltonetworks|blocked in accordance with company policy"),
    ),
    *_signs(
        "block-page",
        "Cisco Umbrella",
        ("body", r"block\.opendns\.com|Cisco Umbrella"),
        ("location", r".*block\.opendns\.com"),
    ),
    *_signs("block-page", "Cisco Web Security", ("body", r"IronPort|WEB_REPUTATION|BLOCK_WEBCAT")),
    *_signs("block-page", "Forcepoint", ("body", r"Websense|Forcepoint")),
    *_signs("block-page", "Skyhigh Web Gateway", ("body", r"mwg-internal|McAfee Web Gateway")),
    *_signs("block-page", "Symantec ProxySG", ("body", r"Blue ?Coat|ProxySG")),
    *_signs("block-page", "Netskope", ("body", "netskope")),
    *_signs("block-page", "Check Point", ("body", r"UserCheck|Check Point Software")),
    *_signs("block-page", "Sophos Web Filter", ("body", r"Sophos (?:Web|UTM|Firewall)")),
    *_signs("block-page", "a captive portal", ("body", r"captive ?portal|hotspot login")),
    *_signs(
        "block-page",
        "a web filter",
        (
            "body",
            r"(?:page|site|url|access) (?:\w+ ){0,6}(?:blocked|denied|restricted)\b.{0,400}filter",
        ),
        (
            "body",
            r"(?:page|site|url|access) (?:\w+ ){0,6}(?:blocked|denied|restricted)\b.{0,400}policy",
        ),
        (
            "body",
            r"(?:page|site|url|access) (?:\w+ ){0,6}(?:blocked|denied|restricted)\b.{0,400}categor",
        ),
        ("body", r"(?:policy|category|filter) (?:\w+ ){0,6}(?:blocks|blocked|denies|forbids)\b"),
    ),
    # Somebody who wants a person with a browser to sign in first.
    *_signs(
        "login",
        "a SAML sign-on",
        ("body", r'name="SAMLRe(?:quest|sponse)"'),
        ("location", r".*[?&]SAMLRequest="),
    ),
    *_signs("login", "Cloudflare Access", ("body", r"cloudflareaccess\.com|Cloudflare Access")),
    *_signs("login", "Keycloak", ("body", r"kc-form-login|<title>Sign in to [^<]*keycloak")),
    *_signs("login", "Okta", ("body", r"okta-sign-in|oktacdn\.com"), "x-okta-request-id"),
    *_signs("login", "Microsoft Entra ID", ("body", r"aadcdn\.ms|login\.microsoftonline\.com")),
    *_signs("login", "Microsoft AD FS", ("body", r'action="[^"]*/adfs/ls|MSISContext')),
    *_signs(
        "login", "PingFederate or PingAccess", ("cookie", r"PF=|PA\."), ("body", "/pf/adapter2/")
    ),
    *_signs("login", "oauth2-proxy", ("cookie", r"_oauth2_proxy"), ("body", r"/oauth2/start")),
    *_signs("login", "Authelia", ("body", r"<title>[^<]*Authelia")),
    *_signs("login", "authentik", ("body", r"authentik-|<title>[^<]*authentik")),
    *_signs(
        "login",
        "F5 BIG-IP APM",
        ("cookie", r"(?:MRHSession|LastMRH_Session)="),
        ("location", r"/my\.policy"),
    ),
    *_signs(
        "login",
        "Citrix Gateway",
        ("cookie", r"NSC_(?:AAAC|TMAS)="),
        ("location", r"/vpn/index\.html|/logon/LogonPoint"),
    ),
    *_signs(
        "login", "Siteminder", ("cookie", r"SMCHALLENGE="), ("location", r".*/siteminderagent/")
    ),
    # A web server that was asked for a name or a path which nobody has set up.
    *_signs(
        "default-page",
        "nginx",
        (
            "body",
            r"<title>(?:Welcome to (?:nginx|OpenResty)|Test Page for the Nginx)",
        ),
    ),
    *_signs(
        "default-page",
        "Apache",
        (
            "body",
            r"<h1>It works!</h1>|Apache2 \w+ Default Page|Test Page for the (?:Apache )?HTTP S",
        ),
    ),
    *_signs(
        "default-page",
        "Microsoft IIS",
        ("body", r"<title>IIS (?:Windows|\d)|iisstart\.(?:png|htm)"),
    ),
    *_signs("default-page", "Apache Tomcat", ("body", r"you've successfully installed Tomcat")),
    *_signs(
        "default-page", "Caddy", ("body", r"<title>Caddy works|web server is working.{0,300}Caddy")
    ),
    *_signs(
        "default-page",
        "Traefik or another Go program",
        ("body", r"^404 page not found\s*$"),
        on="404",
    ),
    *_signs("default-page", "a Kubernetes ingress", ("body", r"^default backend - 404"), on="404"),
    *_signs("default-page", "Kong", ("body", r"no Route matched with those values"), on="404"),
    *_signs(
        "default-page", "lighttpd", ("body", r"<title>Welcome page</title>|lighttpd placeholder")
    ),
    *_signs(
        "default-page",
        "a hosting panel",
        ("body", r"<title>(?:Domain Default page|Default Web Site Page)|cgi-sys/defaultwebpage"),
    ),
    *_signs("default-page", "a web server's list of files", ("body", r"<title>Index of /")),
)

# Where a redirect leads when it leads to somebody who signs people in.
_LOGIN_HOSTS = re.compile(
    r"(?:^|\.)(?:okta(?:preview|-emea)?\.com|login\.microsoftonline\.(?:com|us)|login\.windows\.net"
    r"|auth0\.com|duosecurity\.com|pingone\.(?:com|eu|asia)|pingidentity\.com|onelogin\.com"
    r"|cloudflareaccess\.com|accounts\.google\.com|amazoncognito\.com|id\.atlassian\.com"
    r"|jumpcloud\.com)$|^(?:sso|idp|adfs|sts|login|auth|keycloak)\.",
    re.IGNORECASE,
)
_LOGIN_PATHS = re.compile(
    r"/(?:adfs/|realms/[^/]+/protocol/|auth/realms/|saml2?[/.]|oauth2/(?:authorize|start|v\d|sign_in)"
    r"|openid-connect/|simplesaml/|idp/|sso(?:/|$)|my\.policy|siteminderagent/"
    r"|cdn-cgi/access/login|pf/adapter2/)|/(?:login|logon|signin|sign-in|sign_in)(?:\.\w+)?/?$",
    re.IGNORECASE,
)
_PASSWORD_FIELD = re.compile(r"<input\b[^>]*\btype\s*=\s*[\"']?password\b", re.IGNORECASE)
_REFRESH = re.compile(
    r"<meta\b[^>]*http-equiv\s*=\s*[\"']?refresh[^>]*url\s*=\s*[\"']?([^\"'>\s]+)", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^>]*>\s*([^<]*?)\s*<", re.IGNORECASE)

# How web servers answer plain HTTP on a port where they speak TLS.
_TLS_PORT = re.compile(
    r"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server"
    r"|speaking plain HTTP to an SSL-enabled|combination of host and port requires TLS",
    re.IGNORECASE,
)
_CLIENT_CERTIFICATE = re.compile(
    r"No required SSL certificate was sent|The SSL certificate error|client certificate required",
    re.IGNORECASE,
)
_HEADER_TOO_LARGE = re.compile(
    r"Request Header (?:Or Cookie )?Too Large|Request header is too large"
    r"|Size of a request header field exceeds",
    re.IGNORECASE,
)
_RATE_LIMIT = re.compile(
    r"too many requests|rate.?limit|request limit (?:exceeded|reached)", re.IGNORECASE
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def recognise(answer: Answer) -> Sighting | None:
    """Who wrote this answer, if it is somebody known that is not Bitbucket."""
    text = answer.text(_LOOKED_AT)
    for sign in SIGNS:
        if sign.statuses and answer.status not in sign.statuses:
            continue
        if (found := _find(sign, answer, text)) is not None:
            return Sighting(sign.kind, sign.name, found)
    target = refresh(answer)
    if target is not None and login_address(target):
        return Sighting("login", "a sign-on", f"it sends browsers to {target}")
    if _PASSWORD_FIELD.search(text):
        return Sighting("login", "a login form", title(answer) or "a field for a password")
    return None


def _find(sign: Sign, answer: Answer, text: str) -> str | None:
    """What fits the sign, None if nothing does."""
    if sign.where == "body":
        match = _compiled(sign.pattern).search(text)
        return f"“{match[0].strip()}”" if match else None
    name = "set-cookie" if sign.where == "cookie" else sign.where
    for value in answer.headers.all(name):
        if _compiled(sign.pattern).match(value):
            shown = value.partition("=")[0] if sign.where == "cookie" else value
            return f"{name.title()}: {shown}"
    return None


def login_address(url: str) -> bool:
    """Whether this is where people are sent to sign in."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    query = parts.query.lower()
    return bool(
        _LOGIN_HOSTS.search(parts.hostname or "")
        or _LOGIN_PATHS.search(parts.path)
        or "samlrequest=" in query
        or "wa=wsignin" in query
        or ("client_id=" in query and "redirect_uri=" in query)
    )


def refresh(answer: Answer) -> str | None:
    """Where the page itself sends a browser."""
    match = _REFRESH.search(answer.text(_LOOKED_AT))
    return match[1] if match else None


def title(answer: Answer) -> str:
    """The title of a page, "" if it has none."""
    match = _TITLE.search(answer.text(_LOOKED_AT))
    return match[1] if match else ""


def is_page(answer: Answer) -> bool:
    """Whether the body is HTML, whatever its type says."""
    start = answer.body[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return answer.content_type in {"text/html", "application/xhtml+xml"} or start.startswith(
        (b"<!doctype html", b"<html")
    )


def wants_tls(answer: Answer) -> bool:
    """Whether a web server complains that it was asked over plain HTTP where it speaks TLS."""
    return answer.status in {400, 497} and bool(_TLS_PORT.search(answer.text(_LOOKED_AT)))


def wants_client_certificate(answer: Answer) -> bool:
    """Whether a web server complains that it was shown no (good) client certificate."""
    return answer.status in {400, 403, 495, 496} and bool(
        _CLIENT_CERTIFICATE.search(answer.text(_LOOKED_AT))
    )


def header_too_large(answer: Answer) -> bool:
    """Whether the headers of the request were too much for whoever answered."""
    return answer.status in {431, 494} or (
        answer.status in {400, 413} and bool(_HEADER_TOO_LARGE.search(answer.text(_LOOKED_AT)))
    )


def limits_rate(answer: Answer) -> bool:
    """Whether the answer itself says that there were too many requests."""
    return answer.status == 429 or (
        answer.status in {403, 503} and bool(_RATE_LIMIT.search(answer.text(_LOOKED_AT)))
    )
