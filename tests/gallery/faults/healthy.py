"""No false alarm: Bitbuckets in good health, in the many shapes that networks give them."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diag.simulator.data import CREDENTIALS, VERSION
from tests.gallery.case import HOST, URL, Call, Family
from tests.gallery.town import PROXY
from tests.lab import ROUTER4, ROUTER6, SERVER4, SERVER6

if TYPE_CHECKING:
    from tests.gallery.town import Town

HEALTHY = Family("healthy", "In good health, in many shapes")

CLEARTEXT = "auth-token-in-cleartext"  # deserved by every http:// URL
MARKS = ("Server", "X-AREQUESTID", "X-AUSERNAME", "X-AUSERID", "X-ASESSIONID", "Vary", "Set-Cookie")
_SECURITY = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Set-Cookie": "BIGipServerpool=1677787402.36895.0000; path=/; Httponly; Secure",
    "X-Cache": "MISS",
    "Server-Timing": "edge; dur=1",
    "Alt-Svc": "clear",
}


@HEALTHY.healthy("nginx", "behind nginx, with a certificate of the company's CA")
@HEALTHY.healthy(
    "no-keep-alive",
    "TLS 1.2, and a connection for each request",
    site="ssl_protocols TLSv1.2; keepalive_timeout 0;",
    location="add_header Connection close always;",
)
@HEALTHY.healthy(
    "gzip-and-chunks",
    "TLS 1.3, answers packed with gzip and sent in chunks",
    site="ssl_protocols TLSv1.3; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;",
    location="proxy_buffering off;",
)
@HEALTHY.healthy(
    "no-marks",
    "a gateway that removes Bitbucket's own headers, and keeps /status to itself",
    site="server_tokens off; location = /status { return 403; }",
    location="".join(f"proxy_hide_header {name};" for name in MARKS),
)
@HEALTHY.healthy("http2", "HTTP/2 on offer", listen="listen 443 ssl http2;")
@HEALTHY.healthy(
    "headers",
    "a gateway that adds headers of its own",
    location="".join(f'add_header {name} "{value}" always;' for name, value in _SECURITY.items()),
)
@HEALTHY.healthy(
    "sso",
    "a sign-on before the pages for people, not before /rest and /scm",
    location="} location = / { return 302 https://sso.lab.test/adfs/ls?SAMLRequest=x;"
    "} location ~ ^/(dashboard|login|projects) { return 302 https://sso.lab.test/adfs/ls;",
)
@HEALTHY.healthy(
    "password",
    "a password before the pages for people, not before /rest and /scm",
    location="} location = / { auth_basic x; auth_basic_user_file /dev/null;",
)
@HEALTHY.healthy(
    "methods",
    "a gateway that forbids HEAD and OPTIONS",
    location="if ($request_method ~ ^(HEAD|OPTIONS|TRACE)$) { return 405; }",
)
@HEALTHY.healthy(
    "browsers",
    "browsers are sent to a portal, programs are not",
    location="if ($http_user_agent ~ Mozilla) { return 302 https://portal.lab.test/; }",
)
@HEALTHY.healthy(
    "own-status",
    "a gateway with a /status page of its own",
    site="location = /status { default_type text/plain; return 200 'UP'; }",
)
@HEALTHY.healthy(
    "limit",
    "a limit of requests that leaves room",
    location="limit_req zone=lab burst=20 nodelay;",
)
@HEALTHY.healthy(
    "errors",
    "a gateway with error pages of its own",
    site="error_page 400 401 403 404 500 502 503 /sorry; location = /sorry { return 200 'Sorry'; }",
    location="proxy_intercept_errors on;",
)
@HEALTHY.healthy("cache", "a cache on the way", location="add_header Age 7200 always;")
@HEALTHY.healthy(
    "certificate-wanted",
    "a client certificate is asked for, and not required",
    site="ssl_verify_client optional_no_ca;",
)
@HEALTHY.healthy("slow-line", "fifty kilobytes a second", location="limit_rate 50k;")
@HEALTHY.healthy(
    "tickets", "no TLS sessions", site="ssl_session_tickets off; ssl_session_cache off;"
)
def behind_nginx(
    town: Town,
    site: str = "",
    location: str = "",
    listen: str = "listen 443 ssl; listen [::]:443 ssl;",
) -> None:
    town.dns()
    server = town.site(town.bitbucket(), site=site, location=location, listen=listen)
    town.nginx(server, http="limit_req_zone $server_port zone=lab:1m rate=5r/s;")


@HEALTHY.healthy("haproxy", "behind haproxy, with checks and a cookie for each server")
@HEALTHY.healthy("haproxy-http2", "behind haproxy with HTTP/2", alpn="alpn h2,http/1.1")
def behind_haproxy(town: Town, alpn: str = "") -> None:
    town.dns()
    port = town.bitbucket()
    crt = town.bundle(town.ca.issue(HOST))
    town.haproxy(
        f"frontend web\nbind :443 ssl crt {crt} {alpn}\noption forwardfor\n"
        "http-response set-header Strict-Transport-Security max-age=31536000\n"
        "default_backend bitbucket\n"
        "backend bitbucket\ncookie NODE insert indirect nocache httponly secure\n"
        "option httpchk GET /status\n"
        f"server one 127.0.0.1:{port} check cookie one\n"
        f"server two 127.0.0.1:{port} check cookie two",
        443,
    )
    time.sleep(0.1)  # until the checks have passed


@HEALTHY.healthy("two-gateways", "haproxy passes TCP on, nginx behind it ends TLS")
def two_gateways(town: Town) -> None:
    town.dns()
    port = town.bitbucket()
    town.nginx(town.site(port, listen="listen 8443 ssl; listen 80;"))
    town.haproxy(
        "listen web\nmode tcp\nbind :443\nserver one 127.0.0.1:8443",
        443,
    )


@HEALTHY.healthy(
    "wildcard-and-alias", "HTTP/2, a wildcard certificate of an intermediate CA, and an alias"
)
def wildcard_and_alias(town: Town) -> None:
    town.dns(f"--cname={HOST},lb.lab.test", f"--host-record=lb.lab.test,{SERVER4}", addresses=())
    certificate = town.ca.authority("Example Corp Issuing CA 2").issue("*.lab.test")
    port = town.bitbucket()
    town.nginx(town.site(port, certificate=certificate, listen="listen 443 ssl http2;"))


@HEALTHY.healthy("context-path", "below a path, and what is wanted is on the third page")
def below_a_path(town: Town) -> Call:
    town.dns()
    port = town.bitbucket(
        base_url=f"{URL}/bitbucket", context_path="/bitbucket", repositories=60, page_limit=25
    )
    town.nginx(town.site(port, path="/bitbucket"))
    return Call(f"{URL}/bitbucket/")


@HEALTHY.healthy("listing", "a listing of 2,000 repositories", count=2000)
@HEALTHY.healthy("listing-none", "no repository is named, and there are 2,000", count=2000, repo="")
def large(town: Town, count: int, repo: str = "MOB/app") -> Call:
    town.dns()
    town.nginx(town.site(town.bitbucket(repositories=count)))
    return Call(repo=repo or None)


@HEALTHY.healthy("version", "an older version that is supported", version="10.1.5")
@HEALTHY.healthy("private", "nobody sees anything without signing in", public_access=False)
@HEALTHY.healthy("token-alone", "basic authentication is switched off", basic_auth=False)
def another_bitbucket(town: Town, /, version: str = VERSION, **instance: bool) -> None:
    town.dns()
    town.nginx(town.site(town.bitbucket(version=version, instance=instance)))


@HEALTHY.healthy("no-ssh", "SSH is switched off", ssh=None)
@HEALTHY.healthy("ssh-host", "SSH on a host of its own", ssh="ssh.lab.test")
def ssh(town: Town, ssh: str | None) -> None:
    town.dns(f"--host-record=ssh.lab.test,{SERVER4}")
    town.nginx(town.site(town.bitbucket(ssh=ssh)))


@HEALTHY.healthy("redirect", "http:// redirects to https://, and https:// is what is asked")
def redirect(town: Town) -> None:
    town.dns()
    moved = f"server {{ listen 80; return 301 https://{HOST}$request_uri; }}"
    town.nginx(town.site(town.bitbucket()), moved)


@HEALTHY.healthy("port-of-its-own", "https on a port of its own")
def another_port(town: Town) -> Call:
    town.dns()
    port = town.bitbucket(base_url=f"{URL}:8443")
    town.nginx(town.site(port, listen="listen 8443 ssl; listen 80;"))
    return Call(f"{URL}:8443")


# addresses


@HEALTHY.healthy("ipv6-network", "a network with IPv6 alone")
def ipv6_alone(town: Town) -> None:
    town.dns(f"--listen-address={ROUTER6}", addresses=(SERVER6,))
    town.lab.resolv_conf("client", f"nameserver {ROUTER6}\n")
    town.lab.ip("client", "-4 addr flush dev eth0")
    town.nginx(town.site(town.bitbucket()))


@HEALTHY.healthy("ipv6-and-ipv4", "IPv6 and IPv4, and both work")
@HEALTHY.healthy("ipv6-not-here", "IPv6 is published, and the client has none", without=True)
def both(town: Town, without: bool = False) -> None:
    town.dns(addresses=(SERVER4, SERVER6))
    town.nginx(town.site(town.bitbucket()))
    if without:
        town.lab.ip("client", "-6 route del default", "-6 addr flush dev eth0 scope global")


@HEALTHY.healthy("both-addresses", "two addresses, and both work")
def two_addresses(town: Town) -> None:
    town.lab.ip("server", "addr add 10.77.2.3/24 dev eth0")
    town.dns(addresses=(SERVER4, "10.77.2.3"))
    town.nginx(town.site(town.bitbucket()))


@HEALTHY.healthy("ipv6-address", "an IPv6 address instead of a name")
def an_address(town: Town) -> Call:
    address = f"https://[{SERVER6}]"
    port = town.bitbucket(base_url=address, ssh=f"[{SERVER6}]")
    town.nginx(town.site(port, certificate=town.ca.issue(SERVER6)))
    return Call(address)


@HEALTHY.healthy("short-name", "a short name, and a CA in the system's store")
def a_short_name(town: Town) -> Call:
    town.dns()
    town.lab.resolv_conf("client", f"search lab.test\nnameserver {ROUTER4}\n")
    port = town.bitbucket(base_url="https://bb", ssh="bb")
    town.nginx(town.site(port, certificate=town.ca.issue("bb")))
    store = Path("/etc/netns", town.lab.name("client"), "ssl")
    shutil.copytree("/etc/ssl", store, symlinks=True)
    with (store / "certs" / "ca-certificates.crt").open("ab") as file:
        file.write(town.ca.pem)
    return Call("https://bb", ca_file=Path("/etc/ssl/certs/ca-certificates.crt"))


@HEALTHY.healthy("firewall", "a firewall that opens only what is needed")
def only_what_is_needed(town: Town) -> None:
    town.healthy()
    town.lab.rules("router", "forward", "tcp dport != { 443, 7999 } ct state new drop")


@HEALTHY.healthy("plain", "plain HTTP on Bitbucket's own port", deserved=[CLEARTEXT])
def plain(town: Town) -> Call:
    town.dns()
    town.lab.expose("server", 7990, town.bitbucket(base_url=f"http://{HOST}:7990"))
    return Call(f"http://{HOST}:7990")


@HEALTHY.healthy("localhost", "localhost, on the server itself", deserved=[CLEARTEXT])
def localhost(town: Town) -> Call:
    """A name that stands for IPv6 too, on every machine, whoever listens there."""
    port = town.bitbucket(base_url="http://localhost:7990", ssh="localhost")
    town.nginx(town.site(port, listen="listen 127.0.0.1:7990; listen 80;"))
    return Call("http://localhost:7990", place="server")


# secrets


@HEALTHY.healthy("project-token", "a token of the project", credential="project-token")
@HEALTHY.healthy("repository-token", "a token of the repository", credential="repository-token")
@HEALTHY.healthy("password-of-a-user", "a user's name and password", credential="password")
def another_secret(town: Town, credential: str) -> Call:
    town.healthy()
    given = CREDENTIALS[credential]
    town.token = given.secret
    return Call(options=("--user", given.user) if given.user else ())


@HEALTHY.healthy("anonymous", "no secret, and a public repository")
def anonymous(town: Town) -> Call:
    town.healthy()
    town.token = None
    return Call(options=("--stage", "steady"), repo="OPEN/docs")


# proxies


@HEALTHY.healthy("only-squid", "no way but squid, which lets out what is needed")
def through_squid(town: Town) -> Call:
    town.healthy()
    env = town.squid("acl safe port 443 7999\nhttp_access allow safe\nhttp_access deny all")
    town.lab.rules("client", "output", "ip daddr 10.77.2.0/24 drop")
    return Call(env=env)


@HEALTHY.healthy("only-squid-plain", "plain HTTP, and no way but squid", deserved=[CLEARTEXT])
def plain_through_squid(town: Town) -> Call:
    town.plain()
    env = town.squid()
    town.lab.rules("client", "output", "ip daddr 10.77.2.0/24 drop")
    return Call(f"http://{HOST}", env=env)


@HEALTHY.healthy("past-a-proxy", "past a proxy that is dead")
def past_a_dead_proxy(town: Town) -> Call:
    town.healthy()
    return Call(env={"HTTPS_PROXY": PROXY, "no_proxy": "localhost,.lab.test"})


# slow


@HEALTHY.healthy("thinks", "half a second for each answer", seconds=0.5)
def a_server_that_thinks(town: Town, seconds: float) -> None:
    """Nine answers are needed, and that is no fault."""
    town.dns()
    port = town.bitbucket()

    def think(sock: socket.socket) -> None:
        request = sock.recv(65536)
        time.sleep(seconds)
        with town.lab.call("server", socket.create_connection, ("127.0.0.1", port)) as bitbucket:
            bitbucket.sendall(request)
            while data := bitbucket.recv(65536):
                sock.sendall(data)

    town.lab.serve("server", 7990, think)
    town.nginx(town.site(7990))
