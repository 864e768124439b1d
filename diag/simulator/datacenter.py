"""How Bitbucket Data Center answers: paths, parameters, rights and headers.

The table of what exists is the `@at` lines above the methods; paths and parameters were taken from
the official description of 9.4. Whatever else is asked for gets the answer of the real server and
is not `known`, which is no fault of the server, but of who asks.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from diag.simulator import errors, git
from diag.simulator.data import (
    ANONYMOUS,
    Caller,
    Delivered,
    Instance,
    Level,
    Project,
    Repository,
    Token,
    User,
    Webhook,
)
from diag.simulator.dialect import READING, RefusedError, Routes, as_json
from diag.simulator.server import Request, Response, page
from diag.simulator.signin import SESSION_COOKIE, SignIn

PERMISSIONS = {
    f"{scope}_{level.name}": (scope, level)
    for scope in ("PROJECT", "REPO")
    for level in (Level.READ, Level.WRITE, Level.ADMIN)
}
T = TypeVar("T")

STATE_STATUS = {"STARTING": 503, "STOPPING": 503, "MAINTENANCE": 503, "ERROR": 500}


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a handler."""

    request: Request
    caller: Caller
    names: Mapping[str, str]  # parts of the path
    parameters: Mapping[str, str]  # only those that the resource takes


Handler = Callable[["DataCenter", Call], Response]
ROUTES: Routes[Handler] = Routes()
at = ROUTES.at
PAGED = "start limit "


def web_page(status: int, title: str, text: str = "") -> Response:
    body = page(f"{title} - Bitbucket", body=text).encode()
    return Response(status, [("Content-Type", "text/html;charset=UTF-8")], body, chunked=True)


class DataCenter:
    """The dialect of Bitbucket Data Center: a `Site`."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._lock = threading.Lock()
        self._count = 0
        self._sign_in = SignIn(instance)

    # what a Site does

    def knows(self, request: Request) -> bool:
        path = self._path(request)
        return path is not None and ROUTES.know(path, request)

    def answer(self, request: Request) -> Response:
        path = self._path(request)
        if path is None:  # not Bitbucket, but the Tomcat around it
            body = page("HTTP Status 404 – Not Found", "Apache Tomcat").encode()
            return Response(404, [("Content-Type", "text/html;charset=utf-8")], body)
        caller = ANONYMOUS
        try:
            self._check_state(path)
            caller = self._sign_in.caller(request, path)
            response = self._dispatch(request, path, caller)
        except RefusedError as refusal:
            response = refusal.response
            if path.startswith("/scm/") and response.status == 401:
                response = git.ask_for_login()
        self._add_headers(response, path, caller)
        return response

    # the frame

    def _path(self, request: Request) -> str | None:
        """The path below the context path, None outside of it."""
        context = self.instance.context_path
        if request.path != context and not request.path.startswith(context + "/"):
            return None
        return request.path[len(context) :].rstrip("/") or "/"

    def _check_state(self, path: str) -> None:
        state = self.instance.state
        if state == "RUNNING" or path == "/status":
            return
        if state == "FIRST_RUN":
            if path != "/setup":
                raise RefusedError(self._redirect("/setup"))
            raise RefusedError(web_page(200, "Setup"))
        raise RefusedError(web_page(503, f"Bitbucket is {state.lower()}"))

    def _dispatch(self, request: Request, path: str, caller: Caller) -> Response:
        rest = path.startswith("/rest/")
        found = ROUTES.find(path)
        if found is None:
            if rest:
                raise errors.refused(404, "HTTP 404 Not Found")
            return web_page(404, "Not found", "The page you are looking for does not exist.")
        if request.method not in READING:
            allowed = ("Allow", "GET,HEAD,OPTIONS")
            raise errors.refused(405, "HTTP 405 Method Not Allowed", None, allowed)
        accept = request.headers.get("accept", "*/*")
        if rest and not re.search(r"\*/\*|application/(\*|json)", accept):
            return Response(406)
        self._count_against_limit(caller)
        route, names = found
        given = {name: value for name, value in request.parameters if route.takes(name)}
        return route.handler(self, Call(request, caller, names, given))

    def _count_against_limit(self, caller: Caller) -> None:
        with self._lock:
            left = self.instance.requests_left
            if left is None or caller.anonymous:
                return
            if left == 0:
                raise errors.rate_limited(self.instance.retry_after)
            self.instance.requests_left = left - 1

    def _add_headers(self, response: Response, path: str, caller: Caller) -> None:
        with self._lock:
            self._count += 1
            count = self._count
        headers = [("X-AREQUESTID", f"@1VT0CNLx{count % 1440}x{count}x0")]
        if caller.user is not None:
            headers += [
                ("X-AUSERID", str(caller.user.id)),
                ("X-AUSERNAME", quote(caller.user.name, safe="")),
            ]
        if not caller.anonymous:
            session = self._sign_in.start_session(caller)
            cookie = f"{SESSION_COOKIE}={session}; Max-Age=1209600; Path=/; Secure; HttpOnly"
            headers += [("X-ASESSIONID", session[:6]), ("Set-Cookie", cookie)]
        headers += [
            ("Cache-Control", "private, no-cache"),
            ("Pragma", "no-cache"),
            ("Cache-Control", "no-cache, no-transform"),
            ("Vary", "x-ausername,x-auserid,cookie,accept-encoding"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if response.status == 401 and path.startswith("/rest/"):
            realm = quote(self.instance.base_url, safe="")
            headers.append(("WWW-Authenticate", f'OAuth realm="{realm}"'))
        response.headers[:0] = headers

    def _redirect(self, path: str) -> Response:
        return Response(302, [("Location", self.instance.base_url + path)])

    # rights

    def _not_permitted(self, caller: Caller) -> RefusedError:
        modern = self.instance.numbers >= (9,)
        return errors.not_permitted(login_would_help=caller.anonymous and modern)

    def _require_login(self, caller: Caller) -> None:
        if caller.anonymous:
            raise self._not_permitted(caller)

    def _visible(self, caller: Caller, repository: Repository) -> bool:
        """The implicit read permission, which everybody has for what is public."""
        if repository.public and (self.instance.public_access or not caller.anonymous):
            return True
        return caller.level(repository.project, repository.slug) >= Level.READ

    def _project_visible(self, caller: Caller, project: Project) -> bool:
        return caller.level(project.key) >= Level.READ or any(
            self._visible(caller, repository)
            for repository in self.instance.repositories
            if repository.project == project.key
        )

    def _named_project(self, call: Call) -> Project:
        """The project of the path, whoever asks."""
        project = self.instance.projects.get(call.names["k"].upper())
        if project is None:
            message = f"Project {call.names['k']} does not exist."
            raise errors.refused(404, message, errors.NO_PROJECT)
        return project

    def _project(self, call: Call, level: Level = Level.NONE) -> Project:
        """The project of the path, if the caller has this right there."""
        project = self._named_project(call)
        allowed = call.caller.level(project.key) >= level
        if not (allowed and self._project_visible(call.caller, project)):
            raise self._not_permitted(call.caller)
        return project

    def _repository(self, call: Call, level: Level = Level.NONE) -> Repository:
        """The repository of the path, if the caller has this right there."""
        key, slug = self._named_project(call).key, call.names["r"]
        repository = self.instance.repository(key, slug)
        if repository is None:
            message = f"Repository {key}/{slug} does not exist."
            raise errors.refused(404, message, errors.NO_REPOSITORY)
        allowed = call.caller.level(key, repository.slug) >= level
        if not (allowed and self._visible(call.caller, repository)):
            raise self._not_permitted(call.caller)
        return repository

    # pages

    def _page(
        self,
        call: Call,
        items: Sequence[T],
        show: Callable[[T], object],
        wanted: Callable[[T], bool] = lambda _: True,
    ) -> Response:
        """One page of those that are wanted. Positions count the others too, as Bitbucket's do,
        which filters by permission after counting: nextPageStart is not start + size."""
        start, limit = self._number(call, "start", 0), self._number(call, "limit", 25)
        limit = min(limit, self.instance.page_limit)
        values: list[object] = []
        following: int | None = None
        for position in range(start, len(items)):
            if not wanted(items[position]):
                continue
            if len(values) == limit:
                following = position
                break
            values.append(show(items[position]))
        body: dict[str, object] = {
            "size": len(values),
            "limit": limit,
            "isLastPage": following is None,
            "values": values,
            "start": start,
        }
        if following is not None:
            body["nextPageStart"] = following
        return as_json(200, body)

    @staticmethod
    def _number(call: Call, name: str, default: int) -> int:
        text = call.parameters.get(name, str(default))
        if not text.isdecimal() or (name == "limit" and int(text) == 0):
            raise errors.invalid(name, f"{name} must be a positive number")
        return int(text)

    # how things are shown

    def _link(self, path: str) -> str:
        return self.instance.base_url + quote(path, safe="/~")

    def _show_project(self, project: Project) -> dict[str, Any]:
        kind, place = "NORMAL", f"projects/{project.key}"
        if project.personal:
            kind, place = "PERSONAL", f"users/{project.key[1:].lower()}"
        return {
            "key": project.key,
            "id": project.id,
            "name": project.name,
            "public": False,
            "type": kind,
            "links": {"self": [{"href": self._link(f"/{place}")}]},
        }

    def _show_repository(self, repository: Repository) -> dict[str, Any]:
        project, slug = repository.project, repository.slug
        clone = []
        if self.instance.git_http:
            href = self._link(f"/scm/{project.lower()}/{slug}.git")
            clone.append({"href": href, "name": "http"})
        if self.instance.ssh_url is not None:
            href = f"{self.instance.ssh_url}/{project.lower()}/{slug}.git"
            clone.append({"href": href, "name": "ssh"})
        shown = {
            "slug": slug,
            "id": repository.id,
            "name": repository.name or slug,
            "hierarchyId": f"{repository.id:020x}",
            "scmId": "git",
            "state": repository.state,
            "statusMessage": repository.state.capitalize(),
            "forkable": True,
            "project": self._show_project(self.instance.projects[project]),
            "public": repository.public,
            "archived": repository.archived,
            "links": {
                "clone": clone,
                "self": [{"href": self._link(f"/projects/{project}/repos/{slug}/browse")}],
            },
        }
        if self.instance.numbers < (8,):
            del shown["archived"]
        return shown

    def _show_user(self, user: User) -> dict[str, Any]:
        return {
            "name": user.name,
            "emailAddress": f"{user.slug}@example.com",
            "active": user.active,
            "displayName": user.display_name,
            "id": user.id,
            "slug": user.slug,
            "type": "NORMAL",
            "links": {"self": [{"href": self._link(f"/users/{user.slug}")}]},
        }

    # anonymous resources

    @at("/status")
    def status(self, _call: Call) -> Response:
        state = self.instance.state
        return as_json(STATE_STATUS.get(state, 200), {"state": state})

    @at("/rest/api/{v}/application-properties")
    def application_properties(self, _call: Call) -> Response:
        major, minor, patch = (*self.instance.numbers, 0, 0)[:3]
        return as_json(
            200,
            {
                "version": self.instance.version,
                "buildNumber": f"{major * 10**6 + minor * 10**3 + patch}",
                "buildDate": "1733097600000",
                "displayName": self.instance.display_name,
            },
        )

    @at("/rest/capabilities")
    def capabilities(self, _call: Call) -> Response:
        return as_json(
            200,
            {
                "links": {"self": self._link("/rest/capabilities")},
                "application": "stash",
                "buildDate": "2024-12-02T00:00:00Z",
                "capabilities": {
                    "webhooks": self._link("/rest/webhooks/latest/capabilities"),
                    "build-status": self._link("/rest/api/latest/build/capabilities"),
                },
            },
        )

    @at("/rest/authconfig/{v}/login-options", parameters=PAGED)
    def login_options(self, _call: Call) -> Response:
        form = {
            "id": 0,
            "type": "LOGIN_FORM",
            "buttonText": "Log in",
            "loginLink": self._link("/login"),
        }
        return as_json(200, {"size": 1, "start": 0, "isLastPage": True, "results": [form]})

    # listings

    @at(
        "/rest/api/{v}/repos",
        parameters=PAGED + "archived projectname projectkey visibility name permission state",
    )
    def repos(self, call: Call) -> Response:
        modern = self.instance.numbers >= (9,)
        listing = self.instance.anonymous_listing
        if call.caller.anonymous and not (not modern if listing is None else listing):
            raise self._not_permitted(call.caller)
        wanted = self._repository_filter(call)
        return self._page(call, self.instance.repositories, self._show_repository, wanted)

    def _repository_filter(self, call: Call) -> Callable[[Repository], bool]:
        given = {name: value.strip().lower() for name, value in call.parameters.items()}
        if self.instance.numbers < (8,):
            given.pop("archived", None)
            given.pop("projectkey", None)
        if given.get("visibility", "public") not in {"public", "private"}:
            raise errors.invalid("visibility", "visibility must be public or private")
        level = self._level(call, "REPO")

        def wanted(repository: Repository) -> bool:
            project = self.instance.projects[repository.project]
            archived = "archived" if repository.archived else "active"
            equal = {
                "archived": {archived, "all"},
                "projectkey": {repository.project.lower()},
                "state": {repository.state.lower()},
                "visibility": {"public" if repository.public else "private"},
            }
            return (
                self._visible(call.caller, repository)
                and call.caller.level(repository.project, repository.slug) >= level
                and (archived == "active" or "archived" in given)
                and all(given.get(name) in {None, *values} for name, values in equal.items())
                and given.get("name", "") in (repository.name or repository.slug).lower()
                and given.get("projectname", "") in project.name.lower()
            )

        return wanted

    @staticmethod
    def _level(call: Call, scope: str) -> Level:
        """What the parameter `permission` asks for on a project or repository."""
        permission = call.parameters.get("permission")
        if permission is None:
            return Level.NONE
        found, level = PERMISSIONS.get(permission, ("", Level.NONE))
        if found != scope:
            raise errors.invalid("permission", f"'{permission}' does not fit here")
        return level

    @at("/rest/api/{v}/profile/recent/repos", parameters=PAGED + "permission")
    def recent_repos(self, call: Call) -> Response:
        self._require_login(call.caller)
        return self._page(call, (), self._show_repository)

    @at("/rest/api/{v}/projects", parameters=PAGED + "name permission")
    def projects(self, call: Call) -> Response:
        self._require_login(call.caller)
        name = call.parameters.get("name", "").strip().lower()
        level = self._level(call, "PROJECT")
        return self._page(
            call,
            list(self.instance.projects.values()),
            self._show_project,
            lambda project: (
                name in project.name.lower()
                and call.caller.level(project.key) >= level
                and self._project_visible(call.caller, project)
            ),
        )

    @at("/rest/api/{v}/projects/{k}")
    def project(self, call: Call) -> Response:
        return as_json(200, self._show_project(self._project(call)))

    @at("/rest/api/{v}/projects/{k}/repos", parameters=PAGED)
    def project_repos(self, call: Call) -> Response:
        project = self._project(call)
        mine = [r for r in self.instance.repositories if r.project == project.key]
        return self._page(
            call, mine, self._show_repository, lambda r: self._visible(call.caller, r)
        )

    @at("/rest/api/{v}/projects/{k}/repos/{r}")
    def repo(self, call: Call) -> Response:
        return as_json(200, self._show_repository(self._repository(call)))

    # people

    @at("/rest/api/{v}/users", parameters="filter group permission permission.*")
    def users(self, call: Call) -> Response:
        self._require_login(call.caller)
        text = call.parameters.get("filter", "").lower()
        permission = call.parameters.get("permission")
        may = self._user_filter(call, permission) if permission else lambda _: True
        return self._page(
            call,
            list(self.instance.users.values()),
            self._show_user,
            lambda user: (
                text in f"{user.name} {user.display_name}".lower() and user.active and may(user)
            ),
        )

    def _user_filter(self, call: Call, permission: str) -> Callable[[User], bool]:
        if permission in {"ADMIN", "SYS_ADMIN"}:
            return lambda user: user.admin
        scope, level = PERMISSIONS.get(permission, ("", Level.NONE))
        key = call.parameters.get("permission.projectKey", "").upper()
        slug = call.parameters.get("permission.repositorySlug") if scope == "REPO" else None
        found = self.instance.repository(key, slug) if slug else self.instance.projects.get(key)
        if not scope or found is None or (scope == "REPO" and not slug):
            raise errors.invalid("permission", "The permission filter is invalid")
        return lambda user: user.level(key, slug) >= level

    @at("/rest/api/{v}/users/{u}")
    def user(self, call: Call) -> Response:
        self._require_login(call.caller)
        return as_json(200, self._show_user(self._user_by_slug(call)))

    def _user_by_slug(self, call: Call) -> User:
        slug = call.names["u"]
        for user in self.instance.users.values():
            if user.slug == slug:
                return user
        raise errors.refused(404, f"User {slug} does not exist.", errors.NO_USER)

    # what only administrators of a repository or project may see

    # The description of 9.4 names no start and limit for webhooks, nor for users, though it calls
    # the answers pages.
    @at("/rest/api/{v}/projects/{k}/repos/{r}/webhooks", parameters="event statistics")
    def repo_webhooks(self, call: Call) -> Response:
        self._repository(call, Level.ADMIN)
        return self._webhooks(call, of_project=False)

    @at("/rest/api/{v}/projects/{k}/webhooks", parameters="event statistics")
    def project_webhooks(self, call: Call) -> Response:
        self._project(call, Level.ADMIN)
        return self._webhooks(call, of_project=True)

    @at(
        "/rest/api/{v}/projects/{k}/repos/{r}/webhooks/search",
        parameters="scopeType event statistics",
    )
    def found_webhooks(self, call: Call) -> Response:
        self._repository(call, Level.ADMIN)
        scope = call.parameters.get("scopeType")
        return self._webhooks(call, of_project=None if scope is None else scope == "project")

    @at("/rest/api/{v}/projects/{k}/repos/{r}/webhooks/{w}", parameters="statistics")
    def repo_webhook(self, call: Call) -> Response:
        return as_json(200, self._show_webhook(call, self._one_webhook(call)))

    @at("/rest/api/{v}/projects/{k}/repos/{r}/webhooks/{w}/latest", parameters="event outcome")
    def latest_delivery(self, call: Call) -> Response:
        webhook = self._one_webhook(call)
        wanted = call.parameters.get("outcome")
        record = [one for one in webhook.record if wanted in {None, one.outcome}]
        if not record:
            return Response(204)
        latest = min(record, key=lambda one: one.ago)
        shown = self._show_delivery(webhook, latest)
        key = "content" if latest.outcome == "ERROR" else "body"
        shown["result"][key] = latest.content
        return as_json(200, shown)

    @at("/rest/api/{v}/projects/{k}/repos/{r}/webhooks/{w}/statistics", parameters="event")
    def delivery_statistics(self, call: Call) -> Response:
        return as_json(200, self._show_record(self._one_webhook(call)))

    @at("/rest/api/{v}/projects/{k}/repos/{r}/webhooks/{w}/statistics/summary")
    def delivery_summary(self, call: Call) -> Response:
        webhook = self._one_webhook(call)
        return as_json(200, dict.fromkeys(webhook.events, self._show_record(webhook)))

    def _one_webhook(self, call: Call) -> Webhook:
        self._repository(call, Level.ADMIN)
        for webhook in self.instance.webhooks:
            if str(webhook.id) == call.names["w"] and not webhook.of_project:
                return webhook
        raise errors.refused(404, f"Webhook with ID {call.names['w']} not found")

    def _webhooks(self, call: Call, *, of_project: bool | None) -> Response:
        """One page, of a repository's own webhooks, its project's or both (None)."""
        event = call.parameters.get("event")
        return self._page(
            call,
            [one for one in self.instance.webhooks if of_project in {None, one.of_project}],
            lambda webhook: self._show_webhook(call, webhook),
            lambda webhook: event in {None, *webhook.events},
        )

    def _show_webhook(self, call: Call, webhook: Webhook) -> dict[str, Any]:
        """Older versions really give the secret away."""
        changed = round((time.time() - webhook.changed) * 1000)
        shown: dict[str, Any] = {
            "id": webhook.id,
            "name": webhook.name,
            "createdDate": changed,
            "updatedDate": changed,
            "events": list(webhook.events),
            "configuration": {"secret": "a-webhook-secret-in-clear"},
            "url": webhook.url,
            "active": webhook.active,
            "scopeType": "project" if webhook.of_project else "repository",
            "sslVerificationRequired": True,
        }
        if call.parameters.get("statistics") == "true":
            shown["statistics"] = self._show_record(webhook)
        return shown

    def _show_record(self, webhook: Webhook) -> dict[str, Any]:
        last = {one.outcome: self._show_delivery(webhook, one) for one in webhook.record}
        day = 86400_000
        return {
            "lastSuccess": last.get("SUCCESS"),
            "lastFailure": last.get("FAILURE"),
            "lastError": last.get("ERROR"),
            "counts": {
                "errors": int("ERROR" in last),
                "failures": int("FAILURE" in last),
                "successes": int("SUCCESS" in last),
                "window": {"start": round(time.time() * 1000) - 30 * day, "duration": 30 * day},
            },
        }

    @staticmethod
    def _show_delivery(webhook: Webhook, delivered: Delivered) -> dict[str, Any]:
        finish = round((time.time() - delivered.ago) * 1000)
        took = round(delivered.took * 1000)
        return {
            "id": 1000 + webhook.id,
            "event": webhook.events[0],
            "duration": took,
            "start": finish - took,
            "finish": finish,
            "request": {"url": webhook.url, "method": "POST"},
            "result": {"outcome": delivered.outcome, "description": delivered.description},
        }

    @at("/rest/api/{v}/projects/{k}/repos/{r}/settings/hooks", parameters=PAGED + "type")
    @at("/rest/api/{v}/projects/{k}/repos/{r}/permissions/users", parameters=PAGED + "filter")
    @at("/rest/api/{v}/projects/{k}/repos/{r}/permissions/groups", parameters=PAGED + "filter")
    @at(
        "/rest/branch-permissions/latest/projects/{k}/repos/{r}/restrictions",
        parameters=PAGED + "matcherType matcherId type",
    )
    def repo_administration(self, call: Call) -> Response:
        self._repository(call, Level.ADMIN)
        return self._page(call, (), dict)

    @at("/rest/api/{v}/projects/{k}/settings/hooks", parameters=PAGED + "type")
    @at("/rest/api/{v}/projects/{k}/permissions/users", parameters=PAGED + "filter")
    @at("/rest/api/{v}/projects/{k}/permissions/groups", parameters=PAGED + "filter")
    def project_administration(self, call: Call) -> Response:
        self._project(call, Level.ADMIN)
        return self._page(call, (), dict)

    @at("/rest/api/{v}/admin/permissions/users", parameters=PAGED + "filter")
    @at("/rest/api/{v}/admin/permissions/groups", parameters=PAGED + "filter")
    @at("/rest/api/{v}/admin/license", "/rest/api/{v}/admin/cluster")
    @at("/rest/api/{v}/admin/rate-limit/settings", "/rest/basicauth/{v}/config")
    def administration(self, call: Call) -> Response:
        """No HTTP access token reaches these, whoever owns it."""
        if call.caller.user is None or not call.caller.user.admin or call.caller.token:
            raise self._not_permitted(call.caller)
        return self._page(call, (), dict)

    # access tokens

    @at("/rest/access-tokens/{v}/users/{u}", parameters=PAGED)
    @at("/rest/access-tokens/{v}/users/{u}/{t}")
    def user_tokens(self, call: Call) -> Response:
        self._require_login(call.caller)
        user = self._user_by_slug(call)
        if call.caller.user != user or call.caller.token is not None:
            raise self._not_permitted(call.caller)
        return self._tokens(call, lambda token: token.owner == user.name)

    @at("/rest/access-tokens/{v}/projects/{k}/repos/{r}", parameters=PAGED)
    @at("/rest/access-tokens/{v}/projects/{k}/repos/{r}/{t}")
    def repo_tokens(self, call: Call) -> Response:
        repository = self._repository(call, Level.ADMIN)
        scope = f"{repository.project}/{repository.slug}"
        return self._tokens(call, lambda token: token.scope == scope)

    @at("/rest/access-tokens/{v}/projects/{k}", parameters=PAGED)
    @at("/rest/access-tokens/{v}/projects/{k}/{t}")
    def project_tokens(self, call: Call) -> Response:
        scope = self._project(call, Level.ADMIN).key
        return self._tokens(call, lambda token: token.scope == scope)

    def _tokens(self, call: Call, mine: Callable[[Token], bool]) -> Response:
        tokens = [token for token in self.instance.tokens.values() if mine(token)]

        def show(token: Token) -> dict[str, Any]:
            kind = "PROJECT" if token.scope and "/" not in token.scope else "REPO"
            return {
                "id": token.id,
                "name": token.name,
                "createdDate": 1733097600000,
                "permissions": [f"{kind}_{token.level.name}"],
            }

        wanted = call.names.get("t")
        if wanted is None:
            return self._page(call, tokens, show)
        for token in tokens:
            if token.id == wanted:
                return as_json(200, show(token))
        raise errors.refused(404, f"No token with the ID {wanted} exists.")

    @at("/rest/oauth2/{v}/client", known=False)
    def oauth_clients(self, call: Call) -> Response:
        raise self._not_permitted(call.caller)

    # cloning

    @at("/scm/{k}/{r}.git/info/refs", parameters="service")
    def git_refs(self, call: Call) -> Response:
        if not self.instance.git_http:
            return git.refuse(403, "HTTP(S) access to repositories has been disabled.")
        service = call.parameters.get("service", "")
        if service not in git.SERVICES:
            return git.refuse(403, "Dumb HTTP is not supported; please upgrade your git client.")
        level = Level.WRITE if service == "git-receive-pack" else Level.NONE
        try:
            return git.advertise_refs(service, self._repository(call, level).slug)
        except RefusedError:
            if call.caller.anonymous:
                raise
            return git.refuse(404, "Repository not found")

    # pages for people: of these only the base path is a thing to ask for

    @at("/")
    def root(self, _call: Call) -> Response:
        return self._redirect("/dashboard")

    @at("/dashboard", "/projects", "/projects/{k}", "/projects/{k}/repos/{r}/browse", known=False)
    def dashboard(self, call: Call) -> Response:
        if call.caller.anonymous:
            return self._redirect(f"/login?next={quote(call.request.path)}")
        return web_page(200, "Dashboard")

    @at("/login", parameters="next", known=False)
    def login(self, _call: Call) -> Response:
        return web_page(
            200, "Log in", '<form action="j_atl_security_check"><input name="j_username"></form>'
        )

    @at("/plugins/servlet/applinks/whoami", known=False)  # answers tokens with nothing
    def whoami(self, call: Call) -> Response:
        name = call.caller.user.name if call.caller.user else ""
        return Response(200, [("Content-Type", "text/plain;charset=UTF-8")], name.encode())
