"""The way that git takes: over HTTP, and to the SSH port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from diag.api import (
    Asker,
    Channel,
    Check,
    Clone,
    CloneTried,
    Context,
    Fact,
    Finding,
    Identity,
    Instance,
    Route,
    Target,
    Troubles,
    Wire,
    bitbucket,
    fail,
    greet_ahead,
    net,
    ok,
    said,
    skip,
    ssh_greeting,
    trouble,
    unknown,
    verdicts,
    why_no_ssh,
)

if TYPE_CHECKING:
    Banner = net.ssh.Banner

_CUT_OFF = {"silent", "unreachable"}  # failures that may come from the way there
ENOUGH = 65536  # bytes of the list of branches: that it begins as such is all that matters
ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
SSH_PORT = 7999  # the usual one
FIRST_STEP = "{curl_auth} -i '{request}'"


class Git(Troubles, Check):
    """Take the first step of a clone, over HTTP and over SSH, without cloning anything.

    HTTP: the list of branches is asked for, with the secret as it is sent to the API, at the base
    URL that you gave (whether the links in the listing are right is a question of its own). SSH: it
    is only seen whether a server greets on the port of the link.
    """

    id = "git"
    title = "git can clone"
    order = 120
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Instance, Identity, Clone)
    after = (Route, Channel)
    provides = (CloneTried,)

    OK = ok("git-ok", "git gets the branches of {repository} over HTTP")
    SSH_OK = ok("git-ssh-ok", "an SSH server answers on {ssh_host}, port {ssh_port}: {banner}")
    NEEDS_TOKEN = skip(
        "git-needs-token", "cloning {repository} needs a token, though everybody may see it"
    )
    HTTP_DISABLED = fail(
        "git-http-disabled",
        "the API works, but git over HTTP does not: {request} is answered {status} ({said})",
        remedy="Let an administrator switch on Administration > Server settings > HTTP(S) SCM"
        " hosting. If it is on, a gateway in front of Bitbucket does not let /scm through.",
        owner="bitbucket-admin",
        reproduce=FIRST_STEP,
    )
    SSH_UNREACHABLE = verdicts.GIT_SSH_UNREACHABLE
    UNCLEAR = unknown(
        "git-unclear",
        "whether git can clone over HTTP could not be told: {request} is answered {status}: {said}",
        remedy="Look at that answer. If it is no answer of Bitbucket, a gateway treats /scm in"
        " another way than /rest.",
        owner="server-admin",
        reproduce=FIRST_STEP,
        explains=("permission-unclear",),  # after a 401 nothing more can be asked
    )

    foresees = (Wire,)

    def ahead(self, ctx: Context) -> Iterator[tuple[type[Fact], ...]]:
        target = ctx.target
        if target.project is None or target.repository is None:
            return
        yield Wire, Channel
        greet_ahead(ctx, target.host, SSH_PORT, net.patience.SSH)

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        clone = ctx[Clone]
        asker = Asker(ctx, auth=ctx[Identity].kind != "anonymous")
        answer = asker.get(
            bitbucket.datacenter.git_path(clone.project, clone.slug),
            {"service": "git-upload-pack"},
            headers={"Accept": "*/*", "Git-Protocol": "version=2"},
            max_bytes=ENOUGH,
        )
        finding = self._over_http(ctx, answer)
        yield CloneTried(finding.verdict in (self.RATE_LIMITED, self.GATEWAY_RATE_LIMITED))
        yield finding
        yield from asker.findings
        yield from self._over_ssh(ctx)

    def _over_http(self, ctx: Context, answer: net.http.Answer) -> Finding:
        clone, datacenter = ctx[Clone], bitbucket.datacenter
        evidence: dict[str, Any] = {
            "repository": ctx.quote(f"{clone.project}/{clone.slug}"),
            "request": answer.url,
            "status": answer.status,
            "http_link": clone.http,
        }
        if (
            answer.status == 200
            and answer.content_type == ADVERTISEMENT
            and answer.failure in (None, "endless")
        ):
            return self.OK(**evidence)
        if (common := trouble(ctx, answer, plain=True)) is not None:
            return common
        evidence["said"] = said(ctx, answer)
        if answer.status == 401 and ctx[Identity].kind == "anonymous":
            return self.NEEDS_TOKEN(**evidence)
        if answer.failure is None and answer.status in (403, 404):
            if datacenter.marks(answer):
                return self.HTTP_DISABLED(**evidence)
            return self.HTTP_DISABLED(owner="server-admin", **evidence)
        return self.UNCLEAR(**evidence)

    def _over_ssh(self, ctx: Context) -> Iterator[Finding]:
        """Only on the host of the web: whether another host is right is for check `base-url`."""
        clone = ctx[Clone]
        place = bitbucket.listing.place(clone.ssh) if clone.ssh else None
        if place is None or place.host != ctx.target.host:
            return
        banner, where = self._greeting(ctx, place.host, place.port)
        if banner is None:
            return
        evidence: dict[str, Any] = {"ssh_host": place.host, "ssh_port": place.port}
        if banner.text is not None:
            yield self.SSH_OK(banner=ctx.quote(banner.text), **evidence)
        else:
            reason = why_no_ssh(ctx, banner) + (where if banner.failure in _CUT_OFF else "")
            yield self.SSH_UNREACHABLE(reason=reason, **evidence)

    @staticmethod
    def _greeting(ctx: Context, host: str, port: int) -> tuple[Banner | None, str]:
        """The greeting of the SSH port; and while it is awaited too long, how far connects get
        there, seen beside those to the port that works."""
        channel, opened, settled = ctx.get(Channel), threading.Event(), threading.Event()
        said: list[Banner | None] = []

        def greet() -> Banner | None:
            try:
                said.append(ssh_greeting(ctx, host, port, net.patience.SSH, opened=opened.set))
            finally:
                settled.set()
            return said[0]

        def where() -> str:
            settled.wait(net.patience.QUIET)
            there = any(one is None or one.failure not in _CUT_OFF for one in said)
            if there or opened.is_set() or channel is None or ctx.dialer.mapped(host, port):
                return ""
            seconds, beside = min(net.patience.TRACE, ctx.remaining - 1), ctx.target.port
            with ctx.timed("connect", f"{channel.address} {port}, hop by hop"):
                trace = net.hops.trace(
                    channel.address, port, seconds, beside, lambda: not opened.is_set()
                )
            return "" if trace is None or trace.answered else f"; {trace.words}"

        tasks: dict[str, Callable[[], Any]] = {"greeting": greet, "where": where}
        found = ctx.parallel(tasks)
        return found.get("greeting"), found.get("where", "")
