"""TLS: certificates, chains, handshakes and clocks."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from diag.simulator.server import wrap
from tests.certificates import (
    CLIENT,
    DAY,
    Identity,
    Kind,
    root,
    self_signed,
    server_context,
    signed_with_sha1,
)
from tests.gallery.case import HOST, URL, Call, Family
from tests.lab import ROUTER4, SERVER4, SERVER6

if TYPE_CHECKING:
    from tests.gallery.town import Town

TLS = Family("tls", "TLS: certificates, chains, handshakes and clocks")

EXPIRED, EARLY, LATE_CA = "tls-expired", "tls-not-yet-valid", "tls-intermediate-expired"
MISNAMED, NO_SAN, NO_IP = "tls-hostname-mismatch", "tls-no-san", "tls-ip-without-san"
SELF_SIGNED, UNKNOWN, INCOMPLETE = "tls-self-signed", "tls-issuer-unknown", "tls-chain-incomplete"
INSPECTED, STALE, VHOST = "tls-interception", "tls-trust-store-stale", "tls-default-vhost-cert"
USAGE, WEAK_KEY, WEAK_HASH = "tls-wrong-key-usage", "tls-weak-key", "tls-weak-signature"
REVOKED, SOON, PLAIN = "tls-revoked", "tls-expiring-soon", "tls-plaintext-port"
OLD, NO_CIPHER, MUTUAL = "tls-version-too-old", "tls-no-common-cipher", "tls-client-cert-required"
SNI, CUT, SILENT = "tls-sni-rejected", "tls-blocked-by-sni", "tls-handshake-timeout"
AHEAD, BEHIND = "clock-skew-ahead", "clock-skew-behind"

ISSUING = "Example Corp Issuing CA 1"
OTHER = "stash.lab.test"
PKI = "pki.lab.test"
AIA, CRL, OCSP = f"http://{PKI}/ca.cer", f"http://{PKI}/ca.crl", f"http://{PKI}:8889"
FETCH, ASK = ("--fetch-issuers",), ("--check-revocation",)

Served = tuple[Identity, bytes]  # a server's certificate with its key, and what is sent (PEM)
Make = Callable[[Identity], Served]  # out of the CA that the client trusts


def whole(leaf: Identity) -> Served:
    return leaf, leaf.chain()


def company(ca: Identity) -> Identity:
    """The CA that issues the certificates of servers."""
    return ca.authority(ISSUING)


def foreign(_ca: Identity) -> Identity:
    """Another company's CA, of which the client has never heard."""
    return root("Forgotten Root", organisation="Forgotten Ltd").authority(
        "Forgotten CA 7", organisation="Forgotten Ltd"
    )


def late(ca: Identity) -> Identity:
    return ca.authority("Example Corp Late CA", ends=-20 * DAY)


def zscaler(_ca: Identity) -> Identity:
    return root("Zscaler Root CA", organisation="Zscaler Inc.").authority(
        "Zscaler Intermediate Root CA (zscaler.net)", organisation="Zscaler Inc."
    )


def alone(leaf: Identity) -> Served:
    """Without any intermediate."""
    return leaf, leaf.pem


def mixed(leaf: Identity, other: Identity) -> Served:
    """With another intermediate in the place of its own."""
    return leaf, leaf.chain(other, between=False)


def more(leaf: Identity, other: Identity) -> Served:
    return leaf, leaf.chain(other)


def sent_along(top: Identity) -> Served:
    """With the root at the end."""
    leaf = top.authority(ISSUING).issue(HOST)
    return leaf, leaf.chain(top)


def renewed(_ca: Identity) -> Identity:
    """The company's root, made anew last week: its name, and another key."""
    return root(role="another key", starts=-7 * DAY)


def crossed(_ca: Identity) -> Served:
    first = root("First Root")
    leaf = first.authority("Shared CA").issue(HOST)
    return leaf, leaf.chain(root("Second Root").authority("First Root"), first)


def disordered(ca: Identity) -> Served:
    upper = ca.authority("Example Corp Policy CA")
    lower = upper.authority("Example Corp Issuing CA 3")
    leaf = lower.issue(HOST)
    return leaf, leaf.chain(upper, lower, between=False)


# certificates, behind the usual servers


@TLS.fault(
    "L01-ec", EXPIRED, "it expired yesterday, EC", make=lambda ca: whole(ca.issue(HOST, ends=-DAY))
)
@TLS.fault(
    "L01-ipv6",
    EXPIRED,
    "it expired, seen by IPv6",
    make=lambda ca: whole(ca.issue(HOST, ends=-DAY)),
    way="ipv6",
)
@TLS.fault(
    "L01-proxy",
    EXPIRED,
    "it expired, seen through squid",
    make=lambda ca: whole(ca.issue(HOST, ends=-DAY)),
    way="squid",
)
@TLS.fault(
    "L02-ec",
    EARLY,
    "it is valid from the day after tomorrow",
    make=lambda ca: whole(ca.issue(HOST, starts=2 * DAY)),
)
@TLS.fault(
    "L03",
    MISNAMED,
    "it names the server's old name alone",
    make=lambda ca: whole(ca.issue(OTHER, common_name=OTHER)),
    told=[OTHER],
)
@TLS.fault(
    "L03-wildcard",
    MISNAMED,
    "a wildcard that covers one label, not two",
    make=lambda ca: whole(ca.issue("*.test", common_name="*.test")),
    told=["*.test"],
)
@TLS.fault(
    "L04",
    NO_SAN,
    "the name stands in the CN only",
    make=lambda ca: whole(ca.issue(common_name=HOST)),
)
@TLS.fault("L05", SELF_SIGNED, "it signed itself", make=lambda _ca: whole(self_signed(HOST)))
@TLS.fault(
    "L06",
    UNKNOWN,
    "a private CA that is not trusted here",
    make=lambda ca: whole(foreign(ca).issue(HOST)),
    told=["Forgotten Root", "keytool"],
)
@TLS.fault(
    "L06-rekeyed",
    UNKNOWN,
    "a root of the name that is trusted here, with another key",
    make=lambda ca: whole(renewed(ca).authority(ISSUING).issue(HOST)),
    told=["another key"],
)
@TLS.fault(
    "L06-crossed",
    UNKNOWN,
    "cross-signed, by two roots that are both unknown",
    make=crossed,
    told=["First Root"],
)
@TLS.fault(
    "L07",
    INCOMPLETE,
    "the intermediate is not sent",
    make=lambda ca: alone(company(ca).issue(HOST, aia=AIA)),
    told=[ISSUING, AIA],
)
@TLS.fault(
    "L07-wrong",
    INCOMPLETE,
    "the intermediate of another CA is sent",
    make=lambda ca: mixed(company(ca).issue(HOST), foreign(ca)),
    told=["Forgotten CA 7: leave it out (foreign)"],
)
@TLS.fault(
    "L07-key",
    INCOMPLETE,
    "the intermediate from before it was given a new key is sent",
    make=lambda ca: mixed(company(ca).issue(HOST), ca.authority(ISSUING, role="old key")),
    told=["with another key"],
)
@TLS.fault(
    "L08",
    LATE_CA,
    "the intermediate has expired",
    make=lambda ca: whole(late(ca).issue(HOST)),
    told=["leave it out (it has expired)"],
)
@TLS.fault(
    "L18", USAGE, "a certificate for clients", make=lambda ca: whole(ca.issue(HOST, usage=CLIENT))
)
@TLS.fault(
    "L24",
    NO_IP,
    "the URL has an address, the certificate a name",
    make=lambda ca: whole(ca.issue(HOST)),
    url=f"https://{SERVER4}",
)
@TLS.fault(
    "L24-ipv6",
    NO_IP,
    "the same with an IPv6 address",
    make=lambda ca: whole(ca.issue(HOST)),
    url=f"https://[{SERVER6}]",
)
@TLS.fault(
    "L25",
    SOON,
    "it expires in five days",
    make=lambda ca: whole(ca.issue(HOST, starts=-360 * DAY, ends=5 * DAY)),
)
@TLS.fault(
    "L26-rekeyed",
    STALE,
    "the root was renewed with another key, and is sent along",
    make=lambda ca: sent_along(renewed(ca)),
    told=["renewed with another key"],
)
# two at once
@TLS.fault(
    "L03+L01",
    MISNAMED,
    "another name, and expired",
    make=lambda ca: whole(ca.issue(OTHER, ends=-DAY, common_name=OTHER)),
    seen=[EXPIRED],
)
@TLS.fault(
    "L05+L01",
    SELF_SIGNED,
    "self-signed, and expired",
    make=lambda _ca: whole(self_signed(HOST, ends=-DAY)),
    seen=[EXPIRED],
)
@TLS.fault(
    "L03+L05",
    MISNAMED,
    "self-signed for another name",
    make=lambda _ca: whole(self_signed(OTHER)),
    seen=[SELF_SIGNED],
)
@TLS.fault(
    "L06+L01",
    UNKNOWN,
    "an unknown CA, and expired",
    make=lambda ca: whole(foreign(ca).issue(HOST, ends=-DAY)),
    seen=[EXPIRED],
)
@TLS.fault(
    "L07+L18",
    INCOMPLETE,
    "no intermediate, and for clients",
    make=lambda ca: alone(company(ca).issue(HOST, usage=CLIENT)),
    seen=[USAGE],
)
@TLS.fault(
    "L07+L03",
    MISNAMED,
    "another name, and no intermediate",
    make=lambda ca: alone(company(ca).issue(OTHER, common_name=OTHER)),
    seen=[INCOMPLETE],
)
@TLS.fault(
    "L08+L01",
    LATE_CA,
    "certificate and intermediate expired",
    make=lambda ca: whole(late(ca).issue(HOST, ends=-DAY)),
    seen=[EXPIRED],
)
@TLS.fault(
    "L04+L02",
    NO_SAN,
    "a name in the CN only, and not yet valid",
    make=lambda ca: whole(ca.issue(starts=DAY, common_name=HOST)),
    seen=[EARLY],
)
@TLS.healthy(
    "tls-ec", "an EC certificate of an intermediate", make=lambda ca: whole(company(ca).issue(HOST))
)
@TLS.healthy(
    "tls-wildcard", "a wildcard certificate", make=lambda ca: whole(ca.issue("*.lab.test"))
)
@TLS.healthy("tls-root-sent", "the root is sent along", make=sent_along)
@TLS.healthy(
    "tls-foreign-sent",
    "another company's intermediate is sent along",
    make=lambda ca: more(company(ca).issue(HOST), foreign(ca)),
)
@TLS.healthy("tls-wrong-order", "the intermediates are in the wrong order", make=disordered)
@TLS.healthy(
    "tls-crossed",
    "cross-signed by another CA, which is not trusted here",
    make=lambda ca: more(
        company(ca).issue(HOST), root("Newer Root").authority("Example Corp Root CA")
    ),
)
@TLS.healthy(
    "tls-crossed-expired",
    "cross-signed, by what has expired since",
    make=lambda ca: more(
        company(ca).issue(HOST),
        root("Older Root", ends=-DAY).authority("Example Corp Root CA", ends=-DAY),
    ),
)
@TLS.healthy(
    "tls-short-lived",
    "a certificate for six days",
    make=lambda ca: whole(ca.issue(HOST, starts=-2 * DAY, ends=4 * DAY)),
)
@TLS.healthy(
    "tls-address",
    "an address that the certificate names",
    make=lambda ca: whole(ca.issue(HOST, SERVER4)),
    url=f"https://{SERVER4}",
)
@TLS.healthy(
    "tls-address-ipv6",
    "an IPv6 address that it names",
    make=lambda ca: whole(ca.issue(SERVER6)),
    url=f"https://[{SERVER6}]",
)
@TLS.healthy(
    "tls-squid-intermediate",
    "an intermediate, through squid",
    make=lambda ca: whole(company(ca).issue(HOST)),
    way="squid",
)
def certificate(town: Town, make: Make, way: str = "nginx", url: str = URL) -> Call:
    """Bitbucket behind nginx or haproxy with this certificate."""
    town.dns(addresses=(SERVER6 if way == "ipv6" else SERVER4,))
    leaf, chain = make(town.ca)
    port = town.bitbucket(base_url=url, ssh=None)
    if way == "haproxy":
        bundle = town.write("site.bundle", chain + leaf.key_pem)
        town.haproxy(terminator(port, f"crt {bundle}"), 443)
    else:
        files = town.write("site.pem", chain), town.write("site.key", leaf.key_pem)
        town.nginx(town.site(port, certificate=files))
    return Call(url, env=town.squid() if way == "squid" else {})


def terminator(port: int, how: str, rules: str = "") -> str:
    """haproxy on port 443, which ends TLS before Bitbucket."""
    return f"""frontend https
  bind :443 ssl {how}
  http-request set-header X-Forwarded-Proto https
  {rules}
  default_backend bitbucket
backend bitbucket
  server bitbucket 127.0.0.1:{port}
"""


# made by the openssl program, in another year


@TLS.fault("L01", EXPIRED, "openssl made it in 2020", year=2020, told=["2020-04-10"])
@TLS.fault("L02", EARLY, "openssl made it in 2040", year=2040, told=["2040-01-01"])
def another_year(town: Town, year: int) -> None:
    town.dns()
    town.write("ca.key", town.ca.key_pem)
    town.write("names", f"subjectAltName=DNS:{HOST}\n")
    signing = "-CA ca.pem -CAkey ca.key -days 100 -extfile names"
    faketime = ["faketime", "-f", f"@{year}-01-01 00:00:00"]
    request = f"req -new -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN={HOST} -out leaf.csr"
    issue = f"x509 -req -in leaf.csr -out leaf.pem {signing}"
    for argv in (
        ["openssl", *request.split()],
        [*faketime, "openssl", *issue.split()],
    ):
        subprocess.run(argv, cwd=town.directory, check=True, capture_output=True)
    files = town.directory / "leaf.pem", town.directory / "leaf.key"
    town.nginx(town.site(town.bitbucket(), certificate=files))


# issuers that can be fetched


@TLS.fault(
    "L07-fetched",
    INCOMPLETE,
    "two intermediates are not sent, and fetched on request",
    told=["2. Example Corp Issuing CA 3", "3. Example Corp Policy CA"],
)
@TLS.fault(
    "L06-fetched",
    UNKNOWN,
    "fetching the issuers leads to an unknown root",
    known=False,
    seen=[INCOMPLETE],
    told=["Example Corp Root CA"],
)
def published(town: Town, *, known: bool = True) -> Call:
    """Nothing but its own certificate is sent by the server."""
    policy = town.ca.authority("Example Corp Policy CA", aia=f"http://{PKI}/root.cer")
    issuing = policy.authority("Example Corp Issuing CA 3", aia=f"http://{PKI}/policy.cer")
    leaf = issuing.issue(HOST, aia=f"http://{PKI}/issuing.cer")
    files = {"issuing.cer": issuing.der, "policy.cer": policy.pem, "root.cer": town.ca.der}
    store = publish(town, files)
    site = town.site(town.bitbucket(), certificate=_files(town, alone(leaf)))
    town.nginx(site, store)
    other = None if known else town.write("other.pem", root("Forgotten Root").pem)
    return Call(options=FETCH, ca_file=other)


def publish(town: Town, files: dict[str, bytes]) -> str:
    """What a CA offers at http://pki.lab.test: a server block for nginx."""
    town.dns(f"--host-record={PKI},{SERVER4}")
    place = town.directory / "pki"
    place.mkdir()
    place.chmod(0o755)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return f"server {{ listen 80; server_name {PKI}; root {place}; }}"


def _files(town: Town, served: Served) -> tuple[Path, Path]:
    leaf, chain = served
    return town.write("site.pem", chain), town.write("site.key", leaf.key_pem)


# revocation, asked for


@TLS.fault("L21", REVOKED, "revoked, by the CRL", revoked="leaf", told=["key compromise", "CRL"])
@TLS.fault(
    "L21-intermediate",
    REVOKED,
    "its intermediate is revoked",
    revoked="intermediate",
    told=[ISSUING],
)
@TLS.fault(
    "L21-gone",
    "tls-revocation-unclear",
    "the CRL cannot be had",
    revoked="gone",
    told=["nothing comes from there"],
)
@TLS.fault(
    "L21-forged",
    "tls-revocation-unclear",
    "the CRL is signed by somebody else",
    revoked="forged",
    told=["not signed by the issuer"],
)
@TLS.healthy("tls-not-revoked", "neither it nor its intermediate is revoked", revoked="none")
def crl(town: Town, revoked: str) -> Call:
    issuing = town.ca.authority(ISSUING, crl=f"http://{PKI}/root.crl")
    leaf = issuing.issue(HOST, crl=CRL)
    signer = root("Forgotten Root") if revoked == "forged" else None
    files = {
        "ca.crl": issuing.crl(*([leaf] if revoked in {"leaf", "forged"} else []), signer=signer),
        "root.crl": town.ca.crl(*([issuing] if revoked == "intermediate" else [])),
    }
    if revoked == "gone":
        files.clear()
    store = publish(town, files)
    town.nginx(town.site(town.bitbucket(), certificate=_files(town, whole(leaf))), store)
    return Call(options=ASK)


@TLS.fault(
    "L21-ocsp",
    REVOKED,
    "revoked, by the OCSP responder of openssl",
    state="R",
    told=["OCSP", "superseded"],
)
@TLS.healthy("tls-ocsp", "not revoked, by the OCSP responder of openssl", state="V")
def ocsp(town: Town, state: str) -> Call:
    town.dns(f"--host-record={PKI},{SERVER4}")
    leaf = town.ca.issue(HOST, ocsp_url=OCSP)
    serial = f"{leaf.certificate.serial_number:X}"
    serial = serial.zfill(len(serial) + len(serial) % 2)
    since = "261101000000Z,superseded" if state == "R" else ""
    index = f"{state}\t301231235959Z\t{since}\t{serial}\tunknown\t/CN={HOST}\n"
    options = {
        "-index": town.write("index.txt", index),
        "-CA": town.ca_file,
        "-rsigner": town.ca_file,
        "-rkey": town.write("ca.key", town.ca.key_pem),
        "-port": "8889",
        "-nmin": "60",
    }
    argv = ["openssl", "ocsp", *(str(word) for pair in options.items() for word in pair)]
    town.lab.spawn("server", argv)
    for _ in range(100):  # a connection without a request is more than the responder can bear
        if ":8889" in town.lab.run("server", ["ss", "-Hltn"]).stdout:
            break
        time.sleep(0.05)
    town.nginx(town.site(town.bitbucket(), certificate=_files(town, whole(leaf))))
    return Call(options=ASK)


# weak ones, which nginx would not even load


@TLS.fault("L19", WEAK_KEY, "an RSA key of 1024 bits", kind="rsa-1024", told=["RSA 1024 bits"])
@TLS.fault("L20", WEAK_HASH, "signed with SHA-1", kind="rsa", told=["SHA1"])
@TLS.fault(
    "L19+L01", EXPIRED, "a weak key, and expired", kind="rsa-1024", ends=-DAY, seen=[WEAK_KEY]
)
def weak(town: Town, kind: Kind, ends: timedelta = 335 * DAY) -> None:
    town.dns()
    if kind == "rsa":
        leaf = signed_with_sha1(town.ca.authority("Example Corp RSA CA", kind="rsa"), HOST)
    else:
        leaf = town.ca.issue(HOST, kind=kind, ends=ends)
    town.lab.serve("server", 443, _nothing, tls=server_context(leaf))


def _nothing(_sock: socket.socket) -> None:
    """Nobody gets as far as a request."""


# an old list of CAs


@TLS.fault(
    "L26", STALE, "the root here has expired, while a cross-signed one is sent", told=["expired on"]
)
def old_root(town: Town) -> Call:
    expired, other = root("Aging Root", ends=-DAY), root("Newer Root")
    leaf = expired.authority("Aging Issuing CA").issue(HOST)
    town.dns()
    served = leaf, leaf.chain(other.authority("Aging Root"))
    town.nginx(town.site(town.bitbucket(), certificate=_files(town, served)))
    return Call(ca_file=town.write("old.pem", expired.pem + other.pem))


# somebody on the way who opens the connection


@TLS.fault("L09", INSPECTED, "a device on the router opens every connection", told=["Zscaler"])
@TLS.fault(
    "L09-own-name",
    UNKNOWN,
    "a device whose CA has the company's own name",
    issuer="Example Corp Web CA",
    told=["Example Corp Web CA"],
)
@TLS.healthy("tls-inspected", "a device that inspects, and is trusted", trusted=True)
def device(town: Town, *, trusted: bool = False, issuer: str = "Zscaler Root CA") -> Call:
    """haproxy on the router, to which the router leads what is meant for the server."""
    town.healthy()
    top = root(issuer, organisation=None)
    bundle = town.bundle(top.issue(HOST))
    section = f"""frontend all
  bind :8443 ssl crt {bundle}
  default_backend there
backend there
  server there {SERVER4}:443 ssl verify none sni str({HOST})
"""
    town.haproxy(section, 8443, place="router")
    leading = "type nat hook prerouting priority -100;\ntcp dport 443 redirect to :8443"
    town.lab.nft("router", f"table ip lead {{ chain c {{\n{leading}\n}}; }}")
    return Call(ca_file=town.write("device.pem", top.pem) if trusted else None)


@TLS.fault(
    "P12", INSPECTED, "a proxy that signs anew, with the CA of mitmproxy", told=["mitmproxy"]
)
@TLS.healthy("tls-mitm", "a proxy that signs anew, and is trusted", trusted=True)
def signing_proxy(town: Town, *, trusted: bool = False) -> Call:
    """A proxy of our own: it takes CONNECT, and ends TLS itself on both sides."""
    town.healthy()
    top = root("mitmproxy", organisation="mitmproxy")
    inner = server_context(top.issue(HOST))
    outer = ssl.create_default_context(cadata=town.ca.pem.decode())

    def talk(sock: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            if not (more := sock.recv(4096)):
                return  # it only wanted to know whether somebody is there
            asked += more
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with (
            town.lab.call("router", socket.create_connection, (SERVER4, 443), 5) as there,
            wrap(inner, sock) as client,
            outer.wrap_socket(there, server_hostname=HOST) as server,
        ):
            client.do_handshake()
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join(5)

    town.lab.serve("router", 8081, talk)
    proxy = f"http://{ROUTER4}:8081"
    ca_file = town.write("mitm.pem", top.pem) if trusted else None
    return Call(env={"HTTPS_PROXY": proxy}, ca_file=ca_file)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes, until one side ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


# how nginx and haproxy are told to speak


@TLS.fault(
    "L13",
    OLD,
    "TLS 1.1 at most",
    site="ssl_protocols TLSv1 TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;",
    told=["TLSv1.1"],
)
@TLS.fault(
    "L12",
    OLD,
    "TLS 1.0 alone",
    site="ssl_protocols TLSv1; ssl_ciphers ALL:@SECLEVEL=0;",
    told=["TLSv1"],
)
@TLS.fault(
    "L14",
    NO_CIPHER,
    "ciphers without forward secrecy alone",
    site="ssl_protocols TLSv1.2; ssl_ciphers AES128-SHA:AES256-SHA;",
    told=["AES256-SHA"],
)
@TLS.fault(
    "L14-small-dh",
    NO_CIPHER,
    "Diffie-Hellman with 1024 bits",
    site="ssl_protocols TLSv1.2; ssl_ciphers DHE-RSA-AES128-SHA256:@SECLEVEL=0;"
    " ssl_dhparam {directory}/dh.pem;",
    told=["DH"],
)
@TLS.fault(
    "L15",
    MUTUAL,
    "a client certificate is asked for",
    site="ssl_client_certificate {directory}/ca.pem; ssl_verify_client on;",
)
@TLS.healthy(
    "tls-client-optional",
    "a client certificate is optional",
    site="ssl_client_certificate {directory}/ca.pem; ssl_verify_client optional;",
)
def nginx_tls(town: Town, site: str) -> None:
    town.dns()
    if "dh.pem" in site:
        argv = ["openssl", "dhparam", "-dsaparam", "-out", "dh.pem", "1024"]
        subprocess.run(argv, cwd=town.directory, check=True, capture_output=True)
    served = whole(town.ca.issue(HOST, kind="rsa"))
    site = site.format(directory=town.directory)
    town.nginx(town.site(town.bitbucket(), certificate=_files(town, served), site=site))


@TLS.fault(
    "L16-haproxy",
    SNI,
    "haproxy knows other names only, and is strict about it",
    how="crt {other} strict-sni",
)
@TLS.healthy(
    "tls-haproxy-http2",
    "haproxy with HTTP/2 and an optional client certificate",
    how="crt {bundle} alpn h2,http/1.1 verify optional ca-file {ca}",
)
def haproxy_tls(town: Town, how: str) -> None:
    town.dns()
    port = town.bitbucket()
    other = town.ca.issue(OTHER, common_name=OTHER)
    own = town.ca.issue(HOST)
    files = {
        "bundle": town.bundle(own),
        "other": town.write("other.bundle", other.chain() + other.key_pem),
        "ca": town.ca_file,
    }
    town.haproxy(terminator(port, how.format(**files)), 443)


@TLS.fault(
    "L15-openssl",
    MUTUAL,
    "a client certificate is asked for, by openssl with TLS 1.3",
    options="-tls1_3 -Verify 1 -verify_return_error",
)
def s_server(town: Town, options: str) -> None:
    town.dns()
    leaf, chain = whole(town.ca.issue(HOST, kind="rsa"))
    certificate, key = _files(town, (leaf, chain))
    program = f"openssl s_server -accept 443 -www -cert {certificate} -key {key} {options}"
    town.lab.spawn("server", program.split())
    town.lab.wait_for("server", 443)


# the name


@TLS.fault(
    "L16", SNI, "nginx refuses names that it does not know", default="ssl_reject_handshake on;"
)
@TLS.fault(
    "L17",
    VHOST,
    "the default site of nginx answers",
    default="ssl_certificate {pem}; ssl_certificate_key {key}; return 200 welcome;",
    told=["www.lab.test"],
)
def another_site(town: Town, default: str) -> None:
    town.dns()
    leaf = town.ca.issue("www.lab.test", common_name="www.lab.test")
    paths = town.write("www.pem", leaf.chain()), town.write("www.key", leaf.key_pem)
    text = default.format(pem=paths[0], key=paths[1])
    first = f"server {{ listen 443 ssl default_server; {text} }}"
    own = town.ca.issue("git.lab.test", common_name="git.lab.test")
    site = town.site(
        town.bitbucket(), certificate=_files(town, whole(own)), site="server_name git.lab.test;"
    )
    town.nginx(first, site)


@TLS.fault(
    "L17-haproxy", VHOST, "haproxy takes another site for the default, which is no Bitbucket"
)
def default_backend(town: Town) -> None:
    town.dns()
    other = town.ca.issue("www.lab.test", common_name="www.lab.test")
    bundle = town.write("other.bundle", other.chain() + other.key_pem)
    answer = 'http-request return status 200 content-type text/html string "<h1>Shop</h1>"'
    town.haproxy(terminator(1, f"crt {bundle}", answer), 443)


@TLS.fault(
    "L17+L05", VHOST, "a server nobody has configured, with its own certificate", seen=[SELF_SIGNED]
)
def unconfigured(town: Town) -> None:
    town.dns()
    leaf = self_signed("localhost")
    files = _files(town, whole(leaf))
    town.nginx(town.site(1, certificate=files))


@TLS.fault("L22", CUT, "haproxy on the way closes connections with this name", action="reject")
@TLS.fault("L22-silent", CUT, "it lets them hang", action="silent-drop")
def filtered_by_name(town: Town, action: str) -> None:
    town.healthy()
    section = f"""frontend all
  mode tcp
  bind :8443
  tcp-request inspect-delay 2s
  tcp-request content {action} if {{ req.ssl_sni -i {HOST} }}
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  default_backend there
backend there
  mode tcp
  server there {SERVER4}:443
"""
    town.haproxy(section, 8443, place="router")
    leading = "type nat hook prerouting priority -100;\ntcp dport 443 redirect to :8443"
    town.lab.nft("router", f"table ip lead {{ chain c {{\n{leading}\n}}; }}")


# what is no TLS at all, or never comes


@TLS.fault("L10", PLAIN, "nginx speaks plain HTTP on port 443", listen="listen 443;")
@TLS.fault(
    "L10-8080",
    PLAIN,
    "https:// and a port that speaks plain HTTP",
    listen="listen 8080; listen 443 ;",
    url=f"{URL}:8080",
)
def no_tls(town: Town, listen: str, url: str = URL) -> Call:
    town.dns()
    town.nginx(town.site(town.bitbucket(base_url=url), listen=listen))
    return Call(url)


@TLS.fault("L11", "http-on-tls-port", "http:// at the TLS port of nginx", told=[URL])
@TLS.fault(
    "L11-haproxy",
    "http-on-tls-port",
    "http:// at the TLS port of haproxy",
    haproxy=True,
    told=[URL],
)
def http_at_tls(town: Town, *, haproxy: bool = False) -> Call:
    town.dns()
    port = town.bitbucket()
    if haproxy:
        town.haproxy(terminator(port, f"crt {town.bundle(town.ca.issue(HOST))}"), 443)
    else:
        town.nginx(town.site(port))
    return Call(f"http://{HOST}:443")


@TLS.fault("L23", SILENT, "a firewall swallows packets as large as the greeting", told=["swallows"])
def swallowed(town: Town) -> None:
    town.healthy()
    town.lab.rules("router", "forward", "tcp dport 443 ip length > 200 drop")


# clocks


@TLS.fault("K01", AHEAD, "the client lives in 2031", when="2031-01-01")
@TLS.fault("K02", BEHIND, "the client lives in 2019", when="2019-01-01")
def another_time(town: Town, when: str) -> Call:
    town.healthy()
    return Call(prefix=("faketime", "-f", f"@{when} 00:00:00"))


TLS.near_miss("no CA vouches for it", "L05", "L06")
TLS.near_miss("the issuer is not found", "L06", "L07")
TLS.near_miss("the issuer is not found", "L06-rekeyed", "L07-key")
TLS.near_miss("the issuer is not found", "L06", "L09")
TLS.near_miss("the issuer is not found", "L07", "L26-rekeyed")
TLS.near_miss("the certificate has expired", "L01", "L08")
TLS.near_miss("the certificate has expired", "L01", "L26")
TLS.near_miss("the certificate has expired", "L01-ec", "K01")
TLS.near_miss("the certificate is not yet valid", "L02", "K02")
TLS.near_miss("the certificate is for another name", "L03", "L17")
TLS.near_miss("TLS does not even begin", "L10", "L12")
TLS.near_miss("the handshake is cut", "L16", "L22")
TLS.near_miss("the handshake never ends", "L22-silent", "L23")
