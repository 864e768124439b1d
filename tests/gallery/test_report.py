"""What a report from a real network tells besides the root cause."""

from __future__ import annotations

import pytest

from tests.certificates import DAY
from tests.gallery.case import HOST
from tests.gallery.town import PRIVATE, Town

pytestmark = pytest.mark.lab


def test_a_private_address_is_all_there_is_to_say_of_a_healthy_one(town: Town) -> None:
    """The product of the default profile comes from the internet, and does not get there."""
    town.healthy()
    result = town.check()
    assert result.root_cause == PRIVATE
    assert result.report["verdict"] == "warn"
    assert result.status == 0


def test_a_denial_is_policy_and_the_way_past_it_is_told(town: Town) -> None:
    town.healthy()
    result = town.check(env=town.squid("http_access deny all"))
    assert result.codes == ["proxy-denied"]
    assert f"add {HOST} to NO_PROXY" in result.report["problems"][0]["remedy"]


def test_the_command_that_shows_it_goes_through_the_proxy_too(town: Town) -> None:
    town.healthy(certificate=town.ca.issue(HOST, starts=-90 * DAY, ends=-DAY))
    result = town.check(env=town.squid())
    assert result.codes == ["tls-expired"]
    [line] = result.report["problems"][0]["reproduce"]
    seen = town.lab.run("client", ["sh", "-c", line]).stdout
    assert seen.startswith("notBefore="), line
