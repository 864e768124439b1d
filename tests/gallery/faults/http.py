"""Gateways, firewalls and other products where Bitbucket should answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.certificates import DAY, server_context
from tests.gallery.case import HOST, URL, Call, Family
from tests.lab import SERVER4, SERVER6

if TYPE_CHECKING:
    import socket

    from tests.gallery.town import Town

HTTP = Family("http", "HTTP: gateways, firewalls and other products")

BLOCKED, DEFAULT, LOGIN = "http-block-page", "http-default-vhost", "http-sso-login"
LOOP, DEAD, DOWN = "http-redirect-loop", "http-redirect-dead-host", "http-downgrade-redirect"
TO_TLS, CONTEXT = "http-redirects-to-https", "http-context-path-missing"
PRODUCT, WAF, PASSWORD = "http-other-product", "http-waf-blocked", "http-gateway-auth"
BAD, UNAVAILABLE, LATE = "http-bad-gateway", "http-upstream-unavailable", "http-gateway-timeout"
EMPTY, CUT, NO_JSON = "http-empty-reply", "http-body-truncated", "http-invalid-json"
SILENT, SLOW, LARGE = "http-response-timeout", "http-slow-body", "http-header-too-large"
AGENT, METHOD, STRIPPED = (
    "http-user-agent-blocked",
    "http-method-blocked",
    "http-authorization-stripped",
)
LIMITED, CLEARTEXT = "http-gateway-rate-limited", "auth-token-in-cleartext"
NOBODY = 1  # a port of loopback where nothing listens
PAGE = "<!DOCTYPE html><html><head><title>{}</title></head><body>{}</body></html>"
FORM = '<form action="/session"><input name="u"><input type="password" name="p"></form>'


# who is in front


def nginx(town: Town, location: str = "", *, port: int | None = None, **options: Any) -> None:
    """nginx before a Bitbucket that is in order; `options` are those of `Town.site`, and `http`."""
    town.dns()
    http = options.pop("http", "")
    behind = town.bitbucket() if port is None else port
    town.nginx(town.site(behind, location=location, **options), http=http)


def haproxy(town: Town, *rules: str, backend: str = "", port: int | None = None) -> None:
    """haproxy before a Bitbucket that is in order; `rules` are those of its frontend."""
    town.dns()
    behind = town.bitbucket() if port is None else port
    crt = town.bundle(town.ca.issue(HOST))
    lines = [
        *("frontend web", f"bind :443 ssl crt {crt}", *rules, "default_backend bitbucket"),
        *("backend bitbucket", backend, f"server one 127.0.0.1:{behind}"),
    ]
    town.haproxy("\n".join(lines), 443)


def says(
    town: Town,
    text: str,
    status: int = 200,
    kind: str = "text/html",
    headers: Mapping[str, str] | None = None,
    when: str = "",
) -> str:
    """A rule of haproxy's by which it answers itself."""
    file = town.write(f"page-{len(text)}", text)
    more = " ".join(f'hdr {name} "{value}"' for name, value in (headers or {}).items())
    answer = f"status {status} content-type {kind} file {file} {more}"
    return f"http-request return {answer} {when}"


@HTTP.fault(
    "H01",
    BLOCKED,
    "a web filter's page, with status 200",
    page="Web Page Blocked",
    body="<p>Category: Unrated</p>",
    headers={"Server": "FortiGuard"},
    told=["FortiGuard"],
)
@HTTP.fault(
    "H01-status",
    BLOCKED,
    "a web filter's page, with status 403",
    status=403,
    page="Access denied",
    body="<p>This site is blocked by the policy of Example Corp, category Hosting.</p>",
    told=["a web filter"],
)
@HTTP.fault(
    "H01-portal",
    BLOCKED,
    "the captive portal of a guest network",
    status=511,
    page="Guest network",
    body="<p>Captive portal: accept the terms of use.</p>",
    told=["a captive portal"],
)
@HTTP.fault(
    "H01-unknown",
    BLOCKED,
    "a page that nobody knows, with status 200",
    page="Intranet of Example Corp",
    body="<p>Hello.</p>",
    told=["Intranet of Example Corp"],
)
@HTTP.fault("H02", DEFAULT, "the welcome page of nginx", page="Welcome to nginx!", told=["nginx"])
@HTTP.fault(
    "H02-apache",
    DEFAULT,
    "the default page of Apache",
    page="Apache2 Debian Default Page: It works",
    told=["Apache"],
)
@HTTP.fault(
    "H03-form",
    LOGIN,
    "a login form in place of every page",
    page="Example Corp",
    body=FORM,
    told=["a login form"],
)
@HTTP.fault(
    "H10-cloudflare",
    BAD,
    "Cloudflare does not reach the server behind it",
    status=521,
    page="Web server is down",
    headers={"Server": "cloudflare"},
)
@HTTP.fault(
    "H11-page",
    UNAVAILABLE,
    "the company's own page: back soon",
    status=503,
    page="We will be back soon",
    told=["503"],
)
@HTTP.fault(
    "H13",
    WAF,
    "a web application firewall with its support ID",
    status=403,
    page="Request Rejected",
    body="<p>The requested URL was rejected. Please consult with your administrator."
    " Your support ID is: 4242424242424242</p>",
    told=["F5 BIG-IP ASM"],
)
@HTTP.fault(
    "H13-200",
    WAF,
    "the same, with status 200",
    page="Request Rejected",
    body="<p>The requested URL was rejected. Your support ID is: 4242424242424242</p>",
    told=["F5 BIG-IP ASM"],
)
@HTTP.fault(
    "H13-challenge",
    WAF,
    "Cloudflare, which wants a browser to prove itself",
    status=403,
    page="Just a moment...",
    headers={"Server": "cloudflare", "cf-mitigated": "challenge"},
    told=["Cloudflare"],
)
@HTTP.fault(
    "H14-kerberos",
    PASSWORD,
    "a gateway that wants Kerberos",
    status=401,
    page="401 Unauthorized",
    headers={"WWW-Authenticate": "Negotiate"},
)
def somebody_else(
    town: Town,
    page: str,
    body: str = "",
    status: int = 200,
    kind: str = "text/html",
    headers: Mapping[str, str] | None = None,
) -> None:
    """The same answer to everything."""
    haproxy(town, says(town, PAGE.format(page, body), status, kind, headers), port=NOBODY)


@HTTP.fault(
    "H02-ingress",
    DEFAULT,
    "a Kubernetes ingress without a rule for the name",
    text="default backend - 404",
    told=["Kubernetes"],
)
def no_rule_for_the_name(town: Town, text: str) -> None:
    haproxy(town, says(town, text, 404, "text/plain"), port=NOBODY)


@HTTP.fault(
    "H01-redirect",
    BLOCKED,
    "every http:// request is sent to a web filter's page",
    told=["a web filter"],
    also=[CLEARTEXT],
)
def sent_to_a_block_page(town: Town) -> Call:
    town.dns(f"--host-record=filter.lab.test,{SERVER4}")
    text = PAGE.format("Blocked", "This page was blocked by the category filter.")
    root = town.write("index.html", text).parent
    town.nginx(
        "server { listen 80; return 302 http://filter.lab.test/; }",
        f"server {{ listen 80; server_name filter.lab.test; root {root}; }}",
    )
    return Call(f"http://{HOST}")


# redirects


@HTTP.fault(
    "H03",
    LOGIN,
    "a redirect to a single sign-on",
    location="return 302 https://sso.lab.test/adfs/ls?SAMLRequest=fVLL&RelayState=$request_uri;",
)
@HTTP.fault(
    "H03-oidc",
    LOGIN,
    "a redirect to OpenID Connect",
    location="return 302 https://id.lab.test/realms/corp/protocol/openid-connect/auth"
    "?client_id=bb&redirect_uri=https://bb.lab.test/cb&response_type=code;",
)
@HTTP.fault("H04", LOOP, "a redirect to itself", location="return 301 $request_uri;")
@HTTP.fault(
    "H04-two",
    LOOP,
    "two redirects, each to the other",
    location="if ($arg_seen) { return 302 $uri; } return 302 $uri?seen=1;",
)
@HTTP.fault(
    "H05",
    DEAD,
    "a redirect to a name that is gone",
    location="return 301 https://stash.lab.test$request_uri;",
    told=["stash.lab.test"],
)
@HTTP.fault(
    "H05-port",
    DEAD,
    "a redirect to a port where nothing listens",
    location=f"return 301 {URL}:8443$request_uri;",
)
@HTTP.fault(
    "H05-filtered",
    DEAD,
    "a redirect to a port that a firewall drops",
    location=f"return 301 {URL}:8443$request_uri;",
    drop="tcp dport 8443 drop",
)
@HTTP.fault(
    "H07",
    DOWN,
    "a redirect from https to http",
    location=f"return 301 http://{HOST}$request_uri;",
)
@HTTP.fault(
    "H08-redirect",
    CONTEXT,
    "a redirect to a context path that is not usual",
    location="return 302 /tools/git/;} location /tools/git {",
    context="/tools/git",
    told=[f"{URL}/tools/git"],
)
def redirect(town: Town, location: str, drop: str = "", context: str = "") -> None:
    if drop:
        town.lab.rules("router", "forward", drop)
    if context:
        port = town.bitbucket(base_url=URL + context, context_path=context)
        location += f"proxy_pass http://127.0.0.1:{port};"
        nginx(town, location, port=port)
    else:
        nginx(town, location)


@HTTP.fault("H06", TO_TLS, "a redirect from http to https", code="301", told=[URL])
def to_https(town: Town, code: str) -> Call:
    town.dns()
    site = town.site(town.bitbucket())
    town.nginx(site, f"server {{ listen 80; return {code} https://$host$request_uri; }}")
    return Call(f"http://{HOST}")


@HTTP.fault(
    "H06-haproxy", TO_TLS, "haproxy redirects to https, and to another port", told=[f"{URL}:8443"]
)
def to_another_port(town: Town) -> Call:
    town.dns()
    port = town.bitbucket(base_url=f"{URL}:8443")
    crt = town.bundle(town.ca.issue(HOST))
    to = f"code 302 location {URL}:8443%[capture.req.uri]"
    town.haproxy(
        f"frontend plain\nbind :80\nhttp-request redirect {to}\n"
        f"frontend web\nbind :8443 ssl crt {crt}\ndefault_backend bitbucket\n"
        f"backend bitbucket\nserver one 127.0.0.1:{port}",
        *(80, 8443),
    )
    return Call(f"http://{HOST}")


@HTTP.fault("H08", CONTEXT, "Bitbucket is below /bitbucket", context="/bitbucket")
@HTTP.fault("H08-none", CONTEXT, "a path that Bitbucket does not have", typed="/bitbucket")
def another_path(town: Town, context: str = "", typed: str = "") -> Call:
    town.dns()
    port = town.bitbucket(base_url=URL + context, context_path=context)
    town.nginx(town.site(port))
    return Call(URL + typed)


# other products

_JSON = "application/json"
_RUNNING = '{"state":"RUNNING"}'


@HTTP.fault("H09", PRODUCT, "Jira answers", told=["Jira"])
def jira(town: Town) -> None:
    """A near relation: some of the marks are Bitbucket's too."""
    token = town.token
    nginx(town, port=town.bitbucket("http-other-product"))
    town.token = token


@HTTP.fault(
    "H09-confluence",
    PRODUCT,
    "Confluence answers",
    headers={"X-Confluence-Request-Time": "1790000000000"},
    status_page=_RUNNING,
    told=["Confluence"],
)
@HTTP.fault(
    "H09-gitlab",
    PRODUCT,
    "GitLab answers",
    text='{"error":"404 Not Found"}',
    kind=_JSON,
    told=["GitLab"],
)
@HTTP.fault(
    "H09-jenkins",
    PRODUCT,
    "Jenkins answers",
    status=403,
    headers={"X-Jenkins": "2.479.1"},
    told=["Jenkins"],
)
def another_product(
    town: Town,
    text: str = PAGE.format("Not found", ""),
    status: int = 404,
    kind: str = "text/html",
    headers: Mapping[str, str] | None = None,
    status_page: str = "",
    capabilities: str = "",
) -> None:
    rules = [
        says(town, json, kind=_JSON, headers=headers, when=f"if {{ path {path} }}")
        for path, json in (("/status", status_page), ("/rest/capabilities", capabilities))
        if json
    ]
    haproxy(town, *rules, says(town, text, status, kind, headers), port=NOBODY)


# gateways that do not get an answer


@HTTP.fault("H10", BAD, "nginx, and nothing listens behind it", told=["nginx"])
def nothing_behind_nginx(town: Town) -> None:
    nginx(town, port=NOBODY)


@HTTP.fault(
    "H10-rest",
    BAD,
    "nginx reaches /status, and not the REST API",
    location=f"}} location /rest/api/1.0 {{ proxy_pass http://127.0.0.1:{NOBODY};",
)
@HTTP.fault(
    "H10-tls",
    BAD,
    "nginx speaks TLS to a Bitbucket that does not",
    location="} location /rest { proxy_pass https://127.0.0.1:$behind;",
)
@HTTP.fault("H11", UNAVAILABLE, "nginx takes Bitbucket out of service", location="return 503;")
@HTTP.fault("H13-nginx", WAF, "nginx denies the REST API", location="} location /rest { deny all;")
@HTTP.fault(
    "H14-rest",
    PASSWORD,
    "nginx wants a password for the REST API",
    location="} location /rest { auth_basic Restricted; auth_basic_user_file /dev/null;",
)
@HTTP.fault("H16", EMPTY, "nginx closes the connection without an answer", location="return 444;")
@HTTP.fault(
    "H18",
    NO_JSON,
    "nginx replaces a text, and the JSON is none any more",
    location="sub_filter_types *; sub_filter_once off; sub_filter '\"}' '';"
    "proxy_set_header Accept-Encoding '';",
)
@HTTP.fault(
    "H21",
    AGENT,
    "nginx lets only browsers through",
    location='if ($http_user_agent !~ "^Mozilla/") { return 403; }',
)
@HTTP.fault(
    "H22",
    METHOD,
    "nginx forbids POST, and webhooks cannot be made",
    location="limit_except GET { deny all; }",
    excuse="only a POST shows it, and bbdiag sends none",
)
@HTTP.fault(
    "H23",
    STRIPPED,
    "nginx removes the token",
    location="proxy_set_header Authorization '';",
)
@HTTP.fault(
    "Q02",
    LIMITED,
    "nginx limits requests, with status 503",
    location="limit_req zone=lab;",
)
@HTTP.fault(
    "Q02-429",
    LIMITED,
    "nginx limits requests, with status 429",
    location="limit_req zone=lab; limit_req_status 429;",
)
def what_nginx_does(town: Town, location: str) -> None:
    port = town.bitbucket()
    zone = "limit_req_zone $server_port zone=lab:1m rate=6r/m;"
    nginx(town, location.replace("$behind", str(port)), port=port, http=zone)


@HTTP.fault("H12", LATE, "Bitbucket does not answer nginx in time", told=["nginx"])
def late_for_nginx(town: Town) -> None:
    town.lab.serve("server", 7990)
    nginx(town, "proxy_read_timeout 500ms;", port=7990)


@HTTP.fault("H14", PASSWORD, "nginx wants a name and a password of its own", told=["Basic"])
def password(town: Town) -> None:
    nginx(town, site=f"auth_basic Restricted; auth_basic_user_file {town.write('users', '')};")


@HTTP.fault(
    "H10-haproxy", BAD, "haproxy gets no HTTP out of what is behind it", talk=b"220 ready\r\n"
)
@HTTP.fault("H10-closed", BAD, "what is behind haproxy closes every connection", talk=b"")
def no_http_behind_haproxy(town: Town, talk: bytes) -> None:
    town.lab.serve("server", 7990, lambda sock: sock.sendall(talk))
    haproxy(town, port=7990)


@HTTP.fault(
    "H11-haproxy",
    UNAVAILABLE,
    "haproxy, and nothing listens behind it: it tries for three seconds",
)
def nothing_behind_haproxy(town: Town, backend: str = "") -> None:
    haproxy(town, backend=backend, port=NOBODY)


@HTTP.fault("H12-haproxy", LATE, "Bitbucket does not answer haproxy in time")
def late_for_haproxy(town: Town) -> None:
    town.lab.serve("server", 7990)
    haproxy(town, backend="timeout server 500ms", port=7990)


@HTTP.fault(
    "H13-token",
    WAF,
    "a gateway that denies every request with a token",
    rule="http-request deny if { req.hdr(authorization) -m found }",
)
@HTTP.fault("H16-haproxy", EMPTY, "haproxy closes the connection", rule="http-request reject")
@HTTP.fault(
    "H21-haproxy",
    AGENT,
    "haproxy keeps programs away by their names",
    rule="http-request deny if { req.hdr(user-agent) -m reg -i (curl|python|bbdiag|wget) }",
)
@HTTP.fault(
    "H22-haproxy",
    METHOD,
    "a gateway that allows POST alone",
    rule='http-request return status 405 hdr Allow "POST" if METH_GET',
    told=["POST"],
)
@HTTP.fault(
    "H23-haproxy",
    STRIPPED,
    "haproxy removes the token",
    rule="http-request del-header authorization",
)
@HTTP.fault(
    "Q02-haproxy",
    LIMITED,
    "haproxy limits requests",
    rule="stick-table type ip size 1k expire 60s store http_req_rate(60s)\n"
    "http-request track-sc0 src\n"
    "http-request deny deny_status 429 if { sc_http_req_rate(0) gt 3 }",
)
def what_haproxy_does(town: Town, rule: str) -> None:
    haproxy(town, rule)


@HTTP.fault("H15", "server-error", "every resource of Bitbucket fails", code="server-error")
@HTTP.fault("Q01", "rate-limited", "the user has used up Bitbucket's limit", code="rate-limited")
@HTTP.fault("Q03", "rate-limit-near", "Bitbucket's limit is nearly reached", code="rate-limit-near")
def bitbucket_itself(town: Town, code: str) -> None:
    nginx(town, port=town.bitbucket(code))


# broken answers


Talk: TypeAlias = "Callable[[socket.socket], object]"


def head(sock: socket.socket, *lines: str) -> None:
    """Read a request, and send the head of an answer."""
    sock.recv(65536)
    sock.sendall("\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode())


def cut_short(sock: socket.socket) -> None:
    head(sock, "Content-Type: application/json", "Content-Length: 500")
    sock.sendall(b'{"versio')


def wait(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def trickle(sock: socket.socket) -> None:
    head(sock, "Content-Type: application/json", "Content-Length: 500")
    while True:
        sock.sendall(b" ")
        time.sleep(1)


def swell(sock: socket.socket) -> None:
    cookies = [f"Set-Cookie: session{number}={'x' * 1000}" for number in range(1000)]
    head(sock, *cookies, "Content-Length: 2")
    sock.sendall(b"{}")


@HTTP.fault("H17", CUT, "500 bytes announced, 8 sent", talk=cut_short)
@HTTP.fault("H19", SILENT, "no answer for as long as one waits", talk=wait)
@HTTP.fault("H24", LARGE, "a megabyte of cookies", talk=swell)
def broken(town: Town, talk: Talk) -> None:
    town.dns()
    town.lab.serve("server", 443, talk, tls=server_context(town.ca.issue(HOST)))


@HTTP.fault("H24-nginx", LARGE, "nginx takes small headers only")
def small_headers(town: Town) -> None:
    sizes = "client_header_buffer_size 16; large_client_header_buffers 1 112;"
    nginx(town, http=f"connection_pool_size 112; {sizes}")


@HTTP.fault("H17-nginx", CUT, "Bitbucket breaks off, nginx passes on what it got", talk=cut_short)
@HTTP.fault("H20", SLOW, "one byte a second, by way of nginx", talk=trickle)
def broken_behind_nginx(town: Town, talk: Talk) -> None:
    town.lab.serve("server", 7990, talk)
    nginx(town, "proxy_buffering off;", port=7990)


# what befalls some requests only


@HTTP.fault(
    "H03-listing",
    LOGIN,
    "a sign-on before the listing alone",
    path="/rest/api/1.0",
    location="return 302 https://sso.lab.test/adfs/ls?SAMLRequest=x;",
)
@HTTP.fault(
    "H03-git",
    LOGIN,
    "a sign-on before git alone",
    path="/scm",
    location="return 302 https://sso.lab.test/adfs/ls?SAMLRequest=x;",
)
@HTTP.fault(
    "H01-listing",
    BLOCKED,
    "a block page in place of the listing",
    path="/rest/api/1.0",
    location="default_type text/html; return 200 'This page is blocked by the policy.';",
)
@HTTP.fault(
    "H10-git", BAD, "git's requests go elsewhere, where nothing listens", path="/scm", port=NOBODY
)
@HTTP.fault(
    "H13-listing", WAF, "a firewall denies the listing", path="/rest/api/1.0", location="deny all;"
)
@HTTP.fault(
    "H13-webhooks",
    WAF,
    "a firewall denies the webhooks of a repository",
    path="~ /webhooks",
    location="deny all;",
)
@HTTP.fault(
    "H14-listing",
    PASSWORD,
    "nginx wants a password for the listing alone",
    path="/rest/api/1.0",
    location="auth_basic Restricted; auth_basic_user_file /dev/null;",
)
@HTTP.fault(
    "H18-listing",
    NO_JSON,
    "nginx breaks the JSON of the listing",
    path="/rest/api/1.0",
    location="sub_filter_types *; sub_filter_once off; sub_filter '\"}' '';"
    "proxy_set_header Accept-Encoding '';",
)
def some_requests(town: Town, path: str, location: str = "", port: int | None = None) -> None:
    behind = town.bitbucket()
    passing = f"proxy_pass http://127.0.0.1:{port or behind}; proxy_set_header Host $http_host;"
    nginx(town, f"}} location {path} {{ {passing} {location}", port=behind)


@HTTP.fault("H12-listing", LATE, "the listing takes longer than nginx waits", patience="500ms")
@HTTP.fault("H17-listing", CUT, "the listing breaks off", talk=cut_short)
@HTTP.fault("H19-listing", SILENT, "the listing never comes", talk=wait)
def broken_listing(town: Town, talk: Talk = wait, patience: str = "60s") -> None:
    town.lab.serve("server", 7991, talk)
    nginx(
        town,
        f"}} location /rest/api/1.0/repos {{ proxy_buffering off; proxy_read_timeout {patience};"
        "proxy_pass http://127.0.0.1:7991;",
    )


@HTTP.fault("H24-token", LARGE, "nginx takes no header as long as the token's")
def token_too_long(town: Town) -> None:
    sizes = "client_header_buffer_size 16; large_client_header_buffers 2 112;"
    nginx(town, http=f"connection_pool_size 112; {sizes}")


# two at once


@HTTP.fault(
    "H10+K03",
    BAD,
    "nothing behind the gateway, whose clock is two hours ahead",
    seen=["clock-skew-server"],
)
def no_bitbucket_and_a_wrong_clock(town: Town) -> None:
    date = formatdate(time.time() + 7200, usegmt=True)
    text = PAGE.format("502 Bad Gateway", "")
    haproxy(town, says(town, text, 502, headers={"Date": date}), port=NOBODY)


@HTTP.fault(
    "H11+D14",
    UNAVAILABLE,
    "Bitbucket is out of service, and its IPv6 address is dead",
    seen=["dns-aaaa-broken"],
)
def out_of_service_and_ipv6_dead(town: Town) -> None:
    town.dns(addresses=(SERVER4, SERVER6))
    town.lab.rules("router", "forward", f"ip6 daddr {SERVER6} drop")
    town.nginx(town.site(town.bitbucket(), location="return 503;"))


@HTTP.fault(
    "H23+L25",
    STRIPPED,
    "nginx removes the token, and the certificate expires soon",
    seen=["tls-expiring-soon"],
    location="proxy_set_header Authorization '';",
)
@HTTP.fault(
    "H13+L25",
    WAF,
    "a firewall denies the REST API, and the certificate expires soon",
    seen=["tls-expiring-soon"],
    location="} location /rest { deny all;",
)
def gateway_and_expiring(town: Town, location: str) -> None:
    soon = town.ca.issue(HOST, starts=-80 * DAY, ends=5 * DAY)
    town.healthy(certificate=soon, location=location)


@HTTP.fault(
    "B05+Q03",
    "base-url-scheme-mismatch",
    "links with http://, and Bitbucket's limit is nearly reached",
    seen=["rate-limit-near"],
)
def links_and_limit(town: Town) -> None:
    town.dns()
    town.nginx(town.site(town.bitbucket("rate-limit-near", base_url=f"http://{HOST}")))


HTTP.near_miss("503", "H11", "Q02")
HTTP.near_miss("403", "H13", "H21")
HTTP.near_miss("403", "H01-status", "H13-nginx")
HTTP.near_miss("401", "H14", "I12")
HTTP.near_miss("404", "H08", "H09")
HTTP.near_miss("404", "H09-gitlab", "H02-ingress")
HTTP.near_miss("200 and HTML", "H01", "H02")
HTTP.near_miss("200 and HTML", "H13-200", "H03-form")
HTTP.near_miss("401", "H14", "H23")
HTTP.near_miss("200 and JSON", "H18", "Q03")
HTTP.near_miss("301", "H05", "H07")
HTTP.near_miss("302", "H03", "H04-two")
HTTP.near_miss("429", "Q01", "Q02-429")
HTTP.near_miss("502", "H10", "I10+H10")
HTTP.near_miss("no answer", "H19", "T02")
HTTP.near_miss("no answer", "H19", "T12")
HTTP.near_miss("503", "H11", "S01-path")
HTTP.near_miss("401", "H14", "A01")
HTTP.near_miss("200 and JSON", "H18-listing", "B01")
