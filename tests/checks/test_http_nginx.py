"""Check `http` in front of Debian's nginx: its own pages, its own limits, its own silence."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diag.facts import Instance, Target, Wire
from diag.report import Report
from diag.simulator.data import Instance as Bitbucket
from diag.simulator.datacenter import DataCenter
from diag.simulator.server import Connection, Listener, talk_http
from tests.certificates import root
from tests.given import run_check
from tests.ports import free_port

# One site for each behaviour: its port is the key's.
SITES = {
    "healthy": "location / {{ proxy_pass http://127.0.0.1:{bitbucket}; }}",
    "refused": "location / {{ proxy_pass http://127.0.0.1:{closed}; }}",
    "hanging": "location / {{ proxy_pass http://127.0.0.1:{silent}; proxy_read_timeout 200ms; }}",
    "unavailable": "return 503;",
    "hangs up": "return 444;",
    "password": "auth_basic Restricted; auth_basic_user_file {directory}/nobody;"
    " location / {{ proxy_pass http://127.0.0.1:{bitbucket}; }}",
    "forbidden": "deny all;",
    "browsers only": 'if ($http_user_agent !~ "^Mozilla/") {{ return 403; }}'
    " location / {{ proxy_pass http://127.0.0.1:{bitbucket}; }}",
    "default page": "root {directory}/www;",
    "limited": "location / {{ limit_req zone=one; proxy_pass http://127.0.0.1:{bitbucket}; }}",
    "limited, 429": "location / {{ limit_req zone=two; limit_req_status 429;"
    " proxy_pass http://127.0.0.1:{bitbucket}; }}",
    "below /git": "location = / {{ return 302 /git/; }}"
    " location /git {{ proxy_pass http://127.0.0.1:{below}; }}",
    "large header": "return 494;",
    "client certificate": "return 496;",
    "to itself": "absolute_redirect off; return 301 $request_uri;",
}
TLS = (
    "listen 127.0.0.1:{port} ssl; ssl_certificate {directory}/c; ssl_certificate_key {directory}/k;"
)
CODES = {
    "healthy": None,
    "refused": "http-bad-gateway",
    "hanging": "http-gateway-timeout",
    "unavailable": "http-upstream-unavailable",
    "hangs up": "http-empty-reply",
    "password": "http-gateway-auth",
    "forbidden": "http-waf-blocked",
    "browsers only": "http-user-agent-blocked",
    "default page": "http-default-vhost",
    "limited": "http-gateway-rate-limited",
    "limited, 429": "http-gateway-rate-limited",
    "below /git": "http-context-path-missing",
    "large header": "http-header-too-large",
    "client certificate": "tls-client-cert-required",
    "to itself": "http-redirect-loop",
    "TLS": "http-on-tls-port",
}


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The port of each site of a running nginx."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    listeners = {name: Listener() for name in ("bitbucket", "below", "silent", "closed")}
    for name, context in (("bitbucket", ""), ("below", "/git")):
        instance = Bitbucket(base_url="http://x" + context, context_path=context)
        listeners[name].serve(talk_http(DataCenter(instance).answer))
    listeners["silent"].serve(Connection.swallow)
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        ports = {site: free_port() for site in CODES}
        write_files(directory, ports, {key: one.port for key, one in listeners.items()})
        process = subprocess.Popen(
            [program, "-p", name, "-c", f"{name}/conf", "-e", f"{name}/log", "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(ports["healthy"], process, directory / "log")
            yield ports
        finally:
            process.terminate()
            process.wait(5)
            for listener in listeners.values():
                listener.close()


def write_files(directory: Path, ports: dict[str, int], backends: dict[str, int]) -> None:
    certificate = root().issue("127.0.0.1")
    (directory / "c").write_bytes(certificate.pem)
    (directory / "k").write_bytes(certificate.key_pem)
    (directory / "nobody").write_text("")
    (directory / "www").mkdir()
    (directory / "www").chmod(0o755)  # nginx becomes somebody else too
    (directory / "www" / "index.html").write_text("<title>Welcome to nginx!</title>")
    (directory / "www" / "index.html").chmod(0o644)
    texts = {site: text.format(directory=directory, **backends) for site, text in SITES.items()}
    servers = [
        f"server {{ listen 127.0.0.1:{ports[site]}; {text} }}" for site, text in texts.items()
    ]
    servers.append(f"server {{ {TLS.format(port=ports['TLS'], directory=directory)} }}")
    temporary = " ".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "conf").write_text(
        f"pid {directory}/pid; error_log {directory}/log; events {{}}"
        f" http {{ access_log off; {temporary}"
        " limit_req_zone $server_port zone=one:1m rate=1r/s;"
        " limit_req_zone $server_port zone=two:1m rate=1r/s;"
        f" {' '.join(servers)} }}"
    )


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    pytest.fail(f"nginx does not start: {log.read_text() if log.exists() else 'no log'}")


def ask(port: int) -> tuple[Report, list[Instance]]:
    url = f"http://127.0.0.1:{port}"
    facts = [Target(url, "http", "127.0.0.1", port), Wire(secure=False, verified=False)]
    report, seen = run_check("http", facts, url=url, timeout=1.5)
    return report, [fact for fact in seen if isinstance(fact, Instance)]


@pytest.mark.parametrize("site", CODES)
def test_what_nginx_says(ports: dict[str, int], site: str) -> None:
    report, instances = ask(ports[site])
    assert report.root_cause == CODES[site], [p.to_json() for p in report.problems]
    assert bool(instances) is (site == "healthy")


def test_the_one_who_must_act_is_told(ports: dict[str, int]) -> None:
    (problem,) = ask(ports["refused"])[0].problems
    assert problem.owner == "server-admin"
    assert "nginx" in problem.message
    assert problem.evidence["status"] == 502
