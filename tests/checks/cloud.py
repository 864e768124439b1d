"""What the tests of the checks for Bitbucket Cloud share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from diag import profile
from diag.simulator import CLOUD_CREDENTIALS, CloudInstance
from diag.simulator.cloud_data import API, CONSUMERS, SITE, TEAM, embedded_token
from diag.simulator.scenario import Setup
from diag.target import TOKEN_URL
from tests.checks.conftest import Meet, Met

APPCIRCLE = profile.load("appcircle")
MOST = 10  # requests of a run
WEBSITE = f"https://{SITE}/{TEAM}/app"


def ask(
    meet: Meet,
    change: str | Callable[[Setup], None] | None = None,
    stage: str = "setup",
    **knobs: Any,
) -> Met:
    """Diagnose the embedded Bitbucket Cloud for Appcircle, and see to what holds for every run."""
    options: dict[str, Any] = {"profile": APPCIRCLE, "stage": stage, **knobs.pop("options", {})}
    met = meet(change, options=options, cloud=True, **knobs)
    behaved(met)
    return met


def behaved(met: Met) -> None:
    """No request too many, none that Bitbucket does not have, the secret nowhere it must not be."""
    assert len(met.requests) <= met.report.run.requests <= MOST  # some do not get there
    for request in met.requests:
        assert request.known, request
        assert request.secure
        assert not request.cookie
        assert not request.exposed
        if request.method != "GET":
            assert f"https://{request.host}{request.path}" == TOKEN_URL
        elif request.authorization != "none":
            assert request.host == API
    assert sum(request.method == "POST" for request in met.requests) <= 1
    refused = [index for index, one in enumerate(met.credentialed) if one.status == 401]
    assert refused in ([], [len(met.credentialed) - 1]), "the secret was sent again after a 401"
    text = json.dumps(met.report.to_json())
    assert "{" not in "".join(problem.message for problem in met.report.problems)
    secrets = [credential.secret for credential in CLOUD_CREDENTIALS.values()]
    secrets += [consumer.token for consumer in CONSUMERS.values()]
    for secret in (*secrets, embedded_token()):
        assert not secret or secret not in text
    assert "window.__token__" not in text
    assert "bb-bootstrap" not in text


def changed(**values: Any) -> Callable[[Setup], None]:
    """A Bitbucket Cloud that differs from the healthy one in these attributes."""

    def change(setup: Setup) -> None:
        for name, value in values.items():
            assert hasattr(CloudInstance(), name)
            setattr(setup.cloud, name, value)

    return change
