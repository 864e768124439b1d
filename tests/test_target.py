"""What is read out of the URLs that people paste."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diag.facts import Target
from diag.target import Parsed, parse, parse_repo

quick = settings(max_examples=300, deadline=None)
API, PAGE, SCHEME = "input-url-has-api-path", "input-url-has-page-path", "input-url-missing-scheme"


def read(text: str, repo: str | None = None) -> Target:
    found = parse(text, repo).target
    assert found is not None, parse(text, repo).notes
    return found


def codes(parsed: Parsed) -> list[str]:
    return [note.code for note in parsed.notes]


def only_note(text: str) -> tuple[str, dict[str, Any]]:
    """The one thing that is wrong with a URL which cannot be used."""
    parsed = parse(text)
    assert parsed.target is None
    assert len(parsed.notes) == 1, parsed.notes
    return parsed.notes[0].code, dict(parsed.notes[0].evidence)


@pytest.mark.parametrize(
    ("text", "base_url"),
    [
        ("https://bitbucket.example.com", "https://bitbucket.example.com"),
        ("https://bitbucket.example.com/", "https://bitbucket.example.com"),
        ("https://bitbucket.example.com:443", "https://bitbucket.example.com"),
        ("http://bitbucket.example.com:80/", "http://bitbucket.example.com"),
        ("http://bitbucket.example.com:7990", "http://bitbucket.example.com:7990"),
        ("https://bitbucket.example.com:/x", "https://bitbucket.example.com/x"),
        ("https://bitbucket.example.com:08443", "https://bitbucket.example.com:8443"),
        ("https://bitbucket.example.com/bitbucket", "https://bitbucket.example.com/bitbucket"),
        ("https://bitbucket.example.com//bitbucket//", "https://bitbucket.example.com/bitbucket"),
        ("https://bitbucket.example.com/dev/git/", "https://bitbucket.example.com/dev/git"),
        (
            "https://bitbucket.example.com/a b".replace(" ", "%20"),
            "https://bitbucket.example.com/a%20b",
        ),
        ("https://bitbucket.example.com?x=1#y", "https://bitbucket.example.com"),
        ("HTTPS://BitBucket.Example.COM/Stash", "https://bitbucket.example.com/Stash"),
        ("https://bitbucket.example.com./", "https://bitbucket.example.com"),
        ("https://localhost:7990/bitbucket", "https://localhost:7990/bitbucket"),
        ("https://under_score.local", "https://under_score.local"),
        ("https://r3---sn-x.example", "https://r3---sn-x.example"),
        ("https://10.0.0.7:8443", "https://10.0.0.7:8443"),
        ("https://[2001:DB8::0:1]:7990/x", "https://[2001:db8::1]:7990/x"),
        ("https://[::1]", "https://[::1]"),
        ("https://[fe80::1%25eth0]", "https://[fe80::1%eth0]"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://ＢＩＴ。example", "https://bit.example"),
        ("https:/bitbucket.example.com", "https://bitbucket.example.com"),
        ("https//bitbucket.example.com", "https://bitbucket.example.com"),
        ("https:bitbucket.example.com", "https://bitbucket.example.com"),
        ("https:///bitbucket.example.com", "https://bitbucket.example.com"),
        ("http://https://bitbucket.example.com", "https://bitbucket.example.com"),
        ('"https://bitbucket.example.com"', "https://bitbucket.example.com"),
        ("'https://bitbucket.example.com/x'", "https://bitbucket.example.com/x"),
        ("<https://bitbucket.example.com>", "https://bitbucket.example.com"),
        ("“https://bitbucket.example.com”", "https://bitbucket.example.com"),
        ("`'https://bitbucket.example.com'`", "https://bitbucket.example.com"),
        ("https://jdoe@bitbucket.example.com", "https://bitbucket.example.com"),
        ("https://jdoe:@bitbucket.example.com", "https://bitbucket.example.com"),
        ("https://jdoe%40example.com@bitbucket.example.com", "https://bitbucket.example.com"),
    ],
)
def test_base_url(text: str, base_url: str) -> None:
    parsed = parse(text)
    assert parsed.target is not None
    assert parsed.target.base_url == base_url
    assert parsed.target.kind == "datacenter"
    assert (parsed.target.project, parsed.target.repository) == (None, None)
    assert parsed.notes == ()
    assert parsed.secrets == ()


@pytest.mark.parametrize("context", ["", "/bitbucket", "/dev/git", "/scm", "/a%20b"])
@pytest.mark.parametrize(
    ("path", "project", "repository"),
    [
        ("/projects/MOB/repos/app", "MOB", "app"),
        ("/projects/MOB/repos/app/browse", "MOB", "app"),
        ("/projects/MOB/repos/app/browse/src/x.py?at=refs%2Fheads%2Fa@b#12", "MOB", "app"),
        ("/projects/MOB/repos/rest/browse", "MOB", "rest"),
        ("/projects/MOB/repos/app.js/pull-requests/12/overview", "MOB", "app.js"),
        ("/projects/~JDOE/repos/app/browse", "~JDOE", "app"),
        ("/projects/%7Ejdoe/repos/app/browse", "~jdoe", "app"),
        ("/projects/MOB", "MOB", None),
        ("/projects", None, None),
        ("/users/jdoe/repos/x", "~jdoe", "x"),
        ("/users/jane.doe", "~jane.doe", None),
        ("/dashboard", None, None),
        ("/login", None, None),
        ("/login?next=/projects/MOB/repos/app/browse", "MOB", "app"),
        ("/login?next=%2Fprojects%2FMOB%2Frepos%2Fapp%2Fbrowse%3Fat%3Dx", "MOB", "app"),
        ("/login;jsessionid=1A2B?next=/users/jdoe/repos/x", "~jdoe", "x"),
        ("/plugins/servlet/access-tokens/manage", None, None),
        ("/admin/server-settings", None, None),
        ("/repos?visibility=public", None, None),
        ("/status", None, None),
    ],
)
def test_pages(context: str, path: str, project: str | None, repository: str | None) -> None:
    parsed = parse(f"https://bitbucket.example.com{context}{path}")
    assert codes(parsed) == [PAGE]
    found = parsed.target
    assert found is not None
    assert found.base_url == f"https://bitbucket.example.com{context}"
    assert (found.project, found.repository) == (project, repository)
    evidence = parsed.notes[0].evidence
    assert found.base_url in str(evidence["taken"])
    assert (f"{project}/{repository}" in str(evidence["taken"])) is (repository is not None)


@pytest.mark.parametrize("context", ["", "/bitbucket"])
@pytest.mark.parametrize(
    ("path", "project", "repository"),
    [
        ("/rest/api/1.0", None, None),
        ("/rest/api/latest/repos?limit=1", None, None),
        ("/rest/api/1.0/projects/MOB/repos/app", "MOB", "app"),
        ("/rest/api/1.0/projects/MOB/repos/app/webhooks?limit=1", "MOB", "app"),
        ("/rest/api/latest/users/jdoe/repos/app", "~jdoe", "app"),
        ("/rest/default-reviewers/1.0/projects/MOB/repos/app/conditions", "MOB", "app"),
        ("/rest/capabilities", None, None),
    ],
)
def test_api_urls(context: str, path: str, project: str | None, repository: str | None) -> None:
    parsed = parse(f"https://bitbucket.example.com:8443{context}{path}")
    assert codes(parsed) == [API]
    assert parsed.target is not None
    assert parsed.target.base_url == f"https://bitbucket.example.com:8443{context}"
    assert (parsed.target.project, parsed.target.repository) == (project, repository)


@pytest.mark.parametrize(
    ("text", "base_url", "project", "repository"),
    [
        ("https://host/scm/mob/app.git", "https://host", "MOB", "app"),
        ("https://jdoe@host/ctx/scm/mob/app.git", "https://host/ctx", "MOB", "app"),
        ("https://host/ctx/scm/~jdoe/app.git", "https://host/ctx", "~jdoe", "app"),
        ("https://host/scm/%7Ejdoe/my-app.git", "https://host", "~jdoe", "my-app"),
        ("https://host/scm/mob/app", "https://host", "MOB", "app"),
        ("https://host/scm/bitbucket/scm/mob/app.git", "https://host/scm/bitbucket", "MOB", "app"),
        ("https://host/scm/scm/mob/app.git", "https://host/scm", "MOB", "app"),
        ("https://host/scm/mob/app.git/info/refs?service=x", "https://host", "MOB", "app"),
        ("https://host/ctx/mob/app.git", "https://host/ctx", "MOB", "app"),
    ],
)
def test_clone_urls_are_a_plain_way_to_name_the_target(
    text: str, base_url: str, project: str, repository: str
) -> None:
    parsed = parse(text)
    assert parsed.notes == ()
    assert parsed.target is not None
    assert parsed.target.base_url == base_url
    assert (parsed.target.project, parsed.target.repository) == (project, repository)


@pytest.mark.parametrize(
    ("text", "workspace", "repository", "noted"),
    [
        ("https://bitbucket.org", None, None, []),
        ("bitbucket.org/acme/app", "acme", "app", []),
        ("https://bitbucket.org/acme/app", "acme", "app", []),
        ("https://bitbucket.org/acme/app/", "acme", "app", []),
        ("http://www.bitbucket.org/acme", "acme", None, []),
        ("https://jdoe@bitbucket.org/acme/app.git", "acme", "app", []),
        ("git@bitbucket.org:acme/app.git", "acme", "app", []),
        ("ssh://git@bitbucket.org/acme/app.git", "acme", "app", []),
        ("ssh://git@altssh.bitbucket.org:443/acme/app.git", "acme", "app", []),
        ("https://bitbucket.org/acme/app/src/main/README.md", "acme", "app", [PAGE]),
        ("https://bitbucket.org/acme/workspace/projects/MOB", "acme", None, [PAGE]),
        ("https://bitbucket.org/dashboard/overview", None, None, [PAGE]),
        ("https://api.bitbucket.org/2.0/repositories/acme/app", "acme", "app", [API]),
        ("https://api.bitbucket.org/2.0/repositories/acme", "acme", None, [API]),
        ("https://api.bitbucket.org/2.0/workspaces/acme/members", "acme", None, [API]),
        ("https://bitbucket.org/!api/2.0/repositories/acme/app", "acme", "app", [API]),
        ("https://api.bitbucket.org", None, None, [API]),
    ],
)
def test_cloud(text: str, workspace: str | None, repository: str | None, noted: list[str]) -> None:
    parsed = parse(text)
    assert codes(parsed) == noted
    found = parsed.target
    assert found is not None
    assert (found.kind, found.base_url) == ("cloud", "https://api.bitbucket.org")
    assert (found.project, found.repository) == (workspace, repository)


@pytest.mark.parametrize("host", ["notbitbucket.org", "bitbucket.org.example.com"])
def test_a_name_that_only_resembles_clouds_is_another_host(host: str) -> None:
    assert read(f"https://{host}/x").kind == "datacenter"


def test_on_cloud_no_port_but_that_of_the_api_counts() -> None:
    parsed = parse("https://bitbucket.org:8443/acme/app")
    assert codes(parsed) == ["input-cloud-port"]
    assert parsed.target is not None
    assert parsed.target.port == 443
    assert read("http://bitbucket.org:80/acme/app").port == 443
    assert codes(parse("https://bitbucket.org:443/acme/app")) == []


@pytest.mark.parametrize(
    ("text", "base_url", "plain"),
    [
        ("bitbucket.example.com", "https://bitbucket.example.com", None),
        ("//bitbucket.example.com/x", "https://bitbucket.example.com/x", None),
        ("bb.lab.test:8443", "https://bb.lab.test:8443", None),
        ("bb.lab.test:7990", "https://bb.lab.test:7990", "http://bb.lab.test:7990"),
        ("bb.lab.test:80/ctx", "https://bb.lab.test:80/ctx", "http://bb.lab.test/ctx"),
        ("10.0.0.7:7990", "https://10.0.0.7:7990", "http://10.0.0.7:7990"),
        ("2001:db8::7", "https://[2001:db8::7]", None),
        ("localhost", "https://localhost", None),
    ],
)
def test_without_a_scheme_https_is_assumed(text: str, base_url: str, plain: str | None) -> None:
    parsed = parse(text)
    assert codes(parsed) == [SCHEME]
    assert parsed.target is not None
    assert parsed.target.base_url == base_url
    taken = str(parsed.notes[0].evidence["taken"])
    assert taken.startswith(base_url)
    assert ("http:" in taken) is (plain is not None)
    assert (plain or "") in taken


def test_several_things_are_said_at_once() -> None:
    assert codes(parse("host:7990/ctx/projects/MOB/repos/app")) == [SCHEME, PAGE]


@pytest.mark.parametrize(
    ("text", "scheme", "suggestion"),
    [
        ("ssh://git@bb:7999/mob/app.git", "ssh", "https://bb/scm/mob/app.git"),
        ("ssh://git@bb:7999/~jdoe/app.git", "ssh", "https://bb/scm/~jdoe/app.git"),
        ("ssh://bb", "ssh", "https://bb"),
        ("ssh://git@[::1]:7999/mob/app.git", "ssh", "https://[::1]/scm/mob/app.git"),
        ("git@bb:mob/app.git", "ssh", "https://bb/scm/mob/app.git"),
        ("git@bb:7999/mob/app.git", "ssh", "https://bb/scm/mob/app.git"),
        ("bb:mob/app.git", "ssh", "https://bb/scm/mob/app.git"),
        ("git+ssh://git@bb/mob/app.git", "git+ssh", "https://bb/scm/mob/app.git"),
        ("FTP://bb/x", "ftp", "https://bb"),
        ("htps://bb", "htps", "https://bb"),
    ],
)
def test_no_web_url(text: str, scheme: str, suggestion: str) -> None:
    expected = {"scheme": scheme, "suggestion": suggestion}
    assert only_note(text) == ("input-url-not-http", expected)


@pytest.mark.parametrize(
    "port", ["0", "65536", "99999", "123456789" * 600, "abc", "79 90".replace(" ", "_"), "-1", "٧٩"]
)
def test_bad_ports(port: str) -> None:
    assert only_note(f"https://bb.lab.test:{port}/x") == ("input-port-invalid", {"port": port})


@pytest.mark.parametrize(
    ("text", "character", "position", "place"),
    [
        ("https://bb.lab.test ", "U+0020 SPACE", 20, "at the end"),
        ("https://bb.lab.test\r\n", "U+000D CARRIAGE RETURN", 20, "at the end"),
        (" https://bb.lab.test", "U+0020 SPACE", 1, "at the start"),
        ("\ufeffhttps://bb.lab.test", "U+FEFF ZERO WIDTH NO-BREAK SPACE", 1, "at the start"),
        ("https://bb.lab\u200b.test", "U+200B ZERO WIDTH SPACE", 15, "inside"),
        ("https://bb.lab.test\u00a0", "U+00A0 NO-BREAK SPACE", 20, "at the end"),
        ("https://bb.lab.test/a b", "U+0020 SPACE", 22, "inside"),
        ("https://bb\t.lab.test", "U+0009 TAB", 11, "inside"),
        ("https://bb.lab.test/\x07x", "U+0007 CONTROL CHARACTER", 21, "inside"),
        ("https://bb.lab.test\udcff", "the byte 0xFF, which is no UTF-8 text", 20, "at the end"),
    ],
)
def test_characters_that_nobody_sees(text: str, character: str, position: int, place: str) -> None:
    code, evidence = only_note(text)
    assert code == "input-url-bad-character"
    assert (evidence["character"], evidence["position"], evidence["place"]) == (
        character,
        position,
        place,
    )


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (":443", "is missing"),
        ("a..b", "a dot too many"),
        (".example.com", "a dot too many"),
        ("x" * 64 + ".example.com", "64 characters; 63 are allowed"),
        (".".join(["x" * 60] * 5), "304 characters; 253 are allowed"),
        ("10.0.0", "no IPv4 address"),
        ("10.0.0.256", "no IPv4 address"),
        ("1.2.3.4.5", "no IPv4 address"),
        ("2130706433", "no IPv4 address"),
        ("[::zz]", "no IPv6 address"),
        ("[::1", "no IPv6 address"),
        ("[fe80::1%$(id)]", "no IPv6 address"),
        ("bit,bucket.example.com", "the character ','"),
        ("bit|bucket", "the character '|'"),
        ("*.example.com", "the character '*'"),
        ("$BITBUCKET_HOST", "not filled in"),
        ("{{host}}", "not filled in"),
        ("-oProxyCommand.example", "hyphen"),
        ("é..example", "dot too many"),
        ("xn--\u00e9.example", "international"),
    ],
)  # fmt: skip
def test_bad_hosts(host: str, reason: str) -> None:
    code, evidence = only_note(f"https://{host}/ctx")
    assert code == "input-host-invalid"
    assert reason in evidence["reason"]


def test_nothing_at_all() -> None:
    assert only_note("")[0] == "input-host-invalid"


@pytest.mark.parametrize(
    ("userinfo", "secrets"),
    [
        ("user:pw", {"pw"}),
        (":pw", {"pw"}),
        ("user:p%40ss%2Fword", {"p%40ss%2Fword", "p@ss/word"}),
        ("user:p@ss", {"p@ss"}),
        ("user:pa/ss", {"pa/ss"}),
        ("user:pa?ss#1", {"pa?ss#1"}),
        ("x-token-auth:ATCTT3xFfGN0abc", {"ATCTT3xFfGN0abc"}),
        ("BBDC-MTM5NDkzNDI3MTgzOmFiY2RlZmdoaWo", {"BBDC-MTM5NDkzNDI3MTgzOmFiY2RlZmdoaWo"}),
    ],
)
@pytest.mark.parametrize("scheme", ["https://", "", "ssh://", "\u200bhttps://"])
def test_credentials(userinfo: str, secrets: set[str], scheme: str) -> None:
    parsed = parse(f"{scheme}{userinfo}@bb.lab.test/scm/mob/app.git")
    assert parsed.target is None
    assert codes(parsed)[-1] == "input-url-has-credentials"
    assert {secret.reveal() for secret in parsed.secrets} == secrets
    assert parsed.text_shown == f"{scheme.strip(chr(0x200B))}bb.lab.test/scm/mob/app.git"
    assert parsed.notes[-1].evidence["without"] == parsed.text_shown


def test_secrets_in_the_query_are_hidden() -> None:
    parsed = parse("https://bb/login;jsessionid=5A6B?os_username=x&os_password=ge%2Fheim&at=main")
    assert parsed.target is not None
    assert (
        parsed.text_shown == "https://bb/login;jsessionid=***?os_username=x&os_password=***&at=main"
    )
    assert {s.reveal() for s in parsed.secrets} == {"5A6B", "ge%2Fheim", "ge/heim"}
    assert parsed.target.text == parsed.text_shown


@pytest.mark.parametrize("segment", ["a%0Ab", "a%20b", "$(id)", "a%2Fb", "é", "`id`", "a'b"])
def test_what_cannot_be_a_project_or_repository_is_not_taken(segment: str) -> None:
    found = read(f"https://bb/projects/MOB/repos/{segment}/browse")
    assert (found.project, found.repository) == ("MOB", None)
    found = read(f"https://bb/projects/{segment}/repos/app/browse")
    assert (found.project, found.repository) == (None, None)


def test_a_context_path_is_fit_for_a_command_line() -> None:
    assert read("https://bb/../$(id);x=1/./a'b").base_url == "https://bb/%24%28id%29/a%27b"


class TestRepoOption:
    def test_it_wins_and_that_is_said(self) -> None:
        parsed = parse("https://bb/projects/MOB/repos/app", "OTHER/lib")
        assert parsed.target is not None
        assert (parsed.target.project, parsed.target.repository) == ("OTHER", "lib")
        assert codes(parsed) == [PAGE, "input-repo-option-wins"]
        assert parsed.notes[1].evidence == {"in_url": "MOB/app", "option": "OTHER/lib"}

    @pytest.mark.parametrize(
        ("url", "repo"),
        [
            ("https://bb", "MOB/app"),
            ("https://bb/scm/mob/app.git", "MOB/app"),
            ("https://bb/scm/mob/app.git", "mob/app"),
            ("https://bitbucket.org/acme", "acme/app"),
        ],
    )
    def test_no_word_about_the_same_one(self, url: str, repo: str) -> None:
        parsed = parse(url, repo)
        assert parsed.notes == ()
        assert parsed.target is not None
        assert f"{parsed.target.project}/{parsed.target.repository}" == repo

    def test_another_project_is_said_too(self) -> None:
        assert codes(parse("https://bitbucket.org/acme", "acm/app")) == ["input-repo-option-wins"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("MOB/app", ("MOB", "app")),
            ("~jdoe/app", ("~jdoe", "app")),
            ("acme/app.git", ("acme", "app")),
            ("my_team/.github", ("my_team", ".github")),
        ],
    )
    def test_form(self, text: str, expected: tuple[str, str]) -> None:
        assert parse_repo(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "app",
            "",
            "/",
            "MOB/",
            "/app",
            "MOB/app/x",
            "MOB/..",
            "MO B/app",
            "https://bb/x",
            "a/b\n",
        ],
    )
    def test_malformed(self, text: str) -> None:
        with pytest.raises(ValueError, match="PROJECT/SLUG"):
            parse_repo(text)
        if text:
            with pytest.raises(ValueError, match="PROJECT/SLUG"):
                parse("https://bb", text)


fragments = st.sampled_from([
    "https://", "http:/", "ssh://", "git@", "user:pw@", "host", "..", "bitbucket.org", ":7990",
    ":0", "/", "//", "?", "#", "@", ":", "[", "]", "[::1]", "%", "%2F", "%zz", "/projects/",
    "/repos/", "/scm/", ".git", "/rest/", "/users/", "/login?next=", "MOB", "app", "~", "\\", '"',
    "<", ">", "é", "。", "xn--", "1.2.3", ";", "=", "&", "password=", "\u200b", "\udcff", "\n",
])  # fmt: skip
urls = st.one_of(st.text(), st.lists(fragments, max_size=12).map("".join))


@quick
@given(text=urls)
@example("[")
@example("https://\u2488com")
@example("https://[::1%]")
def test_never_raises_and_says_why_there_is_no_target(text: str) -> None:
    parsed = parse(text)
    if parsed.target is None:
        assert parsed.notes
    else:
        assert 0 < parsed.target.port < 65536
        assert parsed.target.host.isascii()
        name, _, _zone = parsed.target.host.partition("%")
        assert name == name.lower()


@quick
@given(text=urls)
def test_the_base_url_is_read_as_itself(text: str) -> None:
    first = parse(text).target
    if first is None or first.kind == "cloud":
        return
    again = parse(first.base_url)
    assert again.notes == ()
    assert again.target is not None
    assert again.target.base_url == first.base_url


@quick
@given(
    password=st.text(st.characters(exclude_categories=("C", "Z")), min_size=4),
    scheme=st.sampled_from(["https://", "http://", ""]),
    path=st.sampled_from(["", "/", "/scm/mob/app.git", "/projects/MOB?at=x"]),
)
def test_a_quoted_password_is_never_shown(password: str, scheme: str, path: str) -> None:
    quoted = quote(password, safe="")
    parsed = parse(f"{scheme}qz:{quoted}@host.example{path}")
    assert codes(parsed) == ["input-url-has-credentials"]
    assert parsed.text_shown == f"{scheme}host.example{path}"
    assert {secret.reveal() for secret in parsed.secrets} == {password, quoted}
