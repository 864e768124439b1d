"""A Bitbucket at the other end of the cable that costs next to nothing to ask.

The embedded Bitbucket of `bbdiag demo` is Python, and would be what is measured. So each request
that bbdiag and its peers send is sent to it once; nginx then gives the recorded answers, by path,
query and whether a secret came along, with their headers. Where the answers name the instance,
nginx puts the name that was asked for: a thousand names are a thousand instances.

Git over SSH is a greeting; and there is what does not work: see `KINDS`.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import lab as places
from bench.lab import Lab, wait_for
from bench.measuring import VoidError
from bench.program import BBDIAG
from diag.simulator import Simulator
from diag.simulator.data import CREDENTIALS
from diag.simulator.scenario import HOST

REPO = "MOB/app"
TOKEN = CREDENTIALS["admin-token"].secret or ""
_REVOKED = CREDENTIALS["revoked-token"].secret or ""
ZONE = "example.net"  # of all but HOST

LISTINGS = "listing." + ZONE  # "p25" below it has 25 repositories a page
FLEET = 5000  # names of each kind, at most

# Kinds of targets, and the address of the names below "KIND.example.net": "bitbucket", and as many
# as a fleet needs.
KINDS: Mapping[str, str | None] = {
    "healthy": places.SERVER,
    "nxdomain": None,
    "refused": places.REFUSED,
    "filtered": places.FILTERED,
    "expired": places.SERVER,  # its certificate
    "gateway": places.SERVER,  # 502
    "hung": places.SERVER,  # accepts the request, and never answers
    "unauthorized": places.SERVER,  # the secret is refused: 401
}
_MORE_KINDS = {"silent": places.SILENT, "tarpit": places.TARPIT, "dead": places.DEAD}

_LEFT_OUT = {"date", "server", "content-length", "transfer-encoding", "connection", "content-type"}
_STORES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_STRANGERS = Path(__file__).with_name("strangers.py")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Question:
    """A request that somebody sends."""

    path: str  # with query
    signed_in: bool = True


@dataclass(frozen=True)
class Answer:
    """What the embedded Bitbucket said, and to whom: "nobody", "known" or "revoked"."""

    caller: str
    question: Question
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class Bitbucket:
    """The instance, with its resolvers and all that stands around it; started once in a lab."""

    def __init__(self, lab: Lab, questions: Iterable[Question]) -> None:
        self._lab = lab
        lab.resolvers(_names())
        lab.rules(
            f"ip daddr {places.FILTERED} tcp dport 443 drop", f"ip daddr {places.SILENT} drop"
        )
        lab.spawn(sys.executable, str(_STRANGERS), places.SERVER, places.FILTERED, places.TARPIT)
        self.log = lab.path("unknown")
        self.pages = lab.path("pages")  # of the listings, as files START-LIMIT
        self._asked = lab.path("asked")
        self._nginx(_record(questions))
        wait_for(places.SERVER, 443)
        wait_for(places.SERVER, 7999)

    @property
    def unknown(self) -> str:
        """The requests that were not recorded, if there were any."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def asked_pages(self) -> list[str]:
        """The paths of the pages that were asked for so far."""
        return [line.split()[-1] for line in self._asked.read_text().splitlines()]

    # nginx

    def _nginx(self, answers: Sequence[Answer]) -> None:
        home = self._lab.path("nginx")
        home.mkdir()
        issued = {
            "good": self._lab.ca.issue(
                HOST, *(f"*.{k}.{ZONE}" for k in KINDS), f"*.{LISTINGS}", common_name=HOST
            ),
            "expired": self._lab.ca.issue(f"*.expired.{ZONE}", ends=-2 * _DAY),
        }
        for name, identity in issued.items():
            (home / f"{name}.pem").write_bytes(identity.chain())
            (home / f"{name}.key").write_bytes(identity.key_pem)
        for number, answer in enumerate(answers):
            (home / f"{number}.body").write_bytes(answer.body)
        conf = home / "conf"
        conf.write_text("\n".join(_configuration(home, self.log, answers)))
        argv = ["-p", str(home), "-c", str(conf), "-e", f"{home}/log", "-g", "daemon off;"]
        self._lab.spawn("nginx", *argv)


def _configuration(home: Path, log: Path, answers: Sequence[Answer]) -> Iterator[str]:
    stores = " ".join(f"{name}_temp_path {home}/{name};" for name in _STORES)
    yield f"""
user root; pid {home}/pid; error_log {home}/log; worker_processes 1;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
access_log off; server_tokens off; sendfile on; keepalive_requests 1000000;
ssl_protocols TLSv1.2 TLSv1.3; {stores}
log_format asked '$host $caller $request_method $request_uri';
map_hash_max_size 4096; map_hash_bucket_size 512;
map $http_authorization $with {{ "" nobody; default known; }}
map "$host $with" $caller {{ "~^.*[.]unauthorized[.].* known$" revoked; default $with; }}
map $arg_start $first {{ "" 0; default $arg_start; }}
map "$most $arg_limit" $limit {{ default $most; "~ $" 25; "~ 25$" 25; "1000 100" 100; }}
map "$caller $request_uri" $answer {{
default none;"""
    for number, answer in enumerate(answers):
        yield f'"{answer.caller} {answer.question.path}" {number};'
    yield "}"
    recorded = "\n".join(_locations(home, log, answers))
    tls = f"listen {places.SERVER}:443 ssl backlog=4096;"
    tls += " ssl_certificate {0}.pem; ssl_certificate_key {0}.key;"
    good, expired = tls.format(f"{home}/good"), tls.format(f"{home}/expired")
    more = good.replace(" backlog=4096", "")
    yield f"""
server {{
{good} server_name {HOST} *.healthy.{ZONE} *.unauthorized.{ZONE};
{recorded}
}}
server {{
{more} server_name "~^p(?<most>[0-9]+)[.]{re.escape(LISTINGS)}$";
location ~ ^/rest/api/(1[.]0|latest)/repos$ {{
if ($arg_permission) {{ rewrite ^ /=$answer last; }}
{_ORDINARY}
access_log {home.with_name("asked")} asked; sub_filter_types none/at-all;
root {home.with_name("pages")}; try_files /$first-$limit @beyond;
}}
location @beyond {{
{_ORDINARY}
return 200 '{{"size":0,"limit":$limit,"isLastPage":true,"values":[],"start":$first}}';
}}
{recorded}
}}
server {{
{expired.replace(" backlog=4096", "")} server_name *.expired.{ZONE};
{recorded}
}}
server {{ {more} server_name *.gateway.{ZONE}; location / {{ return 502; }} }}
server {{ {more} server_name *.hung.{ZONE};
location / {{ proxy_read_timeout 300s; proxy_pass http://127.0.0.1:7990; }} }}
server {{ listen {places.SERVER}:80; return 301 https://$host$request_uri; }}
}}"""


_ORDINARY = """default_type "application/json;charset=UTF-8"; etag off;
add_header X-AREQUESTID "@1VT0CNLx${connection}x${connection_requests}x0";
add_header X-AUSERID 53; add_header X-AUSERNAME ci-bot%40example.com;
add_header Cache-Control "no-cache, no-transform";"""


def _locations(home: Path, log: Path, answers: Sequence[Answer]) -> Iterator[str]:
    """Where the recorded answers are: "/=NUMBER", and the bodies of those that are refusals."""
    yield f"sub_filter '{HOST}' $host; sub_filter_once off; sub_filter_types *; etag off;"
    yield "location / { rewrite ^ /=$answer last; }"
    yield f"location = /=none {{ internal; access_log {log} asked; return 404; }}"
    for number, answer in enumerate(answers):
        kind = dict(answer.headers).get("Content-Type", "")
        headers = "".join(
            f"add_header {name} '{_value(name, value)}' always; "
            for name, value in answer.headers
            if name.lower() not in _LEFT_OUT
        )
        body = f"types {{ }} default_type '{kind}'; alias {home}/{number}.body; {headers}"
        if answer.status == 200:
            yield f"location = /={number} {{ internal; {body} }}"
        else:
            refusal = f"error_page {answer.status} /={number}.body; return {answer.status};"
            yield f"location = /={number} {{ internal; {refusal} }}"
            yield f"location = /={number}.body {{ internal; {body} }}"


def _value(name: str, value: str) -> str:
    """A header's value in nginx's words."""
    if name == "X-AREQUESTID":
        return "@1VT0CNLx${connection}x${connection_requests}x0"
    return value.replace("'", "\\'").replace(HOST, "$host")


def fleet(kind: str, number: int) -> str:
    """The name of one target of a fleet; numbers are from 0 to FLEET - 1."""
    return f"bitbucket-{number:04}.{kind}.{ZONE}"


def _names() -> Iterator[tuple[str, str]]:
    """All names there are, with their addresses."""
    yield HOST, places.SERVER
    for most in (25, 100, 1000):
        yield f"p{most}.{LISTINGS}", places.SERVER
    for kind, address in {**KINDS, **_MORE_KINDS}.items():
        if address is not None:
            yield f"bitbucket.{kind}.{ZONE}", address
            yield from ((fleet(kind, number), address) for number in range(FLEET))


# recording


def _record(questions: Iterable[Question]) -> list[Answer]:
    """Have bbdiag diagnose the embedded Bitbucket, then ask that whatever was asked.

    Raises:
        VoidError: the run was not healthy.
    """
    with Simulator() as simulator:
        scenario = simulator.scenario
        argv = [str(BBDIAG), "check", scenario.url, "--repo", REPO, "--format", "json"]
        argv += ["--ca-file", scenario.ca_file or ""]
        for rule in scenario.connect_to:
            argv += ["--connect-to", rule]
        env = {"PATH": os.environ["PATH"], "BITBUCKET_TOKEN": TOKEN}
        done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True)
        if done.returncode or not json.loads(done.stdout)["verdict"] == "ok":
            raise VoidError(f"bbdiag finds fault with its own Bitbucket: {done.stdout}")
        asked = [
            Question(one.path + ("?" + one.query if one.query else ""), one.authorization != "none")
            for one in simulator.requests
        ]
        answers = []
        context = ssl.create_default_context(cafile=scenario.ca_file)
        # nginx compares without case.
        distinct = {(one.path.lower(), one.signed_in): one for one in [*asked, *questions]}
        for question in distinct.values():
            secrets = (
                {"known": TOKEN, "revoked": _REVOKED} if question.signed_in else {"nobody": ""}
            )
            for caller, secret in secrets.items():
                answers.append(_ask(simulator.port, context, question, caller, secret))
    return answers


def _ask(
    port: int, context: ssl.SSLContext, question: Question, caller: str, secret: str
) -> Answer:
    headers = {"Host": HOST} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=_unnamed(context))
    try:
        connection.request("GET", question.path, headers=headers)
        reply = connection.getresponse()
        return Answer(caller, question, reply.status, reply.getheaders(), reply.read())
    finally:
        connection.close()


def _unnamed(context: ssl.SSLContext) -> ssl.SSLContext:
    """We go to 127.0.0.1 for another name."""
    context.check_hostname = False
    return context
