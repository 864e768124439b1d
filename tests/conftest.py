"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from diag import registry, runner
from diag.profile import Profile
from diag.report import Report
from diag.secret import Secret
from diag.settings import ConnectTo, GivenSecret, Settings
from tests.lab import lab as lab  # noqa: PLC0414 - the fixture

Diagnose = Callable[..., Report]


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> None:
    """No test sees the proxy, token or colour settings of the machine it runs on. Once and for
    all: cases of the gallery are under way while the tests that ask for them come and go."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("BITBUCKET_", "BBDIAG_")):
            del os.environ[name]
    for name in ("NO_COLOR", "FORCE_COLOR", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        os.environ.pop(name, None)


def _rule(text: str) -> ConnectTo:
    host, port, address, to_port = text.rsplit(":", 3)
    return ConnectTo(host, int(port), address, int(to_port))


def make_settings(
    url: str,
    *,
    token: str | None = None,
    connect_to: tuple[str | ConnectTo, ...] = (),
    profile: Profile | None = None,
    environ: Mapping[str, str] | None = None,
    **options: Any,
) -> Settings:
    """`Settings` from plain values; without a profile, one that asks for nothing special."""
    rules = tuple(_rule(rule) if isinstance(rule, str) else rule for rule in connect_to)
    given = GivenSecret()
    if token is not None:
        given = GivenSecret(Secret(token) if token else None, "$BITBUCKET_TOKEN", announced=True)
    options.setdefault("given", given)
    return Settings(
        url=url,
        profile=profile or Profile(),
        connect_to=rules,
        environ=dict(environ or {}),
        **options,
    )


@pytest.fixture
def diagnose() -> Diagnose:
    """Run all checks in this process: `diagnose(url, token=…, connect_to=(…,), timeout=…)`."""

    def run(url: str, **options: Any) -> Report:
        return runner.execute(make_settings(url, **options), registry.checks().checks)

    return run


@pytest.fixture
def run_demo(diagnose: Diagnose) -> Callable[..., Report]:
    """Diagnose the embedded Bitbucket, broken as asked: `run_demo("tls-expired")`."""
    from diag.simulator import Simulator

    def run(code: str | None = None, **knobs: Any) -> Report:
        options = knobs.pop("options", {})
        with Simulator(code, **knobs) as sim:
            scenario = sim.scenario
            merged: dict[str, Any] = {
                "token": scenario.token,
                "user": scenario.user,
                "repo": scenario.repo,
                "connect_to": scenario.connect_to,
                "ca_file": scenario.ca_file,
                "environ": scenario.environ,
                **scenario.options,
                **options,
            }
            return diagnose(scenario.url, **merged)

    return run
