"""Check `vantage`: private addresses, and the firewall request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from diag import profile
from diag.api import Addresses, Fact, Route, Status, Target
from diag.record import replace
from diag.report import Report
from tests.given import result, run_check

APPCIRCLE = profile.load("appcircle")
TARGET = Target("https://bb.example.com", "https", "bb.example.com", 443)


def found(*addresses: str) -> Addresses:
    return Addresses(TARGET.host, addresses)


def run(*facts: Fact, target: Target = TARGET, **options: Any) -> Report:
    options.setdefault("profile", APPCIRCLE)
    report, _ = run_check("vantage", [target, *facts], **options)
    return report


def codes(report: Report) -> list[str]:
    return [finding.code for finding in result(report, "vantage").findings]


def message(report: Report) -> str:
    return result(report, "vantage").findings[0].message


@pytest.mark.parametrize("addresses", [["10.1.2.3"], ["192.168.1.4", "fd00::4"], ["127.0.0.1"]])
def test_private_addresses_only(addresses: Sequence[str]) -> None:
    report = run(Route(), found(*addresses))
    (problem,) = report.problems
    assert problem.code == "dns-private-address"
    assert problem.status is Status.WARN
    assert problem.owner == "network-admin"
    assert f"bb.example.com is {', '.join(addresses)} here" in problem.message


@pytest.mark.parametrize("host", ["10.1.2.3", "localhost", "127.0.0.1", "fd00::4"])
def test_what_was_typed_is_private(host: str) -> None:
    report = run(Route("http://proxy.example.com:3128"), target=replace(TARGET, host=host))
    assert report.root_cause == "dns-private-address"
    assert report.problems[0].message.count(host) == 1


@pytest.mark.parametrize(
    "facts",
    [
        (Route(), found("93.184.215.14")),
        (Route(), found("10.1.2.3", "93.184.215.14")),
        (Route(), found("198.18.0.7")),
        (Route("http://proxy.example.com:3128"),),
    ],
    ids=["public", "one-public", "neither", "proxy"],
)
def test_the_firewall_request(facts: Sequence[Fact]) -> None:
    report = run(*facts)
    assert report.problems == ()
    (finding,) = result(report, "vantage").findings
    assert finding.code == "vantage-allowlist"
    assert "77.92.124.0/27" in finding.message
    assert "77.92.124.2/27" not in finding.message
    assert finding.message.endswith("to bb.example.com:443 over TCP")
    assert "77.92.124.2/27" in finding.evidence["published_as"]  # type: ignore[operator]
    assert finding.evidence["published_at"]


def test_the_port_and_an_ipv6_address_in_the_request() -> None:
    target = replace(TARGET, host="2606:4700::1111", port=8443)
    (finding,) = result(run(Route(), target=target), "vantage").findings
    assert "[2606:4700::1111]:8443" in finding.message


def test_a_product_that_publishes_no_addresses() -> None:
    without = replace(APPCIRCLE, egress=())
    report = run(Route(), found("93.184.215.14"), profile=without)
    assert f"from the addresses at {without.egress_source}" in message(report)
    without = replace(without, egress_source="")
    report = run(Route(), found("93.184.215.14"), profile=without)
    assert "from anywhere" in message(report)


def test_connect_to_says_nothing_about_the_real_address() -> None:
    rule = "bb.example.com:443:127.0.0.1:8443"
    report = run(Route(), found("127.0.0.1"), connect_to=(rule,))
    assert codes(report) == ["vantage-allowlist"]


@pytest.mark.parametrize(
    ("options", "code"),
    [({"profile": profile.Profile()}, "vantage-not-needed"), ({}, "vantage-untold")],
    ids=["no-internet", "no-address"],
)
def test_when_there_is_nothing_to_tell(options: dict[str, Any], code: str) -> None:
    report = run(Route(), **options)
    assert codes(report) == [code]
    assert result(report, "vantage").status is Status.SKIP


class TestCloud:
    """The other end is on the internet: what matters is its own list of addresses."""

    TARGET = replace(TARGET, kind="cloud", host="api.bitbucket.org")

    def test_what_has_to_be_on_the_list_of_the_workspace(self) -> None:
        report = run(Route(), found("10.0.0.7"), target=self.TARGET)
        assert codes(report) == ["vantage-cloud-allowlist"]
        assert "77.92.124.0/27, 77.92.102.192/28;" in message(report)
        assert "cannot be tested from here" in message(report)

    def test_a_product_that_names_only_a_page(self) -> None:
        without = replace(APPCIRCLE, egress=(), egress_source="https://ci.example.com/ips")
        report = run(Route(), target=self.TARGET, profile=without)
        assert "on its list: the addresses at https://ci.example.com/ips;" in message(report)

    def test_a_product_that_names_nothing(self) -> None:
        without = replace(APPCIRCLE, egress=(), egress_source="")
        report = run(Route(), target=self.TARGET, profile=without)
        assert codes(report) == ["vantage-unpublished"]
