"""Check `cloud-auth`: does Bitbucket Cloud accept the credential, and what is it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    SEE_HEADERS,
    Check,
    CloudAccess,
    CloudTroubles,
    Context,
    Credential,
    DeadlineExceededError,
    Fact,
    Finding,
    Identity,
    Instance,
    Target,
    Wire,
    bitbucket,
    cloud_evidence,
    cloud_get,
    cloud_said,
    cloud_trouble,
    fail,
    net,
    ok,
    skip,
    tokens,
    unknown,
    verdicts,
)

WHO_AM_I = "{curl_auth} -o /dev/null -D - '{url}/2.0/user'"
GRANT = "{curl} -u {user}:\"$BITBUCKET_TOKEN\" -d grant_type=client_credentials '{request}'"
API_TOKENS = "https://id.atlassian.com/manage-profile/security/api-tokens"
MAKE_API_TOKEN = (
    f"Make an API token ({API_TOKENS}: “Create API token with scopes”, app Bitbucket; one without"
    " scopes is not taken) and send it with the e-mail address of your Atlassian account: --user"
    " you@example.com."
)
KINDS = {
    "api_token": "an API token",
    "repo_access_token": "a repository access token",
    "project_access_token": "a project access token",
    "workspace_access_token": "a workspace access token",
    "oauth2": "an OAuth access token",
}
FOR_GIT = ("x-token-auth", "x-bitbucket-api-token-auth")  # user names that only git uses


class CloudAuth(CloudTroubles, Check):
    """Send the credential, once, and see what Bitbucket Cloud takes it for.

    The headers X-Credential-Type and X-OAuth-Scopes tell, whatever the status: a 403 is no failure
    here, many good credentials may not read a user. After a 401 nothing is tried again; why it came
    is told by the form of the secret: an API token goes with the e-mail address, an access token
    alone. App passwords are not sent at all: they are dead since 28 July 2026.

    The key and secret of an OAuth consumer are exchanged for a token first, by the one POST that
    bbdiag ever sends (client credentials grant, to bitbucket.org, over verified TLS, once).
    """

    id = "cloud-auth"
    title = "the credential is accepted"
    order = 80
    kinds = frozenset({"cloud"})
    requires = (Target, Instance, Credential)
    after = (Wire,)
    provides = (Identity, CloudAccess)

    OK = ok("cloud-auth-ok", "Bitbucket Cloud accepts {secret}: {kind}{of}")
    GRANTED = ok(
        "cloud-consumer-granted",
        "the OAuth consumer {user} got an access token for its key and secret, by one POST to"
        " {request}; it is good for {expires_in} s",
    )
    ANONYMOUS = ok("cloud-auth-anonymous", "no secret was given: everything is asked anonymously")
    UNVERIFIED = skip(
        "cloud-auth-secret-kept",
        "the secret was not sent: the server's certificate did not pass verification",
    )
    APP_PASSWORD = fail(
        "cloud-app-password-removed",
        "{secret} has the form of an app password; Bitbucket Cloud takes none since 28 July 2026,"
        " neither for its API nor for git (it was not sent)",
        remedy=MAKE_API_TOKEN,
        owner="you",
        reproduce="printf '%s' \"$BITBUCKET_TOKEN\" | head -c 4",
    )
    IDENTITY_WRONG = fail(
        "cloud-auth-identity-wrong",
        "{secret} is sent in the wrong way: {reason}",
        remedy="API tokens go with the e-mail address of the Atlassian account: --user"
        " you@example.com. Access tokens (repository, project, workspace, OAuth) go alone: leave"
        " out --user. An OAuth consumer's secret goes with its key: --user KEY.",
        owner="you",
        reproduce=WHO_AM_I,
    )
    TOKEN_INVALID = verdicts.TOKEN_INVALID
    GATEWAY_AUTH = verdicts.GATEWAY_AUTH
    RATE_LIMIT_NEAR = verdicts.RATE_LIMIT_NEAR
    UNCLEAR = unknown(
        "cloud-auth-unclear",
        "whether the credential is accepted could not be told: {request} was answered {status}:"
        " {said}",
        remedy="Look at that answer, and ask Atlassian's support with its trace: {trace}.",
        owner="atlassian",
        reproduce=SEE_HEADERS,
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        credential, wire = ctx.credential, ctx.get(Wire)
        secret = credential.secret
        if secret is None:
            yield self.ANONYMOUS()
            yield Identity("anonymous")
        elif wire is not None and not wire.verified:
            yield self.UNVERIFIED()
            yield Identity("anonymous")
        elif tokens.cloud_form(secret, credential.user) == "app-password":
            yield self.APP_PASSWORD(secret=self._named(ctx))
        else:
            if credential.scheme == "grant":
                granting = self._grant(ctx)
                yield granting
                if granting.verdict is not self.GRANTED:
                    return
            yield from self._who_am_i(ctx)

    def _named(self, ctx: Context) -> str:
        """What to call the secret."""
        credential = ctx.credential
        match credential.scheme:
            case "grant":
                return f"the OAuth consumer {credential.user}"
            case "basic":
                return f"the secret that goes with the user name {credential.user}"
        return "the token"

    # an OAuth consumer

    def _grant(self, ctx: Context) -> Finding:
        answer = ctx.http.client_credentials_grant(bitbucket.cloud.TOKEN_URL)
        if answer.failure == "deadline":
            raise DeadlineExceededError
        told = answer.json()
        body = told if isinstance(told, dict) else {}
        words = ": ".join(
            str(body[name]) for name in ("error", "error_description") if name in body
        )
        evidence = cloud_evidence(ctx, answer) | {
            "secret": self._named(ctx),
            "user": ctx.credential.user,
            "said": ctx.quote(words) if words else cloud_said(ctx, answer),
            "reproduce": [GRANT],
        }
        if ctx.http.granted:
            evidence.pop("reproduce")
            lifetime = body.get("expires_in")
            return self.GRANTED(
                expires_in=lifetime if isinstance(lifetime, int) else None, **evidence
            )
        if "public" in words:
            remedy = "In the consumer's settings tick “This is a private consumer”."
            reason = "the consumer is marked as public, and only a private one may do this"
            return self.IDENTITY_WRONG(reason=reason, remedy=remedy, **evidence)
        if "callback" in words:
            remedy = "Give the consumer a callback URL in its settings; any will do for this grant."
            reason = "the consumer has no callback URL, without which Bitbucket grants no token"
            return self.IDENTITY_WRONG(reason=reason, remedy=remedy, **evidence)
        if answer.status in {400, 401} and body:
            remedy = (
                "Copy key and secret anew, from Workspace settings > OAuth consumers; the consumer"
                " may have been deleted there."
            )
            reason = "key or secret is wrong, or the consumer is gone"
            return self.TOKEN_INVALID(reason=reason, remedy=remedy, **evidence)
        return cloud_trouble(ctx, answer) or self.UNCLEAR(**evidence)

    # everybody

    def _who_am_i(self, ctx: Context) -> Iterator[Finding | Fact]:
        cloud = bitbucket.cloud
        answer = cloud_get(ctx, cloud.USER, auth=True)
        if answer.status == 401 and answer.failure is None:
            yield self._refused(ctx, answer)
            return
        if (common := cloud_trouble(ctx, answer)) is not None:
            yield common
            return
        kind = answer.header("x-credential-type") or ""
        granted = answer.header("x-oauth-scopes")
        if answer.status not in {200, 403} or not (kind or granted or answer.status == 200):
            yield self.UNCLEAR(**cloud_evidence(ctx, answer))
            return
        body = answer.json()
        user = body if answer.status == 200 and isinstance(body, dict) else {}
        names = (user.get(name) for name in ("display_name", "nickname", "username"))
        name = next((name for name in names if isinstance(name, str) and name), None)
        app = user.get("type") == "app_user" or ctx.credential.scheme == "grant"
        of = f" of {ctx.quote(name)}" if name else ""
        yield self.OK(
            secret=self._named(ctx),
            kind=KINDS.get(kind) or ctx.quote(kind) or "of a kind that is not told",
            of=of,
            status=answer.status,
            credential_type=ctx.quote(kind) or None,
            scopes=[ctx.quote(scope) for scope in cloud.scopes(granted)],
        )
        yield CloudAccess(kind, None if granted is None else cloud.scopes(granted), app)
        yield Identity("user", name) if name and not app else Identity("service")
        if (state := cloud.near_limit(answer)) is not None:
            yield self.RATE_LIMIT_NEAR(
                owner="you",
                remedy="Wait, or slow down what else uses this token: each access token has an"
                " allowance of its own, users share one.",
                state=state,
                request=answer.url,
            )

    def _refused(self, ctx: Context, answer: net.http.Answer) -> Finding:
        """Why a 401, by the words of the answer and by the form of the secret."""
        cloud, credential = bitbucket.cloud, ctx.credential
        assert credential.secret is not None  # noqa: S101 - it was just refused
        evidence: dict[str, Any] = cloud_evidence(ctx, answer) | {"secret": self._named(ctx)}
        if not cloud.marks(answer):
            login = ctx.quote(answer.header("www-authenticate") or "") or None
            return self.GATEWAY_AUTH(
                owner="network-admin",
                remedy="Let requests to {host} pass without a login of its own there.",
                reproduce=[SEE_HEADERS],
                login=login,
                **evidence,
            )
        invalid: dict[str, Any] = {"reproduce": [WHO_AM_I]}
        if cloud.expired(answer):
            remedy = "Get a new access token with the refresh token; they last one to two hours."
            return self.TOKEN_INVALID(
                reason="it is an OAuth access token and has expired",
                remedy=remedy,
                **invalid,
                **evidence,
            )
        if cloud.wants_no_passwords(answer):
            return self.TOKEN_INVALID(
                reason="it is the password of an account, and those are not taken any more",
                remedy=MAKE_API_TOKEN,
                **invalid,
                **evidence,
            )
        if (reason := self._wrong_way(credential)) is not None:
            return self.IDENTITY_WRONG(reason=reason, **evidence)
        reason = "wrong, revoked or expired, it does not tell which"
        remedy = "Make a new one where this one was made, and put it where the old one was."
        if credential.scheme == "basic":
            reason += "; or made without scopes, or not of this e-mail address"
            remedy = MAKE_API_TOKEN
        return self.TOKEN_INVALID(reason=reason, remedy=remedy, **invalid, **evidence)

    @staticmethod
    def _wrong_way(credential: Credential) -> str | None:
        """What is wrong with the way in which a refused secret was sent, None if nothing is."""
        user, secret = credential.user, credential.secret
        assert secret is not None  # noqa: S101 - it was just refused
        form = tokens.cloud_form(secret, user)
        if credential.scheme == "bearer":
            if form == "api-token":
                return "it looks like an API token, and was sent alone (Bearer)"
            if form == "consumer-secret":
                return "it looks like the secret of an OAuth consumer, and was sent without its key"
            if tokens.no_token(secret):
                return "it has not the form of a token, and was sent alone (Bearer)"
            return None
        if credential.scheme == "grant" or user is None:
            return None
        if user in FOR_GIT:
            return f"the user name {user} is for git; the API does not know it"
        if form == "access-token":
            return "it looks like an access token, and was sent with a user name (Basic)"
        if "@" not in user:
            return (
                f"the API takes no user name ({user}), only e-mail addresses with API tokens; a"
                " user name is for git"
            )
        return None
