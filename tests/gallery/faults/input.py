"""The URL, the secret and the files that bbdiag is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gallery.case import HOST, URL, Call, Family

if TYPE_CHECKING:
    from tests.gallery.town import Town

INPUT = Family("input", "What bbdiag is given")


@INPUT.fault(
    "I01",
    "input-url-missing-scheme",
    "no https:// before a port that speaks plain HTTP",
    told=[f"http://{HOST}:7990"],
)
def no_scheme(town: Town) -> Call:
    """What follows from taking it for https:// is no second fault."""
    town.dns()
    town.lab.expose("server", 7990, town.bitbucket(base_url=f"http://{HOST}:7990"))
    return Call(f"{HOST}:7990")


@INPUT.fault(
    "I02", "input-url-not-http", "a clone URL of SSH", url=f"ssh://git@{HOST}:7999/mob/app.git"
)
@INPUT.fault("I05", "input-port-invalid", "port 99999", url=f"{URL}:99999")
def a_wrong_url(town: Town, url: str) -> Call:
    town.healthy()
    return Call(url)


@INPUT.healthy("nginx", "behind nginx, with a certificate of the company's CA")
def behind_nginx(town: Town) -> None:
    town.healthy()
