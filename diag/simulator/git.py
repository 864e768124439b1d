"""The first exchange of git over HTTP."""

from __future__ import annotations

import hashlib

from diag.simulator.server import Response

CAPABILITIES = "multi_ack thin-pack side-band-64k ofs-delta symref=HEAD:refs/heads/main"
SERVICES = frozenset({"git-upload-pack", "git-receive-pack"})


def advertise_refs(service: str, repository: str) -> Response:
    """One branch, whose commit is as good as any other."""
    commit = hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()
    lines = [
        pkt_line(f"# service={service}\n"),
        b"0000",
        pkt_line(f"{commit} HEAD\0{CAPABILITIES}\n"),
        pkt_line(f"{commit} refs/heads/main\n"),
        b"0000",
    ]
    kind = ("Content-Type", f"application/x-{service}-advertisement")
    return Response(200, [kind], b"".join(lines), chunked=True)


def pkt_line(text: str) -> bytes:
    """A line as git sends it: four hexadecimal digits of length, themselves included."""
    data = text.encode()
    return b"%04x%b" % (len(data) + 4, data)


def refuse(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """What git shows to its user after "remote:"."""
    kind = ("Content-Type", "text/plain;charset=UTF-8")
    return Response(status, [kind, *headers], text.encode())


def ask_for_login() -> Response:
    challenge = ("WWW-Authenticate", 'Basic realm="Atlassian Bitbucket"')
    return refuse(401, "Authentication required", challenge)
