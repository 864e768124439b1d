"""What people use today, called as they call it: what does each say of a case, in one line?"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.gallery.case import Call
    from tests.gallery.running import Peer
    from tests.gallery.town import Town

PATIENCE = 10  # seconds that each gets for one request: the usual time-out of a monitoring check
_CURL = "curl -sS -o /dev/null --max-time {} -w %{{http_code}}"
_CHECK_HTTP = "/usr/lib/nagios/plugins/check_http"
_EXPORTER = "prometheus-blackbox-exporter"
_REQUESTS = """
import os, sys, requests
headers = {"Authorization": "Bearer " + os.environ["TOKEN"]} if os.environ.get("TOKEN") else {}
try:
    answer = requests.get(sys.argv[1], headers=headers, timeout=float(sys.argv[2]))
except (requests.RequestException, OSError, ValueError) as error:
    print(type(error).__name__ + ":", error)
else:
    try:
        found = len(answer.json()["values"])
        print("HTTP", answer.status_code, "with", found, "repositories")
    except (ValueError, KeyError, TypeError):
        print("HTTP", answer.status_code, answer.headers.get("Content-Type", ""))
"""
_MODULE = """modules:
  bitbucket:
    prober: http
    timeout: {timeout}s
    http:
      tls_config:
        ca_file: {ca_file}
{more}"""


def symptom(town: Town, call: Call) -> str:
    """All that a script sees of curl: its exit status and the HTTP status."""
    done = _curl(town, call, 6)
    return f"{done[0]} {done[1]}"


def curl(town: Town, call: Call) -> str:
    status, code, said = _curl(town, call, PATIENCE)
    return f"HTTP {code}" if status == 0 else said


def check_http(town: Town, call: Call) -> str:
    parts = urlsplit(call.asked)
    tls = ["--ssl", "--sni"] if parts.scheme == "https" else []
    argv = [_CHECK_HTTP, "-H", parts.hostname or call.asked, "-u", parts.path or "/", *tls]
    argv += ["-t", str(PATIENCE)]
    argv += ["-p", str(port)] if (port := _port(call)) else []
    argv += ["-k", f"Authorization: Bearer {town.token}"] if town.token else []
    done = town.lab.run(call.place, [*call.prefix, *argv], env=call.env, timeout=2 * PATIENCE)
    return done.stdout.partition("|")[0] or f"no output, exit status {done.returncode}"


def blackbox_exporter(town: Town, call: Call) -> str:
    token = f"      bearer_token: {json.dumps(town.token)}\n" if town.token else ""
    ca_file = call.ca_file or town.ca_file
    text = _MODULE.format(timeout=PATIENCE, ca_file=ca_file, more=token)
    config = town.write("blackbox.yml", text)
    options = [f"--config.file={config}", "--web.listen-address=127.0.0.1:9115"]
    # Not under faketime: a Go program asks the kernel for the time itself, and goes by no other.
    process = town.lab.spawn(call.place, [_EXPORTER, *options], env=call.env)
    try:
        town.lab.wait_for(call.place, 9115)
        probe = "http://127.0.0.1:9115/probe?module=bitbucket&debug=true"
        argv = ["curl", "-s", "--noproxy", "*", "-G", probe, "--data-urlencode"]
        env = {name: "" for name in call.env if name.lower().endswith("_proxy")}
        done = town.lab.run(
            call.place, [*argv, f"target={call.asked}"], env=env, timeout=2 * PATIENCE
        )
    finally:
        process.kill()
    found = re.search(r"^probe_success (\d)", done.stdout, re.MULTILINE)
    status = re.search(r"^probe_http_status_code (\d+)", done.stdout, re.MULTILINE)
    errors = re.findall(r'err="((?:[^"\\]|\\.)*)"', done.stdout)
    text = f"success {found[1] if found else '?'}, HTTP {status[1] if status else '?'}"
    if not errors or text.startswith("success 1"):
        return text
    return f"{text}, {re.sub(r'Get .*?: ', '', errors[-1])}"


def nmap(town: Town, call: Call) -> str:
    parts = urlsplit(call.asked)
    port = _port(call) or {"http": 80}.get(parts.scheme, 443)
    options = ["-Pn", "-n", "-p", str(port), "--host-timeout", f"{PATIENCE}s"]
    options += ["-6"] if ":" in (parts.hostname or "") else []
    argv = ["nmap", *options, parts.hostname or call.asked]
    done = town.lab.run(call.place, argv, timeout=3 * PATIENCE)
    found = re.search(rf"^{port}/tcp\s+(\S+)", done.stdout, re.MULTILINE)
    failed = re.search(r"^(Failed.*|.*host down.*)$", done.stdout + done.stderr, re.MULTILINE)
    return found[1] if found else failed[1] if failed else "nothing to scan"


def plain_requests(town: Town, call: Call) -> str:
    env = {**call.env, "REQUESTS_CA_BUNDLE": str(call.ca_file or town.ca_file)}
    env |= {"TOKEN": town.token} if town.token else {}
    argv = [*call.prefix, sys.executable, "-c", _REQUESTS, call.asked, str(PATIENCE)]
    done = town.lab.run(call.place, argv, env=env, timeout=2 * PATIENCE)
    return done.stdout or done.stderr.strip().rpartition("\n")[2]


PEERS: Mapping[str, Peer] = {
    "curl": curl,
    "check_http": check_http,
    "blackbox_exporter": blackbox_exporter,
    "nmap": nmap,
    "requests": plain_requests,
}


def _curl(town: Town, call: Call, patience: int) -> tuple[int, str, str]:
    """Exit status, HTTP status and words of curl, with the secret as the person would give it."""
    argv = [*call.prefix, *_CURL.format(patience).split()]
    argv += ["--cacert", str(call.ca_file or town.ca_file)]
    user = call.options[call.options.index("--user") + 1] if "--user" in call.options else None
    if town.token:
        secret = (
            ["--user", f"{user}:{town.token}"] if user else [f"Authorization: Bearer {town.token}"]
        )
        argv += secret if user else ["-H", *secret]
    done = town.lab.run(call.place, [*argv, call.asked], env=call.env, timeout=2 * PATIENCE)
    return done.returncode, done.stdout, done.stderr.strip()


def _port(call: Call) -> int | None:
    try:
        return urlsplit(call.asked).port
    except ValueError:
        return None
