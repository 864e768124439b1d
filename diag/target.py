"""Reads what the user wants to reach out of whatever was pasted: a base URL, a page, a clone URL.

Nothing here asks the network. The context path is certain only where the rest of the path is known
(a page, the API, a clone URL); any other path is taken to be the context path as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal
from urllib.parse import parse_qs, quote, unquote

from diag.characters import describe, unseen, visible
from diag.facts import Target
from diag.model import Json
from diag.record import field, record, replace
from diag.secret import MASK, Secret
from diag.tokens import issuer

WEBSITE, _API = "bitbucket.org", "api.bitbucket.org"  # of Bitbucket Cloud
TOKEN_URL = f"https://{WEBSITE}/site/oauth2/access_token"
_PLAIN_PORTS = frozenset({80, 7990, 8080})  # where plain http is usual; 7990 is Bitbucket's own
_PAIRS = {'"': '"', "'": "'", "`": "`", "<": ">", "(": ")", "“": "”", "„": "“", "‘": "’", "«": "»"}
_KEY = re.compile(r"~?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SLUG = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_LABEL = re.compile(r"[a-z0-9_-]+")
# Typos included, as a browser would forgive them: https:/host, https//host, https://https://host.
_HTTP = re.compile(r"(?:(https?)(?::/*|//+))+", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://+", re.IGNORECASE)
_END_OF_AUTHORITY = re.compile("[/?#]")
_SECRET_PARAMETER = re.compile(
    r"([?&;#][^=&;#?/]*(?:passw|token|secret|session|jwt)[^=&;#?/]*=)([^&;#?]+)", re.IGNORECASE
)
_DATACENTER_PAGES = (
    *("about", "account", "admin", "dashboard", "getting-started", "j_atl_security_logout"),
    *("login", "logout", "mvc", "profile", "setup", "status"),
)
_OWN_PARTS = {"scm", "projects", "users", "rest", "plugins", *_DATACENTER_PAGES}
_CLOUD_PAGES = ("account", "blog", "dashboard", "product", "repo", "site", "socialauth", "support")


@record
class Note:
    """Something about the URL that the user must hear, under the code of a verdict of `input`."""

    code: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


@record
class Parsed:
    """What was read. `target` is None where the URL cannot be used; a note then says why.

    `secrets` are passwords found in it, in each spelling, for the scrubber to learn;
    `text_shown` is the URL without any credentials or unseen characters.
    """

    target: Target | None
    notes: tuple[Note, ...]
    secrets: tuple[Secret, ...]
    text_shown: str


@record
class _Place:
    """What a path leads to."""

    form: Literal["base", "page", "api", "clone"]
    context: Sequence[str] = ()
    project: str | None = None
    repository: str | None = None


def parse_repo(text: str) -> tuple[str, str]:
    """Project (or workspace) and slug of `--repo`.

    Raises:
        ValueError: it is not of the form PROJECT/SLUG; the message is meant for the user.
    """
    project, _, slug = text.partition("/")
    slug = slug.removesuffix(".git")
    if not _is_key(project) or not _is_slug(slug):
        raise ValueError(
            "the repository must be given as PROJECT/SLUG (on Bitbucket Cloud WORKSPACE/SLUG), "
            f"for example MOB/app or ~jdoe/app, not {text!r}"
        )
    return project, slug


@lru_cache(512)  # each run reads its own several times
def parse(text: str, repo: str | None = None) -> Parsed:
    """Read a URL in whatever form people paste it; `repo` is the `--repo` option, and wins.

    Raises:
        ValueError: `repo` is malformed (see `parse_repo`). Never because of `text`.
    """
    wanted = parse_repo(repo) if repo else None
    reading = _Reading(text)
    target = reading.target()
    if target is not None and wanted is not None:
        in_url = "/".join(filter(None, (target.project, target.repository)))
        option = "/".join(wanted)
        if in_url and not f"{option}/".lower().startswith(f"{in_url}/".lower()):
            reading.note("input-repo-option-wins", in_url=in_url, option=option)
        target = replace(target, project=wanted[0], repository=wanted[1])
    secrets = tuple(Secret(value) for value in sorted(reading.secrets))
    return Parsed(target, tuple(reading.notes), secrets, reading.shown)


class _Reading:
    """One URL being taken apart; what must be said about it is collected on the way."""

    def __init__(self, text: str) -> None:
        self.notes: list[Note] = []
        self.secrets: set[str] = set()
        self._look_for_unseen(text)
        # From here on without them, so that a password beside one is recognised all the same.
        clean = _unwrap(visible(text))
        self.scheme, rest = _split_scheme(clean)
        self.user, password, authority, self.tail = _split_credentials(rest)
        self.host_text, self.port_text = _split_port(authority)
        prefix = f"{self.scheme}://" if self.scheme else ""
        self.shown = _SECRET_PARAMETER.sub(self._hide, f"{prefix}{authority}{self.tail}")
        if password:
            self.secrets |= {password, unquote(password)}
            self.note("input-url-has-credentials", without=self.shown)

    def note(self, code: str, **evidence: Json) -> None:
        self.notes.append(Note(code, evidence))

    def target(self) -> Target | None:
        """The target, or None after a note that says why there is none."""
        if self.notes:  # so far only what makes the URL unusable
            return None
        try:
            host = _host(self.host_text)
        except ValueError as error:
            self.note("input-host-invalid", host=self.host_text, reason=str(error))
            return None
        cloud = host == WEBSITE or host.endswith("." + WEBSITE)
        path = re.split("[?#]", self.tail, maxsplit=1)[0]
        if self._is_scp():
            return self._no_web_url("ssh", host, f"{self.port_text}{path}", cloud=cloud)
        port = _port(self.port_text)
        if port is None:
            self.note("input-port-invalid", port=self.port_text)
            return None
        if self.scheme not in ("http", "https", ""):
            return self._no_web_url(self.scheme, host, path, cloud=cloud)
        if cloud:
            return self._on_cloud(host, path, port)
        return self._on_datacenter(host, port, path)

    def _look_for_unseen(self, text: str) -> None:
        if visible(text) == text:
            return
        found = [index for index, character in enumerate(text) if unseen(character)]
        first = found[0]
        at_the_end = found == list(range(first, len(text)))
        place = "at the end" if at_the_end else "inside" if first else "at the start"
        self.note(
            "input-url-bad-character",
            character=describe(text[first]),
            position=first + 1,
            place=place,
            count=len(found),
        )

    def _hide(self, parameter: re.Match[str]) -> str:
        self.secrets |= {parameter[2], unquote(parameter[2])}
        return parameter[1] + MASK

    def _is_scp(self) -> bool:
        """Whether it is git's short form of an ssh URL, "git@host:mob/app.git"."""
        if self.scheme or not self.port_text:
            return False
        if self.port_text.isdigit():  # "git@host:7999/mob/app.git": the long form, cut short
            return self.user == "git"
        return bool(self.user) or self.tail.startswith("/")

    def _no_web_url(self, scheme: str, host: str, path: str, *, cloud: bool) -> Target | None:
        """On Cloud the meaning is plain all the same: there is but one instance."""
        place = _clone_place(_segments(path))
        if cloud and place.repository:
            return self._make("https", _API, 443, place, kind="cloud")
        base = f"https://[{host}]" if ":" in host else f"https://{host}"
        if place.project and place.repository:
            base += f"/scm/{place.project.lower()}/{place.repository}.git"
        self.note("input-url-not-http", scheme=scheme, suggestion=base)
        return None

    def _on_cloud(self, host: str, path: str, port: int) -> Target:
        """There is but one instance: whichever of its pages is named, its API is asked."""
        if port not in (0, 443) and self.scheme != "http":
            self.note("input-cloud-port", port=port)
        place = _cloud_place(_segments(path), api=host.startswith("api."))
        target = self._make("https", _API, 443, place, kind="cloud")
        if place.form in ("page", "api"):
            taken = place.project and "/".join(filter(None, (place.project, place.repository)))
            self.note(
                f"input-url-has-{place.form}-path",
                base_url=f"https://{WEBSITE}",
                taken=f"{'repository' if place.repository else 'workspace'} {taken}"
                if taken
                else "no more than that Bitbucket Cloud is meant",
            )
        return target

    def _on_datacenter(self, host: str, port: int, path: str) -> Target:
        scheme: Literal["http", "https"] = "http" if self.scheme == "http" else "https"
        query = parse_qs(self.tail.partition("#")[0].partition("?")[2])
        place = _datacenter_place(_segments(path), query)
        target = self._make(
            scheme,
            host,
            port or {"http": 80, "https": 443}[scheme],
            place,
            port_given=bool(port),
        )
        if not self.scheme:
            taken = target.base_url
            if port in _PLAIN_PORTS:
                plain = replace(target, scheme="http").base_url
                taken += f" (port {port} usually speaks plain http: then it is {plain})"
            self.note("input-url-missing-scheme", base_url=target.base_url, taken=taken)
        self._say_what_was_taken(place, target)
        return target

    def _make(
        self,
        scheme: Literal["http", "https"],
        host: str,
        port: int,
        place: _Place,
        *,
        kind: Literal["datacenter", "cloud"] = "datacenter",
        port_given: bool = False,
    ) -> Target:
        return Target(
            text=self.shown,
            scheme=scheme,
            host=host,
            port=port,
            context="".join(f"/{quote(segment, safe='')}" for segment in place.context),
            project=place.project,
            repository=place.repository,
            kind=kind,
            port_given=port_given,
        )

    def _say_what_was_taken(self, place: _Place, target: Target) -> None:
        if place.form not in ("page", "api"):
            return
        taken = f"base URL {target.base_url}"
        if place.repository:
            taken += f" and repository {place.project}/{place.repository}"
        elif place.project:
            taken += f" and project {place.project}"
        self.note(f"input-url-has-{place.form}-path", base_url=target.base_url, taken=taken)


def _unwrap(text: str) -> str:
    """`text` without the quotes or brackets that were pasted around it."""
    while len(text) > 1 and _PAIRS.get(text[0]) == text[-1]:
        text = text[1:-1]
    return text


def _split_scheme(text: str) -> tuple[str, str]:
    """Scheme in lower case ("" if there is none) and what follows the slashes."""
    match = _HTTP.match(text) or _OTHER_SCHEME.match(text)
    return (match[1].lower(), text[match.end() :]) if match else ("", text.lstrip("/"))


def _split_credentials(rest: str) -> tuple[str, str, str, str]:
    """User name, password as written, host with port, and what follows them."""
    end = _end_of_authority(rest, 0)
    if "@" not in rest[:end] and "@" in rest and _port(_split_port(rest[:end])[1]) is None:
        # "user:pa/ss@host": no port, so a password with an unquoted "/", "?" or "#"
        end = _end_of_authority(rest, rest.rindex("@"))
    userinfo, _, authority = rest[:end].rpartition("@")
    user, _, password = userinfo.partition(":")
    if user and not password and issuer(Secret(unquote(user))) is not None:
        user, password = "", user  # a token in the place of the user name
    return user, password, authority, rest[end:]


def _end_of_authority(text: str, start: int) -> int:
    found = _END_OF_AUTHORITY.search(text, start)
    return found.start() if found else len(text)


def _split_port(authority: str) -> tuple[str, str]:
    """Host and port as written; an IPv6 address needs no brackets when no port follows."""
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        return host + bracket, rest.removeprefix(":")
    if authority.count(":") > 1 and _is_ipv6(authority):
        return f"[{authority}]", ""
    host, _, port = authority.partition(":")
    return host, port


def _port(text: str) -> int | None:
    """The port, 0 where none is written, None where it is no port."""
    if not text:
        return 0
    if not re.fullmatch("0*[0-9]{1,5}", text):
        return None
    number = int(text[-5:])
    return number if 1 <= number <= 65535 else None


def _is_ipv6(text: str) -> bool:
    try:
        zone = IPv6Address(text).scope_id
    except AddressValueError:
        return False
    return zone is None or _is_slug(zone)


def _host(text: str) -> str:
    """The host as it is looked up: lower case, ASCII, no dot at the end, no brackets.

    Raises:
        ValueError: it is no legal name or address; the message completes "the host name …".
    """
    if text.startswith("["):
        literal = text[1:].removesuffix("]").replace("%25", "%")
        if not text.endswith("]") or not _is_ipv6(literal):
            raise ValueError("is no IPv6 address, though it stands in brackets")
        return IPv6Address(literal).compressed
    name = text.lower().removesuffix(".")
    if not name:
        raise ValueError("is missing")
    if name.startswith(("$", "%", "{")):
        raise ValueError("looks like a variable that was not filled in")
    if not name.isascii():
        name = ".".join(_idna(label) for label in re.split("[.。．｡]", name)).removesuffix(".")
    labels = name.split(".")
    if labels[-1].isdigit():
        try:
            return IPv4Address(name).compressed
        except AddressValueError:
            raise ValueError("ends in a number, but is no IPv4 address") from None
    for label in labels:
        if not label:
            raise ValueError("has a dot too many, so one of its parts is empty")
        if not _LABEL.fullmatch(label):
            strange = next(character for character in label if not _LABEL.fullmatch(character))
            raise ValueError(f"has the character {strange!r}, which no host name has")
        if len(label) > 63:
            raise ValueError(f"has a part of {len(label)} characters; 63 are allowed")
    if len(name) > 253:
        raise ValueError(f"has {len(name)} characters; 253 are allowed")
    if name.startswith("-"):
        raise ValueError("begins with a hyphen")
    return name


def _idna(label: str) -> str:
    if label.isascii():
        return label
    import idna

    try:
        return idna.encode(label, uts46=True).decode("ascii")
    except UnicodeError:
        raise ValueError(f"has the part {label!r}, which no international name may have") from None


def _segments(path: str) -> list[str]:
    """The parts of a path, decoded, without parameters such as `;jsessionid=`."""
    parts = (unquote(part.partition(";")[0]) for part in path.split("/"))
    return [part for part in parts if part not in ("", ".", "..")]


def _is_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def _is_slug(text: str) -> bool:
    return _SLUG.fullmatch(text) is not None and text not in (".", "..")


def _place(
    form: Literal["base", "page", "api", "clone"],
    context: Sequence[str],
    project: str | None = None,
    repository: str | None = None,
) -> _Place:
    """A place with only so much of project and repository as can be one."""
    if project is None or not _is_key(project):
        return _Place(form, context)
    if repository is None or not _is_slug(repository.removesuffix(".git")):
        return _Place(form, context, project)
    return _Place(form, context, project, repository.removesuffix(".git"))


def _clone_place(segments: Sequence[str]) -> _Place:
    """Of an ssh clone path: the last two parts, whatever a host puts before them."""
    if len(segments) < 2:
        return _Place("clone")
    return _place("clone", segments[:-2], *segments[-2:])


def _datacenter_place(segments: Sequence[str], query: Mapping[str, Sequence[str]]) -> _Place:
    """The first part that can only be Bitbucket's own ends the context path."""
    for index, context in _prefixes(segments):
        match segments[index:]:
            case ["scm", key, slug, *_] if slug.endswith(".git") or not {key, slug} & _OWN_PARTS:
                return _place("clone", context, _upper(key), slug)
            case ["rest", *rest]:
                return _inside("api", context, rest)
            case ["projects" | "users", *_]:
                return _inside("page", context, segments[index:])
            case [page, *_] if page in _DATACENTER_PAGES:
                following = _segments(next(iter(query.get("next", ())), "").partition("?")[0])
                return _inside("page", context, following)
            case ["plugins", "servlet", *_]:
                return _Place("page", context)
            case ["repos"] if "visibility" in query:
                return _Place("page", context)
            case [key, slug, *_] if slug.endswith(".git"):
                return _place("clone", context, _upper(key), slug)
    return _Place("base", segments)


def _cloud_place(segments: Sequence[str], *, api: bool) -> _Place:
    """On Cloud every path is workspace/repository, but for a few pages and the API."""
    if api or segments[:1] in (["2.0"], ["!api"]):
        for index, _ in _prefixes(segments):
            match segments[index:]:
                case ["repositories", workspace, slug, *_]:
                    return _place("api", (), workspace, slug)
                case ["repositories" | "workspaces", workspace, *_]:
                    return _place("api", (), workspace)
        return _Place("api")
    match segments:
        case []:
            return _Place("base")
        case [page, *_] if page in _CLOUD_PAGES:
            return _Place("page")
        case [workspace]:
            return _place("base", (), workspace)
        case [workspace, "workspace", *_]:
            return _place("page", (), workspace)
        case [workspace, slug]:
            return _place("clone", (), workspace, slug)
        case [workspace, slug, *_] if slug.endswith(".git"):
            return _place("clone", (), workspace, slug)
        case [workspace, slug, *_]:
            return _place("page", (), workspace, slug)
    return _Place("base")


def _prefixes(segments: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    return ((index, segments[:index]) for index in range(len(segments)))


def _inside(
    form: Literal["page", "api"], context: Sequence[str], segments: Sequence[str]
) -> _Place:
    """Project and repository out of `…/projects/KEY/repos/SLUG/…` or `…/users/NAME/repos/…`."""
    for index, _ in _prefixes(segments):
        match segments[index:]:
            case ["projects", key, "repos", slug, *_]:
                return _place(form, context, key, slug)
            case ["projects", key, *_]:
                return _place(form, context, key)
            case ["users", name, "repos", slug, *_]:
                return _place(form, context, f"~{name.removeprefix('~')}", slug)
            case ["users", name, *_]:
                return _place(form, context, f"~{name.removeprefix('~')}")
    return _Place(form, context)


def _upper(key: str) -> str:
    """A project key as Bitbucket writes it: clone URLs have it in lower case."""
    return key if key.startswith("~") else key.upper()
