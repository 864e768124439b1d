"""Whether Bitbucket accepts the secret, and who it takes us for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diag.api import (
    Asker,
    Channel,
    Check,
    Context,
    Credential,
    Fact,
    Finding,
    Identity,
    Instance,
    Realm,
    Route,
    Running,
    Target,
    Troubles,
    Version,
    Wire,
    bitbucket,
    fail,
    net,
    ok,
    said,
    skip,
    tokens,
    trouble,
    unknown,
    verdicts,
    warn,
)

WHO_AM_I = "{curl_auth} -i '{url}/rest/api/latest/application-properties'"
UNTOLD = "wrong, revoked or expired, it does not tell which"
EXPIRED_REMEDY = "The password has expired: set a new one in the browser, at {url}/login."
REFUSED_REMEDY = (
    "Sign in with both in the browser, at {url}/login: if that works, the password may no longer be"
    " used for programs (two-step verification): make an HTTP access token and leave out --user."
)
OWNER_REMEDY = (
    "The user name must be that of the token's owner, and the token of a project or repository goes"
    " without any: leave out --user, and the token is sent alone. Else make a new token."
)
MORE = 2  # connections, for what is asked side by side once it is known who asks


class Auth(Troubles, Check):
    """Send the secret, once, and see who Bitbucket takes us for.

    Bitbucket answers 401 to a bad secret, to a good one of a user without licence, to one that
    never arrived and to one without the right permission alike; the body of the answer tells them
    apart. It answers 200 to nobody in particular, too: then the headers and a listing tell whether
    the secret was heard. After a 401 the secret is not sent again, for failed logins add up to a
    CAPTCHA.
    """

    id = "auth"
    title = "the secret is accepted"
    order = 80
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Instance, Running, Credential)  # one that is starting knows no tokens
    after = (Version, Route, Wire)
    foresees = (Channel,)
    provides = (Identity, Realm)

    USER = ok("auth-ok", "Bitbucket takes the secret for that of user {user}")
    SERVICE = ok(
        "auth-ok-service",
        "Bitbucket accepts the secret; it belongs to no person, as the tokens of projects and"
        " repositories",
    )
    ANONYMOUS = ok("auth-anonymous", "no secret was given: everything is asked anonymously")
    STAYS_HOME = skip(
        "auth-secret-kept",
        "the secret was not sent: {url} redirects to {base_url}, and the secret goes only where"
        " you say; run it again with {base_url}",
    )
    UNVERIFIED = skip(
        "auth-secret-kept-unverified",
        "the secret was not sent: the server's certificate did not pass verification",
    )
    TOKEN_INVALID = verdicts.TOKEN_INVALID
    ANONYMOUS_FALLBACK = fail(
        "auth-anonymous-fallback",
        "Bitbucket ignores {secret} and answers as to somebody who did not sign in",
        remedy="Make a new token: this one is most likely expired or revoked. If a new one is"
        " ignored too, something in front of Bitbucket removes the Authorization header.",
        owner="you",
        reproduce=WHO_AM_I + " | grep -i '^x-ausername'",
    )
    CAPTCHA = fail(
        "auth-captcha-required",
        "after too many failed logins {user} must solve a CAPTCHA before Bitbucket accepts even"
        " the right secret",
        remedy="First stop whatever keeps trying with an old password. Then sign in once at"
        " {url}/login, or let an administrator clear the CAPTCHA: Administration > Users.",
        owner="you",
        reproduce=WHO_AM_I,
    )
    SCHEME_WRONG = fail(
        "auth-scheme-wrong",
        "the secret is sent in the wrong way: {reason}",
        remedy="HTTP access tokens go alone (Bearer), those of projects and repositories always:"
        " leave out --user. A password needs its user name: --user NAME.",
        owner="you",
        reproduce=WHO_AM_I,
    )
    BASIC_DISABLED = fail(
        "auth-basic-disabled",
        "Bitbucket does not take user names with passwords: basic authentication is switched off",
        remedy="Use an HTTP access token without a user name. Or let an administrator allow it:"
        " Administration > Authentication methods > Allow basic authentication on API calls.",
        owner="you",
        reproduce=WHO_AM_I,
    )
    USER_INACTIVE = fail(
        "auth-user-inactive",
        "the secret belongs to a user who may not use Bitbucket: {said}",
        remedy="Activate the user, or give it a licence: Administration > Global permissions >"
        " Bitbucket User, for the user or one of its groups.",
        owner="bitbucket-admin",
        reproduce=WHO_AM_I,
    )
    IN_CLEARTEXT = warn(
        "auth-token-in-cleartext",
        "the secret travels unencrypted: the URL begins with http://",
        remedy="Use https://. If the server offers none, put a reverse proxy with TLS in front of"
        " it, and replace the secret: everybody on the way may have read it.",
        owner="you",
        reproduce="{curl} -I 'https://{host}/status'",
    )
    STRIPPED = fail(
        "http-authorization-stripped",
        "{secret} was sent, but Bitbucket saw none: a gateway in front of it removes the"
        " Authorization header",
        remedy="Let the gateway pass the Authorization header on (nginx: proxy_set_header"
        " Authorization $http_authorization; Apache: no own Auth* on this path; check WAF rules"
        " and single sign-on too).",
        owner="server-admin",
        reproduce=WHO_AM_I + " | grep -i '^x-ausername'",
    )
    PROXY_STRIPS = fail(
        "proxy-strips-authorization",
        "{secret} was sent, but Bitbucket saw none: the proxy {proxy}, which reads http://"
        " requests, removes the Authorization header",
        remedy="Use https://, which the proxy cannot change, or let it pass the Authorization"
        " header on to {host}.",
        owner="proxy-admin",
        reproduce=WHO_AM_I + " | grep -i '^x-ausername'",
    )
    UNCLEAR = unknown(
        "auth-unclear",
        "whether the secret is accepted could not be told: {request} was answered {status}: {said}",
        remedy="Look at that answer. If it is no answer of Bitbucket, its gateway treats requests"
        " with a secret in its own way.",
        owner="server-admin",
        reproduce="{curl_auth} -i '{request}'",
    )

    def ahead(self, ctx: Context) -> Iterator[tuple[type[Fact], ...]]:
        yield Wire, Channel
        ctx.http.open_ahead(ctx[Channel].address, ctx.timeout, MORE)

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        wire = ctx.get(Wire)
        if ctx.credential.secret is None:
            yield self.ANONYMOUS()
            yield Identity("anonymous")
        elif not ctx[Instance].same_origin:
            yield self.STAYS_HOME(base_url=ctx[Instance].base_url)
        elif wire is not None and wire.secure and not wire.verified:
            yield self.UNVERIFIED()
            yield Identity("anonymous")
        else:
            yield from self._sign_in(ctx)

    def _sign_in(self, ctx: Context) -> Iterator[Finding | Fact]:
        datacenter, listing = bitbucket.datacenter, bitbucket.listing
        if ctx.target.scheme == "http":
            yield self.IN_CLEARTEXT()
        asker = Asker(ctx, auth=True)
        # Open to everybody: what it gains is the header that names the user.
        answer = asker.get(datacenter.PROPERTIES)
        problem = self._problem(ctx, answer)
        name = datacenter.user_name(answer)
        if problem is None and name is None:
            # Nobody is in this listing who did not sign in, and newer versions refuse them.
            answer = asker.get(datacenter.REPOS, {"permission": "REPO_READ", "limit": 1})
            problem = self._problem(ctx, answer) or self._ignored(ctx, answer)
            name = datacenter.user_name(answer)
        yield from asker.findings
        if (realm := listing.realm_link(answer)) is not None:
            yield Realm(realm)
        if problem is not None:
            yield problem
            return
        if name is not None:
            user_id = answer.header("x-auserid")
            yield self.USER(user=ctx.quote(name), user_id=ctx.quote(user_id) if user_id else None)
            yield Identity("user", name, user_id)
        else:
            yield self.SERVICE()
            yield Identity("service")
        yield from self._near(answer)

    def _problem(self, ctx: Context, answer: net.http.Answer) -> Finding | None:
        """What speaks against the secret in an answer to it, None if nothing does."""
        if (common := trouble(ctx, answer)) is not None:
            return common
        datacenter = bitbucket.datacenter
        evidence: dict[str, Any] = {
            "request": answer.url,
            "status": answer.status,
            "said": said(ctx, answer),
            "secret": self._named(ctx),
            "reason": UNTOLD,
            "user": ctx.credential.user or "the user",
        }
        match datacenter.refusal(answer):
            case "captcha":
                return self.CAPTCHA(**evidence)
            case "basic-off":
                return self.BASIC_DISABLED(**evidence)
            case "unlicensed" | "inactive":
                return self.USER_INACTIVE(**evidence)
            case "password-expired":
                return self.TOKEN_INVALID(remedy=EXPIRED_REMEDY, **evidence)
            case "rejected":
                return self._rejected(ctx, evidence)
            case "directory":
                request_id = ctx.quote(answer.header("x-arequestid") or "") or None
                return self.SERVER_ERROR(request_id=request_id, **evidence)
            case "not-sent":
                proxy = ctx.get(Route)
                if ctx.target.scheme == "http" and proxy is not None and proxy.proxy:
                    return self.PROXY_STRIPS(proxy=proxy.proxy, **evidence)
                return self.STRIPPED(heuristic=True, **evidence)
            case "nobody":
                return self.ANONYMOUS_FALLBACK(**evidence)
            case None if answer.failure is None and not 300 <= (answer.status or 0) < 400:
                return None
        return self.UNCLEAR(**evidence)

    def _named(self, ctx: Context) -> str:
        """What to call the secret."""
        credential = ctx.credential
        if credential.scheme == "bearer":
            return "the token"
        return f"the user name {credential.user} with this password or token"

    def _rejected(self, ctx: Context, evidence: dict[str, Any]) -> Finding:
        """Whether the way of sending it can be the reason, as far as the form of the secret tells:
        trying another way with it would be a second failed login."""
        credential = ctx.credential
        secret = credential.secret
        assert secret is not None  # noqa: S101 - it was just refused
        if credential.scheme == "bearer":
            if tokens.no_token(secret):
                reason = "it has not the form of a token; a password needs its user name"
                return self.SCHEME_WRONG(**evidence | {"reason": reason})
            return self.TOKEN_INVALID(**evidence)
        issuer = tokens.issuer(secret)
        if issuer is None or issuer.bitbucket != "datacenter":
            return self.TOKEN_INVALID(remedy=REFUSED_REMEDY, **evidence)
        if credential.user == "x-token-auth":
            reason = "the token of a project or repository goes without a user name"
            return self.SCHEME_WRONG(**evidence | {"reason": reason})
        return self.TOKEN_INVALID(remedy=OWNER_REMEDY, **evidence)

    def _ignored(self, ctx: Context, answer: net.http.Answer) -> Finding | None:
        """Whether the listing for those who signed in was given to nobody in particular."""
        datacenter, listing = bitbucket.datacenter, bitbucket.listing
        evidence: dict[str, Any] = {
            "request": answer.url,
            "status": answer.status,
            "secret": self._named(ctx),
        }
        try:
            page = listing.read_page(answer)
        except listing.PageError:
            return self.UNCLEAR(said=said(ctx, answer), **evidence)
        if page.values or datacenter.user_name(answer) or "x-asessionid" in answer.headers:
            return None
        anonymous = ctx.http.get(datacenter.REPOS, query={"limit": 1})
        if anonymous.status == 401:  # refused without a secret, so ours was heard
            return None
        return self.ANONYMOUS_FALLBACK(
            server=ctx.quote(answer.header("server") or "") or None,
            via=ctx.quote(answer.header("via") or "") or None,
            **evidence,
        )

    def _near(self, answer: net.http.Answer) -> Iterator[Finding]:
        """A rate limit that is announced and nearly used up."""
        limit, remaining = (
            text if (text := answer.header(f"x-ratelimit-{name}") or "").isdecimal() else None
            for name in ("limit", "remaining")
        )
        if remaining is not None and int(remaining) <= (int(limit) // 10 if limit else 3):
            state = f"{remaining} of {limit or 'an unknown number of'} requests are left"
            yield self.RATE_LIMIT_NEAR(state=state, request=answer.url)
