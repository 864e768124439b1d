"""Faults put in with the programs that cause them in real life, each named as the root cause.

Only what real programs and a real network add: the faults of the demo, and those of one layer
alone, have their tests elsewhere.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.certificates import DAY, self_signed
from tests.gallery.case import HOST
from tests.gallery.town import PRIVATE, PROXY, Town
from tests.lab import ROUTER4, SERVER4, SERVER6

pytestmark = pytest.mark.lab


# DNS: dnsmasq


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], "dns-nxdomain"),
        (["--host-record=other.lab.test,10.1.1.1", f"--txt-record={HOST},x"], "dns-nodata"),
        ([f"--cname={HOST},gone.lab.test"], "dns-cname-dangling"),
        ([f"--address=/{HOST}/#"], "dns-sinkholed"),
    ],
    ids=["no name", "no address", "alias", "blocklist"],
)
def test_dnsmasq(town: Town, options: list[str], code: str) -> None:
    town.dns(*options, addresses=())
    assert town.check().codes == [code]


def test_a_resolver_that_is_not_responsible(town: Town) -> None:
    town.dns()
    assert town.check("https://bb.corp.example").codes == ["dns-refused"]


def test_a_resolver_that_validates_what_nobody_signed(town: Town) -> None:
    """It asks another one, which has the address but no signature that leads to the root's key."""
    town.dns("--listen-address=127.0.0.1")
    program = "dnsmasq --no-daemon --no-hosts --no-resolv --conf-file=/dev/null --pid-file="
    digest = "AB" * 32
    options = f"--dnssec --trust-anchor=.,12345,8,2,{digest} --listen-address={SERVER4}"
    options += f" --user=root --bind-interfaces --server={ROUTER4}"
    town.lab.spawn("server", f"{program} {options}".split())
    town.lab.wait_for("server", 53, SERVER4)
    town.lab.resolv_conf("client", f"nameserver {SERVER4}\n")
    assert town.check().codes == ["dns-dnssec-bogus"]


# TCP: nftables, routes and the kernel


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("tcp dport 443 drop", "tcp-filtered"),
        ("tcp dport 443 reject with icmpx admin-prohibited", "tcp-admin-prohibited"),
        ("meta l4proto tcp tcp dport 443 reject with tcp reset", "tcp-reset-by-middlebox"),
    ],
)
def test_a_firewall_on_the_way(town: Town, rule: str, code: str) -> None:
    town.healthy()
    town.lab.rules("router", "forward", rule)
    assert town.check().codes == [code]


def test_ipv6_alone_and_a_client_without(town: Town) -> None:
    """It has a route, but no address to use it with."""
    town.dns(addresses=(SERVER6,))
    town.lab.ip("client", "-6 addr flush dev eth0 scope global")
    assert town.check().codes == ["dns-ipv6-only"]


def test_a_tunnel_that_swallows_large_packets(town: Town) -> None:
    """The small answers pass, and only the listing never comes: no fault of the server."""
    town.healthy()
    swallow = f"ip saddr {SERVER4} tcp sport 443 ip length > 1300 drop"
    town.lab.rules("router", "forward", swallow)
    assert town.check().codes == ["tcp-pmtu-blackhole"]


def test_bitbucket_on_its_own_port_alone(town: Town) -> None:
    town.dns()
    town.lab.expose("server", 7990, town.bitbucket(base_url=f"http://{HOST}:7990"))
    result = town.check()
    assert result.codes == ["tcp-wrong-port"]
    assert f"http://{HOST}:7990" in result.message


# TLS: nginx and openssl


def test_a_certificate_that_openssl_let_expire(town: Town) -> None:
    town.dns()
    town.write("ca.key", town.ca.key_pem)
    town.write("names", f"subjectAltName=DNS:{HOST}\n")
    signing = "-CA ca.pem -CAkey ca.key -days 100 -extfile names"
    for command in (
        f"openssl req -new -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN={HOST} -out leaf.csr",
        "faketime 2020-01-01 openssl x509 -req -in leaf.csr -out leaf.pem " + signing,
    ):
        subprocess.run(command.split(), cwd=town.directory, check=True, capture_output=True)
    files = town.directory / "leaf.pem", town.directory / "leaf.key"
    town.nginx(town.site(town.bitbucket(), certificate=files))
    result = town.check()
    assert result.codes == ["tls-expired"]
    assert "2020-04-10" in result.message


def test_nginx_wants_a_client_certificate(town: Town) -> None:
    town.healthy(site=f"ssl_client_certificate {town.ca_file}; ssl_verify_client on;")
    assert town.check().codes == ["tls-client-cert-required"]


def test_nginx_does_not_know_the_name(town: Town) -> None:
    town.dns()
    site = town.site(town.bitbucket(), site="server_name git.lab.test;")
    town.nginx("server { listen 443 ssl default_server; ssl_reject_handshake on; }", site)
    assert town.check().codes == ["tls-sni-rejected"]


def test_the_default_site_of_nginx(town: Town) -> None:
    town.dns()
    port = town.bitbucket()
    default = town.site(port, certificate=self_signed("localhost"))
    town.nginx(default.replace(f"http://127.0.0.1:{port}", "http://127.0.0.1:1"))
    assert town.check().root_cause == "tls-default-vhost-cert"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", "tls-version-too-old"),
        ("-tls1_2 -cipher AES128-SHA", "tls-no-common-cipher"),
        ("-tls1_3 -Verify 1 -verify_return_error", "tls-client-cert-required"),
    ],
)
def test_openssl_s_server(town: Town, options: str, code: str) -> None:
    town.dns()
    leaf = town.ca.issue(HOST, kind="rsa")
    files = town.write("leaf.pem", leaf.chain()), town.write("leaf.key", leaf.key_pem)
    program = f"openssl s_server -accept 443 -www -cert {files[0]} -key {files[1]} {options}"
    town.lab.spawn("server", program.split())
    town.lab.wait_for("server", 443)
    assert town.check().codes == [code]


# the clocks: faketime


@pytest.mark.parametrize(
    ("when", "code"),
    [("2031-01-01", "clock-skew-ahead"), ("2019-01-01", "clock-skew-behind")],
)
def test_the_client_lives_in_another_year(town: Town, when: str, code: str) -> None:
    town.healthy()
    result = town.check(prefix=("faketime", "-f", f"@{when} 00:00:00"))
    assert result.codes == [code]


# proxies: squid


def test_squid_wants_a_login(town: Town) -> None:
    login = town.write("login", "while read -r line; do echo ERR; done\n")
    town.healthy()
    environ = town.squid(
        f"auth_param basic program /bin/sh {login}\nauth_param basic realm lab\n"
        "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
    )
    assert town.check(env=environ).codes == ["proxy-auth-required"]
    known = PROXY.replace("//", "//jdoe:wr0ng-password@")
    result = town.check(env={"HTTPS_PROXY": known})
    assert result.codes == ["proxy-auth-rejected"]
    assert "wr0ng" not in result.text


def test_squid_denies(town: Town) -> None:
    """Its rules are the cause also where a way past it is open."""
    town.healthy()
    result = town.check(env=town.squid("http_access deny all"))
    assert result.codes == ["proxy-denied"]
    assert f"add {HOST} to NO_PROXY" in result.report["problems"][0]["remedy"]


def test_squid_does_not_get_there(town: Town) -> None:
    town.healthy()
    environ = town.squid()
    town.lab.rules("server", "input", "ip saddr 10.77.2.1 tcp dport 443 drop")
    assert town.check(env=environ).codes == ["proxy-bypass-missing"]


def test_a_name_that_squid_does_not_know(town: Town) -> None:
    town.dns(addresses=())
    assert town.check(env=town.squid()).codes == ["proxy-upstream-dns-failure"]


def test_squid_takes_the_secret_away(town: Town) -> None:
    town.plain()
    environ = town.squid("request_header_access Authorization deny all\nhttp_access allow all")
    result = town.check(f"http://{HOST}", env=environ)
    assert result.root_cause == "proxy-strips-authorization"


def test_an_expired_certificate_is_seen_through_squid_too(town: Town) -> None:
    town.healthy(certificate=town.ca.issue(HOST, starts=-90 * DAY, ends=-DAY))
    result = town.check(env=town.squid())
    assert result.codes == ["tls-expired"]
    [line] = result.report["problems"][0]["reproduce"]
    seen = town.lab.run("client", ["sh", "-c", line]).stdout
    assert seen.startswith("notBefore="), line


# Bitbucket, seen through nginx


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("server-maintenance", "fail"),
        ("version-unsupported", "fail"),
        ("auth-token-invalid", "fail"),
        ("perm-token-scope-limited", "fail"),
        ("git-http-disabled", "fail"),
        ("version-end-of-life", "warn"),
    ],
)
def test_bitbuckets_own_faults(town: Town, fault: str, status: str) -> None:
    town.dns()
    town.nginx(town.site(town.bitbucket(fault)))
    result = town.check()
    assert result.codes == [fault]
    assert result.report["verdict"] == status
    assert result.report["problems"][-1]["code"] == PRIVATE


def test_links_with_a_name_that_the_resolver_refuses_to_look_up(town: Town) -> None:
    town.dns()
    town.nginx(town.site(town.bitbucket(base_url="https://bitbucket.corp.example")))
    assert town.check().codes == ["base-url-unresolvable"]


def test_ssh_that_a_firewall_drops(town: Town) -> None:
    town.healthy()
    town.lab.rules("router", "forward", "tcp dport 7999 drop")
    assert town.check().codes == ["git-ssh-unreachable"]
