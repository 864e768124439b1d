"""Check `server`: the state that Bitbucket itself tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diag.api import (
    Check,
    Context,
    Fact,
    Finding,
    Instance,
    Reply,
    Running,
    fail,
    ok,
    unknown,
    verdicts,
)

_SEE = "{curl} '{base_url}/status'"
_CONSEQUENCES = ("version-unknown",)
_STARTING = re.compile(r"\b(?:start(?:s|ing|ed)?|initiali[sz]ing|migrat\w+)\b", re.IGNORECASE)
_MAINTENANCE = re.compile(r"\b(?:maintenance|back-?up|stopping|shut\w* down)\b", re.IGNORECASE)


class Server(Check):
    """Read the state that Bitbucket tells at /status.

    RUNNING is the only one in which it serves requests. Where /status cannot be read, as with old
    versions or behind a gateway that keeps it to itself, the other answers have to speak: that
    alone is no failure.
    """

    id = "server"
    title = "Bitbucket is up and running"
    order = 70
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Instance,)
    provides = (Running,)

    OK = ok("server-ok", "Bitbucket says {state}")
    NO_STATUS = ok(
        "server-no-status", "/status cannot be read ({said}), but Bitbucket answers otherwise"
    )
    UNCLEAR = unknown(
        "server-unclear",
        "Bitbucket says {state}, a state that is not known",
        remedy="Look into Bitbucket's log; what follows may fail because of it.",
        owner="bitbucket-admin",
        reproduce=_SEE,
    )
    MAINTENANCE = fail(
        "server-maintenance",
        "Bitbucket is in maintenance or is being stopped ({state})",
        remedy="Wait until the backup, migration or upgrade is done. If none is under way, end the "
        "maintenance: its page in the browser says what holds the lock.",
        owner="bitbucket-admin",
        reproduce=_SEE,
        explains=_CONSEQUENCES,
    )
    STARTING = fail(
        "server-starting",
        "Bitbucket is starting ({state})",
        remedy="Wait: a start takes minutes, longer after an upgrade (--wait 300 repeats until it "
        "is up). If it does not end, look into log/atlassian-bitbucket.log.",
        owner="bitbucket-admin",
        reproduce=_SEE,
        explains=_CONSEQUENCES,
    )
    SETUP = fail(
        "server-setup-incomplete",
        "Bitbucket has never been set up: it waits for its first-run wizard ({state})",
        remedy="Open {base_url}/setup in a browser and finish it. If this Bitbucket has been in "
        "use, it has lost its home directory or database: do not finish it, restore them.",
        owner="bitbucket-admin",
        reproduce=_SEE,
        explains=_CONSEQUENCES,
    )
    ERROR_STATE = fail(
        "server-error-state",
        "Bitbucket could not start: {state}",
        remedy="Open {base_url} in a browser and look into log/atlassian-bitbucket.log below its "
        "home directory: database, home directory lock and licence are the usual reasons.",
        owner="bitbucket-admin",
        reproduce=_SEE,
        explains=_CONSEQUENCES,
    )
    ERROR = verdicts.SERVER_ERROR

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        instance = ctx[Instance]
        base_url = instance.base_url
        state = (instance.status.content or {}).get("state")
        if (trouble := self._trouble(instance, state)) is not None:
            yield trouble
            return
        if state is None:
            yield self.NO_STATUS(said=instance.status.said)
        elif state == "RUNNING":
            yield self.OK(state=state)
        else:
            yield self.UNCLEAR(state=state, base_url=base_url)
        yield Running(state)

    def _trouble(self, instance: Instance, state: str | None) -> Finding | None:
        """Why Bitbucket cannot serve requests: in its own words where it has some."""
        by_state = {
            "MAINTENANCE": self.MAINTENANCE,
            "STOPPING": self.MAINTENANCE,
            "STARTING": self.STARTING,
            "FIRST_RUN": self.SETUP,
            "ERROR": self.ERROR_STATE,
        }
        if state in by_state:
            return by_state[state](state=state, base_url=instance.base_url)
        properties = instance.properties
        failing = [r for r in (properties, instance.status) if (r.code or 0) >= 500]
        if properties.content is not None or state not in {None, "RUNNING"}:
            return None
        if (properties.location or "").endswith("/setup"):
            return self.SETUP(state="redirected to /setup", base_url=instance.base_url)
        return self._failing(failing, instance.base_url) if failing else None

    def _failing(self, replies: Sequence[Reply], base_url: str) -> Finding:
        """A page of Bitbucket's own tells in words what /status does not."""
        for words, verdict in ((_MAINTENANCE, self.MAINTENANCE), (_STARTING, self.STARTING)):
            for reply in replies:
                if reply.code == 503 and words.search(reply.said):
                    return verdict(state=reply.said, base_url=base_url)
        return self.ERROR(
            status=replies[0].code,
            request=replies[0].request,
            said=replies[0].said,
            request_id=replies[0].request_id,
        )
