"""What differs at the server: which Bitbucket it is, whom it sees, what it allows; and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diag.comparing.aspect import Aspect, Case, Proof, quoted
from diag.comparing.sight import ANONYMOUS, Sight
from diag.model import OWNERS, Finding, Verdict, fail, ok, skip, warn
from diag.report import Problem

BEHIND = ("auth", "base-url", "git", "permission", "repos", "version")  # what one server decides
# What depends on the repository that was asked for, the product and its stage.
_ASKED = ("git", "permission", "repos", "repository", "scopes", "webhook")
_AGAIN = "bbdiag check {url} --label PLACE --format json"
_WHO = (
    'curl -sS -o /dev/null -D - -H "Authorization: Bearer $BITBUCKET_TOKEN"'
    " {url}/rest/api/latest/application-properties | grep -i x-ausername  # in each place"
)


class Instances(Aspect):
    """Tell whether it is one Bitbucket that answers.

    An internal and an external name server, or a forgotten entry in a load balancer, can lead to a
    test system. Its version, the number of the repository and that of the user give it away: they
    are the same everywhere in one Bitbucket, a cluster included.
    """

    id = "instances"
    title = "one and the same Bitbucket answers"

    SAME = ok("compare-instance-same", "nothing tells the answers apart: {told}")
    NOT_KNOWN = skip("compare-instance-unknown", "no two runs saw Bitbucket itself")
    UPGRADED = ok("compare-instance-upgraded", "the version is not the same: {told}")
    OTHER = warn(
        "compare-other-instance",
        "two different Bitbuckets answer under one name: {told}",
        remedy="Find out which of them is meant, and lead every place there: compare what the name"
        " resolves to, and where the reverse proxy or load balancer passes requests on to.",
        owner="server-admin",
        reproduce="curl -sS {url}/rest/api/latest/application-properties  # in each place",
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        known = [sight for sight in case.sights if sight.version or sight.marks]
        if len(known) < 2:
            yield self.NOT_KNOWN()
            return
        versions = [f"{one.place}: {one.version}" for one in known if one.version]
        strangers = list(_strangers(known))
        if strangers:
            names = {name for _, _, name in strangers}
            told = [
                f"{name}: {', '.join(f'{s.place} {_mark(s, name)}' for s in known)}"
                for name in sorted(names)
            ]
            apart = [sight.place for pair in strangers for sight in pair[:2]]
            yield Proof(
                self.OTHER(told="; ".join(told)),
                frozenset(
                    (bad.place, failure.code)
                    for bad, failure in case.failing()
                    if bad.place in apart and failure.check in BEHIND
                    if any(case.past(failure, bad))
                ),
            )
        elif len({one.version for one in known if one.version}) > 1:
            yield self.UPGRADED(told=versions)
        else:
            yield self.SAME(told=versions or "the same user and repository")


def _mark(sight: Sight, name: str) -> str:
    return (sight.version if name == "version" else sight.marks.get(name)) or "–"


def _strangers(known: Sequence[Sight]) -> Iterator[tuple[Sight, Sight, str]]:
    """Pairs that cannot have seen the same Bitbucket, and by what."""
    for index, one in enumerate(known):
        for other in known[index + 1 :]:
            for name in one.marks.keys() & other.marks.keys():
                if one.marks[name] != other.marks[name]:
                    yield one, other, name
            # Nodes of a cluster that is being upgraded differ in the last number alone.
            lines = [tuple((sight.version or "").split(".")[:2]) for sight in (one, other)]
            if one.version and other.version and lines[0] != lines[1] and one.is_near(other):
                yield one, other, "version"


class Identities(Aspect):
    """Compare whom Bitbucket takes the secret for.

    A place without secret, or with somebody else's, sees other repositories and may do other
    things. Secrets themselves are never compared: no report holds one.
    """

    id = "identities"
    title = "every place signs in as the same"

    WHO = ok("compare-identities", "{who}")
    NOT_KNOWN = skip("compare-identities-unknown", "no two runs came as far as signing in")
    ANONYMOUS = warn(
        "compare-anonymous",
        "the run from {bad} had no secret, that from {good} had one",
        remedy="Check whether $BITBUCKET_TOKEN is set in {bad} (CI systems withhold secrets from"
        " forks and unprotected branches), and run it again there: what needs a secret could not be"
        " compared.",
        owner="you",
        reproduce="printf '%s' \"$BITBUCKET_TOKEN\" | wc -c  # in {bad}",
    )
    OTHER_USER = fail(
        "compare-other-user",
        "signed in as {ours}, {bad} lacks the right that {good} has as {theirs} ({code})",
        remedy="Use the secret of {good} in {bad} too, or give {ours} the same right.",
        owner="you",
        reproduce=_WHO,
    )
    OTHER_SECRET = fail(
        "compare-other-secret",
        "Bitbucket accepts the secret of {good} ({theirs}), and not that of {bad} ({code}): it"
        " cannot be the same",
        remedy="Put the secret of {good} into {bad}, or a new one: what is stored there is old,"
        " revoked or cut.",
        owner="you",
        reproduce=_WHO,
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        known = {sight.place: sight.identity for sight in case.sights if sight.identity}
        signed_in = [s for s in case.sights if s.identity and s.identity != ANONYMOUS]
        if len(known) > 1:
            yield self.WHO(who=[f"{place}: {identity}" for place, identity in known.items()])
        else:
            yield self.NOT_KNOWN()
        if not signed_in:
            return
        for place, identity in known.items():
            if identity == ANONYMOUS:
                yield self.ANONYMOUS(bad=place, good=signed_in[0].place)
        for bad, failure in case.failing():
            good = next((s for s in case.past(failure, bad) if s in signed_in), None)
            if good is None or not good.is_near(bad):
                continue
            told: dict[str, Any] = {"bad": bad.place, "good": good.place, "theirs": good.identity}
            proves = frozenset({(bad.place, failure.code)})
            if failure.code == "auth-token-invalid":
                yield Proof(self.OTHER_SECRET(code=failure.code, **told), proves)
            elif bad.user and good.user and bad.user != good.user and _is_right(failure):
                told["ours"] = bad.identity
                yield Proof(self.OTHER_USER(code=failure.code, **told), proves)


def _is_right(failure: Problem) -> bool:
    return failure.check in ("permission", "repos") and failure.code.startswith("perm-")


class Rights(Aspect):
    """Compare what the secret may do.

    Where the same user may do it from one place and not from another, no right of the user is
    missing: the token was made with less.
    """

    id = "rights"
    title = "the secret allows the same everywhere"

    SAME = ok("compare-rights", "{told}")
    NOT_KNOWN = skip("compare-rights-unknown", "no two runs came as far as the permissions")
    SCOPE_LIMITED = fail(
        "perm-token-scope-limited",
        "the token of {bad} may do less than its owner, {user}: with that of {good} the same user"
        " has the right that is missing ({code})",
        remedy="Use the token of {good} in {bad} too, or make a new one with that right (Repository"
        " admin, for webhooks). No right of the user is missing.",
        owner="you",
        reproduce=_AGAIN,
    )

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        reached = [s for s in case.sights if s.reached("permission") or s.reached("cloud-scopes")]
        if len(reached) < 2:
            yield self.NOT_KNOWN()
            return
        told = []
        for sight in reached:
            codes = [p.code for p in sight.problems if p.code.startswith(("perm-", "cloud-scope"))]
            told.append(f"{sight.place}: {', '.join(codes) or 'all that is needed'}")
        yield self.SAME(told=told)
        for bad, failure in case.failing({"perm-admin-missing"}):
            for good in case.past(failure, bad):
                same = bad.user and bad.user == good.user
                if same and good.passed("permission") and good.is_near(bad):
                    finding = self.SCOPE_LIMITED(
                        bad=bad.place, good=good.place, user=bad.user, code=failure.code
                    )
                    yield Proof(finding, frozenset({(bad.place, failure.code)}))
                    break


class Outcomes(Aspect):
    """Tell what is left when all differences are explained, and from where it is seen.

    What every place finds is no fault of one of them: it lies where all their ways have come
    together, mostly at the server. What only one finds is a matter of that place, and since when is
    told where there are several reports of it.
    """

    id = "outcomes"
    title = "everything works from everywhere"

    WELL = ok("compare-all-well", "everything that was asked for works from {places}")
    EVERYWHERE = ok(
        "compare-same-everywhere",
        "{codes}: all {count} places find the same, so none of them is to blame",
    )
    EXPLAINED = skip("compare-explained", "what was found in single places is explained above")

    def look(self, case: Case) -> Iterator[Finding | Proof]:
        left: dict[str, list[tuple[Sight, Problem]]] = {}
        for sight in case.sights:
            for problem in case.left(sight):
                seen = left.setdefault(problem.code, [])
                if all(sight is not other for other, _ in seen):
                    seen.append((sight, problem))
        if not left:
            some = any(sight.problems for sight in case.sights)
            places = [sight.place for sight in case.sights]
            yield self.EXPLAINED() if some else self.WELL(places=places)
            return
        common = [code for code, seen in left.items() if 1 < len(seen) == len(case.sights)]
        if common:
            yield self.EVERYWHERE(codes=common)
        for seen in sorted(left.values(), key=lambda one: case.position(one[0][1])):
            yield _still(case, seen)


def _still(case: Case, seen: Sequence[tuple[Sight, Problem]]) -> Finding:
    """A problem as it was reported, and from where."""
    problem = seen[0][1]
    places = [one.place for one, _ in seen]
    others = [one for one in case.sights if one.place not in places]
    same = [one for one in others if _asked(one, problem) == _asked(seen[0][0], problem)]
    free = [one.place for one in same if one.passed(problem.check)]
    short = [one.place for one in others if not one.reached(problem.check)]
    where = f"from {', '.join(places)}"
    if not others and len(seen) > 1:
        where = f"from every place ({', '.join(places)})"
    elif free:
        where = f"only from {', '.join(places)}, not from {', '.join(free)}"
    if others and short:
        where += f" ({', '.join(short)} did not get so far)"
    since = [text for one, _ in seen if (text := _since(one, problem))]
    message = f"{where}: {problem.message}"
    verdict = Verdict(
        problem.code,
        problem.status,
        quoted("; ".join((message, *since))),
        quoted(problem.remedy),
        next((owner for owner in OWNERS if owner == problem.owner), "you"),
        tuple(quoted(line) for line in problem.reproduce),
    )
    return verdict(places={one.place: found.evidence for one, found in seen})


def _asked(sight: Sight, problem: Problem) -> Sequence[str | None]:
    """What a run was asked for, as far as the problem depends on it."""
    report = sight.report
    if problem.check.removeprefix("cloud-") not in _ASKED:
        return ()
    return report.target.project, report.target.repository, report.profile, report.stage


def _since(sight: Sight, problem: Problem) -> str:
    """Since when it is so in a place of which there are several reports, and what has changed."""
    first, before = sight, None
    for earlier in reversed(sight.earlier):
        if not earlier.has(problem.code):
            before = earlier
            break
        first = earlier
    if before is None or not before.reached(problem.check):
        return ""
    old, new = before.traits, first.traits
    changed = [
        f"{name}: {old[name]} → {new[name]}"
        for name in old
        if new.get(name, old[name]) != old[name]
    ]
    told = f"in {sight.place} since {first.at}, not yet at {before.at}"
    return told + (f"; changed in between: {'; '.join(changed)}" if changed else "")
