"""Proxies on the way out, and the variables that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.certificates import DAY, server_context
from tests.certificates import root as make_root
from tests.gallery.case import HOST, URL, Call, Family
from tests.gallery.town import PROXY, TINYPROXY
from tests.lab import ROUTER4, SERVER4
from tests.proxy_server import (
    Socks,
    answering,
    http,
    page,
    passing,
    within_tls,
)

if TYPE_CHECKING:
    from diag.simulator.server import Connection
    from tests.gallery.town import Town
    from tests.proxy_server import ProxyServer

PROXIES = Family("proxy", "Proxies on the way out")

UNRESOLVED, REFUSED, FILTERED = "proxy-dns-failure", "proxy-refused", "proxy-filtered"
NO_LOGIN, BAD_LOGIN = "proxy-auth-required", "proxy-auth-rejected"
DENIED, BLOCKED = "proxy-denied", "proxy-block-page"
NO_NAME, CLOSED = "proxy-upstream-dns-failure", "proxy-upstream-refused"
LOST, NO_PROXY_THERE = "proxy-upstream-timeout", "proxy-not-a-proxy"
SCHEME, PROTOCOL, MALFORMED = (
    "proxy-scheme-mismatch",
    "proxy-protocol-mismatch",
    "proxy-url-invalid",
)
MISSING, WRONG, CONFLICT = "proxy-bypass-missing", "proxy-bypass-wrong", "proxy-env-conflict"
STRIPPED, HELPFUL = "proxy-strips-authorization", "proxy-would-help"
CLEARTEXT = "auth-token-in-cleartext"
PLAIN = f"http://{HOST}"
NOBODY = f"http://{ROUTER4}:3999"  # where nothing listens
OWN = 3129  # the port of a proxy of our own
SERVICES = {f"{HOST}:443": 443, f"{HOST}:80": 80, f"{HOST}:7999": 7999}
PASSWORD = "s3cret-of-the-proxy"
LOGIN = f"jdoe:{PASSWORD}@"
SQUID_LOGIN = """auth_param basic program /bin/sh {file}
auth_param basic realm lab
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""
IMPATIENT = "connect_timeout 1 second\nforward_timeout 1 second\nhttp_access allow all"
TINY_LOGIN = f"BasicAuth jdoe {PASSWORD}"


def both(proxy: str) -> dict[str, str]:
    """The variables that lead everything through a proxy."""
    return {"HTTPS_PROXY": proxy, "http_proxy": proxy}


def no_way_but_the_proxy(town: Town) -> None:
    rule = f"ip saddr 10.77.1.0/24 ip daddr 10.77.2.0/24 tcp dport != {OWN} drop"
    town.lab.rules("router", "forward", rule)


def behind(town: Town, *, plain: bool = False) -> None:
    """A Bitbucket that is in order."""
    if plain:
        town.plain()
    else:
        town.healthy()


# reaching the proxy


@PROXIES.fault(
    "P01", UNRESOLVED, "nobody knows the proxy's name", proxy="http://proxy.lab.test:3128"
)
@PROXIES.fault(
    "P01-foreign",
    UNRESOLVED,
    "a proxy of another company's network",
    proxy="http://proxy.corp.example:3128",
)
@PROXIES.fault("P02", REFUSED, "nothing listens at the proxy's port", proxy=NOBODY)
@PROXIES.fault(
    "P02-loopback",
    REFUSED,
    "a helper on this machine is not running",
    proxy="http://127.0.0.1:3128",
)
@PROXIES.fault(
    "P03",
    FILTERED,
    "a firewall drops what goes to the proxy",
    proxy=PROXY,
    rule="tcp dport 3128 drop",
)
@PROXIES.fault(
    "P03-rejected",
    FILTERED,
    "a firewall forbids the way to the proxy",
    proxy=PROXY,
    rule="tcp dport 3128 reject with icmpx admin-prohibited",
)
@PROXIES.fault(
    "P03-nobody", FILTERED, "no machine has the proxy's address", proxy="http://10.77.1.99:3128"
)
@PROXIES.fault("P13", MALFORMED, "a letter in the port", proxy=f"http://{ROUTER4}:31x8")
@PROXIES.fault(
    "P13-variable", MALFORMED, "a variable that nobody expanded", proxy="$CORPORATE_PROXY"
)
@PROXIES.fault(
    "P13-password",
    MALFORMED,
    "an @ in the password",
    proxy=f"http://jdoe:{PASSWORD}@x@{ROUTER4}:3128",
    told=["%40"],
)
@PROXIES.fault(
    "P13-pac",
    MALFORMED,
    "a configuration script",
    proxy=f"http://{ROUTER4}/proxy.pac",
    told=["PAC"],
)
def not_to_be_reached(town: Town, proxy: str, rule: str = "", url: str = URL) -> Call:
    """Past it everything is in order: that is told, and blames nobody."""
    behind(town, plain=url == PLAIN)
    town.secrets.append(PASSWORD)
    if rule:
        town.lab.rules("router", "input", rule)
    return Call(url, env=both(proxy))


# squid


@PROXIES.fault("P04", NO_LOGIN, "squid wants a login", login="", told=["Basic"])
@PROXIES.fault("P04-plain", NO_LOGIN, "squid wants a login for plain HTTP", login="", url=PLAIN)
@PROXIES.fault("P05", BAD_LOGIN, "squid does not accept the password", login="jdoe:wr0ng-one@")
@PROXIES.fault("P05-user", BAD_LOGIN, "a user name without its password", login="jdoe@")
@PROXIES.healthy("squid-login", "no way but squid, which knows the login", login=LOGIN)
def squid_with_a_login(town: Town, login: str, url: str = URL) -> Call:
    file = town.write(
        "login",
        f'while read -r one; do [ "$one" = "jdoe {PASSWORD}" ] && echo OK || echo ERR; done\n',
    )
    behind(town, plain=url == PLAIN)
    town.squid(SQUID_LOGIN.format(file=file))
    town.secrets += [PASSWORD, "wr0ng-one"]
    no_way_but_the_proxy(town)
    return Call(url, env=both(PROXY.replace("//", f"//{login}")))


@PROXIES.fault("P06", DENIED, "squid denies everything", rules="http_access deny all")
@PROXIES.fault(
    "P06-domain",
    DENIED,
    "squid denies this domain",
    rules="acl out dstdomain .lab.test\nhttp_access deny out\nhttp_access allow all",
)
@PROXIES.fault(
    "P18", BLOCKED, "squid's own page for a denied site", rules="http_access deny all", url=PLAIN
)
@PROXIES.fault(
    "P20",
    STRIPPED,
    "squid takes the token away",
    also=[CLEARTEXT],
    rules="request_header_access Authorization deny all\nhttp_access allow all",
    url=PLAIN,
)
def squid_with_rules(town: Town, rules: str, url: str = URL) -> Call:
    """Directly it works: where that is forbidden, it is no one's fault but that of the rules."""
    behind(town, plain=url == PLAIN)
    return Call(url, env=town.squid(rules))


@PROXIES.fault("P07", NO_NAME, "squid does not know Bitbucket's name")
@PROXIES.fault("P19", NO_NAME, "squid does not know the name, for plain HTTP", url=PLAIN)
@PROXIES.fault("P07-tinyproxy", NO_NAME, "tinyproxy does not know Bitbucket's name", tiny=True)
@PROXIES.fault("P19-tinyproxy", NO_NAME, "tinyproxy, for plain HTTP", tiny=True, url=PLAIN)
def unknown_to_the_proxy(town: Town, url: str = URL, *, tiny: bool = False) -> Call:
    town.dns(addresses=())
    return Call(url, env=town.tinyproxy() if tiny else town.squid())


@PROXIES.fault("P08", CLOSED, "nothing listens at Bitbucket's port, seen by squid")
@PROXIES.fault("P08-plain", CLOSED, "the same for plain HTTP", url=PLAIN)
@PROXIES.fault("P08-tinyproxy", CLOSED, "seen by tinyproxy", tiny=True)
def refused_to_the_proxy(town: Town, url: str = URL, *, tiny: bool = False) -> Call:
    town.dns()
    return Call(url, env=town.tinyproxy() if tiny else town.squid())


@PROXIES.fault("P09", LOST, "a firewall drops what squid sends to Bitbucket", rules=IMPATIENT)
@PROXIES.fault("P09-patient", LOST, "squid waits longer than we do", rules="http_access allow all")
@PROXIES.fault(
    "P09-unreachable",
    LOST,
    "a firewall rejects what squid sends",
    verdict="reject with icmpx host-unreachable",
)
@PROXIES.fault("P09-tinyproxy", LOST, "a firewall drops what tinyproxy sends", rules="")
def lost_to_the_proxy(
    town: Town, rules: str = IMPATIENT, verdict: str = "drop", url: str = URL
) -> Call:
    behind(town, plain=url == PLAIN)
    town.lab.rules("server", "input", f"tcp dport {{ 80, 443 }} {verdict}")
    return Call(url, env=town.squid(rules) if rules else town.tinyproxy())


@PROXIES.fault(
    "P15", MISSING, "a firewall keeps squid from Bitbucket, but not us", told=["NO_PROXY"]
)
@PROXIES.fault(
    "P15-star",
    MISSING,
    "NO_PROXY says *.lab.test, which curl takes literally",
    list_="localhost,*.lab.test",
    told=["*.lab.test"],
)
@PROXIES.fault(
    "P15-port",
    MISSING,
    "NO_PROXY names the port as well",
    list_=f"{HOST}:443",
    told=[f"{HOST}:443"],
)
def kept_from_bitbucket(town: Town, list_: str = "", *, tiny: bool = False) -> Call:
    town.healthy()
    town.lab.rules("server", "input", "ip saddr 10.77.2.1 tcp dport 443 reject with tcp reset")
    env = town.tinyproxy() if tiny else town.squid(IMPATIENT)
    return Call(env={**env, "NO_PROXY": list_})


@PROXIES.fault("P15-resolver", MISSING, "only the company's own resolver knows the name")
def a_name_for_us_alone(town: Town) -> Call:
    town.dns(addresses=())
    town.nginx(town.site(town.bitbucket()))
    town.lab.hosts("client", {HOST: [SERVER4]})
    return Call(env=town.squid())


@PROXIES.fault(
    "P16",
    WRONG,
    "NO_PROXY covers what only squid reaches",
    list_="localhost,.lab.test",
    told=["'.lab.test'"],
)
@PROXIES.fault("P16-star", WRONG, "NO_PROXY is *", list_="*")
@PROXIES.fault(
    "P16-name", WRONG, "our resolver does not know the name", list_="lab.test", blind=True
)
def past_the_only_way(
    town: Town,
    list_: str,
    url: str = URL,
    *,
    tiny: bool = False,
    blind: bool = False,
    login: bool = False,
) -> Call:
    behind(town, plain=url == PLAIN)
    no_way_but_the_proxy(town)
    env = town.tinyproxy(TINY_LOGIN if login else "") if tiny or login else town.squid()
    if login:
        town.secrets.append(PASSWORD)
        env = both(TINYPROXY.replace("//", f"//{LOGIN}"))
    if blind:
        town.lab.resolv_conf("client", f"nameserver {SERVER4}\n")
    return Call(url, env={**env, "NO_PROXY": list_})


# tinyproxy


@PROXIES.fault("P04-tinyproxy", NO_LOGIN, "tinyproxy wants a login", more=TINY_LOGIN)
@PROXIES.fault(
    "P05-tinyproxy",
    BAD_LOGIN,
    "tinyproxy does not accept the password",
    more=TINY_LOGIN,
    login="jdoe:wr0ng-one@",
)
@PROXIES.fault(
    "P06-port", DENIED, "tinyproxy opens tunnels to other ports only", more="ConnectPort 563"
)
@PROXIES.fault("P06-filter", DENIED, "a filter of tinyproxy", more="{filter}")
@PROXIES.healthy("tinyproxy", "no way but tinyproxy")
@PROXIES.healthy(
    "tinyproxy-plain", "no way but tinyproxy, plain HTTP", url=PLAIN, deserved=[CLEARTEXT]
)
@PROXIES.healthy(
    "tinyproxy-login", "no way but tinyproxy, which knows the login", more=TINY_LOGIN, login=LOGIN
)
def by_tinyproxy(town: Town, more: str = "", login: str = "", url: str = URL) -> Call:
    behind(town, plain=url == PLAIN)
    file = town.write("filter", "lab\\.test\n")
    town.tinyproxy(more.replace("{filter}", f'Filter "{file}"\nFilterExtended On'))
    town.secrets += [PASSWORD, "wr0ng-one"]
    no_way_but_the_proxy(town)
    return Call(url, env=both(TINYPROXY.replace("//", f"//{login}")))


# what is no proxy


@PROXIES.fault(
    "P10", NO_PROXY_THERE, "the address of a web server: nginx", proxy=f"http://{SERVER4}:80"
)
@PROXIES.fault("P10-tls", NO_PROXY_THERE, "nginx behind https://", proxy=f"https://{HOST}:443")
def a_web_server(town: Town, proxy: str, url: str = URL) -> Call:
    pages = "server { listen 80; listen 8080; location / { return 200 'welcome'; } }"
    if url == PLAIN:
        town.dns()
        port = town.bitbucket(base_url=PLAIN)
        site = town.site(port, listen="listen 80;", site=f"server_name {HOST};")
        town.nginx(site, pages.replace("listen 80; ", ""))
    else:
        town.dns()
        town.nginx(town.site(town.bitbucket()), pages)
    return Call(url, env=both(proxy))


@PROXIES.fault("P10-haproxy", NO_PROXY_THERE, "a haproxy before web servers", status=404)
@PROXIES.fault("P10-method", NO_PROXY_THERE, "a web server that does not know CONNECT", status=501)
def a_haproxy(town: Town, status: int) -> Call:
    town.healthy()
    town.haproxy(f"frontend all\n  bind :8080\n  http-request return status {status}", 8080)
    return Call(env=both(f"http://{SERVER4}:8080"))


# the wrong language


@PROXIES.fault("P11", SCHEME, "https:// for squid without TLS", scheme="https", told=[PROXY])
@PROXIES.fault("P14", PROTOCOL, "socks5h:// for squid", scheme="socks5h", told=[PROXY])
def wrong_scheme(town: Town, scheme: str, *, tiny: bool = False) -> Call:
    town.healthy()
    env = town.tinyproxy() if tiny else town.squid()
    no_way_but_the_proxy(town)
    return Call(env={name: url.replace("http:", f"{scheme}:") for name, url in env.items()})


# proxies of our own


@PROXIES.fault(
    "P14-http", PROTOCOL, "http:// for a SOCKS proxy", scheme="http", told=["socks5h://"]
)
@PROXIES.fault("P04-socks", NO_LOGIN, "a SOCKS proxy wants a login", wanted=f"jdoe:{PASSWORD}")
@PROXIES.fault(
    "P05-socks",
    BAD_LOGIN,
    "a SOCKS proxy does not accept the password",
    wanted=f"jdoe:{PASSWORD}",
    login="jdoe:wr0ng-one@",
)
@PROXIES.fault("P06-socks", DENIED, "the rules of a SOCKS proxy", reply=2)
@PROXIES.fault("P08-socks", CLOSED, "a SOCKS proxy is refused by Bitbucket", reply=5)
@PROXIES.fault("P09-socks", LOST, "a SOCKS proxy gets no answer", reply=6)
@PROXIES.healthy("socks", "no way but a SOCKS proxy")
@PROXIES.healthy(
    "socks-login", "a SOCKS proxy that knows the login", wanted=f"jdoe:{PASSWORD}", login=LOGIN
)
def by_socks(
    town: Town, scheme: str = "socks5h", reply: int = 0, wanted: str | None = None, login: str = ""
) -> Call:
    town.healthy()
    routes = {**SERVICES, f"{SERVER4}:443": 443, f"{SERVER4}:7999": 7999}
    address = town.own_proxy(Socks(routes, wanted, reply), OWN)
    town.secrets += [PASSWORD, "wr0ng-one"]
    no_way_but_the_proxy(town)
    if reply:  # it may not get there, but nor do we
        town.lab.rules("server", "input", "ip saddr 10.77.1.2 tcp dport 443 drop")
    return Call(env={"ALL_PROXY": f"{scheme}://{login}{address}"})


@PROXIES.fault("P11-http", SCHEME, "http:// for a proxy with TLS", scheme="http", told=["https://"])
@PROXIES.healthy("https-proxy", "no way but a proxy behind TLS")
def by_tls(town: Town, scheme: str = "https", login: str = "") -> Call:
    town.healthy()
    talk = passing(SERVICES, login.rstrip("@") or None)
    context = server_context(town.ca.issue(SERVER4))
    address = town.own_proxy(within_tls(context, talk), OWN)
    town.secrets.append(PASSWORD)
    no_way_but_the_proxy(town)
    return Call(env=both(f"{scheme}://{login}{address}"))


NTLM = http(
    "407 Proxy Authentication Required",
    "",
    "Proxy-Authenticate: Negotiate",
    "Proxy-Authenticate: NTLM",
)
CATEGORY = page(
    "200 OK",
    "Web page blocked",
    "Access to this site is blocked by your company. Category: Software/Technology.",
)
VIA = "Via: 1.1 gateway (Web Gateway)"


@PROXIES.fault(
    "P04-ntlm", NO_LOGIN, "a proxy that only knows Windows logins", answer=NTLM, told=["NTLM"]
)
@PROXIES.fault(
    "P06-filtering",
    DENIED,
    "a web filter refuses the tunnel, with a page",
    answer=page("403 Forbidden", "Blocked", "Category: unknown", VIA),
)
@PROXIES.fault(
    "P18-category", BLOCKED, "a web filter's page with status 200", answer=CATEGORY, url=PLAIN
)
@PROXIES.fault(
    "P18-403",
    BLOCKED,
    "a web filter's page with status 403",
    answer=CATEGORY.replace(b"200 OK", b"403 Forbidden"),
    url=PLAIN,
)
@PROXIES.fault(
    "P07-unclear",
    "proxy-unclear",
    "a 503 that says nothing",
    answer=http("503 Service Unavailable"),
)
def a_proxy_that_says(town: Town, answer: bytes, login: str = "", url: str = URL) -> Call:
    behind(town, plain=url == PLAIN)
    address = town.own_proxy(answering(answer), OWN)
    town.secrets.append(PASSWORD)
    no_way_but_the_proxy(town)
    return Call(url, env=both(f"http://{login}{address}"))


@PROXIES.fault("P12-own", "tls-interception", "a proxy behind a login signs anew", told=["Zscaler"])
def a_signing_proxy(town: Town) -> Call:
    town.dns()
    port = town.bitbucket()
    context = server_context(make_root("Zscaler Root CA", organisation="Zscaler Inc.").issue(HOST))

    def talk(connection: Connection, _server: ProxyServer) -> None:
        if connection.read_request() is None:
            return
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.start_tls(context)
        connection.splice(port)

    address = town.own_proxy(talk, OWN)
    return Call(env=both(f"http://{LOGIN}{address}"))


# the variables


@PROXIES.fault("P17", CONFLICT, "HTTPS_PROXY and https_proxy differ", upper=NOBODY)
@PROXIES.fault(
    "P17-list", CONFLICT, "NO_PROXY and no_proxy differ", more={"NO_PROXY": HOST, "no_proxy": "x"}
)
@PROXIES.fault(
    "P17+L01",
    CONFLICT,
    "they differ, and the certificate has expired",
    upper=NOBODY,
    ends=-DAY,
    seen=["tls-expired"],
)
@PROXIES.fault(
    "P17+L25",
    CONFLICT,
    "they differ, and the certificate is about to expire",
    upper=NOBODY,
    ends=3 * DAY,
    seen=["tls-expiring-soon"],
)
@PROXIES.fault(
    "P17+P02",
    CONFLICT,
    "they differ, and the one that counts is dead",
    upper=PROXY,
    lower=NOBODY,
    seen=[REFUSED],
)
@PROXIES.fault(
    "P17+P06",
    CONFLICT,
    "they differ, and the one that counts denies",
    upper=NOBODY,
    rules="http_access deny all",
    seen=[DENIED],
)
@PROXIES.healthy("same-twice", "both spellings, and the same proxy in both", upper=f"{PROXY}/")
@PROXIES.healthy("other-scheme", "a dead proxy for http:// alone", more={"http_proxy": NOBODY})
def spellings(
    town: Town,
    upper: str = PROXY,
    lower: str = PROXY,
    more: Mapping[str, str] | None = None,
    ends: timedelta = 365 * DAY,
    rules: str = "http_access allow all",
) -> Call:
    town.healthy(certificate=town.ca.issue(HOST, starts=-90 * DAY, ends=ends))
    town.secrets.append(PASSWORD)
    town.squid(rules)
    return Call(env={"HTTPS_PROXY": upper, "https_proxy": lower, **(more or {})})


@PROXIES.fault(
    "P06+I01",
    DENIED,
    "squid denies, and the URL has no scheme",
    url=HOST,
    rules="http_access deny all",
    seen=["input-url-missing-scheme"],
)
@PROXIES.fault(
    "P06+I03",
    DENIED,
    "squid denies a page of the browser",
    url=f"{URL}/projects/MOB/repos/app/browse",
    rules="http_access deny all",
    seen=["input-url-has-page-path"],
)
def another_url(town: Town, url: str, rules: str) -> Call:
    town.healthy()
    return Call(url, repo=None, env=town.squid(rules))


# what other programs know


@PROXIES.fault(
    "T02+P15", "tcp-filtered", "no way but a proxy that only git knows", seen=[HELPFUL], told=[]
)
@PROXIES.healthy("git-proxy", "git alone has a proxy, and that is dead", open_=True)
def git_knows(town: Town, *, open_: bool = False) -> Call:
    town.healthy()
    if not open_:
        town.squid()
        no_way_but_the_proxy(town)
    config = town.write("gitconfig", f"[http]\n\tproxy = {NOBODY if open_ else PROXY}\n")
    return Call(env={"GIT_CONFIG_GLOBAL": str(config)})


@PROXIES.fault("T02+P17", "tcp-filtered", "no way but a proxy that only Java knows", seen=[HELPFUL])
def java_knows(town: Town) -> Call:
    town.healthy()
    town.squid()
    no_way_but_the_proxy(town)
    options = f"-Dhttps.proxyHost={ROUTER4} -Dhttps.proxyPort=3128"
    return Call(env={"JAVA_TOOL_OPTIONS": options})


@PROXIES.healthy("no-proxy-option", "a dead proxy that is left out", options=["--no-proxy"])
@PROXIES.healthy("no-proxy-star", "NO_PROXY is *", list_="*")
@PROXIES.healthy("no-proxy-blanks", "NO_PROXY without commas", list_=f"localhost {HOST} x.y")
@PROXIES.healthy("no-proxy-dot", "NO_PROXY with a dot at the end", list_=f"{HOST}.")
def past_a_dead_proxy(
    town: Town, list_: str = "", options: Sequence[str] = (), url: str = URL
) -> Call:
    behind(town, plain=url == PLAIN)
    return Call(url, tuple(options), env={**both(NOBODY), "NO_PROXY": list_})


@PROXIES.healthy("proxy-option", "a proxy named in the call, and a dead one in the environment")
def by_the_option(town: Town) -> Call:
    town.healthy()
    town.squid()
    no_way_but_the_proxy(town)
    return Call(options=("--proxy", PROXY), env={**both(NOBODY), "NO_PROXY": "*"})


for _one, _other in (
    ("P06", "P04"),
    ("P04", "P05"),
    ("P06", "P07"),
    ("P08", "P09"),
    ("P10-haproxy", "P06"),
    ("P06-socks", "P08-socks"),
):
    PROXIES.near_miss("the proxy opens no tunnel", _one, _other)
PROXIES.near_miss("HTTP 403", "P18", "H13-nginx")
PROXIES.near_miss("HTTP 502", "P19", "H10")
PROXIES.near_miss("HTTP 503", "P08-plain", "H11")
PROXIES.near_miss("connection refused", "P02", "T01")
PROXIES.near_miss("no answer", "P03", "T02")
PROXIES.near_miss("no answer", "P16", "T02")
PROXIES.near_miss("what comes is no TLS", "P11", "L10")
PROXIES.near_miss("nobody known has signed it", "P12-own", "L06")
