"""The simulator itself: puts the parts together, starts and stops them, and keeps the record."""

from __future__ import annotations

import datetime as dt
import ssl
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from diag.simulator.cloud_data import (
    CLOUD_CREDENTIALS,
    CloudInstance,
    many_cloud_repositories,
)
from diag.simulator.data import (
    CREDENTIALS,
    VERSION,
    Instance,
    Repository,
    many_repositories,
)
from diag.simulator.faults import CLOUD_FAULTS, FAULTS
from diag.simulator.proxy import Proxy
from diag.simulator.scenario import HOST, Answer, Gateway, Policy, Scenario, Setup
from diag.simulator.server import (
    LOOPBACK,
    Connection,
    Listener,
    Request,
    Response,
    talk_http,
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as the simulator saw it, without the secret."""

    method: str
    path: str
    query: str
    authorization: str  # "none", "malformed", or the scheme in lower case: "bearer", …
    status: int  # of the answer, also where that was then sent in a broken way
    known: bool  # path, method and every parameter exist in a real Bitbucket
    user_agent: str
    host: str
    secure: bool  # came over TLS
    cookie: bool  # carried one: nothing should be kept between requests
    exposed: bool  # the secret stood outside of the Authorization header


class Simulator:
    """A Bitbucket on loopback, healthy or with one fault, to be started once.

    `scenario`, `port`, `ca_pem` and the rest are there from the start on; the record of requests
    outlives the end.

    Args:
        fault: a name from FAULTS, or with `cloud` from CLOUD_FAULTS; or None.
        cloud: Bitbucket Cloud, under its own names, instead of Data Center.
        credential: the name of a way to sign in, from CREDENTIALS or CLOUD_CREDENTIALS; None: one
            that has all that is needed.
        scopes: of Cloud only: what the credential may do, instead of what it usually may.
        repositories: how many more than usual, or of Data Center: all there are.
        now: the time it believes to be, aware; None: this machine's.
        tls: https or plain http; this and the rest are of Data Center only.
        context_path: "" or such as "/bitbucket".
        version: what it says to be, and behaves as where that matters.
        page_limit: the most a page holds.
        base_url: what it believes its address to be; None: the right one.
    """

    def __init__(
        self,
        fault: str | None = None,
        *,
        cloud: bool = False,
        credential: str | None = None,
        scopes: Sequence[str] | None = None,
        repositories: Sequence[Repository] | int = 0,
        now: dt.datetime | None = None,
        tls: bool = True,
        context_path: str = "",
        version: str = VERSION,
        page_limit: int = 1000,
        base_url: str | None = None,
    ) -> None:
        self.cloud = CloudInstance()
        faults, credentials, usual = FAULTS, CREDENTIALS, "admin-token"
        if cloud:
            faults, credentials, usual = CLOUD_FAULTS, CLOUD_CREDENTIALS, "api-token"
        if isinstance(repositories, int):
            self.cloud.repositories = many_cloud_repositories(repositories)
            repositories = many_repositories(repositories)
        self.fault = faults[fault] if fault is not None else None
        url = f"{'https' if tls else 'http'}://{HOST}{context_path}"
        self._url = url
        self._tls = tls
        self._speaks_cloud = cloud
        self._credential = credentials[credential or usual]
        if scopes is not None:
            self.cloud.limit_scopes(self._credential, scopes)
        self._clock = dt.timedelta() if now is None else now - dt.datetime.now(dt.UTC)
        self.instance = Instance(
            version=version,
            context_path=context_path,
            base_url=url if base_url is None else base_url,
            ssh_url=f"ssh://git@{HOST}:7999",
            page_limit=page_limit,
            repositories=repositories,
        )
        self.ca_pem = ""
        self._lock = threading.Lock()
        self._requests: list[Recorded] = []
        self._tunnels: list[str] = []
        self._listeners: dict[str, Listener] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen. Raises OSError if loopback has no port left."""
        self._directory = tempfile.TemporaryDirectory(prefix="bbdiag-simulator-")
        try:
            self._start(Path(self._directory.name))
        except BaseException:
            self.stop()
            raise

    def _start(self, directory: Path) -> None:
        for name in ("web", "plain", "ssh", "proxy", "closed"):
            self._listeners[name] = Listener()
        ports = {name: listener.port for name, listener in self._listeners.items()}
        setup = Setup(
            instance=self.instance,
            cloud=self.cloud,
            credential=self._credential,
            tls=self._tls,
            clock=self._clock,
            directory=directory,
            web_port=ports["web"],
            plain_port=ports["plain"],
            ssh_port=ports["ssh"],
            proxy_port=ports["proxy"],
            closed_port=ports["closed"],
            url=self._url,
        )
        if self._speaks_cloud:
            setup.speak_cloud()
        if self.fault is not None:
            self.fault.apply(setup)
        self._setup = setup
        context = self._certify(setup) if setup.tls else None
        self._serve(setup, context)
        self.scenario = self._scenario(setup)

    def stop(self) -> None:
        """Stop listening, end every connection, remove every file."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    # what tests and the demo ask

    @property
    def port(self) -> int:
        """The loopback port of Bitbucket itself."""
        return self._setup.web_port

    @property
    def tls(self) -> bool:
        return self._setup.tls

    @property
    def requests(self) -> list[Recorded]:
        """What was asked so far, in order."""
        with self._lock:
            return list(self._requests)

    @property
    def tunnels(self) -> list[str]:
        """What the proxy was asked to CONNECT to, "host:port"."""
        with self._lock:
            return list(self._tunnels)

    # putting it together

    def _certify(self, setup: Setup) -> ssl.SSLContext:
        """Make the certificates, write the files that others need, and set up the server's TLS."""
        from diag.simulator.certificates import issue

        chain = issue(setup.certificates, dt.datetime.now(dt.UTC) + setup.clock)
        self.ca_pem = chain.root.decode()
        for name in ("served", "key", "leaf", "root"):
            (setup.directory / f"{name}.pem").write_bytes(getattr(chain, name))
        published = {
            setup.certificates.issuer_url: ("application/pkix-cert", chain.intermediate_der),
            setup.certificates.crl_url: ("application/pkix-crl", chain.crl_der),
        }
        for url, (kind, content) in published.items():
            if url is not None:
                setup.routes[f"{urlsplit(url).netloc}:80"] = setup.plain_port
                setup.plain = _publish(kind, content)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if setup.weak_tls:
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(setup.directory / "served.pem", setup.directory / "key.pem")
        if setup.configure_tls is not None:
            setup.configure_tls(context, self.ca_pem)
        return context

    def _serve(self, setup: Setup, context: ssl.SSLContext | None) -> None:
        web = self._answer(setup, setup.gateway)
        if setup.web:
            talk = talk_http(web, context)
            if (wrapper := setup.talk) is not None:
                self._listeners["web"].serve(lambda connection: wrapper(connection, talk))
            else:
                self._listeners["web"].serve(talk)
        if setup.plain is not None:
            self._listeners["plain"].serve(talk_http(self._answer(setup, setup.plain)))
        if setup.ssh:
            banner = f"{setup.ssh_banner}\r\n".encode()
            self._listeners["ssh"].serve(lambda connection: greet(connection, banner))
        if setup.proxy is not None:
            mapped = {f"{LOOPBACK}:{setup.closed_port}": setup.web_port}  # by the client itself
            proxy = Proxy(self._watch(setup.proxy), setup.proxy_routes | mapped, web)
            self._listeners["proxy"].serve(proxy.talk)

    def _answer(self, setup: Setup, gateway: Gateway | None) -> Answer:
        """How one port answers HTTP: through its gateway, with a date, and recorded."""
        site = setup.site
        consumer = setup.cloud.consumer(setup.credential)
        secrets = (setup.credential.secret, consumer.token if consumer else None)

        def answer(request: Request) -> Response:
            known, exposed = site.knows(request), exposes(secrets, request)
            response = site.answer(request) if gateway is None else gateway(request, site.answer)
            if all(name != "Date" for name, _ in response.headers):
                now = dt.datetime.now(dt.UTC) + setup.clock
                response.headers.append(("Date", format_datetime(now, usegmt=True)))
            record = Recorded(
                method=request.method,
                path=request.path,
                query=request.query,
                authorization=request.authorization,
                status=response.status,
                known=known,
                user_agent=request.headers.get("user-agent", ""),
                host=request.host,
                secure=request.secure,
                cookie="cookie" in request.headers,
                exposed=exposed,
            )
            with self._lock:
                self._requests.append(record)
            return response

        return answer

    def _watch(self, policy: Policy) -> Policy:
        """The same policy, with every CONNECT noted."""

        def watched(request: Request) -> Response | None:
            if request.method == "CONNECT":
                with self._lock:
                    self._tunnels.append(request.target)
            return policy(request)

        return watched

    @staticmethod
    def _scenario(setup: Setup) -> Scenario:
        ca_file = setup.directory / setup.ca_file if setup.ca_file and setup.tls else None
        return Scenario(
            url=setup.url,
            token=setup.credential.secret,
            user=setup.credential.user,
            repo=setup.repo,
            connect_to=tuple(f"{place}:{LOOPBACK}:{port}" for place, port in setup.routes.items()),
            ca_file=str(ca_file) if ca_file else None,
            environ=setup.environ,
            options=setup.options,
        )


def _publish(kind: str, content: bytes) -> Gateway:
    """Where a CA offers its files: always the same one."""
    return lambda _request, _forward: Response(200, [("Content-Type", kind)], content)


def greet(connection: Connection, banner: bytes) -> None:
    """An SSH server as far as its greeting."""
    connection.send(banner)
    connection.swallow()


def exposes(secrets: Iterable[str | None], request: Request) -> bool:
    """Whether a secret stands anywhere in a request but in its Authorization header."""
    headers = [value for name, value in request.headers.items() if name != "authorization"]
    text = "\n".join([request.target, *headers, request.body.decode("latin-1")])
    known = filter(None, ((secret or "").strip() for secret in secrets))
    return any(secret in text or quote(secret, safe="") in text for secret in known)
