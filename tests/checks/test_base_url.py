"""Check `base-url`: where Bitbucket believes to be, and where it was reached."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote

import pytest

from diag.facts import Instance, Target
from diag.model import Status
from diag.report import Problem
from diag.simulator.scenario import HOST, Answer, Setup
from diag.simulator.server import Request, Response
from tests.given import run_check

from .conftest import Meet

OTHER = "code.example.com"


def wrong_links(problem: Problem) -> list[dict[str, Any]]:
    """The links that the verdict rests on."""
    return cast("list[dict[str, Any]]", problem.evidence["links"])


WRONG = [
    ("http://localhost:7990", "base-url-localhost"),
    (f"https://localhost/{HOST}", "base-url-localhost"),
    ("http://127.0.0.1:7990", "base-url-loopback"),
    ("http://[::1]:7990", "base-url-loopback"),
    ("http://0.0.0.0:7990", "base-url-loopback"),
    ("http://10.1.2.3:7990", "base-url-private-ip"),
    ("https://192.168.0.1", "base-url-private-ip"),
    ("https://[fd00::1]", "base-url-private-ip"),
    ("https://bitbucket.corp.invalid", "base-url-unresolvable"),
    (f"http://{HOST}", "base-url-scheme-mismatch"),
    (f"http://{HOST}:7990", "base-url-scheme-mismatch"),
    (f"https://{HOST}:7990", "base-url-port-mismatch"),
    (f"https://{HOST}/bitbucket", "base-url-context-mismatch"),
    ("https://93.184.216.34", "base-url-host-mismatch"),
]


@pytest.mark.parametrize(("base_url", "code"), WRONG)
def test_links_that_lead_elsewhere(meet: Meet, base_url: str, code: str) -> None:
    met = meet(base_url=base_url)
    assert met.problems == [code]
    problem = met.report.problems[0]
    assert problem.check == "base-url"
    assert problem.owner == "bitbucket-admin"
    assert base_url in problem.message
    assert f"https://{HOST}" in problem.message
    for remedy in ("Server settings > Base URL", f"server.proxy-name={HOST}", "server.secure=true"):
        assert remedy in problem.remedy
    kinds = {link["kind"] for link in wrong_links(problem)}
    assert kinds == {"self", "http", "capabilities"}
    status = Status.WARN if code == "base-url-host-mismatch" else Status.FAIL
    assert problem.status is status


@pytest.mark.parametrize(
    ("context", "base_url", "problems"),
    [
        ("/bitbucket", None, []),
        ("/bitbucket", f"https://{HOST}/bitbucket/", []),
        ("/bitbucket", f"https://{HOST.upper()}/bitbucket", []),
        ("", f"https://{HOST}:443", []),
        ("/bitbucket", f"https://{HOST}", ["base-url-context-mismatch"]),
        ("/bitbucket", f"https://{HOST}/stash", ["base-url-context-mismatch"]),
    ],
)
def test_a_context_path_belongs_to_the_base_url(
    meet: Meet, context: str, base_url: str | None, problems: list[str]
) -> None:
    assert meet(context_path=context, base_url=base_url).problems == problems


def test_another_name_that_exists_is_a_warning(meet: Meet) -> None:
    met = meet("base-url-host-mismatch")
    assert met.problems == ["base-url-host-mismatch"]
    assert met.report.exit_status() == 0


def test_links_as_typed_are_right_whatever_they_are(meet: Meet) -> None:
    """Who types localhost, or a private address, knows it."""

    def change(setup: Setup) -> None:
        setup.url = f"http://127.0.0.1:{setup.web_port}"
        setup.instance.base_url = setup.url
        setup.instance.ssh_url = None

    met = meet(change, tls=False)
    assert met.codes("base-url") == ["base-url-ok"]


def test_localhost_for_who_typed_a_loopback_address_is_another_name(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.url = f"http://127.0.0.1:{setup.web_port}"
        setup.instance.base_url = f"http://localhost:{setup.web_port}"

    met = meet(change, tls=False)
    assert "base-url-host-mismatch" in met.problems
    assert met.report.exit_status() == 0


def tell(edit: Callable[[str], str], path: str) -> Callable[[Setup], None]:
    """Change the body of the answers at one path."""

    def gateway(request: Request, forward: Answer) -> Response:
        response = forward(request)
        if request.path.endswith(path):
            response.body = edit(response.body.decode()).encode()
        return response

    def change(setup: Setup) -> None:
        setup.gateway = gateway

    return change


def test_one_wrong_kind_of_link_is_enough(meet: Meet) -> None:
    met = meet(
        tell(lambda text: text.replace(f"https://{HOST}", "http://localhost"), "/capabilities")
    )
    assert met.problems == ["base-url-localhost"]
    (link,) = wrong_links(met.report.problems[0])
    assert (link["kind"], link["count"]) == ("capabilities", 3)


def test_the_worst_of_several_is_the_one_root_cause(meet: Meet) -> None:
    def mix(text: str) -> str:
        body = json.loads(text)
        wrong = ["http://localhost:7990", f"https://{HOST}:8443", f"http://{HOST}"]
        for value, base in zip(body["values"], wrong, strict=False):
            value["links"]["self"][0]["href"] = f"{base}/projects/X/repos/x/browse"
        return json.dumps(body)

    met = meet(tell(mix, "/repos"))
    assert met.problems == ["base-url-localhost"]
    bases = [link["base"] for link in wrong_links(met.report.problems[0])]
    assert bases == ["http://localhost:7990", f"http://{HOST}", f"https://{HOST}:8443"]


def test_a_user_name_inside_a_link_is_no_other_address(meet: Meet) -> None:
    met = meet(
        tell(lambda text: text.replace(f"https://{HOST}/scm", f"https://ci@{HOST}/scm"), "/repos")
    )
    assert met.problems == []


def test_links_of_other_servers_are_not_its_own(meet: Meet) -> None:
    def add(text: str) -> str:
        body = json.loads(text)
        body["capabilities"]["help"] = "https://docs.example.com/help"
        body["capabilities"]["avatar"] = "https://cdn.example.net/x.png"
        return json.dumps(body)

    assert meet(tell(add, "/capabilities")).problems == []


@pytest.mark.parametrize("credential", ["anonymous", "revoked-token"])
def test_without_a_listing_the_capabilities_tell(meet: Meet, credential: str) -> None:
    met = meet(base_url="http://localhost:7990", credential=credential)
    assert "base-url-localhost" in met.problems


def test_without_anything_else_the_realm_of_a_401_tells(meet: Meet) -> None:
    def hide(request: Request, forward: Answer) -> Response:
        if request.path.endswith("/capabilities"):
            return Response(404, [("X-AREQUESTID", "@1VT0CNLx1x1x0")], b"{}")
        return forward(request)

    def change(setup: Setup) -> None:
        setup.gateway = hide
        setup.instance.base_url = "http://localhost:7990/stash"

    for credential in ("anonymous", "revoked-token"):
        met = meet(change, credential=credential)
        problem = met.problem("base-url-localhost")
        (link,) = wrong_links(problem)
        assert (link["kind"], link["base"]) == ("realm", "http://localhost:7990/stash")


def test_a_refused_capabilities_resource_names_the_realm_too(meet: Meet) -> None:
    realm = quote("http://localhost:7990", safe="")

    def refuse(request: Request, forward: Answer) -> Response:
        if request.path.endswith("/capabilities"):
            challenge = ("WWW-Authenticate", f'OAuth realm="{realm}"')
            return Response(401, [("X-AREQUESTID", "@1VT0CNLx1x1x0"), challenge], b"{}")
        return forward(request)

    def change(setup: Setup) -> None:
        setup.gateway = refuse

    met = meet(change)
    assert met.problems == ["base-url-localhost"]


def test_no_link_at_all_is_no_verdict() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        facts = [Target(url, "http", "127.0.0.1", port), Instance(url, ("X-AREQUESTID",))]
        report, _ = run_check("base-url", facts, url=url)
    (check,) = [check for check in report.checks if check.id == "base-url"]
    assert [finding.code for finding in check.findings] == ["base-url-no-links"]
    assert check.status is Status.SKIP


# SSH


def test_ssh_on_another_host_is_all_right_where_it_answers(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = f"ssh://git@{OTHER}:2222"
        setup.routes[f"{OTHER}:2222"] = setup.ssh_port

    met = meet(change)
    assert met.problems == []
    assert met.codes("base-url") == ["base-url-ok"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ssh://git@localhost:7999", "this machine itself"),
        ("ssh://git@127.0.0.1:7999", "this machine itself"),
        ("ssh://git@ssh.example.invalid:7999", "the name does not resolve"),
    ],
)
def test_ssh_links_to_nowhere(meet: Meet, url: str, reason: str) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = url

    met = meet(change)
    assert met.problems == ["base-url-ssh-unreachable"]
    problem = met.report.problems[0]
    assert reason in problem.message
    assert problem.status is Status.WARN


def test_a_closed_ssh_port_of_another_host(meet: Meet) -> None:
    met = meet("base-url-ssh-unreachable")
    assert met.problems == ["base-url-ssh-unreachable"]
    assert "refused" in met.report.problems[0].message


def test_wrong_web_links_do_not_hide_wrong_ssh_links(meet: Meet) -> None:
    def change(setup: Setup) -> None:
        setup.instance.ssh_url = "ssh://git@localhost:7999"

    met = meet(change, base_url="http://localhost:7990")
    assert met.problems == ["base-url-localhost", "base-url-ssh-unreachable"]
