"""What a secret, and the user behind it, may do: asked without doing any of it.

Bitbucket answers 401 to a good secret without the right permission, and after a 401 the secret is
not sent again: `webhooks` can be such an answer, so it is the last thing to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from diag.bitbucket import datacenter, listing
from diag.record import record

if TYPE_CHECKING:
    from diag.facts import Repository
    from diag.net.http import Answer

_MOST = 1 << 18  # bytes of an answer with webhooks: a page of 25 with all their statistics


class Ask(Protocol):
    """Sends a request with the secret."""

    def __call__(
        self, path: str, query: Mapping[str, str | int] | None = None, *, max_bytes: int = ...
    ) -> Answer: ...


@record
class Told:
    """Yes, no or None for "cannot be told", and the answer that it rests on."""

    value: bool | None
    answer: Answer


def listed(ask: Ask, permission: str, project: str | None, wanted: Repository | None) -> Told:
    """Whether the secret has `permission` (REPO_ADMIN, REPO_WRITE) to the wanted repository; to any
    of the project, or to any at all, where none is wanted."""
    query: dict[str, str | int] = {"permission": permission}
    if wanted is not None:  # the filters are only to shorten the page: old versions ignore some
        query |= {"projectkey": wanted.project, "name": wanted.name, "archived": "ALL"}
    elif project is not None:
        query["projectkey"] = project
    query["limit"] = 1 if wanted is None and project is None else 100
    answer = ask(datacenter.REPOS, query)
    try:
        page = listing.read_page(answer)
    except listing.PageError:
        return Told(None, answer)
    for one in filter(None, map(listing.repository, page.values)):
        inside = project is None or one.project.lower() == project.lower()
        if wanted is None and inside:
            return Told(True, answer)
        if wanted is not None and (one.project, one.slug) == (wanted.project, wanted.slug):
            return Told(True, answer)
    return Told(False if page.following is None else None, answer)


def user_listed(ask: Ask, name: str, permission: str, to: Repository | None) -> Told:
    """Whether the user of that name has `permission` himself, to a repository or (ADMIN) to the
    whole instance, whatever his token was limited to."""
    query: dict[str, str | int] = {"filter": name, "permission": permission}
    if to is not None:
        query |= {"permission.projectKey": to.project, "permission.repositorySlug": to.slug}
    answer = ask(datacenter.USERS, query)
    try:
        page = listing.read_page(answer)
    except listing.PageError:
        return Told(None, answer)
    names = {str(user.get("name")).lower() for user in page.values if isinstance(user, dict)}
    if name.lower() in names:
        return Told(True, answer)
    return Told(False if page.following is None else None, answer)


def webhooks(ask: Ask, project: str, slug: str | None) -> Told:
    """Whether the webhooks of a repository, or project, are shown: to its administrators alone.

    The answer also tells what became of the last deliveries. In older versions it holds the hooks'
    secrets: `diag.bitbucket.webhooks` takes out of it what is wanted. No `limit` is sent, for the
    description of this resource has none.
    """
    path = datacenter.webhooks_path(project, slug)
    answer = ask(path, {"statistics": "true"}, max_bytes=_MOST)
    if answer.status == 200 and answer.failure in (None, "endless"):
        return Told(True, answer)
    refused = datacenter.refusal(answer) in {"forbidden", "nobody"}
    return Told(False if refused else None, answer)
