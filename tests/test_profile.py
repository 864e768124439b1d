"""Requirement profiles: what the built-in ones say, and what is said about a wrong one."""

from __future__ import annotations

import datetime as dt
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from diag import cli, profile
from diag.profile import CloudScopes, Egress, Hooks, Profile, ProfileError
from diag.scopes import NEEDS

LEAST = 'format = 1\nname = "x"\ntitle = "X"\n'
DOCUMENTATION = Path(__file__).parents[1] / "docs" / "profiles.md"


def write(directory: Path, text: str) -> str:
    path = directory / "own.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def problem(directory: Path, text: str) -> str:
    path = write(directory, text)
    with pytest.raises(ProfileError) as caught:
        profile.load(path)
    assert path in str(caught.value)
    return str(caught.value)


class TestAppcircle:
    def test_requirements(self) -> None:
        loaded = profile.load("appcircle")
        assert loaded.title == "Appcircle"
        assert loaded.minimum_version == (7, 14, 0)
        assert (loaded.setup, loaded.steady) == ("admin", "read")
        assert loaded.webhooks
        assert loaded.from_internet

    def test_egress(self) -> None:
        egress = profile.load("appcircle").egress
        assert Egress("77.92.124.0/27", "77.92.124.2/27") in egress
        assert Egress("34.147.2.16/32", "34.147.2.16") in egress
        assert len(egress) == 5


class TestCloudNeeds:
    def test_of_the_stage_and_of_the_kind_of_credential(self) -> None:
        cloud = profile.load("jenkins").cloud
        hooks = ("repository:read", "webhook:read", "webhook:write")
        assert cloud.needs("setup", "repo_access_token") == hooks
        assert cloud.needs("setup", "oauth2") == (*hooks, "pullrequest:read")
        personal = ("pullrequest:read", "project:read", "workspace:read")
        assert cloud.needs("steady", "api_token") == ("repository:read", *personal)

    def test_none_where_the_stage_is_not_known(self) -> None:
        assert profile.load("snyk").cloud.needs("steady", "api_token") == ()
        assert profile.load("codemagic").cloud.needs("setup", "oauth2") == ()

    def test_a_need_that_is_none(self, tmp_path: Path) -> None:
        text = problem(tmp_path, f'{LEAST}[cloud]\nsetup = ["webhooks:write"]\n')
        assert "cloud.setup" in text
        assert "did you mean 'webhook:write'?" in text

    def test_every_need_is_documented(self) -> None:
        text = DOCUMENTATION.read_text(encoding="utf-8")
        assert [need for need in NEEDS if f"`{need}`" not in text] == []


def test_the_products_that_ship(capsys: pytest.CaptureFixture[str]) -> None:
    products = {"appcircle", "bitrise", "circleci", "codemagic", "jenkins", "snyk", "sonarqube"}
    assert products <= set(profile.names())
    assert cli.run(["checks", "--profiles"]) == 0
    text = capsys.readouterr().out
    for name in products:
        assert re.search(rf"^{name}: https://\S+ \(read 2026", text, re.MULTILINE)
    assert "77.92.124.0/27" in text
    assert "webhook:write" in text


@pytest.mark.parametrize("name", profile.names())
def test_every_built_in_profile_names_its_sources(name: str) -> None:
    loaded = profile.load(name)
    assert loaded.name == name
    assert loaded.source.startswith("https://")
    assert loaded.checked is not None
    assert loaded.hooks.source.startswith("https://") or not loaded.hooks.url
    assert (loaded.hooks.checked is None) == (not loaded.hooks.url)
    assert loaded.egress_source.startswith("https://") or not loaded.egress
    for entry in loaded.egress:
        network = ip_network(entry.cidr)  # strict: no host bits
        assert network.is_global
        assert network == ip_network(entry.published_as, strict=False)


def test_the_least_profile_has_the_documented_defaults(tmp_path: Path) -> None:
    assert profile.load(write(tmp_path, LEAST)) == Profile(name="x", title="X")


def test_the_example_of_the_documentation_is_a_profile(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    loaded = profile.load(write(tmp_path, example[1]))
    assert (loaded.name, loaded.steady, loaded.minimum_version) == ("our-ci", "write", (7, 21, 0))


def test_every_key_of_the_documentation_is_known(tmp_path: Path) -> None:
    text = (
        f'{LEAST}source = "s"\nchecked = 2026-07-01\n'
        '[datacenter]\nminimum_version = "9.4.2"\nsetup = "write"\nsteady = "read"\n'
        'webhooks = false\n[datacenter.webhook]\nurl = ["https://ci/*"]\nwrong_url = ["*/old"]\n'
        'events = ["pr:opened"]\nself_hosted = true\nsource = "w"\nchecked = 2026-07-02\n'
        '[network]\nfrom_internet = true\negress = ["2001:db8::5/64"]\n'
        'source = "n"\n[cloud]\nsetup = ["webhook:read", "webhook:write"]\nsteady = []\n'
        'api_token = ["account:email"]\noauth = []\naccess_token = ["pullrequest:read"]\n'
    )
    loaded = profile.load(write(tmp_path, text))
    assert loaded == Profile(
        name="x",
        title="X",
        source="s",
        checked=dt.date(2026, 7, 1),
        minimum_version=(9, 4, 2),
        setup="write",
        webhooks=False,
        hooks=Hooks(("https://ci/*",), ("*/old",), ("pr:opened",), True, "w", dt.date(2026, 7, 2)),
        from_internet=True,
        egress=(Egress("2001:db8::/64", "2001:db8::5/64"),),
        egress_source="n",
        cloud=CloudScopes(
            ("webhook:read", "webhook:write"),
            api_token=("account:email",),
            access_token=("pullrequest:read",),
        ),
    )
    keys = set(re.findall(r"^(\w+) =", text, re.MULTILINE))
    documented = re.findall(
        r"^\| `(\w+)` \|", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert keys == set(documented)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ProfileError, match=r"'appcirle'; did you mean 'appcircle'\?") as caught:
        profile.load("appcirle")
    assert "TOML" in str(caught.value)
    with pytest.raises(ProfileError, match="there are: appcircle"):
        profile.load("zzz")


def test_a_file_needs_no_special_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").write_text(LEAST)
    assert profile.load("own").name == "x"
    (tmp_path / "appcircle").write_text(LEAST)
    assert profile.load("appcircle").name == "appcircle"
    assert profile.load("./appcircle").name == "x"


@pytest.mark.parametrize("name", ["missing.toml", "./missing", "/nonexistent/x"])
def test_a_missing_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        profile.load(name)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="Is a directory"):
        profile.load(str(tmp_path))


def test_no_text(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(b"name = \xff")
    with pytest.raises(ProfileError, match="UTF-8"):
        profile.load(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("format = 1\nname = \n", ["no TOML", "line 2"]),
        ("", ["format is missing"]),
        ('name = "x"\ntitle = "X"\n', ["format is missing"]),
        ('format = 2\nname = "x"\n', ["format is 2", "format 1"]),
        ('format = true\nname = "x"\n', ["format"]),
        ('format = 1\ntitle = "X"\n', ["name is missing"]),
        ('format = 1\nname = "x"\n', ["title is missing"]),
        ('format = 1\nname = 7\ntitle = "X"', ["name must be text in quotes", "not 7"]),
        ('format = 1\nname = " "\ntitle = "X"', ["name must be text"]),
        (f"{LEAST}tilte = 1", ["no key tilte", "did you mean 'title'?", "allowed here: format"]),
        (f'{LEAST}minimum_version = "7.14"', ["no key minimum_version", "allowed here"]),
        (f"{LEAST}datacenter = 7", ["datacenter must be a table: [datacenter]"]),
        (f"{LEAST}[datacentre]\n", ["no key datacentre", "did you mean 'datacenter'?"]),
        (f"{LEAST}[datacenter]\nminimum_version = 7.14", ['in quotes, such as "7.14", not 7.14']),
        (f'{LEAST}[datacenter]\nminimum_version = "7"', ["datacenter.minimum_version must be"]),
        (f'{LEAST}[datacenter]\nminimum_version = "7.x"', ["minimum_version", "not '7.x'"]),
        (f'{LEAST}[datacenter]\nminimum_version = "7.²"', ["minimum_version"]),
        (f'{LEAST}[datacenter]\nsetup = "owner"', ["datacenter.setup", "admin, write, read"]),
        (f"{LEAST}[datacenter]\nsteady = 1", ["datacenter.steady", "admin, write, read"]),
        (f'{LEAST}[datacenter]\nwebhooks = "yes"', ["webhooks must be true or false, not 'yes'"]),
        (f"{LEAST}[datacenter]\nseady = true", ["no key datacenter.seady", "'steady'?"]),
        (f'{LEAST}[datacenter.webhook]\nurl = "x"', ["datacenter.webhook.url must be a list"]),
        (f'{LEAST}[datacenter.webhook]\nevents = ["push"]', ["'push'", "repo:refs_changed"]),
        (f"{LEAST}[datacenter.webhook]\nuri = []", ["no key datacenter.webhook.uri", "'url'?"]),
        (f"{LEAST}[datacenter]\nwebhook = true", ["must be a table: [datacenter.webhook]"]),
        (f"{LEAST}[network]\nfrom_internet = 1", ["network.from_internet must be true or false"]),
        (f'{LEAST}[network]\negress = "10.0.0.1"', ["network.egress must be a list"]),
        (f'{LEAST}[network]\negress = ["10.0.0.1/33"]', ["'10.0.0.1/33'", "no address or range"]),
        (f'{LEAST}[network]\negress = ["bb.lab.test"]', ["'bb.lab.test'", "no address or range"]),
        (f"{LEAST}[network]\negress = [1]", ["network.egress must be text in quotes"]),
        (f'{LEAST}checked = "2026-07-01"', ["checked must be a date", "without quotes"]),
        (f"{LEAST}checked = 2026-07-01T10:00:00Z", ["checked must be a date"]),
        (f"{LEAST}[cloud]\nsetup = true", ["cloud.setup must be a list", "not true"]),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path: Path, text: str, words: list[str]) -> None:
    said = problem(tmp_path, text)
    for word in words:
        assert word in said
