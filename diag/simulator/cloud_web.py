"""What is at bitbucket.org beside the API: pages, git over HTTPS, and the OAuth token endpoint."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from diag.simulator import cloud_errors as errors
from diag.simulator import git
from diag.simulator.cloud_data import CloudInstance, CloudRepository, Grant, Need
from diag.simulator.cloud_signin import basic_pair, for_git
from diag.simulator.data import Credential, Level
from diag.simulator.dialect import READING, RefusedError, as_json
from diag.simulator.server import Request, Response, page

TOKEN_PATH = "/site/oauth2/access_token"  # noqa: S105
LIFETIME = 7200  # seconds that an OAuth access token lasts
REFS = re.compile(r"/([^/]+)/([^/]+?)(?:\.git)?/info/refs")
READ = Need(("repository",), ("read:repository:bitbucket",))
WRITE = Need(("repository:write",), ("write:repository:bitbucket",))
NOT_FOUND = (
    "The requested repository either does not exist or you do not have access. If you believe this"
    " repository exists and you have access, make sure you're authenticated."
)


class Website:
    """What is at bitbucket.org."""

    def __init__(self, instance: CloudInstance) -> None:
        self.instance = instance

    def knows(self, request: Request) -> bool:
        names = {name for name, _ in request.parameters}
        if request.path == TOKEN_PATH:
            return request.method == "POST" and not names
        if REFS.fullmatch(request.path):
            return request.method in READING and names == {"service"}
        return request.path == "/" and request.method in READING and not names

    def answer(self, request: Request) -> Response:
        try:
            if request.path == TOKEN_PATH:
                return self._grant_token(request)
            if refs := REFS.fullmatch(request.path):
                return self._refs(request, refs[1], refs[2])
            if request.path.startswith("/api/"):  # an old address, closed in May 2026
                raise errors.forbidden()
        except RefusedError as refusal:
            if refusal.response.status == 401:
                refusal.response.headers.append(errors.CHALLENGE)
            return refusal.response
        return self._page(request.path)

    def _page(self, path: str) -> Response:
        repository = self.instance.repository(*(*path.strip("/").split("/"), "", "")[:2])
        if path != "/" and (repository is None or not repository.public):
            return errors.page(404)
        title = "Bitbucket | Git solution for teams using Jira"
        body = '<a href="https://bitbucket.org/account/signin/">Log in</a>'
        kind = ("Content-Type", "text/html; charset=utf-8")
        return Response(200, [kind], page(title, body=body).encode())

    # git

    def _refs(self, request: Request, workspace: str, slug: str) -> Response:
        service = dict(request.parameters).get("service", "")
        if service not in git.SERVICES:
            return errors.text(403, "Dumb HTTP is not supported; please upgrade your git client.")
        grant = for_git(request, self.instance.grants)
        repository = self.instance.repository(workspace, slug)
        writing = service == "git-receive-pack"
        if grant is None and (writing or repository is None or not repository.public):
            raise RefusedError(errors.text(401, ""))
        self._check(grant, repository, writing=writing)
        return git.advertise_refs(service, slug)

    def _check(
        self, grant: Grant | None, repository: CloudRepository | None, *, writing: bool
    ) -> None:
        """Let pass who may. Raises RefusedError with what git shows to everybody else."""
        level = grant.level(repository) if grant and repository else Level.NONE
        public = repository is not None and repository.public
        if repository is None or (level < Level.READ and not public):
            raise RefusedError(errors.text(404, NOT_FOUND))
        if grant is not None and grant.lacks(WRITE if writing else READ):
            raise RefusedError(errors.text(403, errors.LACKS_SCOPES))
        if writing and level < Level.WRITE:
            raise RefusedError(errors.text(403, errors.ROLE_TOO_LOW))
        if not public and repository.workspace in self.instance.blocked:
            raise RefusedError(errors.text(403, errors.IP_BLOCKED))

    # OAuth

    def _grant_token(self, request: Request) -> Response:
        """The client credentials grant: a token for a consumer's key and secret."""
        if request.method != "POST":
            return errors.page(405)
        if request.authorization not in {"none", "basic"}:  # a token in the place of the key
            return errors.page(400)
        if (pair := basic_pair(request)) is None:
            words = "Requests must be authenticated using OAuth client credentials"
            return _oauth_error("unauthorized_client", words)
        consumer = self.instance.consumer(Credential(user=pair[0], secret=pair[1]))
        if consumer is None:
            return _oauth_error("unauthorized_client", "Invalid OAuth client credentials")
        form = parse_qs(request.body.decode("latin-1"))
        if form.get("grant_type") != ["client_credentials"]:
            return _oauth_error("unsupported_grant_type", "Unsupported grant type")
        if consumer.public:
            words = (
                'Cannot use client_credentials with a consumer marked as "public". Calls for auto'
                " generated consumers should use urn:bitbucket:oauth2:jwt instead."
            )
            return _oauth_error("invalid_grant", words)
        if not consumer.callback:
            words = "No callback uri defined for the OAuth client."
            return _oauth_error("invalid_request", words)
        self.instance.grants[consumer.token] = consumer.grant
        return as_json(
            200,
            {
                "access_token": consumer.token,
                "token_type": "bearer",
                "expires_in": LIFETIME,
                "scope": " ".join(consumer.grant.shown),
                "state": "client_credentials",
            },
        )


def _oauth_error(code: str, description: str) -> Response:
    return as_json(400, {"error": code, "error_description": description})
