"""No false alarm: Bitbuckets in good health, in the many shapes that networks give them."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest

from diag.simulator.data import CREDENTIALS
from tests.gallery.case import HOST, URL
from tests.gallery.town import PRIVATE, PROXY, Result, Town
from tests.lab import ROUTER4, ROUTER6, SERVER4, SERVER6

pytestmark = pytest.mark.lab

MARKS = ("Server", "X-AREQUESTID", "X-AUSERNAME", "X-AUSERID", "X-ASESSIONID", "Vary", "Set-Cookie")
CLEARTEXT = "auth-token-in-cleartext"  # deserved by every http:// URL


def assert_healthy(result: Result, *deserved: str, most: int = 12) -> None:
    """Nothing is wrong but what is `deserved`, and few questions were asked."""
    assert result.codes == list(deserved)
    assert result.report["verdict"] == "warn" or not result.report["problems"]
    assert result.status == 0
    assert 0 < result.report["run"]["requests"] <= most


def test_behind_nginx(town: Town) -> None:
    town.healthy()
    result = town.check()
    assert_healthy(result)
    assert result.root_cause == PRIVATE


@pytest.mark.parametrize(
    ("site", "location"),
    [
        ("ssl_protocols TLSv1.2; keepalive_timeout 0;", "add_header Connection close always;"),
        (
            "ssl_protocols TLSv1.3; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;",
            "proxy_buffering off;",
        ),
        (
            "server_tokens off; location = /status { return 403; }",
            "".join(f"proxy_hide_header {name};" for name in MARKS),
        ),
    ],
    ids=["TLS 1.2, no keep-alive", "TLS 1.3, gzip, chunks", "without Bitbucket's headers"],
)
def test_what_nginx_may_do_to_answers(town: Town, site: str, location: str) -> None:
    town.healthy(site=site, location=location)
    assert_healthy(town.check())


def test_http2_a_wildcard_certificate_and_an_alias(town: Town) -> None:
    town.dns(f"--cname={HOST},lb.lab.test", f"--host-record=lb.lab.test,{SERVER4}", addresses=())
    certificate = town.ca.authority("Example Corp Issuing CA 2").issue("*.lab.test")
    port = town.bitbucket()
    town.nginx(town.site(port, certificate=certificate, listen="listen 443 ssl http2;"))
    assert_healthy(town.check())


def test_below_a_path_with_what_is_wanted_on_the_third_page(town: Town) -> None:
    town.dns()
    port = town.bitbucket(
        base_url=f"{URL}/bitbucket", context_path="/bitbucket", repositories=60, page_limit=25
    )
    town.nginx(town.site(port, path="/bitbucket"))
    assert_healthy(town.check(f"{URL}/bitbucket/"))


def test_a_network_with_ipv6_alone(town: Town) -> None:
    town.dns(f"--listen-address={ROUTER6}", addresses=(SERVER6,))
    town.lab.resolv_conf("client", f"nameserver {ROUTER6}\n")
    town.lab.ip("client", "-4 addr flush dev eth0")
    town.nginx(town.site(town.bitbucket()))
    assert_healthy(town.check())


def test_ipv6_published_and_a_client_without(town: Town) -> None:
    town.dns(addresses=(SERVER4, SERVER6))
    town.nginx(town.site(town.bitbucket()))
    town.lab.ip("client", "-6 route del default", "-6 addr flush dev eth0 scope global")
    assert_healthy(town.check())


def test_a_firewall_that_opens_only_what_is_needed(town: Town) -> None:
    town.healthy()
    town.lab.rules("router", "forward", "tcp dport != { 443, 7999 } ct state new drop")
    assert_healthy(town.check())


def test_plain_http_on_bitbuckets_own_port(town: Town) -> None:
    town.dns()
    town.lab.expose("server", 7990, town.bitbucket(base_url=f"http://{HOST}:7990"))
    assert_healthy(town.check(f"http://{HOST}:7990"), CLEARTEXT)


def test_an_address_instead_of_a_name(town: Town) -> None:
    address = f"https://[{SERVER6}]"
    port = town.bitbucket(base_url=address, ssh=f"[{SERVER6}]")
    town.nginx(town.site(port, certificate=town.ca.issue(SERVER6)))
    assert_healthy(town.check(address))


def test_a_short_name_and_a_ca_in_the_systems_store(town: Town) -> None:
    town.dns()
    town.lab.resolv_conf("client", f"search lab.test\nnameserver {ROUTER4}\n")
    port = town.bitbucket(base_url="https://bb", ssh="bb")
    town.nginx(town.site(port, certificate=town.ca.issue("bb")))
    store = Path("/etc/netns", town.lab.name("client"), "ssl")
    shutil.copytree("/etc/ssl", store, symlinks=True)
    with (store / "certs" / "ca-certificates.crt").open("ab") as file:
        file.write(town.ca.pem)
    assert_healthy(town.check("https://bb", ca_file=Path("/etc/ssl/certs/ca-certificates.crt")))


def test_localhost_on_the_server_itself(town: Town) -> None:
    """A name that stands for IPv6 too, on every machine, whoever listens there."""
    port = town.bitbucket(base_url="http://localhost:7990", ssh="localhost")
    town.nginx(town.site(port, listen="listen 127.0.0.1:7990; listen 80;"))
    assert_healthy(town.check("http://localhost:7990", place="server"), CLEARTEXT)


@pytest.mark.parametrize("credential", ["project-token", "repository-token", "password"])
def test_other_kinds_of_secrets(town: Town, credential: str) -> None:
    town.healthy()
    given = CREDENTIALS[credential]
    town.token = given.secret
    assert_healthy(town.check(URL, *(("--user", given.user) if given.user else ())))


def test_anonymous_and_public(town: Town) -> None:
    town.healthy()
    town.token = None
    assert_healthy(town.check(URL, "--stage", "steady", repo="OPEN/docs"))


# proxies


def no_way_but_the_proxy(town: Town) -> None:
    town.lab.rules("client", "output", "ip daddr 10.77.2.0/24 drop")


def test_through_squid(town: Town) -> None:
    town.healthy()
    environ = town.squid("acl safe port 443 7999\nhttp_access allow safe\nhttp_access deny all")
    no_way_but_the_proxy(town)
    assert_healthy(town.check(env=environ))


def test_plain_http_through_squid(town: Town) -> None:
    town.plain()
    environ = town.squid()
    no_way_but_the_proxy(town)
    assert_healthy(town.check(f"http://{HOST}", env=environ), CLEARTEXT)


def test_past_a_proxy_that_is_dead(town: Town) -> None:
    town.healthy()
    assert_healthy(town.check(env={"HTTPS_PROXY": PROXY, "no_proxy": "localhost,.lab.test"}))


# slow


def test_a_server_that_thinks(town: Town) -> None:
    """Every answer takes half a second; nine of them are needed, and that is no fault."""
    town.dns()
    port = town.bitbucket()

    def think(sock: socket.socket) -> None:
        request = sock.recv(65536)
        time.sleep(0.5)
        with town.lab.call("server", socket.create_connection, ("127.0.0.1", port)) as bitbucket:
            bitbucket.sendall(request)
            while data := bitbucket.recv(65536):
                sock.sendall(data)

    town.lab.serve("server", 7990, think)
    town.nginx(town.site(7990))
    assert_healthy(town.check())
