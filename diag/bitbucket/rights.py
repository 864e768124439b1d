"""What a secret, and the user behind it, may do: asked without doing any of it.

Bitbucket answers 401 to a good secret without the right permission, and after a 401 the secret is
not sent again: `webhooks` can be such an answer, so it is the last thing to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from diag.bitbucket import datacenter
from diag.bitbucket.listing import PageError, read_page, repository
from diag.record import record

if TYPE_CHECKING:
    from diag.facts import Repository
    from diag.net.http import Answer

_MOST = 1 << 18  # bytes of an answer with webhooks: a page of 25 with all their statistics


class Ask(Protocol):
    """Sends a request with the secret."""

    def __call__(
        self, url: str, query: Mapping[str, str | int] | None = None, *, max_bytes: int = ...
    ) -> Answer: ...


@record
class Told:
    """Yes, no or None for "cannot be told", and the answer that it rests on."""

    value: bool | None
    answer: Answer


# What is asked, as arguments of `Ask` and of `Http.ahead`.


def listing(permission: str, project: str | None, slug: str | None) -> dict[str, Any]:
    """The repositories to which the secret has `permission`, of the project or of all."""
    query: dict[str, str | int] = {"permission": permission}
    if project is not None:  # the filters are only to shorten the page: old versions ignore some
        query["projectkey"] = project
    if slug is not None:
        query["archived"] = "ALL"
    return {
        "url": datacenter.REPOS,
        "query": query | {"limit": 1 if project is None else 100},
    }


def users(name: str, permission: str, to: Repository | None) -> dict[str, Any]:
    """The users of a name, or part of it, with `permission` to a repository or to all."""
    query: dict[str, str | int] = {"filter": name, "permission": permission}
    if to is not None:
        query |= {"permission.projectKey": to.project, "permission.repositorySlug": to.slug}
    return {"url": datacenter.USERS, "query": query}


def hooks(project: str, slug: str | None) -> dict[str, Any]:
    """The webhooks of a repository, or project, with what became of the last deliveries. No `limit`
    is sent, for the description of this resource has none."""
    path = datacenter.webhooks_path(project, slug)
    return {"url": path, "query": {"statistics": "true"}, "max_bytes": _MOST}


# What the answers say.


def listed(ask: Ask, permission: str, project: str | None, wanted: Repository | None) -> Told:
    """Whether the secret has `permission` (REPO_ADMIN, REPO_WRITE) to the wanted repository; to any
    of the project, or to any at all, where none is wanted."""
    question = listing(permission, project, None)
    if wanted is not None:
        question = listing(permission, wanted.project, wanted.slug)
    told = _listed(ask(**question), project, wanted)
    if told.value is None and wanted is not None and told.answer.status == 200:
        # More than one page: the name shortens it, where the version knows that filter.
        question["query"] |= {"name": wanted.name}
        told = _listed(ask(**question), project, wanted)
    return told


def _listed(answer: Answer, project: str | None, wanted: Repository | None) -> Told:
    try:
        page = read_page(answer)
    except PageError:
        return Told(None, answer)
    for one in filter(None, map(repository, page.values)):
        inside = project is None or one.project.lower() == project.lower()
        if wanted is None and inside:
            return Told(True, answer)
        if wanted is not None and (one.project, one.slug) == (wanted.project, wanted.slug):
            return Told(True, answer)
    return Told(False if page.following is None else None, answer)


def user_listed(ask: Ask, name: str, permission: str, to: Repository | None) -> Told:
    """Whether the user of that name has `permission` himself, to a repository or (ADMIN) to the
    whole instance, whatever his token was limited to."""
    answer = ask(**users(name, permission, to))
    try:
        page = read_page(answer)
    except PageError:
        return Told(None, answer)
    names = {str(user.get("name")).lower() for user in page.values if isinstance(user, dict)}
    if name.lower() in names:
        return Told(True, answer)
    return Told(False if page.following is None else None, answer)


def webhooks(ask: Ask, project: str, slug: str | None) -> Told:
    """Whether the webhooks of a repository, or project, are shown: to its administrators alone.

    In older versions the answer holds the hooks' secrets: `diag.bitbucket.webhooks` takes out of it
    what is wanted.
    """
    answer = ask(**hooks(project, slug))
    if answer.status == 200 and answer.failure in (None, "endless"):
        return Told(True, answer)
    refused = datacenter.refusal(answer) in {"forbidden", "nobody"}
    return Told(False if refused else None, answer)
