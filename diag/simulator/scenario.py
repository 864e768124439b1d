"""What one simulator is made of, before it starts: the place where a fault is put in.

The defaults describe a healthy Bitbucket and how to reach it; a fault changes what it is about.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diag.simulator.cloud import Cloud
from diag.simulator.cloud_data import ALTSSH, API, SITE, TEAM, CloudInstance
from diag.simulator.data import Credential, Instance
from diag.simulator.datacenter import DataCenter
from diag.simulator.server import Connection, Request, Response, Site, html, page

HOST = "bitbucket.example.com"
KeyKind = Literal["ec", "rsa", "rsa-1024"]

Answer = Callable[[Request], Response]
Gateway = Callable[[Request, Answer], Response]  # may answer itself, or pass the request on
Policy = Callable[[Request], Response | None]  # of a proxy: its own answer, or None to pass on
Talk = Callable[[Connection], None]
Wrapper = Callable[[Connection, Talk], None]  # talks itself, or goes on with the Talk


@dataclass(frozen=True, slots=True)
class Scenario:
    """How `bbdiag check` has to be called to meet the simulator."""

    url: str
    token: str | None = field(repr=False)
    user: str | None
    repo: str | None
    connect_to: tuple[str, ...]  # curl's syntax, HOST:PORT:ADDRESS:PORT
    ca_file: str | None
    environ: dict[str, str]  # all proxy variables that the run may see, instead of the caller's
    options: dict[str, object]  # further options of `check`: timeout, stage, …


@dataclass(slots=True)
class CertificatePlan:
    """The certificates to be made; dates count from the server's clock."""

    names: tuple[str, ...] = (HOST,)  # subject alternative names
    common_name: str = HOST
    starts: dt.timedelta = dt.timedelta(days=-30)
    ends: dt.timedelta = dt.timedelta(days=335)
    key: KeyKind = "ec"
    for_servers: bool = True
    self_signed: bool = False
    sha1: bool = False
    send_intermediate: bool = True
    intermediate: str = "Example Corp Issuing CA 1"
    intermediate_ends: dt.timedelta = dt.timedelta(days=1800)
    root: str = "Example Corp Root CA"
    issuer_url: str | None = None  # where the leaf says its issuer can be had
    crl_url: str | None = None  # where it says what is revoked: the leaf itself


@dataclass(slots=True)
class Setup:
    """All that can be changed about one simulator. Port numbers are known from the start.

    It is one of Bitbucket Data Center, unless `speak_cloud` is called; then `cloud` counts in the
    place of `instance`.
    """

    instance: Instance
    cloud: CloudInstance
    credential: Credential
    tls: bool
    clock: dt.timedelta  # how far the server's clock is ahead of this machine's
    directory: Path  # for files of the scenario; goes away with the simulator
    web_port: int  # Bitbucket itself
    plain_port: int  # the usual http port beside it
    ssh_port: int
    proxy_port: int
    closed_port: int  # nothing ever listens here

    # the server
    site: Site = field(init=False)
    certificates: CertificatePlan = field(default_factory=CertificatePlan)
    configure_tls: Callable[[ssl.SSLContext, str], None] | None = None  # gets the root's PEM too
    weak_tls: bool = False  # accept keys, signatures and versions that OpenSSL refuses by default
    talk: Wrapper | None = None  # between the accepted socket and TLS
    gateway: Gateway | None = None  # between HTTP and Bitbucket
    web: bool = True  # whether anything listens where Bitbucket should be
    ssh: bool = True
    ssh_banner: str = "SSH-2.0-SSHD-UNKNOWN"
    plain: Gateway | None = None  # what is on the http port; None: closed
    proxy: Policy | None = None  # None: no proxy runs

    # how the scenario reaches it
    url: str = ""
    repo: str | None = "MOB/app"
    ca_file: str | None = "root.pem"  # in the directory, where leaf.pem is too
    routes: dict[str, int] = field(default_factory=dict)  # "host:port" -> loopback port
    proxy_routes: dict[str, int] = field(default_factory=dict)  # the same for who uses the proxy
    environ: dict[str, str] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.site = DataCenter(self.instance)
        self.routes |= {
            f"{HOST}:{443 if self.tls else 80}": self.web_port,
            f"{HOST}:{80 if self.tls else 443}": self.plain_port,
            f"{HOST}:7990": self.closed_port,
            f"{HOST}:8443": self.closed_port,
            f"{HOST}:7999": self.ssh_port,
        }
        self.proxy_routes |= {f"{HOST}:443": self.web_port, f"{HOST}:7999": self.ssh_port}

    def speak_cloud(self) -> None:
        """Bitbucket Cloud in the place of Data Center."""
        self.site = Cloud(self.cloud)
        self.certificates.names = (SITE, f"*.{SITE}")
        self.certificates.common_name = SITE
        self.ssh_banner = "SSH-2.0-conker_1.1.23-simulated"
        self.plain = to_https
        self.url, self.repo = f"https://{SITE}/{TEAM}/app", None
        self.proxy_routes = {f"{host}:443": self.web_port for host in (SITE, f"www.{SITE}", API)}
        ssh = {f"{SITE}:22": self.ssh_port, f"{ALTSSH}:443": self.ssh_port}
        plain = {f"{host}:80": self.plain_port for host in (SITE, f"www.{SITE}", API)}
        self.routes = self.proxy_routes | ssh | plain

    def use_plain_http(self) -> None:
        """Bitbucket without TLS, on the port of http://."""
        self.tls = False
        self.url = self.instance.base_url = f"http://{HOST}{self.instance.context_path}"
        self.routes |= {f"{HOST}:80": self.web_port, f"{HOST}:443": self.plain_port}


def to_https(request: Request, _forward: Answer) -> Response:
    """What the http port of Bitbucket Cloud answers."""
    location = ("Location", f"https://{request.host}{request.target}")
    return html(301, page("301 Moved Permanently"), location, server="AtlassianEdge")
