"""Faults before HTTP: what was typed in, the port, the proxy, TLS."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ssl
import warnings
from functools import partial
from typing import TYPE_CHECKING

from diag.simulator.data import Credential, password, token_secret
from diag.simulator.proxy import VIA, proxy_error
from diag.simulator.registry import DATACENTER, assign
from diag.simulator.scenario import HOST
from diag.simulator.server import LOOPBACK, TLS_HANDSHAKE, html, page

if TYPE_CHECKING:
    from diag.simulator.scenario import Policy, Setup, Talk
    from diag.simulator.server import Connection, Request, Response

declare, fault = DATACENTER.declare, DATACENTER.fault

SHORT = {"timeout": 0.8}  # seconds: enough on loopback, and a demo of something hung ends soon
NO_SUCH_HOST = "proxy.example.invalid"  # RFC 6761: never resolves
ADDRESS = "192.0.2.10"  # RFC 5737: documentation only; reached by connect-to


# what was typed in

typed = partial(declare, "Input")
typed("input-url-missing-scheme", "the URL has no https://", url=HOST)
typed("input-url-not-http", "an SSH clone URL was given", url=f"ssh://git@{HOST}:7999/mob/app.git")
typed(
    "input-url-has-page-path",
    "the address of a page was copied from the browser",
    url=f"https://{HOST}/projects/MOB/repos/app/browse",
    repo=None,
)
typed("input-url-has-api-path", "the URL of the API was given", url=f"https://{HOST}/rest/api/1.0")
typed("input-port-invalid", "the port is 99999", url=f"https://{HOST}:99999")
typed(
    "input-url-bad-character",
    "the URL holds an invisible character, as one copied from a chat may",
    url="https://bitbucket.\u200bexample.com",
)
typed("input-host-invalid", "the host name has two dots in a row", url="https://bitbucket..com")
typed(
    "input-url-has-credentials",
    "the URL holds a user name and a password",
    url=f"https://developer:{password('developer')}@{HOST}",
)
typed("input-token-missing", "the variable for the token is empty", credential=Credential(""))
typed(
    "input-token-whitespace",
    "the token was pasted with a blank and a line end",
    credential=Credential(f" {token_secret('admin-token')}\n"),
)
typed(
    "input-token-placeholder",
    "the name of a variable was sent instead of its value",
    credential=Credential("$BITBUCKET_TOKEN"),
)
typed(
    "input-token-wrong-product",
    "the token is one of GitHub",
    credential=Credential("ghp_" + hashlib.sha256(b"not a secret").hexdigest()[:36]),
)
typed("input-ca-unreadable", "the CA file does not exist", ca_file="missing.pem")
typed("input-ca-not-a-ca", "the CA file holds the server's own certificate", ca_file="leaf.pem")


@fault("Input", "input-config-invalid", "the requirement profile has an unknown key")
def _(setup: Setup) -> None:
    profile = setup.directory / "profile.toml"
    profile.write_text('name = "demo"\nminimal_version = "7.14"\n', encoding="utf-8")
    setup.options["profile"] = str(profile)


# the port

port = partial(declare, "TCP")


def reset(connection: Connection, _talk: Talk) -> None:
    """A moment after the connection stands, or the peer's connect() itself would fail."""
    connection.wait(0.03)
    connection.reset()


def hang_up(_connection: Connection, _talk: Talk) -> None:
    """Nothing is said: the connection is closed when this returns."""


def keep_silent(connection: Connection, _talk: Talk) -> None:
    connection.swallow()


port("tcp-refused", "nothing listens on the port", web=False)
port("tcp-reset-after-accept", "the connection is accepted, then reset", talk=reset)
port("tcp-closed-after-accept", "the connection is accepted, then closed", talk=hang_up)
port(
    "tcp-silent-after-accept",
    "the connection is accepted, then nothing is said",
    talk=keep_silent,
    options=SHORT,
)
port("tcp-wrong-service-ssh", "the URL names the SSH port", url=f"https://{HOST}:7999")


@fault("TCP", "tcp-wrong-port", "Bitbucket listens on 7990, not on 443")
def _(setup: Setup) -> None:
    setup.tls = False
    setup.instance.base_url = f"http://{HOST}:7990"
    setup.routes |= {f"{HOST}:443": setup.closed_port, f"{HOST}:7990": setup.web_port}


# the proxy

PROXY_USER, PROXY_PASSWORD = "proxy-user", password("proxy-user")


def behind_proxy(
    code: str, summary: str, proxy_url: str = "http://{address}", **more: object
) -> None:
    """A fault of a network where only the proxy reaches Bitbucket.

    `proxy_url` is what the environment says; `{address}` is where the proxy runs.
    """

    @fault("Proxy", code, summary)
    def change(setup: Setup) -> None:
        setup.proxy = let_pass
        setup.routes[f"{HOST}:443"] = setup.closed_port
        proxy = proxy_url.format(address=f"{LOOPBACK}:{setup.proxy_port}")
        setup.environ["https_proxy"] = proxy
        assign(setup, more)


def let_pass(_request: Request) -> Response | None:
    return None


def want_credentials(request: Request) -> Response | None:
    pair = base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode()
    if request.headers.get("proxy-authorization") == f"Basic {pair}":
        return None
    challenge = ("Proxy-Authenticate", 'Basic realm="proxy.example.com"')
    return proxy_error(407, "Proxy Authentication Required", "ERR_CACHE_ACCESS_DENIED 0", challenge)


def refuse(status: int, reason: str, code: str) -> Policy:
    """A proxy that answers everything with this error."""
    return lambda _request: proxy_error(status, reason, code)


def be_a_web_server(request: Request) -> Response | None:
    if request.method == "CONNECT":
        return html(405, page("405 Not Allowed", "nginx"), reason="Not Allowed")
    return html(200, page("Welcome to nginx!", "nginx"), reason="OK")


behind_proxy("proxy-dns-failure", "the proxy's name does not exist", f"http://{NO_SUCH_HOST}:3128")
behind_proxy("proxy-refused", "nothing listens on the proxy's port", proxy=None)
behind_proxy("proxy-auth-required", "the proxy wants a password", proxy=want_credentials)
behind_proxy(
    "proxy-auth-rejected",
    "the proxy does not accept the password",
    f"http://{PROXY_USER}:wrong@{{address}}",
    proxy=want_credentials,
)
behind_proxy(
    "proxy-denied",
    "the proxy's rules forbid the way to Bitbucket",
    proxy=refuse(403, "Forbidden", "ERR_ACCESS_DENIED 0"),
)
behind_proxy(
    "proxy-upstream-dns-failure",
    "the proxy cannot resolve Bitbucket's name",
    proxy=refuse(503, "Service Unavailable", "ERR_DNS_FAIL 0"),
)
behind_proxy(
    "proxy-upstream-refused",
    "Bitbucket refuses the proxy's connections",
    proxy=refuse(503, "Service Unavailable", "ERR_CONNECT_FAIL 111"),
)
behind_proxy(
    "proxy-upstream-timeout",
    "Bitbucket does not answer the proxy",
    proxy=refuse(504, "Gateway Timeout", "ERR_CONNECT_FAIL 110"),
)
behind_proxy(
    "proxy-not-a-proxy", "the address of the proxy is a web server's", proxy=be_a_web_server
)
behind_proxy(
    "proxy-scheme-mismatch", "https:// is written for a proxy without TLS", "https://{address}"
)
behind_proxy("proxy-url-invalid", "the proxy's port is no number", f"http://{LOOPBACK}:31x8")
behind_proxy(
    "proxy-protocol-mismatch", "socks5h:// is written for an HTTP proxy", "socks5h://{address}"
)


@fault("Proxy", "proxy-bypass-missing", "the proxy is used, but only the direct way works")
def _(setup: Setup) -> None:
    setup.proxy = refuse(503, "Service Unavailable", "ERR_CONNECT_FAIL 113")
    setup.environ["https_proxy"] = f"http://{LOOPBACK}:{setup.proxy_port}"


behind_proxy(
    "proxy-bypass-wrong",
    "NO_PROXY names Bitbucket, but only the proxy reaches it",
    environ={"no_proxy": "localhost,.example.com"},
)
behind_proxy(
    "proxy-env-conflict",
    "https_proxy and HTTPS_PROXY name different proxies",
    environ={"HTTPS_PROXY": f"http://{NO_SUCH_HOST}:3128"},
)


def behind_plain_proxy(code: str, summary: str, policy: Policy) -> None:
    """A fault of a proxy that sees the requests, as the URL is http://."""

    @fault("Proxy", code, summary)
    def change(setup: Setup) -> None:
        setup.use_plain_http()
        setup.proxy = policy
        setup.environ["http_proxy"] = f"http://{LOOPBACK}:{setup.proxy_port}"
        del setup.routes[f"{HOST}:80"]  # with a rule, this would become a CONNECT, as with curl


def block(_request: Request) -> Response | None:
    text = "<p>Access to this site is blocked by the policy of Example Corp. Category: unknown.</p>"
    return html(403, page("Blocked by policy", body=text), ("Via", VIA), reason="Forbidden")


def strip_authorization(request: Request) -> Response | None:
    request.headers.pop("authorization", None)
    return None


behind_plain_proxy("proxy-block-page", "the proxy answers with a page of its own", block)
behind_plain_proxy("proxy-strips-authorization", "the proxy removes the token", strip_authorization)


# TLS

certificate = partial(declare, "TLS")
days = dt.timedelta


def swallow_hello(connection: Connection, talk: Talk) -> None:
    """TLS is never answered, but plain HTTP is: the port is alive."""
    if connection.peek() == TLS_HANDSHAKE:
        connection.swallow()
    else:
        talk(connection)


def reset_by_name(connection: Connection, talk: Talk) -> None:
    """A filter that looks for the name in the ClientHello."""
    if HOST.encode() in connection.peek(16384):
        connection.reset()
    else:
        talk(connection)


def refuse_name(context: ssl.SSLContext, _root: str) -> None:
    def choose(_sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name else None

    context.sni_callback = choose


def want_client_certificate(context: ssl.SSLContext, root: str) -> None:
    context.load_verify_locations(cadata=root)
    context.verify_mode = ssl.CERT_REQUIRED


def speak_old_tls(context: ssl.SSLContext, _root: str) -> None:
    with warnings.catch_warnings():  # Python warns of what is the fault here
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1


def offer_static_rsa(context: ssl.SSLContext, _root: str) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-SHA:@SECLEVEL=0")


certificate("tls-expired", "the certificate expired 12 days ago", certificates={"ends": days(-12)})
certificate(
    "tls-not-yet-valid",
    "the certificate becomes valid in 3 days",
    certificates={"starts": days(3)},
)
certificate(
    "tls-hostname-mismatch",
    "the certificate is for stash.example.com",
    certificates={"names": ("stash.example.com",), "common_name": "stash.example.com"},
)
certificate("tls-no-san", "the certificate names no host but in its CN", certificates={"names": ()})
certificate("tls-self-signed", "the certificate is self-signed", certificates={"self_signed": True})
certificate("tls-issuer-unknown", "the company's CA is not trusted here", ca_file=None)
certificate(
    "tls-chain-incomplete",
    "the server does not send the intermediate certificate",
    certificates={"send_intermediate": False, "issuer_url": "http://pki.example.com/ca1.cer"},
)
certificate(
    "tls-intermediate-expired",
    "the intermediate certificate expired 20 days ago",
    certificates={"intermediate_ends": days(-20)},
)
certificate(
    "tls-interception",
    "an inspecting proxy replaces the certificate",
    ca_file=None,
    certificates={
        "root": "Zscaler Root CA",
        "intermediate": "Zscaler Intermediate Root CA (zscaler.net)",
    },
)


@fault("TLS", "tls-plaintext-port", "the port speaks plain HTTP, but the URL says https")
def _(setup: Setup) -> None:
    setup.use_plain_http()
    setup.url = f"https://{HOST}"
    setup.routes[f"{HOST}:443"] = setup.web_port


certificate(
    "tls-version-too-old",
    "the server speaks no TLS newer than 1.1",
    weak_tls=True,
    configure_tls=speak_old_tls,
)
certificate(
    "tls-no-common-cipher",
    "the server offers only ciphers with static RSA",
    weak_tls=True,
    configure_tls=offer_static_rsa,
    certificates={"key": "rsa"},
)
certificate(
    "tls-client-cert-required",
    "the server wants a client certificate",
    configure_tls=want_client_certificate,
)
certificate(
    "tls-sni-rejected", "the server does not know the name it is called", configure_tls=refuse_name
)
certificate(
    "tls-default-vhost-cert",
    "another virtual host answers, with its own certificate",
    certificates={"names": ("www.example.com",), "common_name": "www.example.com"},
    gateway=lambda _request, _forward: html(200, page("Example Corp"), reason="OK"),
)
certificate(
    "tls-wrong-key-usage",
    "the certificate is one for clients",
    certificates={"for_servers": False},
)
certificate(
    "tls-weak-key",
    "the certificate's key has 1024 bits",
    weak_tls=True,
    certificates={"key": "rsa-1024"},
)
certificate(
    "tls-weak-signature",
    "the certificate is signed with SHA-1",
    weak_tls=True,
    certificates={"sha1": True},
)
certificate(
    "tls-revoked",
    "the CA has revoked the certificate, as its key was lost",
    certificates={"crl_url": "http://pki.example.com/ca1.crl"},
    options={"check_revocation": True},
)
certificate("tls-blocked-by-sni", "a filter cuts handshakes with this name", talk=reset_by_name)
certificate(
    "tls-handshake-timeout",
    "the TLS handshake is never answered",
    talk=swallow_hello,
    options=SHORT,
)


@fault("TLS", "tls-ip-without-san", "the URL has an address that the certificate does not name")
def _(setup: Setup) -> None:
    setup.url = f"https://{ADDRESS}"
    setup.routes |= {place.replace(HOST, ADDRESS): to for place, to in setup.routes.items()}


certificate(
    "tls-expiring-soon", "the certificate expires in 5 days", certificates={"ends": days(5, 3600)}
)
