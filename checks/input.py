"""The URL, the secret and the CA file, as they were typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from diag.api import (
    Check,
    Context,
    Credential,
    Fact,
    Finding,
    Json,
    Target,
    Verdict,
    cafile,
    fail,
    net,
    ok,
    target,
    tokens,
    verdicts,
    warn,
)

_SEE_URL = "printf '%s' \"$BITBUCKET_URL\" | od -c"
_SEE_CLOUD = "{curl} https://api.bitbucket.org/2.0/hook_events"
_VARIABLE = "printf '%s' \"$BITBUCKET_TOKEN\""


class Input(Check):
    """Read the URL in whatever form it was pasted, and look at the secret before it is sent.

    A blank at the end of a URL reads as a DNS outage, a line break at the end of a token as a
    server that is down, and a GitHub token as a revoked one. All of that can be seen without the
    network. Project and repository are taken from the URL where it names them. A secret that
    cannot be right is not sent at all; the rest of the way is still examined.
    """

    id = "input"
    title = "the URL and the secret are in order"
    order = 10
    provides = (Target, Credential)

    CONFIG_INVALID = verdicts.CONFIG_INVALID
    OK = ok("input-ok", "base URL {base_url}{wanted}, {secret}")
    REPO_OPTION_WINS = ok(
        "input-repo-option-wins", "--repo {option} is used, not {in_url} of the URL"
    )
    CLOUD_PORT = ok(
        "input-cloud-port", "port {port} of the URL is not used: Bitbucket Cloud is on port 443"
    )
    MISSING_SCHEME = warn(
        "input-url-missing-scheme",
        "the URL does not begin with https:// or http://; it was taken as {taken}",
        remedy="Write the URL out: programs differ in what they take it for.",
        owner="you",
        reproduce="{curl} {base_url}/status",
        explains=("tls-plaintext-port",),
    )
    PAGE_PATH = warn(
        "input-url-has-page-path",
        "the URL is that of a web page; taken from it: {taken}",
        remedy="Where a product asks for the URL of Bitbucket, enter {base_url}.",
        owner="you",
        reproduce="{curl} {base_url}/status",
    )
    API_PATH = warn(
        "input-url-has-api-path",
        "the URL is that of the API; taken from it: {taken}",
        remedy="Where a product asks for the URL of Bitbucket, enter {base_url}: it adds the path"
        " of the API itself.",
        owner="you",
        reproduce="{curl} {base_url}/status",
    )
    NOT_HTTP = fail(
        "input-url-not-http",
        "the URL is for {scheme}, but Bitbucket's API is reached over https or http",
        remedy="Use {suggestion}, with the context path (such as /bitbucket) if yours has one.",
        owner="you",
        reproduce="{curl} -I {suggestion}",
    )
    PORT_INVALID = fail(
        "input-port-invalid",
        "the URL has the port “{port}”; a port is a number from 1 to 65535",
        remedy="Correct the port, or leave it out: 443 is meant by https, 80 by http.",
        owner="you",
        reproduce=_SEE_URL,
    )
    BAD_CHARACTER = fail(
        "input-url-bad-character",
        "the URL has {character} {place} (position {position}); nobody sees it, but it is sent",
        remedy="Type the URL again instead of pasting it; in a script, quote it and strip it.",
        owner="you",
        reproduce=_SEE_URL,
    )
    HOST_INVALID = fail(
        "input-host-invalid",
        "the host name “{host}” {reason}",
        remedy="Correct the host name in the URL; no DNS server has such a name.",
        owner="you",
        reproduce=_SEE_URL,
    )
    HAS_CREDENTIALS = fail(
        "input-url-has-credentials",
        "the URL has a password or token in it, for everybody who sees process lists and logs",
        remedy="Use {without} and give the secret in $BITBUCKET_TOKEN or with --token-file; make a"
        " new one, as this one may stand in logs.",
        owner="you",
        reproduce="ps -eo args | grep '[b]bdiag'  # while it runs, as any user",
    )
    TOKEN_MISSING = fail(
        "input-token-missing",
        "the secret was to come from {source}, which has none",
        remedy="Put the secret there, or take the option or variable away for an anonymous run. In"
        " CI, secrets are often withheld from builds of forks and of unprotected branches.",
        owner="you",
        reproduce=f"{_VARIABLE} | wc -c",
    )
    TOKEN_WHITESPACE = fail(
        "input-token-whitespace",
        "the secret of {source} has {what}, which does not belong to it; it is not sent",
        remedy="Store the secret alone, with nothing before or after it: printf, unlike echo and"
        " most editors, adds no line break.",
        owner="you",
        reproduce=f"{_VARIABLE} | tr -d '[:graph:]' | od -c  # without what is visible",
    )
    TOKEN_PLACEHOLDER = fail(
        "input-token-placeholder",
        "the secret of {source} is no secret but {what}; it is not sent",
        remedy="Put the real secret there. A variable in single quotes, or unknown to the CI job,"
        " is handed on as it is written.",
        owner="you",
        reproduce=f"{_VARIABLE} | head -c 2",
    )
    TOKEN_WRONG_PRODUCT = fail(
        "input-token-wrong-product",
        "the secret of {source} looks like {kind}, which {expected} does not know; it is not sent",
        remedy="Make a token in {expected} and use that. If this one is still valid elsewhere,"
        " take care where else it was entered by mistake.",
        owner="you",
        reproduce=f"{_VARIABLE} | head -c 4",
    )
    CA_UNREADABLE = fail(
        "input-ca-unreadable",
        "the CA file {path} cannot be read: {error}",
        remedy="Correct {option}, or the rights of the file.",
        owner="you",
        reproduce="ls -l {path}",
    )
    CA_NOT_A_CA = fail(
        "input-ca-not-a-ca",
        "the CA file {path} holds {contains}; a CA certificate in PEM form is needed",
        remedy="Let {option} name the certificate of the CA that issued the server's certificate,"
        " not the server's own, as PEM: a block that begins with -----BEGIN CERTIFICATE-----."
        " DER is converted by: openssl x509 -inform der -in {path} -out ca.pem",
        owner="you",
        reproduce="openssl x509 -in {path} -noout -subject -issuer -ext basicConstraints",
        explains=("tls-issuer-unknown",),
    )

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        parsed = target.parse(ctx.settings.url, ctx.settings.repo)
        content, problem = self._read_ca(ctx)
        if parsed.target is not None and problem is None:
            yield parsed.target
        declared = {verdict.code: verdict for verdict in self.verdicts()}
        kind = parsed.target.kind if parsed.target else "unknown"
        for note in parsed.notes:
            verdict = declared[note.code]
            pasted = verdict in (self.PAGE_PATH, self.API_PATH)
            lines = [_SEE_CLOUD] if pasted and kind == "cloud" else None
            yield verdict(reproduce=lines, **_quoted(ctx, note.evidence))
        if problem is not None:
            yield problem

        given = ctx.settings.given
        user = ctx.settings.user or given.user
        scheme: tokens.Scheme = "basic" if user else "bearer"
        flaw = self._judge_secret(ctx, scheme, kind)
        if flaw is not None:
            yield flaw
        elif kind == "cloud" and given.secret and tokens.is_consumer(given.secret, user):
            yield Credential(given.secret, "grant", user, given.source)
        else:
            yield Credential(given.secret, scheme, user, given.source)

        # Last, because it takes a while and the network can be awaited meanwhile.
        holds_ca = content is not None and net.tls.holds_ca(content)
        if content is not None and not holds_ca and (names := cafile.only_servers(content)):
            contains = f"only certificates of servers ({ctx.quote(names)})"
            yield self.CA_NOT_A_CA(**_ca_evidence(ctx), contains=contains)
        elif parsed.target is not None and problem is None and flaw is None:
            yield self.OK(**_summary(parsed.target, given.source if given.secret else None, user))

    def _read_ca(self, ctx: Context) -> tuple[bytes | None, Finding | None]:
        """The content of the CA file if there is one to look at, or why it cannot be used."""
        path, _ = _ca_file(ctx)
        if not path:
            return None, None
        try:
            content = cafile.read(path)
        except OSError as error:
            return None, self.CA_UNREADABLE(**_ca_evidence(ctx), error=error.strerror)
        if content is None or (instead := cafile.instead(content)) is None:
            return content, None
        return None, self.CA_NOT_A_CA(**_ca_evidence(ctx), contains=instead)

    def _judge_secret(self, ctx: Context, scheme: tokens.Scheme, kind: str) -> Finding | None:
        """What is wrong with the secret, None if nothing is, or if none was announced."""
        secret, source = ctx.settings.given.secret, ctx.settings.given.source
        if not secret:
            announced = ctx.settings.given.announced
            return _about(self.TOKEN_MISSING, source) if announced else None
        if what := tokens.placeholder(secret, scheme):
            return _about(self.TOKEN_PLACEHOLDER, source, what=what)
        if what := tokens.stray_characters(secret, scheme):
            return _about(self.TOKEN_WHITESPACE, source, what=what)
        issuer = tokens.issuer(secret)
        if issuer is None or issuer.bitbucket == kind or (issuer.bitbucket and kind == "unknown"):
            return None
        expected = {"datacenter": "Bitbucket Data Center", "cloud": "Bitbucket Cloud"}
        return _about(
            self.TOKEN_WRONG_PRODUCT,
            source,
            kind=issuer.kind,
            expected=expected.get(kind, "Bitbucket"),
        )


def _about(verdict: Verdict, source: str, **evidence: str) -> Finding:
    """A finding about the secret; it is looked at where it came from, and stays unseen."""
    kind, _, name = source.partition(" ")
    look = None
    if source.startswith("$"):
        look = _VARIABLE.replace("$BITBUCKET_TOKEN", source)
    elif kind == "file":
        look = f"cat {shlex.quote(name)}".replace("{", "{{").replace("}", "}}")
    lines = [line.replace(_VARIABLE, look) for line in verdict.reproduce] if look else []
    shown: dict[str, Any] = {"source": source, **evidence}
    return verdict(reproduce=lines, **shown)


def _ca_file(ctx: Context) -> tuple[str | None, str]:
    """The CA file of the run, and what named it."""
    if ctx.settings.ca_file:
        return ctx.settings.ca_file, "--ca-file"
    return ctx.settings.environ.get("SSL_CERT_FILE"), "$SSL_CERT_FILE"


def _ca_evidence(ctx: Context) -> dict[str, Any]:
    path, option = _ca_file(ctx)
    return {"path": shlex.quote(path or ""), "option": option}


def _quoted(ctx: Context, evidence: Mapping[str, Json]) -> dict[str, Any]:
    return {k: ctx.quote(v) if isinstance(v, str) else v for k, v in evidence.items()}


def _summary(known: Target, source: str | None, user: str | None) -> dict[str, Any]:
    """What was understood, for the line of a call that is in order."""
    wanted = "/".join(filter(None, (known.project, known.repository)))
    how = f"as password of {user}" if user else "as Bearer"
    return {
        "base_url": known.base_url,
        "wanted": f", {'repository' if known.repository else 'project'} {wanted}" if wanted else "",
        "secret": f"the secret of {source} {how}" if source else "no secret: anonymous",
    }
