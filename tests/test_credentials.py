"""Where the secret is read from, and that it stands in no error."""

from __future__ import annotations

import io
import os
import pty
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diag import credentials
from diag.profile import Profile
from diag.secret import MASK, Scrubber, Secret
from diag.settings import GivenSecret, Settings

URL = "https://bb.lab.test:8443/ctx"
TOKEN = "BBDC-MTM5NDkzNDI3MTgzOm/+9zQ4r2Xq"
PATH = os.environ.get("PATH", "")
SYSTEM = {"PATH": PATH}


def given(text: str | None, source: str, user: str | None = None) -> GivenSecret:
    secret = Secret(text) if text is not None else None
    return GivenSecret(secret, source, announced=True, user=user)


def executable(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def replace(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return replace


@pytest.fixture(autouse=True)
def _nobody_at_the_terminal(stdin: Callable[[bytes], None]) -> None:
    stdin(b"")


class TestVariable:
    def test_the_usual_one(self) -> None:
        found = credentials.read(url=URL, environ={"BITBUCKET_TOKEN": TOKEN})
        assert found == given(TOKEN, "$BITBUCKET_TOKEN")

    @pytest.mark.parametrize("text", ["", " ", "\n"])
    def test_an_empty_one_announces_a_secret_that_is_missing(self, text: str) -> None:
        found = credentials.read(url=URL, environ={"BITBUCKET_TOKEN": text})
        assert found == given(None, "$BITBUCKET_TOKEN")

    def test_none_is_an_anonymous_run(self) -> None:
        assert credentials.read(url=URL, environ={}) == GivenSecret()

    def test_blanks_are_kept_for_check_input(self) -> None:
        found = credentials.read(url=URL, environ={"BITBUCKET_TOKEN": f" {TOKEN}\n"})
        assert found == given(f" {TOKEN}\n", "$BITBUCKET_TOKEN")

    def test_another_one_wins(self) -> None:
        environ = {"BITBUCKET_TOKEN": "x", "MINE": TOKEN}
        assert credentials.read(url=URL, token_env="MINE", environ=environ) == given(TOKEN, "$MINE")

    def test_another_one_that_is_not_set(self) -> None:
        environ = {"BITBUCKET_TOKEN": TOKEN}
        assert credentials.read(url=URL, token_env="MINE", environ=environ) == given(None, "$MINE")


class TestFile:
    def read(self, path: Path) -> GivenSecret:
        return credentials.read(url=URL, token_file=str(path), environ={})

    @pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"{TOKEN}\r\n", f"\ufeff{TOKEN}"])
    def test_is_read_as_it_stands(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "token"
        file.write_bytes(text.encode())
        assert self.read(file) == given(text, f"file {file}")

    @pytest.mark.parametrize("text", ["", "\n", "  \n"])
    def test_an_empty_one(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "token"
        file.write_text(text)
        assert self.read(file) == given(None, f"file {file}")

    def test_no_utf8(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_bytes("abc".encode("utf-16"))
        assert self.read(file).secret == Secret("\udcff\udcfea\0b\0c\0")

    def test_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"--token-file: cannot read .*: No such file"):
            self.read(tmp_path / "missing")
        with pytest.raises(ValueError, match="Is a directory"):
            self.read(tmp_path)

    def test_that_is_no_token_file(self) -> None:
        with pytest.raises(ValueError, match="too long"):
            self.read(Path("/dev/zero"))

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (TOKEN.encode(), TOKEN),
            (f"{TOKEN}\n".encode(), TOKEN),
            (f"{TOKEN}\r\n".encode(), TOKEN),
            (f"{TOKEN}\n\n".encode(), f"{TOKEN}\n"),
            (f" {TOKEN}\n".encode(), f" {TOKEN}"),
            (b"", None),
            (b"\n", None),
        ],
    )
    def test_standard_input_may_end_its_line(
        self, stdin: Callable[[bytes], None], data: bytes, text: str | None
    ) -> None:
        stdin(data)
        assert self.read(Path("-")) == given(text, "standard input")


class TestNetrc:
    def read(self, file: Path, text: str, url: str = URL) -> GivenSecret:
        file.write_text(text)
        return credentials.read(url=url, netrc=True, environ={"NETRC": str(file)})

    def test_machine(self, tmp_path: Path) -> None:
        file = tmp_path / "netrc"
        text = f"machine other login x password y\nmachine bb.lab.test login jdoe password {TOKEN}"
        assert self.read(file, text) == given(TOKEN, f"{file}, machine bb.lab.test", "jdoe")

    def test_default(self, tmp_path: Path) -> None:
        file = tmp_path / "netrc"
        found = self.read(file, f"default login jdoe password {TOKEN}")
        assert (found.secret, found.user) == (Secret(TOKEN), "jdoe")

    @pytest.mark.parametrize("text", ["", "machine other login x password y"])
    def test_nothing_for_the_host(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "netrc"
        assert self.read(file, text) == given(None, f"{file}, machine bb.lab.test")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="--netrc: cannot read"):
            credentials.read(url=URL, netrc=True, environ={"NETRC": str(tmp_path / "missing")})

    def test_an_error_does_not_quote_it(self, tmp_path: Path) -> None:
        file = tmp_path / "netrc"
        with pytest.raises(ValueError, match="line 1: this is not netrc's format") as caught:
            self.read(file, f"machine bb.lab.test login jdoe {TOKEN}")
        assert TOKEN not in str(caught.value)
        assert caught.value.__suppress_context__

    def test_the_one_at_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        file = tmp_path / ".netrc"
        file.touch(0o600)
        file.write_text(f"machine bb.lab.test login jdoe password {TOKEN}")
        found = credentials.read(url=URL, netrc=True, environ={})
        assert found == given(TOKEN, "~/.netrc, machine bb.lab.test", "jdoe")
        file.chmod(0o644)
        with pytest.raises(ValueError, match="others may read"):
            credentials.read(url=URL, netrc=True, environ={})

    def test_a_url_that_is_none(self, tmp_path: Path) -> None:
        assert self.read(tmp_path / "netrc", "", url="https://a..b") == GivenSecret()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
class TestGit:
    def read(self, home: Path, helper: str, **options: Any) -> GivenSecret:
        script = executable(home / "helper", helper)
        (home / ".gitconfig").write_text(
            f"[credential]\n helper = {script}\n useHttpPath = true\n[core]\n askPass = {script}\n"
        )
        environ = {**SYSTEM, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": str(home)}
        return credentials.read(**{"url": URL, "git_credentials": True, **options}, environ=environ)

    def test_a_helper_is_asked_for_the_host(self, tmp_path: Path) -> None:
        helper = f'cat >"{tmp_path}/asked"; echo username=jdoe; echo password={TOKEN}'
        found = self.read(tmp_path, helper)
        source = "git's credential helpers for https://bb.lab.test:8443"
        assert found == given(TOKEN, source, "jdoe")
        asked = (tmp_path / "asked").read_text().splitlines()
        assert {"protocol=https", "host=bb.lab.test:8443", "path=ctx"} <= set(asked)

    def test_for_the_user_that_was_named(self, tmp_path: Path) -> None:
        helper = f'cat >"{tmp_path}/asked"; echo password=x'
        assert self.read(tmp_path, helper, user="jane").user == "jane"
        assert "username=jane" in (tmp_path / "asked").read_text().splitlines()

    def test_nobody_knows_one_and_nobody_is_asked(self, tmp_path: Path) -> None:
        """Neither at the terminal nor by the program that the configuration names for it."""
        found = self.read(tmp_path, f'[ "$1" = get ] || echo "$1" >"{tmp_path}/asked"')
        assert found == given(None, "git's credential helpers for https://bb.lab.test:8443")
        assert not (tmp_path / "asked").exists()

    def test_a_helper_that_hangs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(credentials, "_GIT_TIMEOUT", 0.3)
        with pytest.raises(ValueError, match=r"git did not hand out a secret within 0\.3 s"):
            self.read(tmp_path, "sleep 2")

    def test_no_git(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no git"):
            credentials.read(url=URL, git_credentials=True, environ={"PATH": str(tmp_path)})


class TestKeyring:
    SOURCE = "the keyring, service bb.lab.test, user token"

    def module(self, monkeypatch: pytest.MonkeyPatch, get_password: object) -> None:
        fake = types.ModuleType("keyring")
        fake.__dict__["get_password"] = get_password
        monkeypatch.setitem(sys.modules, "keyring", fake)

    def read(self, environ: dict[str, str] | None = None, user: str | None = None) -> GivenSecret:
        return credentials.read(url=URL, keyring=True, user=user, environ=environ or {})

    def test_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stored = {("bb.lab.test", "token"): TOKEN, ("bb.lab.test", "jdoe"): "x"}
        self.module(monkeypatch, lambda service, user: stored.get((service, user)))
        assert self.read() == given(TOKEN, self.SOURCE)
        assert self.read(user="jdoe").secret == Secret("x")
        assert self.read(user="nobody").secret is None

    def test_a_backend_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(service: str, user: str) -> str:
            raise RuntimeError(f"locked: {TOKEN}")

        self.module(monkeypatch, fail)
        with pytest.raises(ValueError, match=r"keyring cannot be read \(RuntimeError\)") as caught:
            self.read()
        assert TOKEN not in str(caught.value)

    def test_the_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        executable(tmp_path / "keyring", f'[ "$*" = "get bb.lab.test token" ] && echo {TOKEN}')
        environ = {"PATH": f"{tmp_path}:{PATH}"}
        assert self.read(environ) == given(TOKEN, self.SOURCE)
        assert self.read(environ, "jdoe").secret is None

    def test_neither(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(ValueError, match="neither the Python package keyring nor its program"):
            self.read({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    "options",
    [
        {"token_file": "x", "token_env": "Y"},
        {"netrc": True, "keyring": True},
        {"git_credentials": True, "token_env": "Y"},
    ],
)
def test_one_source_only(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"--[a-z-]+ and --[a-z-]+ were given"):
        credentials.read(url=URL, environ={}, **options)


class TestPrompt:
    SCRIPT = (
        "import sys; from diag import credentials\n"
        f"found = credentials.read(url={URL!r}, environ={{}})\n"
        "print(found.announced, found.source, found.secret and found.secret.reveal())"
    )

    def ask(self, typed: bytes, *, stderr_is_terminal: bool = True) -> tuple[str, bytes]:
        """What came of it, and all that stood on the terminal."""
        terminal, end = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT],
            stdin=end,
            stdout=subprocess.PIPE,
            stderr=end if stderr_is_terminal else subprocess.DEVNULL,
            start_new_session=True,
            cwd=Path(__file__).parents[1],
        ) as process:
            os.close(end)
            seen = b""
            if stderr_is_terminal:
                while b": " not in seen:
                    seen += os.read(terminal, 100)
                os.write(terminal, typed)
            out, _ = process.communicate(timeout=30)
            try:
                while data := os.read(terminal, 100):
                    seen += data
            except OSError:  # how Linux says that the other end is closed
                pass
        os.close(terminal)
        return out.decode().strip(), seen

    def test_is_hidden(self) -> None:
        out, seen = self.ask(b"hunter22\n")
        assert out == "True the prompt hunter22"
        assert b"hunter" not in seen

    @pytest.mark.parametrize("typed", [b"\n", b"\x04"])
    def test_no_answer_is_an_anonymous_run(self, typed: bytes) -> None:
        assert self.ask(typed)[0] == "False none None"

    def test_not_where_nobody_would_see_it(self) -> None:
        assert self.ask(b"", stderr_is_terminal=False) == ("False none None", b"")


class TestTeach:
    def taught(self, url: str = URL, **options: Any) -> Scrubber:
        scrubber = Scrubber()
        credentials.teach(scrubber, Settings(url=url, profile=Profile(), **options))
        return scrubber

    def test_the_secret_and_its_joined_form(self) -> None:
        scrubber = self.taught(given=given("pw", "file x"), user="jdoe")
        assert MASK in scrubber.text("Basic amRvZTpwdw==")

    def test_passwords_of_the_url(self) -> None:
        scrubber = self.taught("https://jdoe:p%40ssw0rd@bb.lab.test")
        assert scrubber.text("p@ssw0rd p%40ssw0rd jdoe") == f"{MASK} {MASK} jdoe"

    @pytest.mark.parametrize("text", ["$BITBUCKET_TOKEN", "token"])
    def test_a_placeholder_garbles_no_message(self, text: str) -> None:
        scrubber = self.taught(given=given(text, "$BITBUCKET_TOKEN"))
        assert scrubber.text("the token of $BITBUCKET_TOKEN") == "the token of $BITBUCKET_TOKEN"

    def test_without_a_secret(self) -> None:
        assert self.taught().text("as it is") == "as it is"
