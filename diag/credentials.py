"""Where the secret comes from: a variable, a file, a netrc, git, the keyring, or a prompt.

The secret is handed on as it stands there, with every blank and line break: check `input` tells
what is wrong with it. Errors never quote what was read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from diag import target, tokens
from diag.facts import Target
from diag.secret import Scrubber, Secret
from diag.settings import GivenSecret, Settings

VARIABLE = "BITBUCKET_TOKEN"
KEYRING_USER = "token"  # under which the secret lies in the keyring, unless `--user` names one
_LARGEST = 1 << 16  # bytes; an OAuth token has some thousands
_GIT_TIMEOUT = 10.0  # seconds: a credential helper may ask a server of its own
_KEYRING_TIMEOUT = 60.0  # seconds: somebody may have to unlock it


def read(
    *,
    url: str,
    user: str | None = None,
    token_file: str | None = None,
    token_env: str | None = None,
    netrc: bool = False,
    git_credentials: bool = False,
    keyring: bool = False,
    ask: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> GivenSecret:
    """The secret from where the options say; without any, `$BITBUCKET_TOKEN` or a hidden prompt
    (unless `ask` is false).

    `url` is as the user typed it: netrc, git and the keyring are asked for its host.

    Raises:
        ValueError: more than one source, or one that cannot be asked; the message is for the user.
    """
    chosen = {
        "--token-file": token_file is not None,
        "--token-env": token_env is not None,
        "--netrc": netrc,
        "--git-credentials": git_credentials,
        "--keyring": keyring,
    }
    named = [option for option, given in chosen.items() if given]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} were given; the secret can come from one only")
    if token_file is not None:
        return _from_file(token_file)
    if token_env is not None:
        return _given(environ.get(token_env), f"${token_env}")
    if named:
        known = target.parse(url).target
        if known is None:  # check `input` says why, and no host means no secret
            return GivenSecret()
        if netrc:
            return _from_netrc(known.host, environ)
        if git_credentials:
            return _from_git(known, user, environ)
        return _from_keyring(known.host, user or KEYRING_USER, environ)
    if VARIABLE in environ:
        return _given(environ[VARIABLE], f"${VARIABLE}")
    return _ask() if ask else GivenSecret()


def teach(scrubber: Scrubber, settings: Settings) -> None:
    """Let the scrubber learn all that must not stand in a report of this run.

    A placeholder is none of it: "$BITBUCKET_TOKEN" or "token" stands in messages of our own.
    """
    users = (settings.user, settings.given.user)
    secret = settings.given.secret
    if secret and not tokens.placeholder(secret, "basic" if any(users) else "bearer"):
        scrubber.learn(secret, users)
    for found in target.parse(settings.url).secrets:
        scrubber.learn(found)


def _given(text: str | None, source: str, user: str | None = None) -> GivenSecret:
    """An announced secret; one that is empty, or blank all over, is none."""
    secret = Secret(text) if text and text.strip() else None
    return GivenSecret(secret, source, announced=True, user=user)


def _from_file(path: str) -> GivenSecret:
    source = "standard input" if path == "-" else f"file {path}"
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"--token-file: cannot read {path}: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise ValueError(f"--token-file: {path} is too long for a secret")
    text = data.decode("utf-8", "surrogateescape")
    if path == "-":
        # A program that prints a token ends the line; a file is read by others as it stands.
        text = text.removesuffix("\n").removesuffix("\r")
    return _given(text, source)


def _from_netrc(host: str, environ: Mapping[str, str]) -> GivenSecret:
    import netrc

    path = environ.get("NETRC") or None
    shown = path or "~/.netrc"
    try:
        entry = netrc.netrc(path).authenticators(host)
    except OSError as error:
        raise ValueError(f"--netrc: cannot read {shown}: {error.strerror}") from None
    except netrc.NetrcParseError as error:  # its message quotes what it stumbled over
        line = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(
            f"--netrc: {shown}{line}: this is not netrc's format, or others may read the file"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"--netrc: {shown} is no UTF-8 text") from None
    source = f"{shown}, machine {host}"
    if entry is None:
        return _given(None, source)
    login, _, password = entry
    return _given(password, source, login or None)


def _from_git(known: Target, user: str | None, environ: Mapping[str, str]) -> GivenSecret:
    import shutil

    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        raise ValueError("--git-credentials: there is no git on this machine's PATH")
    question = {"protocol": known.scheme, "host": known.netloc}
    if known.context:
        question["path"] = known.context.lstrip("/")
    if user and "\n" not in user:
        question["username"] = user
    asked = "".join(f"{key}={value}\n" for key, value in question.items())
    silent = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "GCM_INTERACTIVE": "never"}
    command = [program, "credential", "fill"]
    status, answer = _output(command, f"{asked}\n", _GIT_TIMEOUT, {**environ, **silent})
    source = f"git's credential helpers for {known.origin}"
    if status != 0:  # what git says when nobody knows one
        return _given(None, source)
    found = dict(line.partition("=")[::2] for line in answer.split("\n"))
    return _given(found.get("password"), source, found.get("username"))


def _from_keyring(host: str, user: str, environ: Mapping[str, str]) -> GivenSecret:
    from importlib import import_module
    from shutil import which

    source = f"the keyring, service {host}, user {user}"
    try:
        module = import_module("keyring")
    except ImportError:
        program = which("keyring", path=environ.get("PATH"))
        if program is None:
            raise ValueError(
                "--keyring: neither the Python package keyring nor its program is installed"
                " (pipx inject bitbucket-diag keyring)"
            ) from None
        status, answer = _output([program, "get", host, user], "", _KEYRING_TIMEOUT, environ)
        return _given(answer.removesuffix("\n") if status == 0 else None, source)
    try:
        return _given(module.get_password(host, user), source)
    except Exception as error:  # every backend has its own; none may show what it read
        name = type(error).__name__
        raise ValueError(f"--keyring: the keyring cannot be read ({name})") from None


def _output(
    command: list[str], standard_input: str, timeout: float, environ: Mapping[str, str]
) -> tuple[int, str]:
    """Exit status and standard output of a program; what it complains about is not shown."""
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, found on the user's own PATH
            command,
            input=standard_input.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=timeout,
            env=dict(environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        name = Path(command[0]).name
        raise ValueError(f"{name} did not hand out a secret within {timeout:g} s") from None
    return done.returncode, done.stdout.decode("utf-8", "surrogateescape")


def _ask() -> GivenSecret:
    """Ask for it, unseen, where somebody sits at a terminal; no answer means anonymous."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        return GivenSecret()
    from getpass import getpass

    try:
        text = getpass("Bitbucket token or password (none: anonymous): ", stream=sys.stderr)
    except EOFError:
        text = ""
    return _given(text, "the prompt") if text else GivenSecret()
