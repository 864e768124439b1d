"""How the API of Bitbucket Cloud answers: paths, parameters, scopes, roles.

As in `datacenter`, the table of what exists is the `@at` lines; paths, parameters and scopes were
taken from the official description and, where it is older than they are, from what was seen.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from diag.simulator import cloud_errors as errors
from diag.simulator.cloud_data import (
    API,
    SITE,
    CloudInstance,
    CloudRepository,
    CloudUser,
    Grant,
    Need,
    Workspace,
    uid,
)
from diag.simulator.cloud_signin import for_api
from diag.simulator.data import Level
from diag.simulator.dialect import READING, RefusedError, Routes, as_json
from diag.simulator.server import Request, Response

T = TypeVar("T")
ROOT = "/2.0"
REPOSITORY = "/repositories/{w}/{r}"
LISTING = "pagelen page "
LARGEST_PAGE = 100
ROLES = {"member": Level.READ, "contributor": Level.WRITE, "admin": Level.ADMIN}
CONDITION = re.compile(r'\s*([a-z_.]+)\s*(=|~)\s*"([^"]*)"\s*')
EVENTS = ("repo:push", "pullrequest:created", "pullrequest:updated", "pullrequest:fulfilled")


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a handler. `grant` is None for nobody."""

    request: Request
    grant: Grant | None
    names: Mapping[str, str]  # parts of the path
    parameters: Mapping[str, str]  # only those that the resource takes


Handler = Callable[["RestApi", Call], Response]


@dataclass(frozen=True, slots=True)
class Operation:
    """A resource's handler and the scopes it asks for; `personal`: not for access tokens."""

    handler: Handler
    need: Need
    personal: bool
    required_as_text: bool


ROUTES: Routes[Operation] = Routes()


def at(
    *paths: str,
    legacy: str = "",
    granular: str = "",
    parameters: str = "",
    known: bool = True,
    personal: bool = False,
    required_as_text: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler; granular scopes are written without `:bitbucket`."""
    need = Need(tuple(legacy.split()), tuple(f"{g}:bitbucket" for g in granular.split()))

    def register(handler: Handler) -> Handler:
        operation = Operation(handler, need, personal, required_as_text)
        whole = (ROOT + path for path in paths)
        ROUTES.at(*whole, parameters=parameters, known=known)(operation)
        return handler

    return register


class RestApi:
    """What is at api.bitbucket.org."""

    def __init__(self, instance: CloudInstance) -> None:
        self.instance = instance

    def knows(self, request: Request) -> bool:
        return ROUTES.know(request.path, request)

    def answer(self, request: Request) -> Response:
        grant: Grant | None = None
        found = ROUTES.find(request.path)
        try:
            grant = for_api(request, self.instance.grants)
            if request.path == "/user":  # one of the usual mistakes
                raise errors.forbidden()
            if found is None:
                raise errors.no_api()
            operation, names = found[0].handler, found[1]
            given = {name: text for name, text in request.parameters if found[0].takes(name)}
            response = self._run(operation, Call(request, grant, names, given))
        except RefusedError as refusal:
            response = refusal.response
        if response.status == 401:
            response.headers += [errors.CHALLENGE, ("server", "envoy")]
        else:
            need = found[0].handler.need if found else Need()
            response.headers += self._scope_headers(grant, need)
        return response

    # the frame

    def _run(self, operation: Operation, call: Call) -> Response:
        if call.request.method not in READING:
            raise errors.refused(405, "Method not allowed")
        self._check_limit(call.request.path)
        grant = call.grant
        if grant is None:
            if operation.personal:
                raise errors.bad_pair()
        elif grant.lacks(operation.need):
            required = grant.needed(operation.need)
            raise errors.lacks_scopes(required, grant.shown, as_text=operation.required_as_text)
        elif operation.personal and grant.owner is None and not grant.app_user:
            raise errors.forbidden()
        return operation.handler(self, call)

    def _check_limit(self, path: str) -> None:
        """The limit is one of requests about repositories; in text, its end is a date."""
        if self.instance.limited is None or not path.startswith(f"{ROOT}/repositories/"):
            return
        wait = self.instance.retry_after
        if self.instance.limited == "text":
            end = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=wait), usegmt=True)
            raise RefusedError(errors.text(429, errors.TOO_MANY, ("Retry-After", end)))
        refusal = errors.refused(429, errors.TOO_MANY)
        refusal.response.headers.append(("Retry-After", str(wait)))
        raise refusal

    def _scope_headers(self, grant: Grant | None, need: Need) -> list[tuple[str, str]]:
        if grant is None:
            return [("X-Accepted-OAuth-Scopes", ", ".join(need.legacy))]
        headers = [
            ("X-Accepted-OAuth-Scopes", ", ".join(grant.needed(need))),
            ("X-OAuth-Scopes", ", ".join(grant.shown)),
            ("X-Credential-Type", grant.kind),
        ]
        if grant.kind.endswith("_access_token"):
            headers += [
                ("X-RateLimit-Limit", "1000"),
                ("X-RateLimit-Resource", "api-repositories"),
                ("X-RateLimit-NearLimit", self.instance.near_limit),
            ]
        return headers

    # what the caller may see

    def _level(self, call: Call, repository: CloudRepository) -> Level:
        level = call.grant.level(repository) if call.grant else Level.NONE
        return max(level, Level.READ) if repository.public else level

    def _belongs(self, call: Call, workspace: Workspace) -> bool:
        grant = call.grant
        if grant is None:
            return False
        if grant.owner is not None:
            return workspace.slug in grant.owner.memberships
        return grant.resource.partition("/")[0] == workspace.slug

    def _workspace(self, call: Call) -> Workspace:
        workspace = self.instance.workspace(call.names["w"])
        if workspace is None or (workspace.private and not self._belongs(call, workspace)):
            raise errors.no_workspace(call.names["w"])
        return workspace

    def _own_workspace(self, call: Call) -> Workspace:
        workspace = self._workspace(call)
        if not self._belongs(call, workspace):
            raise errors.forbidden()
        return workspace

    def _repository(self, call: Call, *, named: bool = True) -> CloudRepository:
        """The repository of the path. What is missing and what is hidden look the same.

        `named`: the refusal says which repository is meant.
        """
        if self.instance.removed is not None:
            raise errors.gone() if self.instance.removed == 410 else errors.no_api()
        workspace, slug = call.names["w"], call.names["r"]
        repository = self.instance.repository(workspace, slug)
        if repository is None or self._level(call, repository) < Level.READ:
            if self.instance.html_errors:
                raise RefusedError(errors.page(404))
            if named and call.grant is not None:
                raise errors.refused(404, f"Repository {workspace}/{slug} not found")
            raise errors.refused(404, errors.NO_ACCESS)
        return repository

    def _content(self, call: Call) -> CloudRepository:
        """The repository, for what the workspace's IP allowlist guards: all but its metadata."""
        repository = self._repository(call)
        if repository.public or repository.workspace not in self.instance.blocked:
            return repository
        match self.instance.blocked_answer:
            case "blanket":
                raise errors.forbidden()
            case "sentence":
                raise errors.refused(403, errors.IP_BLOCKED)
            case "hidden":
                raise errors.refused(404, errors.NO_ACCESS)

    def _administered(self, call: Call) -> CloudRepository:
        """The repository, if the caller is a user who administers it."""
        repository = self._repository(call)
        level = self._level(call, repository)
        if call.grant is None:
            raise errors.bad_pair()
        if level < Level.WRITE:
            raise errors.refused(403, errors.ROLE_TOO_LOW)
        if level < Level.ADMIN:
            raise errors.forbidden("Only administrators of the repository can do this.")
        return repository

    # pages

    def _page(
        self,
        call: Call,
        items: Sequence[T],
        show: Callable[[T], object],
        *,
        largest: int = LARGEST_PAGE,
        sized: bool = True,
    ) -> Response:
        """One page; where counting would be dear (not `sized`), the answer has no size."""
        length = self._number(call, "pagelen", 10, largest)
        number = self._number(call, "page", 1)
        start = (number - 1) * length
        body: dict[str, object] = {
            "values": [show(item) for item in items[start : start + length]],
            "pagelen": length,
        }
        if sized:
            body |= {"size": len(items), "page": number}
        if start + length < len(items):
            query = urlencode({**call.parameters, "page": number + 1})
            body["next"] = f"https://{API}{call.request.path}?{query}"
        return as_json(200, body)

    @staticmethod
    def _number(call: Call, name: str, default: int, largest: int | None = None) -> int:
        text = call.parameters.get(name, str(default))
        good = text.isdecimal() and int(text) > 0 and (largest is None or int(text) <= largest)
        if not good:
            raise errors.invalid(f"Invalid {name}", {name: [f"{text} is not allowed"]})
        return int(text)

    @staticmethod
    def _search(call: Call, fields: Mapping[str, Callable[[T], str]]) -> Callable[[T], bool]:
        """What `q` asks for: conditions like `slug = "app"` or `name ~ "ap"`, joined by AND."""
        conditions: list[tuple[Callable[[T], str], str, str]] = []
        for part in filter(None, re.split(r"\s+AND\s+", call.parameters.get("q", ""))):
            match = CONDITION.fullmatch(part)
            if match is None or match[1] not in fields:
                raise errors.invalid("Bad request", {"q": [f"Cannot be understood: {part}"]})
            conditions.append((fields[match[1]], match[2], match[3].lower()))

        def fits(item: T) -> bool:
            return all(
                wanted in get(item).lower() if operator == "~" else wanted == get(item).lower()
                for get, operator, wanted in conditions
            )

        return fits

    # how things are shown

    @staticmethod
    def _show_user(user: CloudUser) -> dict[str, Any]:
        return {
            "type": "user",
            "uuid": uid(user.username),
            "username": user.username,
            "nickname": user.username,
            "display_name": user.display_name,
            "account_status": "active",
            "links": {"self": {"href": f"https://{API}{ROOT}/users/{uid(user.username)}"}},
        }

    @staticmethod
    def _show_workspace(workspace: Workspace) -> dict[str, Any]:
        return {
            "type": "workspace",
            "uuid": uid(workspace.slug),
            "slug": workspace.slug,
            "name": workspace.name,
            "is_private": workspace.private,
            "links": {"self": {"href": f"https://{API}{ROOT}/workspaces/{workspace.slug}"}},
        }

    @staticmethod
    def _show_project(key: str) -> dict[str, Any]:
        return {"type": "project", "key": key, "name": key.title(), "uuid": uid(key)}

    def _show_repository(self, repository: CloudRepository) -> dict[str, Any]:
        full_name = repository.full_name
        return {
            "type": "repository",
            "uuid": uid(full_name),
            "full_name": full_name,
            "slug": repository.slug,
            "name": repository.slug.title(),
            "scm": "git",
            "is_private": not repository.public,
            "project": self._show_project(repository.project),
            "workspace": {"type": "workspace", "slug": repository.workspace},
            "mainbranch": {"type": "branch", "name": "main"},
            "links": {
                "self": {"href": f"https://{API}{ROOT}/repositories/{full_name}"},
                "html": {"href": f"https://{SITE}/{full_name}"},
                "clone": [
                    {"name": "https", "href": f"https://{SITE}/{full_name}.git"},
                    {"name": "ssh", "href": f"git@{SITE}:{full_name}.git"},
                ],
            },
        }

    # nobody in particular

    @at("/hook_events")
    def hook_events(self, _call: Call) -> Response:
        base = f"https://{API}{ROOT}/hook_events"
        links = {
            subject: {"links": {"events": {"href": f"{base}/{subject}"}}}
            for subject in ("repository", "workspace")
        }
        return as_json(200, links)

    @at("/hook_events/{s}", parameters=LISTING)
    def subject_events(self, call: Call) -> Response:
        if call.names["s"] not in {"repository", "workspace"}:
            raise errors.refused(404, f"{call.names['s']} is not a valid subject type")
        return self._page(call, EVENTS, lambda event: {"event": event, "label": event.title()})

    # the caller

    @at("/user", legacy="account", granular="read:user", personal=True)
    def user(self, call: Call) -> Response:
        user = _owner(call)
        if user is None:
            app = {"type": "app_user", "uuid": uid("consumer"), "kind": "repository_access_token"}
            return as_json(200, app | {"display_name": "Example consumer"})
        return as_json(200, self._show_user(user))

    @at("/user/emails", legacy="email", granular="read:user", parameters=LISTING, personal=True)
    def emails(self, call: Call) -> Response:
        user = _owner(call)
        emails = [user.email] if user else []
        return self._page(
            call,
            emails,
            lambda email: {"type": "email", "email": email, "is_primary": True},
        )

    @at(
        "/user/workspaces",
        legacy="account",
        granular="read:workspace",
        parameters=LISTING + "sort administrator",
        personal=True,
    )
    def own_workspaces(self, call: Call) -> Response:
        """Nobody of the simulated people administers a whole workspace."""
        mine = [w for w in self.instance.workspaces if self._belongs(call, w)]
        if call.parameters.get("administrator") == "true":
            mine = []

        def show(workspace: Workspace) -> dict[str, Any]:
            base = {"type": "workspace_base", "uuid": uid(workspace.slug), "slug": workspace.slug}
            return {"type": "workspace_access", "administrator": False, "workspace": base}

        return self._page(call, mine, show, sized=False)

    @at(
        "/user/workspaces/{w}/permission",
        legacy="account",
        granular="read:workspace",
        personal=True,
    )
    def own_membership(self, call: Call) -> Response:
        workspace = self._own_workspace(call)
        base = {"type": "workspace_base", "uuid": uid(workspace.slug), "slug": workspace.slug}
        return as_json(200, {"permission": "member", "workspace": base})

    @at(
        "/user/workspaces/{w}/permissions/repositories",
        legacy="account repository",
        granular="read:repository",
        parameters=LISTING + "q sort",
        personal=True,
    )
    def own_permissions(self, call: Call) -> Response:
        workspace = self._own_workspace(call)
        wanted = self._search(
            call,
            {
                "repository.slug": lambda repository: repository.slug,
                "repository.name": lambda repository: repository.slug,
                "repository.full_name": lambda repository: repository.full_name,
                "permission": lambda repository: self._level(call, repository).name,
            },
        )
        mine = [
            repository
            for repository in self.instance.repositories
            if repository.workspace == workspace.slug
            and self._level(call, repository) >= Level.READ
            and wanted(repository)
        ]

        def show(repository: CloudRepository) -> dict[str, Any]:
            brief = {"type": "repository", "full_name": repository.full_name}
            return {
                "type": "repository_permission",
                "permission": self._level(call, repository).name.lower(),
                "repository": brief | {"uuid": uid(repository.full_name)},
            }

        return self._page(call, mine, show, sized=False)

    # workspaces

    @at("/workspaces/{w}", granular="read:workspace")
    def workspace(self, call: Call) -> Response:
        return as_json(200, self._show_workspace(self._workspace(call)))

    @at("/workspaces/{w}/projects", legacy="project", granular="read:project", parameters=LISTING)
    def projects(self, call: Call) -> Response:
        slug = self._workspace(call).slug
        visible = {
            repository.project
            for repository in self.instance.repositories
            if repository.workspace == slug and self._level(call, repository) >= Level.READ
        }
        return self._page(call, sorted(visible), self._show_project)

    @at(
        "/workspaces/{w}/permissions/repositories",
        legacy="account",
        granular="read:repository",
        parameters=LISTING + "q sort",
        personal=True,
    )
    @at(
        "/workspaces/{w}/permissions/repositories/{r}",
        legacy="repository",
        granular="read:repository",
        parameters=LISTING + "q sort",
        personal=True,
    )
    @at("/workspaces/{w}/hooks", legacy="webhook", granular="read:webhook", parameters=LISTING)
    def workspace_administration(self, call: Call) -> Response:
        self._workspace(call)
        raise errors.forbidden("Only administrators of the workspace can do this.")

    # repositories

    @at(
        "/repositories/{w}",
        legacy="repository",
        granular="read:repository",
        parameters=LISTING + "role q sort",
    )
    def repositories(self, call: Call) -> Response:
        slug = self._workspace(call).slug
        role = call.parameters.get("role")
        if role is not None and role not in {*ROLES, "owner"}:
            raise errors.invalid("Bad request", {"role": [f"{role} is not a valid choice"]})
        wanted = self._search(
            call,
            {
                "full_name": lambda repository: repository.full_name,
                "name": lambda repository: repository.slug,
                "slug": lambda repository: repository.slug,
                "project.key": lambda repository: repository.project,
            },
        )

        def fits(repository: CloudRepository) -> bool:
            if role == "owner" or (role and call.grant is None):  # nobody owns the workspaces
                return False
            own = call.grant.level(repository) if call.grant and role else Level.NONE
            enough = own >= ROLES[role] if role else self._level(call, repository) >= Level.READ
            return repository.workspace == slug and enough and wanted(repository)

        mine = [repository for repository in self.instance.repositories if fits(repository)]
        return self._page(call, mine, self._show_repository)

    @at(REPOSITORY, legacy="repository", granular="read:repository")
    def repository(self, call: Call) -> Response:
        return as_json(200, self._show_repository(self._repository(call, named=False)))

    @at(
        REPOSITORY + "/refs/branches",
        REPOSITORY + "/refs",
        legacy="repository",
        granular="read:repository",
        parameters=LISTING + "q sort",
    )
    def branches(self, call: Call) -> Response:
        self._content(call)
        return self._page(call, ("main",), lambda name: {"type": "branch", "name": name})

    @at(
        REPOSITORY + "/commits",
        legacy="repository",
        granular="read:repository",
        parameters=LISTING,
    )
    def commits(self, call: Call) -> Response:
        repository = self._content(call)
        hashes = [uid(f"{repository.full_name} {n}").strip("{}") for n in range(3)]
        return self._page(call, hashes, lambda sha: {"type": "commit", "hash": sha}, sized=False)

    @at(
        REPOSITORY + "/commits/{c}",
        legacy="repository",
        granular="read:repository",
        parameters=LISTING,
    )
    def commits_of(self, call: Call) -> Response:
        """Where the repository is missing, this one answers with a page for people."""
        try:
            return self.commits(call)
        except RefusedError as refusal:
            if refusal.response.status != 404:
                raise
            return errors.page(404)

    @at(
        REPOSITORY + "/src",
        legacy="repository",
        granular="read:repository",
        parameters=LISTING + "format",
    )
    def source(self, call: Call) -> Response:
        self._content(call)
        show = {"type": "commit_file", "path": "README.md"}
        return self._page(call, ("README.md",), lambda _: show, sized=False)

    @at(
        REPOSITORY + "/pullrequests",
        legacy="pullrequest",
        granular="read:pullrequest",
        parameters=LISTING + "state",
        required_as_text=True,
    )
    def pull_requests(self, call: Call) -> Response:
        self._content(call)
        return self._page(
            call, (1,), lambda number: {"type": "pullrequest", "id": number}, largest=50
        )

    @at(REPOSITORY + "/pullrequests/{n}", legacy="pullrequest", granular="read:pullrequest")
    def pull_request(self, call: Call) -> Response:
        self._content(call)
        if call.names["n"] != "1":
            return errors.text(404, "Not Found")
        return as_json(200, {"type": "pullrequest", "id": 1})

    # webhooks and permissions: for administrators

    @at(REPOSITORY + "/hooks", legacy="webhook", granular="read:webhook", parameters=LISTING)
    def hooks(self, call: Call) -> Response:
        self._manage_hooks(call)
        return self._page(call, ("chat",), self._show_hook)

    @at(REPOSITORY + "/hooks/{h}", legacy="webhook", granular="read:webhook")
    def hook(self, call: Call) -> Response:
        self._manage_hooks(call)
        if call.names["h"] != uid("chat"):
            return as_json(404, {"message": f"{call.names['r']} is not a valid hook"})
        return as_json(200, self._show_hook("chat"))

    def _manage_hooks(self, call: Call) -> None:
        """Users have to be administrators; for tokens of a resource their scope is enough."""
        if call.grant is not None and call.grant.owner is None:
            self._repository(call)
        else:
            self._administered(call)

    @staticmethod
    def _show_hook(name: str) -> dict[str, Any]:
        return {
            "type": "webhook_subscription",
            "uuid": uid(name),
            "url": f"https://{name}.example.com/hook",
            "description": name,
            "subject_type": "repository",
            "active": True,
            "events": [EVENTS[0]],
            "secret_set": False,
        }

    @at(
        REPOSITORY + "/permissions-config/users",
        REPOSITORY + "/permissions-config/groups",
        legacy="repository:admin",
        granular="read:repository",
        parameters=LISTING,
        personal=True,
    )
    def permissions(self, call: Call) -> Response:
        self._administered(call)
        return self._page(call, (), dict)

    # what was removed

    @at(
        "/workspaces",
        "/repositories",
        "/snippets",
        "/user/permissions/workspaces",
        "/user/permissions/repositories",
        known=False,
    )
    def removed(self, _call: Call) -> Response:
        raise errors.gone()


def _owner(call: Call) -> CloudUser | None:
    """The user behind a personal call, None for an OAuth consumer that acts for itself."""
    return call.grant.owner if call.grant else None
