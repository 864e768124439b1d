"""Check `webhook`: what Bitbucket noted down of its own calls, and which of them matter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from diag import profile
from diag.bitbucket import webhooks
from diag.facts import Delivery
from diag.model import Status
from diag.profile import Hooks, Profile
from diag.simulator.data import BUILDS, CHAT, Delivered, Webhook
from diag.simulator.faults_bitbucket import NO_CONNECTION, NO_IDEA, NO_TLS, SKIPPED
from diag.simulator.scenario import Answer, Setup
from diag.simulator.server import Request, Response

from .conftest import Meet, Met

STEADY = {"stage": "steady"}
MARK = ("X-AREQUESTID", "@1VT0CNLx1x1x0")
NOT_FOUND = Delivered("404", "FAILURE", 60.0)
# Runs only where users have it, and needs to administer for good: nothing is too broad.
OWN = Profile("own", "Own CI", steady="admin", hooks=Hooks(("*/ci-hook/*",), events=("pr:opened",)))


@pytest.fixture
def meet(meet: Meet) -> Meet:
    """For Appcircle, unless the test says otherwise."""

    def run(change: Any = None, options: dict[str, Any] | None = None, **knobs: Any) -> Met:
        wanted = {"profile": profile.load("appcircle"), **(options or {})}
        return meet(change, wanted, **knobs)

    return run


def having(*hooks: Webhook) -> Callable[[Setup], None]:
    def change(setup: Setup) -> None:
        setup.instance.webhooks = hooks

    return change


def gateway(
    end: str, answer: Callable[[Response], Response], *hooks: Webhook
) -> Callable[[Setup], None]:
    """Somebody on the way who changes what is answered to paths with this end."""

    def change(setup: Setup) -> None:
        def pass_on(request: Request, forward: Answer) -> Response:
            response = forward(request)
            return answer(response) if request.path.endswith(end) else response

        setup.gateway = pass_on
        if hooks:
            having(*hooks)(setup)

    return change


def asked(met: Met) -> list[str]:
    """What was asked of the webhooks, in order."""
    return [
        f"{request.path.partition('/repos/app')[2]}?{request.query}"
        for request in met.requests
        if "/webhooks" in request.path
    ]


# which webhooks matter


def test_a_webhook_that_delivers_costs_no_request(meet: Meet) -> None:
    met = meet()
    assert met.problems == []
    assert met.codes("webhook") == ["webhook-ok"]
    assert asked(met) == ["/webhooks?statistics=true"]
    assert len(met.requests) == 9
    assert "https://hook.appcircle.io" in met.check("webhook").findings[0].message


def test_nothing_is_shown_of_an_address_but_its_host(meet: Meet) -> None:
    for change in ("webhook-dns-failure", "webhook-endpoint-not-found", None):
        shown = str(meet(change).report.to_json())
        assert "hook.appcircle.io" in shown
        for secret in ("a-token-in-the-address", "a-webhook-secret", "chat.example.com"):
            assert secret not in shown


def test_before_the_set_up_there_need_be_none(meet: Meet) -> None:
    met = meet(having(CHAT))
    assert met.problems == []
    assert met.codes("webhook") == ["webhook-none-yet"]
    assert len(met.requests) == 9


def test_what_others_do_is_no_alarm(meet: Meet) -> None:
    broken = replace(CHAT, record=(NOT_FOUND,))
    assert meet(having(broken, BUILDS)).problems == []


def test_one_that_works_is_enough(meet: Meet) -> None:
    """The others can be left from former times."""
    off, gone = replace(BUILDS, id=8, active=False), replace(BUILDS, id=9, record=(NOT_FOUND,))
    met = meet(having(off, gone, BUILDS))
    assert met.problems == []
    assert met.codes("webhook") == ["webhook-ok"]


def test_a_webhook_is_missing_only_after_the_set_up(meet: Meet) -> None:
    met = meet(having(CHAT), STEADY)
    (problem,) = met.report.problems
    assert problem.code == "webhook-missing"
    assert problem.status is Status.WARN
    assert asked(met) == [
        "/webhooks?statistics=true",
        "/webhooks/search?scopeType=project&statistics=true",
    ]


def test_right_to_make_the_missing_webhook_is_not_too_much(meet: Meet) -> None:
    met = meet(having(CHAT), STEADY)
    assert met.check("permission").findings[-1].code == "perm-too-broad"
    assert meet(None, STEADY).problems == ["perm-too-broad"]


def test_a_project_s_webhook_is_its_repositories_too(meet: Meet) -> None:
    inherited = replace(BUILDS, of_project=True)
    assert meet(having(CHAT, inherited), STEADY).problems == ["perm-too-broad"]
    failing = replace(inherited, record=(NOT_FOUND,))
    met = meet(having(CHAT, failing), STEADY)
    problem = met.problem("webhook-endpoint-not-found")
    assert "/projects/MOB/webhooks/7/statistics" in problem.reproduce[0]
    assert not any("latest" in path for path in asked(met)), "that takes an administrator of all"


def test_an_older_version_knows_no_search(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        having(CHAT)(setup)

        def older(request: Request, forward: Answer) -> Response:
            request.path = request.path.replace("/webhooks/search", "/webhooks/none")
            return forward(request)

        setup.gateway = older

    assert meet(change, STEADY).problems == ["webhook-missing"]


@pytest.mark.parametrize(
    ("status", "marks"),
    [(401, [MARK]), (403, [MARK]), (500, [MARK]), (404, [])],
    ids=["401", "403", "500", "404 of a gateway"],
)
def test_webhooks_of_the_project_that_are_not_told_may_be_there(
    meet: Meet, status: int, marks: list[tuple[str, str]]
) -> None:
    change = gateway("/webhooks/search", lambda _: Response(status, marks, b""), CHAT)
    met = meet(change, {"profile": profile.load("bitrise"), **STEADY})
    assert met.codes("webhook") == ["webhook-not-recognised"]
    assert met.problems == ["perm-too-broad"]


def test_an_own_installation_cannot_be_recognised(meet: Meet) -> None:
    """Who runs the product himself has it at an address that nobody can know."""
    own = replace(BUILDS, url="https://hook.appcircle.example.com/x")
    met = meet(having(CHAT, own), STEADY)
    assert met.problems == ["perm-too-broad"]
    assert met.codes("webhook") == ["webhook-not-recognised"]
    assert met.check("webhook").status is Status.SKIP


def test_more_than_one_page_is_not_all(meet: Meet) -> None:
    many = [replace(CHAT, id=100 + n) for n in range(30)]
    met = meet(having(*many), STEADY)
    assert met.codes("webhook") == ["webhook-not-recognised"]


@pytest.mark.parametrize(
    ("options", "credential", "code"),
    [
        ({"profile": profile.load("snyk")}, None, "webhook-form-unknown"),
        ({"profile": profile.load("sonarqube")}, None, "webhook-not-used"),
        ({"repo": None}, None, "webhook-no-repository"),
        (STEADY, "read-token", "webhook-not-shown"),
        ({}, "developer-token", "webhook-not-shown"),
    ],
)
def test_where_nothing_is_concluded(
    meet: Meet, options: dict[str, object], credential: str | None, code: str
) -> None:
    met = meet("webhook-endpoint-not-found", options, credential=credential)
    assert met.codes("webhook") == [code]
    assert met.check("webhook").status is Status.SKIP
    assert not [problem for problem in met.problems if problem.startswith("webhook-")]


@pytest.mark.parametrize("stage", ["setup", "steady"])
@pytest.mark.parametrize(
    "code", ["endpoint-not-found", "circuit-open", "secret-mismatch", "endpoint-timeout"]
)
def test_few_requests_and_only_such_as_there_are(meet: Meet, code: str, stage: str) -> None:
    met = meet(f"webhook-{code}", {"stage": stage})
    assert met.problems[0] == f"webhook-{code}"
    assert len(met.requests) <= 12
    assert [request for request in met.requests if not request.known] == []
    assert {request.method for request in met.requests} == {"GET"}
    assert 401 not in [request.status for request in met.requests]


# what is set wrong


def test_a_webhook_that_is_switched_off(meet: Meet) -> None:
    met = meet("webhook-inactive")
    assert met.problems == ["webhook-inactive"]
    assert met.report.exit_status() == 0


def test_missing_events_are_named(meet: Meet) -> None:
    met = meet("webhook-events-missing")
    assert met.problems == ["webhook-events-missing"]
    assert met.report.problems[0].evidence["events"] == ["pr:opened"]


def test_events_may_be_told_by_several_webhooks(meet: Meet) -> None:
    pushes = replace(BUILDS, events=("mirror:repo_synchronized",))  # builds from a mirror
    requests = replace(BUILDS, id=8, events=("pr:opened",))
    assert meet(having(pushes, requests)).problems == []


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("bitrise", "https://www.bitrise.io/hooks/x"),
        ("bitrise", "https://hooks.bitrise.io/h/bitbucket-v2/x/y"),
        ("codemagic", "https://codemagic.io/app/x"),
        ("jenkins", "http://127.0.0.1:8080/bitbucket-server-webhook/trigger"),
        ("jenkins", "http://[::1]/jenkins/bitbucket-scmsource-hook/notify?server_url=x"),
    ],
)
def test_addresses_that_lead_nowhere(meet: Meet, name: str, url: str) -> None:
    wrong = replace(BUILDS, url=url, record=())
    met = meet(having(CHAT, wrong), {"profile": profile.load(name)})
    assert met.problems[0] == "webhook-wrong-url"
    assert met.report.exit_status() == 1
    off = having(replace(wrong, active=False))
    assert "webhook-wrong-url" not in meet(off, {"profile": profile.load(name)}).problems


def test_own_machine_is_right_where_deliveries_arrive(meet: Meet) -> None:
    """Jenkins may run beside Bitbucket."""
    beside = replace(BUILDS, url="http://127.0.0.1:8080/bitbucket-server-webhook/trigger")
    options = {"profile": profile.load("jenkins")}
    assert meet(having(replace(beside, record=(Delivered(),))), options).problems == []
    failing = having(replace(beside, record=(NOT_FOUND,)))
    assert meet(failing, options).problems == ["webhook-wrong-url"]


# what the record says


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ([], None),
        ([Delivered()], None),
        ([NOT_FOUND, Delivered(ago=30.0)], None),  # it works again
        ([NOT_FOUND, Delivered(ago=90.0)], "webhook-endpoint-not-found"),
        ([replace(NOT_FOUND, ago=40 * 86400.0)], None),  # long ago
        ([replace(NOT_FOUND, ago=100 * 86400.0)], None),  # before the last change
        ([Delivered("410", "FAILURE")], "webhook-endpoint-not-found"),
        ([Delivered("401", "FAILURE")], "webhook-endpoint-rejected"),
        ([Delivered("401", "FAILURE", content="bad HMAC")], "webhook-secret-mismatch"),
        ([Delivered("400", "FAILURE", content="Invalid signature")], "webhook-secret-mismatch"),
        ([Delivered("400", "FAILURE", content="no such event")], "webhook-unclear"),
        ([Delivered("500", "FAILURE", content="signature")], "webhook-unclear"),
        ([Delivered("504", "FAILURE")], "webhook-endpoint-timeout"),
        ([Delivered(NO_IDEA, "ERROR", took=0.1)], "webhook-unclear"),
        ([Delivered(NO_IDEA, "ERROR", took=10.0)], "webhook-endpoint-timeout"),
        (
            [Delivered(NO_IDEA, "ERROR", took=10.0, content="org.x.ConnectTimeoutException")],
            "webhook-egress-blocked",
        ),
    ],
)
def test_the_last_delivery_counts(meet: Meet, record: list[Delivered], code: str | None) -> None:
    met = meet(having(CHAT, replace(BUILDS, record=tuple(record))))
    assert met.problems == ([code] if code else [])
    if code == "webhook-unclear":
        assert met.report.exit_status() == 4


def test_why_it_is_skipped_is_told_where_it_is_known(meet: Meet) -> None:
    """The record of errors holds the skipping alone, that of answers the reason for it."""
    skipped = Delivered(NO_IDEA, "ERROR", 30.0, 0.0, SKIPPED)
    met = meet(having(replace(BUILDS, record=(skipped, NOT_FOUND))))
    assert met.problems == ["webhook-endpoint-not-found", "webhook-circuit-open"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (NO_CONNECTION, "egress"),
        ("connect timed out", "egress"),
        ("java.net.ConnectException: Timeout connecting to [hook/192.0.2.1:443]", "egress"),
        ("Connection refused (Connection refused)", "egress"),
        ("java.net.NoRouteToHostException: No route to host", "egress"),
        ("Unknown host specified in the webhook URL: https://h", "dns"),
        ("java.net.UnknownHostException: hook.example.com", "dns"),
        (NO_TLS, "tls"),
        ("sun.security.validator.ValidatorException: PKIX path building failed", "tls"),
        ("Read timed out", "timeout"),
        ("10,000 milliseconds timeout on connection http-outgoing-1 [ACTIVE]", "timeout"),
        ('Unable to tunnel through proxy. Proxy returns "HTTP/1.1 407 Proxy Auth', "proxy"),
        ("Webhook failed too many times. Skipping this webhook for the next 9000ms", "skipped"),
        (NO_IDEA, "other"),
    ],
)
def test_words_that_tell_the_reason(said: str, reason: str) -> None:
    assert webhooks.reason(Delivery("ERROR", 0.0, said)) == reason


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b'{"values": 5}', b'{"values": [5, {"id": "x"}, {"id": 1}]}', b"\xff", b"\x1f"],
)
def test_nonsense_is_no_alarm(meet: Meet, answer: bytes) -> None:
    change = gateway("/webhooks", lambda _: Response(200, [MARK], answer))
    for options in ({}, {"profile": OWN}):
        assert meet(change, options).problems == []
    assert "webhook-missing" not in meet(change, {"profile": OWN, **STEADY}).problems


def test_more_than_is_read_is_not_slow(meet: Meet) -> None:
    def lengthen(response: Response) -> Response:
        return replace(response, body=b" " * (1 << 18) + response.body)

    for options in ({}, STEADY):
        met = meet(gateway("/webhooks", lengthen), options)
        assert met.codes("webhook") == ["webhook-not-shown"]
        assert set(met.problems) <= {"perm-too-broad"}


@pytest.mark.parametrize("moment", [10**16, 10**400, -1, "soon", None])
def test_times_that_are_none_are_passed_over(meet: Meet, moment: object) -> None:
    def change(response: Response) -> Response:
        page = json.loads(response.body)
        for hook in page["values"]:
            hook["updatedDate"] = moment
            for entry in hook["statistics"].values():
                if isinstance(entry, dict):
                    entry |= {"start": moment, "finish": moment, "duration": moment}
        return replace(response, body=json.dumps(page).encode())

    met = meet(gateway("/webhooks", change, replace(BUILDS, record=(NOT_FOUND,))))
    assert met.codes("webhook") == ["webhook-ok"]


@pytest.mark.parametrize(
    ("url", "pattern", "fits"),
    [
        ("https://hook.appcircle.io/x", "https://*.appcircle.io/*", True),
        ("https://Hook.AppCircle.io:443/x?y", "https://*.appcircle.io/*", True),
        ("https://me:secret@hook.appcircle.io/x", "https://*.appcircle.io/*", True),
        ("https://evil.example/x.appcircle.io/", "https://*.appcircle.io/*", False),
        ("https://appcircle.io.evil.example/", "https://*.appcircle.io/*", False),
        ("http://hook.appcircle.io/x", "https://*.appcircle.io/*", False),
        ("https://ci:8443/j/ci-hook/x?y=z", "*/ci-hook/*", True),
        ("https://[oops/ci-hook/x", "*/ci-hook/*", False),
    ],
)
def test_patterns_of_addresses(url: str, pattern: str, fits: bool) -> None:
    assert webhooks.fits(url, [pattern]) is fits
