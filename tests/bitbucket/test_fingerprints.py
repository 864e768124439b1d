"""Who wrote an answer: Bitbucket by its marks, everybody else by theirs, nobody by accident."""

from __future__ import annotations

import json

import pytest

from diag.bitbucket import datacenter, fingerprints, reception
from diag.net.http import Answer, Headers
from diag.simulator.data import Instance
from diag.simulator.datacenter import DataCenter
from diag.simulator.server import Request, page

URL = "https://bitbucket.example.com/rest/api/latest/application-properties"
PROPERTIES = {
    "version": "9.4.1",
    "buildNumber": "9004001",
    "buildDate": "1733097600000",
    "displayName": "Acme Git",
}


def answer(status: int = 200, body: str | object = "", url: str = URL, **headers: str) -> Answer:
    """An answer; "_" in a header name means "-". What is no text is sent as JSON."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if not isinstance(body, str):
        body = json.dumps(body)
        named.append(("content-type", "application/json"))
    elif "<" in body:
        named.append(("content-type", "text/html"))
    return Answer(url, status=status, headers=Headers(named), body=body.encode())


# Bitbucket

OWN = {
    "X-AREQUESTID": answer(503, "<html>", x_arequestid="@1VT0CNLx453x5668x0"),
    "an older request id": answer(x_arequestid="*16FVOE3x882x15594874x4"),
    "X-AUSERID": answer(x_auserid="53"),
    "X-AUSERNAME": answer(x_ausername="jdoe"),
    "Vary": answer(vary="accept-encoding,X-AUSERNAME,cookie"),
    "session cookie": answer(set_cookie="BITBUCKETSESSIONID=ABC; Path=/"),
    "application-properties": answer(body=PROPERTIES),
    "capabilities": answer(body={"application": "stash", "capabilities": {}, "links": {}}),
    "error body": answer(
        401,
        {"errors": [{"message": "no", "exceptionName": "com.atlassian.bitbucket.AuthorisationE"}]},
    ),
    "Stash's error body": answer(
        404, {"errors": [{"message": "no", "exceptionName": "com.atlassian.stash.exception.No"}]}
    ),
    "page": answer(body='<html><meta name="application-name" content="Bitbucket">'),
}
NOT_OWN = {
    "nothing": answer(404),
    "Jira's request id": answer(x_arequestid="1112x138x1", x_ausername="anonymous"),
    "Jira, signed in": answer(x_ausername="jdoe", x_seraph_loginreason="OK"),
    "a page about it": answer(body="<html><title>Sign in to Bitbucket</title>"),
    "state": answer(body={"state": "RUNNING"}),
    "Jira's capabilities": answer(body={"application": "jira", "capabilities": {}}),
    "other errors": answer(404, {"errors": [{"code": "NOT_FOUND", "message": "gone"}]}),
    "a list": answer(body=[1]),
}


@pytest.mark.parametrize("name", OWN)
def test_a_mark_of_bitbucket(name: str) -> None:
    assert len(datacenter.marks(OWN[name])) == 1
    assert reception.judge(OWN[name]) is None


@pytest.mark.parametrize("name", NOT_OWN)
def test_no_mark_of_bitbucket(name: str) -> None:
    assert datacenter.marks(NOT_OWN[name]) == ()


def test_properties_and_state_are_read_only_where_they_are() -> None:
    assert datacenter.properties(answer(body=PROPERTIES)) == PROPERTIES
    assert datacenter.properties(answer(404, PROPERTIES)) is None
    assert datacenter.properties(answer(body={"version": "1", "displayName": "x"})) is None
    assert datacenter.properties(answer(body={**PROPERTIES, "version": 9})) is None
    assert datacenter.state(answer(503, {"state": "MAINTENANCE"})) == "MAINTENANCE"
    others: list[object] = [{"state": "running now"}, {"state": 1}, {}, [], "RUNNING"]
    for other in others:
        assert datacenter.state(answer(body=other)) is None


def test_errors() -> None:
    entry = {"context": "name", "message": "no", "exceptionName": "com.x.SomeException"}
    (error,) = datacenter.errors(answer(400, {"errors": [entry, "junk"]}))
    assert (error.context, error.message, error.name) == ("name", "no", "SomeException")
    (bare,) = datacenter.errors(answer(403, {"message": "Basic Authentication is off"}))
    assert (bare.message, bare.exception, bare.name) == ("Basic Authentication is off", "", "")
    nothing: list[object] = [{"errors": {}}, [], "no", {"message": 1}]
    for none in nothing:
        assert datacenter.errors(answer(400, none)) == ()


def test_what_bitbucket_itself_says_is_never_taken_for_somebody_else() -> None:
    bitbucket = DataCenter(Instance(base_url="https://bitbucket.example.com"))
    paths = "/ /login /dashboard /status /nowhere /projects/X /setup /scm/mob/app.git/info/refs"
    rest = "/rest/nowhere /rest/api/1.0/repos /rest/api/1.0/projects/NO /rest/capabilities"
    for path in f"{paths} {rest}".split():
        for state in ("RUNNING", "STARTING", "MAINTENANCE", "FIRST_RUN", "ERROR"):
            bitbucket.instance.state = state
            said = bitbucket.answer(Request("GET", path, path, "", {}))
            got = Answer(URL, status=said.status, headers=Headers(said.headers), body=said.body)
            assert datacenter.marks(got), path
            assert reception.judge(got) is None, path


# everybody else

F5 = (
    "<html><title>Request Rejected</title>The requested URL was rejected. Please consult with your"
    " administrator.<br>Your support ID is: 123</html>"
)
OTHERS: dict[str, tuple[str, str, Answer]] = {
    "Jira by a cookie": (
        "product",
        "Jira",
        answer(404, set_cookie="atlassian.xsrf.token=B; Path=/"),
    ),
    "Jira by its errors": (
        "product",
        "Jira",
        answer(404, '{"errorMessages":["not found"],"errors":{}}'),
    ),
    "Jira by its page": (
        "product",
        "Jira",
        answer(body='<html><meta name="application-name" content="JIRA" data-name="jira">'),
    ),
    "Jira by its request id": ("product", "Jira", answer(404, x_arequestid="811x138x1")),
    "Confluence": ("product", "Confluence", answer(404, x_confluence_request_time="1790000000")),
    "Bamboo": ("product", "Bamboo", answer(body="<html><title>Log in - Acme Bamboo</title>")),
    "some Atlassian": ("product", "Atlassian", answer(401, x_seraph_loginreason="OUT")),
    "GitLab by a header": ("product", "GitLab", answer(404, x_gitlab_meta='{"version":"1"}')),
    "GitLab by its redirect": (
        "product",
        "GitLab",
        answer(302, location="https://gitlab.example.com/users/sign_in"),
    ),
    "GitLab by its errors": ("product", "GitLab", answer(404, '{"error":"404 Not Found"}')),
    "GitHub": ("product", "GitHub", answer(404, {"message": "Not Found"}, server="GitHub.com")),
    "Gitea": ("product", "Gitea", answer(404, set_cookie="i_like_gitea=abc; Path=/")),
    "Gogs": ("product", "Gogs", answer(404, set_cookie="i_like_gogs=abc; Path=/")),
    "GitBucket": ("product", "GitBucket", answer(body="<html><title>GitBucket</title>")),
    "Gerrit": ("product", "Gerrit", answer(body="<html><title>Gerrit Code Review</title>")),
    "Bitbucket Cloud": (
        "product",
        "Bitbucket Cloud",
        answer(404, '{"type": "error", "error": {"message": "Resource not found"}}'),
    ),
    "Azure DevOps": ("product", "Azure DevOps", answer(404, x_tfs_processid="a")),
    "Jenkins": ("product", "Jenkins", answer(403, x_jenkins="2.479.1")),
    "TeamCity": ("product", "TeamCity", answer(401, teamcity_node_id="MAIN_SERVER")),
    "Nexus": ("product", "Nexus", answer(404, server="Nexus/3.70.1-02 (OSS)")),
    "Artifactory": ("product", "Artifactory", answer(404, x_jfrog_version="Artifactory/7.90.1")),
    "SonarQube": ("product", "SonarQube", answer(body="<html><title>SonarQube</title>")),
    "F5": ("waf", "F5", answer(403, F5)),
    "F5 with 200": ("waf", "F5", answer(200, F5)),
    "Imperva": ("waf", "Imperva", answer(200, '<html><iframe src="/_Incapsula_Resource?x=1">')),
    "Akamai": (
        "waf",
        "Akamai",
        answer(403, "<html>Access Denied Reference&#32;&#35;18&#46;1a2b3c4d", server="AkamaiGHost"),
    ),
    "Cloudflare": (
        "waf",
        "Cloudflare",
        answer(403, "<html><title>Attention Required! | Cloudflare</title>", server="cloudflare"),
    ),
    "Cloudflare's challenge": ("waf", "Cloudflare", answer(403, cf_mitigated="challenge")),
    "Cloudflare 1020": ("waf", "Cloudflare", answer(403, "error code: 1020", server="cloudflare")),
    "AWS": ("waf", "AWS", answer(403, "<html>403 Forbidden", server="awselb/2.0")),
    "CloudFront": ("waf", "CloudFront", answer(403, "<html>Generated by cloudfront (CloudFront)")),
    "Azure": ("waf", "Azure", answer(403, "<html>Microsoft-Azure-Application-Gateway/v2")),
    "ModSecurity": (
        "waf",
        "ModSecurity",
        answer(406, "<html>An appropriate representation of the requested resource could not be"),
    ),
    "FortiWeb": ("waf", "FortiWeb", answer(403, "<html>Attack ID: 20000010 Message ID: 0001")),
    "NetScaler": ("waf", "NetScaler", answer(200, "<html>NS Transaction ID: 41")),
    "NAXSI": ("waf", "NAXSI", answer(403, "blocked by NAXSI")),
    "Zscaler": ("block-page", "Zscaler", answer(403, "<html>Internet Security by Zscaler")),
    "FortiGuard": (
        "block-page",
        "FortiGuard",
        answer(200, "<html>FortiGuard Intrusion Prevention"),
    ),
    "Palo Alto": (
        "block-page",
        "Palo Alto",
        answer(503, "<html>has been blocked in accordance with company policy."),
    ),
    "Umbrella": ("block-page", "Umbrella", answer(200, "<html>https://block.opendns.com/main")),
    "Forcepoint": ("block-page", "Forcepoint", answer(403, "<html>Websense Content Gateway")),
    "Netskope": ("block-page", "Netskope", answer(403, "<html>Netskope blocked this")),
    "a portal": ("block-page", "portal", answer(200, "<html>Captive Portal: accept the terms")),
    "a filter by category": (
        "block-page",
        "web filter",
        answer(200, "<html>Access to this site is blocked. Category: Hosting"),
    ),
    "a filter by policy": (
        "block-page",
        "web filter",
        answer(403, "<html>The page you asked for is restricted by our internet usage policy"),
    ),
    "SAML form": ("login", "SAML", answer(200, '<html><input type="hidden" name="SAMLRequest">')),
    "Keycloak": ("login", "Keycloak", answer(200, '<html><form id="kc-form-login">')),
    "AD FS": ("login", "AD FS", answer(200, '<html><form action="/adfs/ls/?wa=wsignin1.0">')),
    "Entra": ("login", "Entra", answer(200, '<html><script src="https://aadcdn.msauth.net/x.js">')),
    "Cloudflare Access": ("login", "Access", answer(403, "<html>Sign in - Cloudflare Access")),
    "oauth2-proxy": ("login", "oauth2-proxy", answer(403, '<html><form action="/oauth2/start">')),
    "F5 APM": ("login", "APM", answer(302, location="/my.policy", set_cookie="MRHSession=1")),
    "a form": ("login", "login form", answer(200, "<html><input name=x type='PASSWORD'>")),
    "a page that goes on": (
        "login",
        "sign-on",
        answer(200, '<html><meta http-equiv="Refresh" content="0; url=https://sso.acme.com/">'),
    ),
    "nginx": ("default-page", "nginx", answer(200, "<html><title>Welcome to nginx!</title>")),
    "Apache": ("default-page", "Apache", answer(200, "<html><body><h1>It works!</h1></body>")),
    "Apache on Debian": (
        "default-page",
        "Apache",
        answer(200, "<html><title>Apache2 Debian Default Page: It works</title>"),
    ),
    "IIS": ("default-page", "IIS", answer(200, "<html><title>IIS Windows Server</title>")),
    "Tomcat": (
        "default-page",
        "Tomcat",
        answer(200, "<html>If you're seeing this, you've successfully installed Tomcat."),
    ),
    "Caddy": ("default-page", "Caddy", answer(200, "<html><title>Caddy works!</title>")),
    "Traefik": ("default-page", "Traefik", answer(404, "404 page not found\n")),
    "Kubernetes": ("default-page", "Kubernetes", answer(404, "default backend - 404")),
    "Kong": (
        "default-page",
        "Kong",
        answer(404, {"message": "no Route matched with those values"}),
    ),
    "files": ("default-page", "list of files", answer(200, "<html><title>Index of /</title>")),
    "Zscaler's redirect": (
        "block-page",
        "Zscaler",
        answer(307, location="https://gateway.zscaler.net"),
    ),
    "a portal's redirect": (
        "block-page",
        "FortiGuard",
        answer(303, location="http://10.0.0.1:1000/fgtauth?0a1b2c"),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_somebody_else(name: str) -> None:
    kind, who, got = OTHERS[name]
    assert datacenter.marks(got) == ()
    seen = fingerprints.recognise(got)
    assert seen is not None
    assert seen.kind == kind
    assert who in seen.name
    assert seen.sign


@pytest.mark.parametrize(
    "got",
    [
        answer(404, page("404 Not Found", "nginx"), server="nginx/1.22.1"),
        answer(403, page("403 Forbidden", "nginx"), server="nginx"),
        answer(502, page("502 Bad Gateway", "nginx")),
        answer(404, "<html><title>HTTP Status 404 – Not Found</title>Apache Tomcat/9.0.97"),
        answer(200, "<html><title>Acme</title>Our Jira, our GitLab, nginx; access to Bitbucket"),
        answer(200, {"status": "ok"}),
        answer(301, location="https://bitbucket.example.com/bitbucket/"),
        answer(404, server="istio-envoy", via="1.1 google"),
    ],
)
def test_nobody_is_recognised_by_accident(got: Answer) -> None:
    assert fingerprints.recognise(got) is None


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("https://acme.okta.com/app/x", True),
        ("https://login.microsoftonline.com/tenant/oauth2/v2.0/authorize?client_id=1", True),
        ("https://sso.example.com/", True),
        ("https://x.example.com/adfs/ls/?wa=wsignin1.0", True),
        ("https://x.example.com/realms/acme/protocol/openid-connect/auth?x=1", True),
        ("https://x.example.com/a?SAMLRequest=fZ", True),
        ("https://x.example.com/a?client_id=1&redirect_uri=https%3A", True),
        ("https://x.example.com/login?next=%2Fstatus", True),
        ("https://x.cloudflareaccess.com/cdn-cgi/access/login/x", True),
        ("https://bitbucket.example.com/bitbucket/status", False),
        ("https://bitbucket.example.com/rest/api/latest/application-properties", False),
        ("https://loginserver.example.com/", False),
        ("https://example.com/projects/login-service/browse", False),
        ("http://[bad", False),
    ],
)
def test_where_people_sign_in(url: str, login: bool) -> None:
    assert fingerprints.login_address(url) is login


# what an answer means

JUDGED: dict[str, tuple[str | None, bool, Answer]] = {
    "nginx 502": ("http-bad-gateway", True, answer(502, page("502 Bad Gateway", "nginx"))),
    "nginx 503": ("http-upstream-unavailable", True, answer(503, page("503", "nginx"))),
    "nginx 504": ("http-gateway-timeout", True, answer(504, page("504", "nginx"))),
    "Cloudflare 521": ("http-bad-gateway", True, answer(521, "<html>", server="cloudflare")),
    "Cloudflare 522": ("http-gateway-timeout", True, answer(522, "<html>", server="cloudflare")),
    "GitLab's login": (
        "http-other-product",
        True,
        answer(302, location="https://git.example.com/users/sign_in"),
    ),
    "503 of Bitbucket": (None, True, answer(503, "<html>", x_arequestid="@1VT0CNLx453x5668x0")),
    "429 of Bitbucket": ("rate-limited", True, answer(429, x_arequestid="@1VT0CNLx453x5668x0")),
    "429": ("http-gateway-rate-limited", True, answer(429, page("429 Too Many Requests"))),
    "503 of a limit": ("http-gateway-rate-limited", True, answer(503, "Rate limit exceeded")),
    "401": ("http-gateway-auth", True, answer(401, www_authenticate='Basic realm="x"')),
    "401 without a word": ("http-gateway-auth", True, answer(401)),
    "405": ("http-method-blocked", True, answer(405, allow="POST")),
    "403": ("http-waf-blocked", False, answer(403, page("403 Forbidden", "nginx"))),
    "a page": ("http-block-page", False, answer(200, page("Acme"))),
    "404": (None, True, answer(404, page("404 Not Found", "nginx"))),
    "431": ("http-header-too-large", True, answer(431)),
    "400 for headers": (
        "http-header-too-large",
        True,
        answer(400, page("400 Request Header Or Cookie Too Large", "nginx")),
    ),
    "400 for a certificate": (
        "tls-client-cert-required",
        True,
        answer(400, page("400 No required SSL certificate was sent", "nginx")),
    ),
    "400 for TLS": (
        "http-on-tls-port",
        True,
        answer(
            400,
            page("400 The plain HTTP request was sent to HTTPS port", "nginx"),
            url="http://bitbucket.example.com:443/status",
        ),
    ),
    "no JSON": (
        "http-invalid-json",
        True,
        answer(200, '{"version":', content_type="application/json;charset=UTF-8"),
    ),
    "no JSON, but marks": (
        "http-invalid-json",
        True,
        answer(200, "nonsense", x_arequestid="@1VT0CNLx453x5668x0"),
    ),
    "other JSON": (None, True, answer(200, {"status": "ok"})),
    "to a login": (
        "http-sso-login",
        True,
        answer(302, location="https://acme.okta.com/app?SAMLRequest=1"),
    ),
    "elsewhere": (None, True, answer(301, location="/bitbucket/status")),
}


@pytest.mark.parametrize("name", JUDGED)
def test_what_an_answer_means(name: str) -> None:
    code, certain, got = JUDGED[name]
    fault = reception.judge(got)
    assert (fault.code if fault else None) == code
    assert fault is None or fault.certain is certain
