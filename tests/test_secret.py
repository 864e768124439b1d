"""The secret gives nothing away, and the scrubber leaves no spelling of it standing."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diag import record
from diag.secret import MASK, Scrubber, Secret, authorization
from diag.settings import GivenSecret

TOKEN = "BBDC-MTM5NDkzNDI3MTgzOm/+9zQ4r2Xq7Yk0w=="
VISIBLE = st.characters(exclude_categories=["C", "Z"])
quick = settings(max_examples=150, deadline=None)

# What a secret may look like: a token, or any password that somebody can type.
secrets = st.one_of(
    st.text("ABCxyz0189+/=-_.~", min_size=8, max_size=60),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=40),
    st.text(VISIBLE, min_size=8, max_size=30),
    st.text("ab é€😀\"'&<%+\\", min_size=8, max_size=20).map(lambda text: f"k{text.strip()}k"),
).filter(lambda text: MASK not in text and "\ufffd" not in text)
surroundings = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def encode_uri_component(text: str) -> str:
    return quote(text, safe="!'()*-._~")


def escape_everything(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" if not c.isalnum() and ord(c) < 0x10000 else c for c in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "upper case": lambda text: text.upper() if text.isascii() else text,
    "quoted": lambda text: quote(text, safe=""),
    "quoted as a path": quote,
    "quoted as a form": quote_plus,
    "quoted by JavaScript": encode_uri_component,
    "quoted in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f"),
    "quoted twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, all escaped": escape_everything,
    "HTML": html.escape,
    "HTML in numbers": lambda text: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in text),
    "HTML in hex": lambda text: "".join(c if c.isalnum() else f"&#x{ord(c):X};" for c in text),
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "basic auth": lambda text: authorization("basic", "jdoe", Secret(text)),
    "basic auth, quoted": lambda text: quote(authorization("basic", "jdoe", Secret(text))),
    "bearer": lambda text: authorization("bearer", None, Secret(text)),
    "collapsed blanks": lambda text: " ".join(text.split()),
}


def scrubber(*texts: str, user: str | None = None) -> Scrubber:
    result = Scrubber()
    for text in texts:
        result.learn(Secret(text), [user])
    return result


@pytest.mark.parametrize("spelling", SPELLINGS)
@quick
@given(secret=secrets, before=surroundings, after=surroundings)
@example(secret=TOKEN, before="Authorization: ", after='"}')
@example(secret="a b/c&d+e%f\\g", before="", after="")
@example(secret="p\u00e4ss w\u00f6rd \U0001f600\U0001f600", before="x", after="y")
def test_no_spelling_survives(spelling: str, secret: str, before: str, after: str) -> None:
    spelled = SPELLINGS[spelling](secret)
    shown = scrubber(secret, user="jdoe").text(f"{before} {spelled} {after}")
    assert MASK in shown
    assert spelled not in shown
    assert secret not in shown


@quick
@given(secret=secrets, before=st.binary(max_size=12), after=st.binary(max_size=12))
def test_base64_of_anything_around_the_secret_is_found(
    secret: str, before: bytes, after: bytes
) -> None:
    """As in basic authentication under a name that nobody told us."""
    coded = base64.b64encode(before + secret.encode() + after).decode()
    for text in (coded, coded.replace("+", "-").replace("/", "_"), quote(coded, safe="")):
        left = [unquote(part) for part in scrubber(secret).text(text).split(MASK)]
        assert len(left) >= 2
        # What still stands encodes no more of the secret than blends into its neighbours.
        assert sum(map(len, left)) * 3 / 4 <= len(before) + len(after) + 2 + 2 + len("==")


@quick
@given(secret=secrets, where=st.integers(1, 6), control=st.sampled_from("\0\x1b\u200b\u202e\x7f"))
def test_a_control_character_inside_does_not_hide_it(secret: str, where: int, control: str) -> None:
    shown = scrubber(secret).text(f"x {secret[:where]}{control}{secret[where:]} y")
    assert secret not in shown.replace("\ufffd", "")


@quick
@given(text=st.text(max_size=60))
def test_shown_text_has_no_control_characters(text: str) -> None:
    shown = scrubber(TOKEN).text(text)
    assert all(character.isprintable() or character in "\n\t" or ord(character) > 0x9F
               for character in shown)  # fmt: skip
    assert not set(shown) & set("\x1b\r\x7f\x9b\u200b\u202e\u2066\ufeff\ud800")


@quick
@given(secret=secrets, limit=st.integers(2, 80), before=st.text("ab ", max_size=80))
def test_a_cut_leaves_no_beginning_of_it(secret: str, limit: int, before: str) -> None:
    shown = scrubber(secret).text(before + secret, limit)
    assert len(shown) <= limit
    assert secret[:6] not in shown[len(before) :]


@quick
@given(text=st.text(VISIBLE, max_size=80))
def test_other_text_is_left_alone(text: str) -> None:
    assert scrubber("zq-unlikely-7f3e").text(text) == text


def test_several_secrets() -> None:
    shown = scrubber("first-secret", "second-secret").text("first-secret, second-secret")
    assert shown == f"{MASK}, {MASK}"


def test_a_secret_with_blanks_around_it_is_found_without_them() -> None:
    both = scrubber(" token-with-blanks\n")
    assert both.text("a token-with-blanks b") == f"a {MASK} b"


def test_names_may_come_from_a_generator() -> None:
    learned = Scrubber()
    learned.learn(Secret(" hunter2!\n"), (name for name in ("jdoe", None)))
    header = authorization("basic", "jdoe", Secret("hunter2!"))
    assert learned.text(header).startswith(f"Basic {MASK}")


@pytest.mark.parametrize("secret", ["", "p", "pw", "   ", "\n"])
def test_a_short_secret_does_not_garble_the_report(secret: str) -> None:
    text = "the port 7990 of p pw is open;   \n\n\n is"
    assert scrubber(secret, user="jdoe").text(text) == text


def test_a_short_password_is_found_inside_basic_auth() -> None:
    header = authorization("basic", "jdoe", Secret("pw"))
    assert scrubber("pw", user="jdoe").text(header).startswith(f"Basic {MASK}")


def test_text_that_is_no_utf8_does_not_stop_the_scrubber() -> None:
    odd = "caf\udce9-secret"  # as a variable in Latin-1 comes in
    assert odd not in scrubber(odd, user="jdoe").text(f"x {odd} y")


def test_json_is_scrubbed_to_the_last_key() -> None:
    value = {TOKEN: [1, None, True, {"a": (f"x{TOKEN}", 2.5)}], "b": f"{TOKEN}\x1b[2J"}
    assert scrubber(TOKEN).json(value) == {
        MASK: [1, None, True, {"a": [f"x{MASK}", 2.5]}],
        "b": f"{MASK}\ufffd[2J",
    }


def test_a_page_of_a_megabyte_takes_no_noticeable_time() -> None:
    page = base64.b64encode(bytes(range(256)) * 3000).decode()
    learned = scrubber(TOKEN, user="jdoe")
    started = time.perf_counter()
    assert learned.text(page) == page
    assert time.perf_counter() - started < 20.0  # it takes milliseconds, or for ever


def test_learning_is_quick_and_so_is_what_cannot_match() -> None:
    started = time.perf_counter()
    learned = scrubber("a b" * 20 + "\\" * 40, user="jdoe")
    learned.text("\\" * 3000 + "a b" * 2000 + "%25" * 3000)
    assert time.perf_counter() - started < 20.0


class TestSecret:
    """Nothing that Python does with values gives the text away."""

    @quick
    @given(text=st.text(min_size=6, max_size=40).filter(lambda text: text not in "Secret(***)"))
    def test_cannot_be_formatted(self, text: str) -> None:
        secret = Secret(text)
        shown = [
            str(secret),
            repr(secret),
            f"{secret}",
            f"{secret!r:>60}",
            f"{secret:>60}",
            "%s %r" % (secret, secret),  # noqa: UP031 - it is one of the ways
            f"{[secret]} {(secret,)} { {'token': secret} }",
            repr(GivenSecret(secret, "file")),
            json.dumps({"token": secret}, default=str),
        ]
        assert not any(text in line for line in shown)

    @pytest.mark.parametrize(
        "attempt",
        [
            pickle.dumps,
            copy.copy,
            copy.deepcopy,
            json.dumps,
            bytes,
            iter,
            len,
            list,
            vars,
            lambda secret: secret.__getstate__(),
            lambda secret: secret.__reduce_ex__(4),
            lambda secret: secret + "",
            lambda secret: "x" in secret,
            lambda secret: secret < Secret("x"),
            lambda secret: json.dumps(record.values(GivenSecret(secret))),
            lambda secret: pickle.dumps(GivenSecret(secret)),
            lambda secret: setattr(secret, "other", 1),
        ],
    )
    def test_cannot_be_taken_apart(self, attempt: Callable[[Secret], object]) -> None:
        with pytest.raises((TypeError, AttributeError)) as caught:
            attempt(Secret(TOKEN))
        assert TOKEN not in str(caught.value)

    def test_compares_by_value(self) -> None:
        assert Secret("a") == Secret("a") != Secret("b")
        assert Secret("a") != "a"
        assert len({Secret("a"), Secret("a")}) == 1

    def test_an_empty_one_is_false(self) -> None:
        assert Secret("x")
        assert not Secret("")


def test_authorization() -> None:
    assert authorization("bearer", None, Secret("abc")) == "Bearer abc"
    assert authorization("bearer", "jdoe", Secret("abc")) == "Bearer abc"
    assert authorization("basic", "jdoe", Secret("pä")) == "Basic amRvZTpww6Q="
    assert authorization("basic", None, Secret("abc")) == "Basic OmFiYw=="
