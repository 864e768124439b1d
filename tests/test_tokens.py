"""What the text of a secret gives away, and that the answers give away nothing of the secret."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag import tokens
from diag.secret import Secret
from diag.tokens import Scheme

DATACENTER = "BBDC-MTM5NDkzNDI3MTgzOm/+9zQ4r2Xq7Yk0w5dUe1Ab"
OLD_DATACENTER = "MjUyOTczNTE1MDY5OuZ2cHhTb2xkLXRva2VuLTQ0Y2g="
BOTH: list[Scheme] = ["basic", "bearer"]


@pytest.mark.parametrize(
    ("text", "scheme", "what"),
    [
        (f"{DATACENTER}\n", "bearer", "U+000A LINE FEED at the end"),
        (f"{DATACENTER}\r\n", "bearer", "U+000D CARRIAGE RETURN at the end"),
        (f" {DATACENTER}", "bearer", "U+0020 SPACE at the start"),
        (f"\ufeff{DATACENTER}", "bearer", "U+FEFF ZERO WIDTH NO-BREAK SPACE at the start"),
        ("abc def", "bearer", "U+0020 SPACE inside"),
        ("abc\u00a0def", "bearer", "U+00A0 NO-BREAK SPACE inside"),
        ("abc\x1b[0mdef", "bearer", "U+001B CONTROL CHARACTER inside"),
        ("\udcff\udcfeB\0B\0", "bearer", "bytes that are not UTF-8 text"),
        ("abcdé", "bearer", "a character that is not ASCII"),
        (f'"{DATACENTER}"', "bearer", "quotation marks around it"),
        (f"'{DATACENTER}'", "bearer", "quotation marks around it"),
        (f"Bearer {DATACENTER}", "bearer", "the word “Bearer” in front of it"),
        ("correct horse\n", "basic", "U+000A LINE FEED at the end"),
        (" correct horse", "basic", "U+0020 SPACE at the start"),
        ("correct\nhorse", "basic", "U+000A LINE FEED inside"),
        ("correct\u200bhorse", "basic", "U+200B ZERO WIDTH SPACE inside"),
    ],
)
def test_stray_characters(text: str, scheme: Scheme, what: str) -> None:
    assert tokens.stray_characters(Secret(text), scheme) == what


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        (DATACENTER, "bearer"),
        (OLD_DATACENTER, "bearer"),
        ("correct horse battery staple", "basic"),
        ("pässwörd €", "basic"),
        ("non\u00a0breaking", "basic"),
        ('"quoted"', "basic"),
        ("bearer of news", "basic"),
    ],
)
def test_characters_that_may_belong_to_it(text: str, scheme: Scheme) -> None:
    assert tokens.stray_characters(Secret(text), scheme) is None


@pytest.mark.parametrize("scheme", BOTH)
@pytest.mark.parametrize(
    "text",
    [
        "$TOKEN",
        "$BITBUCKET_TOKEN",
        "${BITBUCKET_TOKEN}",
        "${TOKEN:-none}",
        "${{ secrets.BITBUCKET_TOKEN }}",
        "$(BITBUCKET_TOKEN)",
        "$$TOKEN",
        "$bitbucket_token",
        "$env:BITBUCKET_TOKEN",
        "'$TOKEN'",
        "$TOKEN\n",
        "%TOKEN%",
        "{{token}}",
        "{{ vault.token }}",
        "((token))",
        "#{token}#",
        "__TOKEN__",
        "<token>",
        "<your token>",
        "[TOKEN]",
        "{token}",
        "‹token›",
        "your-token-here",
        "YOUR_TOKEN",
        "my-access-token",
        "paste your token here",
        "xxxx",
        "XXXXXXXX",
        "***",
        "********",
        "••••••••",
        "...",
        "…",
        "BBDC-xxxxxxxx",
        "BBDC-***",
        "ATATT3x…",
    ],
)
def test_placeholders(text: str, scheme: Scheme) -> None:
    assert tokens.placeholder(Secret(text), scheme)


WORDS = [
    *("changeme", "CHANGE_ME", "replace-me", "token", "access-token", "yourtoken", "MyTokenHere"),
    *("bitbucket-token", "secret", "password", "null", "None", "undefined"),
]


@pytest.mark.parametrize("text", WORDS)
def test_words_are_no_tokens_but_may_be_passwords(text: str) -> None:
    assert tokens.placeholder(Secret(text), "bearer")
    assert tokens.placeholder(Secret(text), "basic") is None


@pytest.mark.parametrize("scheme", BOTH)
@pytest.mark.parametrize(
    "text",
    [
        DATACENTER,
        OLD_DATACENTER,
        "$ecret123",
        "$1000",
        "pa$$word",
        "50%off%",
        "xx",
        "xylophone",
        "mypassword1",
        "YourMothersMaidenName",
        "hunter2",
        "correct horse battery staple",
        "<3cats",
        "BBDC-",
        "nullify",
    ],
)
def test_what_may_be_a_secret_is_no_placeholder(text: str, scheme: Scheme) -> None:
    assert tokens.placeholder(Secret(text), scheme) is None


@pytest.mark.parametrize(
    ("text", "kind", "bitbucket"),
    [
        (DATACENTER, "Data Center HTTP access token", "datacenter"),
        ("ATATT3xFfGF0abcdefghijklmnop=1A2B3C4D", "Atlassian Cloud API token", "cloud"),
        ("ATCTT3xFfGN0abcdefghijklmnop=1A2B3C4D", "Cloud access token", "cloud"),
        ("ATBBabcdefghijklmnopqrstuvwxyz12345678", "app password", "cloud"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "GitHub", None),
        ("gho_abcdefghijklmnopqrst", "GitHub", None),
        ("ghs_abcdefghijklmnopqrst", "GitHub", None),
        ("github_pat_11ABCDEFG0abcdefgh", "GitHub", None),
        ("glpat-abcdefghij0123456789", "GitLab", None),
        ("glcbt-64_abcdefghij0123456789", "GitLab", None),
        ("npm_abcdefghijklmnopqrstuvwxyz", "npm", None),
        ("xoxb-123456789012-abcdefghij", "Slack", None),
        ("AKIAIOSFODNN7EXAMPLE", "AWS", None),
        ("dckr_pat_abcdefghijklmnop", "Docker Hub", None),
        ("pypi-AgEIcHlwaS5vcmc", "PyPI", None),
        ("squ_0123456789abcdef", "SonarQube", None),
        ('"ghp_abcdefghijklmnopqrstuvwxyz"\n', "GitHub", None),
    ],
)
def test_issuer(text: str, kind: str, bitbucket: str | None) -> None:
    found = tokens.issuer(Secret(text))
    assert found is not None
    assert kind in found.kind
    assert found.bitbucket == bitbucket


@pytest.mark.parametrize("text", [OLD_DATACENTER, "hunter2", "ghp", "npm_x", "AKIA", "jdoe", ""])
def test_most_texts_have_no_known_issuer(text: str) -> None:
    assert tokens.issuer(Secret(text)) is None


@settings(max_examples=300, deadline=None)
@given(text=st.text(min_size=1), scheme=st.sampled_from(BOTH))
def test_never_raises(text: str, scheme: Scheme) -> None:
    tokens.stray_characters(Secret(text), scheme)
    tokens.placeholder(Secret(text), scheme)
    tokens.issuer(Secret(text))


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_visible_ascii_is_never_stray(text: str) -> None:
    assert tokens.stray_characters(Secret(text), "basic") is None
    assert tokens.stray_characters(Secret(f"x{text}x"), "bearer") is None


@settings(max_examples=300, deadline=None)
@given(
    before=st.text("qzäß", min_size=2, max_size=8),
    stray=st.sampled_from("\n\t\u200b\udce9"),
    after=st.text("qzäß", max_size=8),
    scheme=st.sampled_from(BOTH),
)
def test_no_answer_quotes_the_secret(before: str, stray: str, after: str, scheme: Scheme) -> None:
    answer = tokens.stray_characters(Secret(f"{before}{stray}{after}"), scheme)
    assert answer is not None
    assert not set("qzäß") & set(answer)


API_TOKEN = "ATATT3xFfGF0" + "q" * 171 + "=0A1B2C3D"
ACCESS_TOKEN = API_TOKEN.replace("ATATT3xFfGF0", "ATCTT3xFfGN0")
KEY, CONSUMER_SECRET = "qWeRtZuIoPaSdFgHjK", "aB3" * 10 + "xY"


@pytest.mark.parametrize(
    ("text", "user", "form"),
    [
        (API_TOKEN, None, "api-token"),
        (API_TOKEN, "jdoe", "api-token"),
        (f" '{API_TOKEN}' ", None, "api-token"),
        (ACCESS_TOKEN, None, "access-token"),
        ("ATBB" + "q" * 32, None, "app-password"),
        ("ATBB" + "q" * 32, "jdoe@example.com", "app-password"),
        ("q" * 36, "jdoe", "app-password"),
        ("q" * 36, "jdoe@example.com", "other"),
        ("q" * 36, None, "other"),
        (CONSUMER_SECRET, None, "consumer-secret"),
        ("hunter2", "jdoe", "other"),
        ("q" * 2600, None, "other"),
    ],
)
def test_the_form_of_a_secret_for_cloud(text: str, user: str | None, form: str) -> None:
    assert tokens.cloud_form(Secret(text), user) == form


@pytest.mark.parametrize(
    ("user", "text", "expected"),
    [
        (KEY, CONSUMER_SECRET, True),
        (None, CONSUMER_SECRET, False),
        ("jdoe", CONSUMER_SECRET, False),
        ("jdoe@example.com", CONSUMER_SECRET, False),
        (KEY.lower(), CONSUMER_SECRET, False),
        (KEY, CONSUMER_SECRET + "x", False),
        (KEY, API_TOKEN, False),
    ],
)
def test_an_oauth_consumer_is_told_by_both_halves(
    user: str | None, text: str, expected: bool
) -> None:
    assert tokens.is_consumer(Secret(text), user) is expected
