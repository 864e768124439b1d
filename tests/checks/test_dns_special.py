"""Check `dns` on what needs no resolver: addresses, localhost, --connect-to, a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from diag.api import Addresses, Route, Target
from diag.record import replace
from diag.report import Report
from diag.settings import Resolver
from tests.dns_server import DnsServer
from tests.given import result, run_check

TARGET = Target("https://bb.example.com", "https", "bb.example.com", 443)


def run(
    target: Target, proxy: str | None = None, **options: Any
) -> tuple[Report, Addresses | None]:
    """The check alone, on this machine."""
    report, facts = run_check("dns", [target, Route(proxy)], **options)
    fact = facts[0] if facts else None
    assert fact is None or isinstance(fact, Addresses)
    return report, fact


@pytest.mark.parametrize("host", ["10.0.0.7", "fd00::7"])
def test_an_address_needs_no_resolver(host: str) -> None:
    report, fact = run(replace(TARGET, host=host))
    assert fact == Addresses(host, (host,), "literal")
    assert report.problems == ()


def test_a_spelling_of_an_address_is_no_name() -> None:
    _, fact = run(replace(TARGET, host="127.1"))
    assert fact == Addresses("127.1", ("127.0.0.1",), "literal")


def test_localhost_is_this_machine() -> None:
    report, fact = run(replace(TARGET, host="localhost"))
    assert fact is not None
    assert "127.0.0.1" in fact.addresses
    assert report.problems == ()


def test_connect_to_replaces_the_address() -> None:
    _, fact = run(TARGET, connect_to=("bb.example.com:443:127.0.0.1:8443",))
    assert fact == Addresses("bb.example.com", ("127.0.0.1",), "connect-to")


@pytest.fixture
def bystander() -> Iterator[DnsServer]:
    """A resolver that must not be asked anything."""
    with DnsServer({}) as server:
        yield server
        assert server.asked == []


def test_connect_to_a_name_resolves_that_name_and_nothing_else(bystander: DnsServer) -> None:
    _, fact = run(
        TARGET,
        connect_to=("bb.example.com:443:localhost:8443",),
        resolvers=(Resolver(bystander.address, bystander.port),),
    )
    assert fact is not None
    assert (fact.host, fact.source) == ("localhost", "connect-to")


def test_a_proxy_resolves_the_name(bystander: DnsServer) -> None:
    resolver = Resolver(bystander.address, bystander.port)
    report, fact = run(TARGET, "http://proxy.example.com:3128", resolvers=(resolver,))
    assert fact is None
    assert [found.code for found in result(report, "dns").findings] == ["dns-by-proxy"]
