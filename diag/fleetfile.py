"""The file of a fleet: many targets, as TOML or one URL a line, and the share of one machine."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO

from diag import profile, tables
from diag.profile import Profile
from diag.record import record
from diag.settings import ConnectTo
from diag.tables import Table
from diag.target import parse_repo

STAGES = ("setup", "steady")
_LONGEST = 1 << 16  # characters of a line: a URL has some dozens
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# How a line of TOML begins, and no URL does: [[target]] or key = …, but not [::1]:7990.
_TOML = re.compile(r"""\[\[|\[[\w."' -]+\]?\s*(?:#|$)|[\w."'-]+\s*=""")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class FleetFileError(ValueError):
    """A file that cannot be used: which file, which target, which key, what is allowed there."""


@record
class Entry:
    """One target as the file names it; None is what it does not say. Paths are resolved."""

    url: str
    name: str | None = None
    repo: str | None = None
    user: str | None = None
    token_env: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    profile: Profile | None = None
    stage: Literal["setup", "steady"] | None = None
    connect_to: tuple[ConnectTo, ...] | None = None

    @property
    def key(self) -> str:
        """What the target is known by, wherever in the file it stands."""
        return self.name or self.url


@record
class Shard:
    """One of `count` parts of a fleet, counted from 1.

    A target belongs to exactly one of them, told by its name (else its URL) alone: who adds a
    target, or puts it elsewhere in the file, moves no other.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read I/N.

        Raises:
            ValueError: it is not of that form; the message is meant for the user.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None:
            raise ValueError(f"{text!r} is not I/N (for example 2/5: the second of five shards)")
        index, count = int(match[1]), int(match[2])
        if count == 0:
            raise ValueError(f"{text!r}: there is at least one shard, 1/1")
        if not 1 <= index <= count:
            raise ValueError(f"{text!r}: the shards are counted from 1/{count} to {count}/{count}")
        return cls(index, count)

    def __contains__(self, entry: Entry) -> bool:
        if self.count == 1:
            return True
        key = entry.key.encode("utf-8", "surrogatepass")
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return number % self.count == self.index - 1


class FleetFile:
    """The targets of a file, `-` for standard input, in its order.

    Of a TOML file all targets are read and checked at once. Of a file with one URL a line no more
    than a line is held: it may be larger than memory, or a pipe that is still being written to.
    """

    def __init__(self, file: str) -> None:
        """Look into the file.

        Raises:
            FleetFileError: it cannot be read, holds no target, or is wrong.
        """
        self._shown = "standard input" if file == "-" else file
        self._path = None if file == "-" else Path(file)
        self._entries: list[Entry] | None = None
        text = self._open()
        lines = self._lines(text)
        number, first = next(lines, (0, ""))
        if not number:
            self._fail("it holds no target; write one URL a line, or TOML with [[target]] tables")
        if _TOML.match(first) or (self._path and self._path.suffix == ".toml"):
            # As many line breaks as were read, so that errors name the right line.
            whole = "\n" * (number - 1) + first + "\n" + self._rest(text)
            self._entries = list(self._toml(whole))
        self._started = None if self._on_disk() else chain([(number, first)], lines)

    def __iter__(self) -> Iterator[Entry]:
        """Every target. What does not lie on disk can be gone through but once.

        Raises:
            FleetFileError: the file cannot be read on.
        """
        if self._entries is not None:
            return iter(self._entries)
        lines = self._started or self._lines(self._open())
        return (Entry(url) for _, url in lines)

    def count(self, shard: Shard) -> int | None:
        """The number of targets of a shard; None where to count them would use them up."""
        if self._entries is None and not self._on_disk():
            return None
        return sum(entry in shard for entry in self)

    # reading

    def _on_disk(self) -> bool:
        return self._path is not None and self._path.is_file()

    def _open(self) -> TextIO:
        """The file as text, by its byte order mark: PowerShell's > writes UTF-16."""
        try:
            if self._path is not None:
                stream = self._path.open("rb")
            else:  # not sys.stdin's own buffer: a thread that waits for it would hold up the exit
                stream = io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
            head = stream.peek(4)
        except OSError as error:
            self._cannot_read(error)
        encoding = next((name for bom, name in _BOMS if head.startswith(bom)), "utf-8")
        # Other bytes are for check `input` to judge, as those of an argument are.
        return io.TextIOWrapper(stream, encoding, errors="surrogateescape")

    def _lines(self, text: TextIO) -> Iterator[tuple[int, str]]:
        """Each line that says something, stripped, and its number; `text` is closed at the end."""
        number = 0
        try:
            with text:
                while line := text.readline(_LONGEST):
                    number += 1
                    if len(line) == _LONGEST and not line.endswith("\n"):
                        self._fail(f"line {number} is longer than {_LONGEST} characters")
                    if (said := line.strip()) and not said.startswith("#"):
                        yield number, said
        except OSError as error:
            self._cannot_read(error)
        except UnicodeError:
            self._fail(f"line {number + 1} is no text")

    def _rest(self, text: TextIO) -> str:
        try:
            with text:
                return text.read()
        except OSError as error:
            self._cannot_read(error)
        except UnicodeError:
            self._fail("it is no text")

    def _cannot_read(self, error: OSError) -> NoReturn:
        raise FleetFileError(f"cannot read {self._shown}: {error.strerror}") from None

    def _fail(self, problem: str) -> NoReturn:
        raise FleetFileError(f"{self._shown}: {problem}")

    # TOML

    def _toml(self, text: str) -> Iterator[Entry]:
        import tomllib

        if any("\ud800" <= character <= "\udfff" for character in text):
            self._fail("it is no UTF-8 text, as TOML has to be")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            urls = "://" in text.partition("=")[0]
            hint = "; a list of URLs must not be called .toml" if urls else ""
            self._fail(f"it is no TOML: {error}{hint}")
        except RecursionError:
            self._fail("it is no TOML of this kind: its values are nested too deeply")
        top = Table(document, self._fail)
        targets = top.take("target", _targets, default=[])
        top.done()
        if not targets:
            self._fail("it holds no target; each begins with a line [[target]]")
        reader = _TargetReader(Path() if self._path is None else self._path.parent)
        named: dict[str, int] = {}
        for number, values in enumerate(targets, 1):

            def fail(problem: str, number: int = number) -> NoReturn:
                self._fail(f"target {number}: {problem}")

            entry = reader.read(Table(values, fail))
            if entry.name is not None:
                if entry.name in named:
                    fail(f"name {entry.name!r} is that of target {named[entry.name]} already")
                named[entry.name] = number
            yield entry


class _TargetReader:
    """Reads the tables of one file, in whose folder its relative paths begin."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profiles: dict[str, Profile] = {}

    def read(self, table: Table) -> Entry:
        """One target, or what `table` fails with."""
        entry = Entry(
            url=table.take("url", _url, required=True),
            name=table.take("name", tables.text),
            repo=table.take("repo", _repo),
            user=table.take("user", tables.text),
            token_env=table.take("token_env", _variable),
            token_file=table.take("token_file", self._file),
            ca_file=table.take("ca_file", self._file),
            profile=table.take("for", self._profile),
            stage=table.take("stage", tables.one_of(STAGES)),
            connect_to=table.take("connect_to", _connect_to),
        )
        table.done()
        if entry.token_env is not None and entry.token_file is not None:
            table.fail("token_env and token_file are given; the secret can come from one only")
        return entry

    def _file(self, value: Any) -> str:
        return str(self._folder / tables.text(value))

    def _profile(self, value: Any) -> Profile:
        """A built-in profile, or that of a file; each is read once."""
        text = tables.text(value)
        if text not in self._profiles:
            path = self._folder / text
            is_path = path.suffix == ".toml" or path.name != text or path.is_file()
            built_in = text in profile.names()
            try:
                loaded = profile.load(str(path) if is_path and not built_in else text)
            except profile.ProfileError as error:
                raise ValueError(f"cannot be used: {error}") from None
            self._profiles[text] = loaded
        return self._profiles[text]


# Readers: each takes what TOML holds; the message of its error completes "the key …".


def _targets(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise TypeError("must be a list of tables: let each target begin with a line [[target]]")
    return value


def _url(value: Any) -> str:
    return tables.text(value).strip()


def _repo(value: Any) -> str:
    text = tables.text(value)
    try:
        parse_repo(text)
    except ValueError as error:
        raise ValueError(f"is wrong: {error}") from None
    return text


def _variable(value: Any) -> str:
    """Never shown: people do write the secret itself there."""
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError("must be the name of an environment variable, not the secret itself")
    return value


def _connect_to(value: Any) -> tuple[ConnectTo, ...]:
    try:
        return tuple(ConnectTo.parse(text) for text in tables.texts(value))
    except ValueError as error:
        raise ValueError(f"is wrong: {error}") from None
