"""Whether Bitbucket's own calls, the webhooks, reach the product."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from diag.api import (
    Asker,
    Check,
    Context,
    Delivery,
    Fact,
    Finding,
    Repositories,
    Target,
    Troubles,
    Verdict,
    Webhook,
    Webhooks,
    bitbucket,
    fail,
    ok,
    skip,
    trouble,
    unknown,
    warn,
)

MONTH = 30 * 86400  # seconds: as far as Bitbucket's own statistics go back
HOOKS = "{curl_auth} '{hooks}' | jq '.values[] | .id, .active, .events'"
RECORD = "{curl_auth} '{hooks}/{id}/statistics'"
FROM_THERE = "curl -sv -o /dev/null '{receiver}'  # on Bitbucket's own server"


class WebhookDelivery(Troubles, Check):
    """See whether Bitbucket can tell the product of pushes and pull requests.

    Nothing is sent to the product: Bitbucket notes down what became of the last deliveries of each
    webhook, and shows that to administrators of the repository. The profile says how the product's
    webhooks look; those of others are passed over. No alarm is what lies before the last change of
    a webhook, or a success after it, or a month. Before the set-up (--stage setup) a webhook may be
    missing. Only the host of a webhook's address is shown, as the rest often holds a token.
    """

    id = "webhook"
    title = "Bitbucket's webhooks reach the product"
    order = 125
    kinds = frozenset({"datacenter", "unknown"})
    requires = (Target, Repositories)
    after = (Webhooks,)

    OK = ok("webhook-ok", "Bitbucket tells {profile} of changes, at {receiver}: {last}")
    NONE_YET = ok("webhook-none-yet", "no webhook of {profile} is there yet, nor has to be")
    NOT_USED = skip("webhook-not-used", "{profile} needs no webhooks")
    FORM_UNKNOWN = skip("webhook-form-unknown", "the profile does not say how webhooks of it look")
    NO_REPOSITORY = skip("webhook-no-repository", "name a repository (--repo) to see its webhooks")
    NOT_SHOWN = skip("webhook-not-shown", "only administrators are shown webhooks")
    NOT_RECOGNISED = skip(
        "webhook-not-recognised",
        "no webhook leads to {profile} itself; whether one of the {others} others, or one that is"
        " not shown, leads to an installation of your own cannot be told",
    )
    MISSING = warn(
        "webhook-missing",
        "no webhook of {where} leads to {profile}: pushes and pull requests start nothing",
        remedy="Let {profile} make it (connect the repository again), or add it by hand: Repository"
        " settings > Webhooks.",
        owner="bitbucket-admin",
        reproduce=HOOKS,
        explains=("perm-too-broad",),  # to make the webhook, it is not
    )
    INACTIVE = warn(
        "webhook-inactive",
        "the webhook to {receiver} is switched off: {profile} hears of nothing",
        remedy="Switch it on: Repository settings > Webhooks > Edit > Active.",
        owner="bitbucket-admin",
        reproduce=HOOKS,
    )
    EVENTS_MISSING = warn(
        "webhook-events-missing",
        "the webhook to {receiver} does not tell of {events}: that starts nothing at {profile}",
        remedy="Tick these events, too: Repository settings > Webhooks > Edit.",
        owner="bitbucket-admin",
        reproduce=HOOKS,
    )
    WRONG_URL = fail(
        "webhook-wrong-url",
        "the webhook leads to {receiver}, {why}",
        remedy="Take the address that {profile} shows for this repository, and put it into"
        " Repository settings > Webhooks > Edit.",
        owner="bitbucket-admin",
        reproduce="{curl_auth} '{hooks}/{id}'",
    )
    CIRCUIT_OPEN = fail(
        "webhook-circuit-open",
        "Bitbucket leaves out the webhook to {receiver} for now, because it failed too often"
        " ({at}): a cure shows only after up to ten hours",
        remedy="Cure what made it fail; Repository settings > Webhooks > Test connection shows"
        " whether it did. Then make the webhook anew, or wait: a new one is called at once.",
        owner="bitbucket-admin",
        reproduce=RECORD,
    )
    EGRESS_BLOCKED = fail(
        "webhook-egress-blocked",
        "Bitbucket's server gets no connection to {receiver}: {said} ({at})",
        remedy="Let Bitbucket's server out to there. If only a proxy leads out, tell Bitbucket's"
        " Java (-Dhttps.proxyHost, -Dhttps.proxyPort) and restart it. If nobody else gets a"
        " connection, either, the other side is down.",
        owner="bitbucket-admin",
        reproduce=(RECORD, FROM_THERE),
    )
    DNS_FAILURE = fail(
        "webhook-dns-failure",
        "Bitbucket's server cannot resolve the name in {receiver}: {said} ({at})",
        remedy="Have the DNS server that Bitbucket's server asks answer for this name; if only a"
        " proxy knows such names, tell Bitbucket's Java (-Dhttps.proxyHost, -Dhttps.proxyPort).",
        owner="bitbucket-admin",
        reproduce=(RECORD, FROM_THERE),
    )
    TLS_UNTRUSTED = fail(
        "webhook-tls-untrusted",
        "Bitbucket's server does not accept the TLS connection to {receiver}: {said} ({at})",
        remedy="Most often its Java does not know the CA of the certificate it gets there, the"
        " receiver's own or that of a device that inspects TLS: import it into Bitbucket's Java"
        " (keytool -importcert -cacerts) and restart. Bitbucket's log of that moment says more.",
        owner="bitbucket-admin",
        reproduce=(RECORD, FROM_THERE),
    )
    PROXY_REQUIRED = fail(
        "webhook-proxy-required",
        "the way from Bitbucket's server to {receiver} leads through a proxy that wants it to sign"
        " in: {said} ({at})",
        remedy="Tell Bitbucket's Java the right proxy and its credentials (-Dhttps.proxyHost,"
        " -Dhttps.proxyPort, -Dhttps.proxyUser, -Dhttps.proxyPassword) and restart, or let its"
        " server through without.",
        owner="bitbucket-admin",
        reproduce=(RECORD, FROM_THERE),
    )
    NOT_FOUND = fail(
        "webhook-endpoint-not-found",
        "{receiver} does not know the address of the webhook: {said} ({at})",
        remedy="The path is wrong, or what it belonged to is gone: take the address that {profile}"
        " shows for this repository.",
        owner="bitbucket-admin",
        reproduce=RECORD,
    )
    REJECTED = fail(
        "webhook-endpoint-rejected",
        "{receiver} rejects what the webhook delivers: {said} ({at})",
        remedy="Take address, token and secret of the webhook anew from {profile}. If it lets in"
        " listed addresses only, the one that Bitbucket comes from has to be among them.",
        owner="bitbucket-admin",
        reproduce=RECORD,
    )
    SECRET_MISMATCH = fail(
        "webhook-secret-mismatch",
        "{receiver} finds the signature of the webhook wrong: {said} ({at})",
        remedy="Give the webhook the secret that {profile} has: Repository settings > Webhooks >"
        " Edit > Secret.",
        owner="bitbucket-admin",
        reproduce=RECORD,
    )
    ENDPOINT_TIMEOUT = fail(
        "webhook-endpoint-timeout",
        "{receiver} takes the connection, but does not answer Bitbucket in time: {said} ({at})",
        remedy="Bitbucket waits for 10 seconds. Ask {profile} why it takes longer; on the way there"
        " a proxy, or a device that inspects traffic, can be what is slow.",
        owner="bitbucket-admin",
        reproduce=(RECORD, FROM_THERE),
    )
    UNCLEAR = unknown(
        "webhook-unclear",
        "Bitbucket's last delivery to {receiver} failed, and its record does not tell why: {said}"
        " ({at})",
        remedy="Look at Repository settings > Webhooks > Event details, and at Bitbucket's log of"
        " that moment.",
        owner="bitbucket-admin",
        reproduce=RECORD,
    )
    BY_REASON: ClassVar[dict[bitbucket.webhooks.Reason, Verdict]] = {
        "skipped": CIRCUIT_OPEN,
        "proxy": PROXY_REQUIRED,
        "dns": DNS_FAILURE,
        "tls": TLS_UNTRUSTED,
        "egress": EGRESS_BLOCKED,
        "timeout": ENDPOINT_TIMEOUT,
        "not-found": NOT_FOUND,
        "signature": SECRET_MISMATCH,
        "rejected": REJECTED,
        "other": UNCLEAR,
    }

    def run(self, ctx: Context) -> Iterator[Finding | Fact]:
        shown = ctx.get(Webhooks)
        if not ctx.profile.webhooks:
            yield self.NOT_USED()
        elif not ctx.profile.hooks.url:
            yield self.FORM_UNKNOWN()
        elif ctx[Repositories].wanted is None:
            yield self.NO_REPOSITORY()
        elif shown is None:
            yield self.NOT_SHOWN()
        else:
            asker = Asker(ctx, auth=True)
            yield from self._look(ctx, asker, shown)
            yield from asker.findings

    def _look(self, ctx: Context, asker: Asker, shown: Webhooks) -> Iterator[Finding]:
        project, slug = self._place(ctx)
        webhooks, complete = shown.webhooks, shown.complete
        if webhooks is None:
            told = bitbucket.rights.webhooks(asker.get, project, slug)
            found = bitbucket.webhooks.read(told.answer)
            if found is None:
                long = told.answer.failure == "endless"  # longer than what is read of it
                yield (None if long else trouble(ctx, told.answer)) or self.NOT_SHOWN()
                return
            webhooks, complete = found
        if not self._of_product(ctx, webhooks) and ctx.settings.stage == "steady":
            inherited = bitbucket.webhooks.of_project(asker.get, project, slug)
            webhooks, complete = webhooks + inherited.webhooks, complete and inherited.complete
        ours = self._of_product(ctx, webhooks)
        if ours:
            yield from self._judge(ctx, asker, ours)
        else:
            yield from self._without(ctx, webhooks, complete)

    def _of_product(self, ctx: Context, webhooks: Sequence[Webhook]) -> list[Webhook]:
        patterns = ctx.profile.hooks.url
        return [one for one in webhooks if bitbucket.webhooks.fits(one.url, patterns)]

    def _without(
        self, ctx: Context, webhooks: Sequence[Webhook], complete: bool
    ) -> Iterator[Finding]:
        """None of the webhooks is as it should be."""
        hooks = ctx.profile.hooks
        for one in webhooks:
            if one.active and bitbucket.webhooks.fits(one.url, hooks.wrong_url):
                why = f"where {ctx.profile.title} does not take what Bitbucket Data Center tells"
                yield self.WRONG_URL(why=why, **self._words(ctx, one))
                return
        others = sum(map(bitbucket.webhooks.tells_of_pushes, webhooks))
        if ctx.settings.stage == "setup":
            yield self.NONE_YET()
        elif not complete or (hooks.self_hosted and others):
            yield self.NOT_RECOGNISED(others=others)
        else:
            yield self.MISSING(**self._where(ctx))

    def _judge(self, ctx: Context, asker: Asker, ours: Sequence[Webhook]) -> Iterator[Finding]:
        active = [one for one in ours if one.active]
        if not active:
            yield self.INACTIVE(**self._words(ctx, ours[0]))
            return
        right = [one for one in active if _arrives(one) or not bitbucket.webhooks.leads_back(one)]
        if not right:
            why = "which is Bitbucket's own machine: it would call itself"
            yield self.WRONG_URL(why=why, **self._words(ctx, active[0]))
            return
        if events := bitbucket.webhooks.lacking(right, ctx.profile.hooks.events):
            yield self.EVENTS_MISSING(events=events, **self._words(ctx, right[0]))
        # The one with the best record: another can be left from former times.
        best = min(right, key=lambda one: _last(one) is not None and not _arrives(one))
        delivery = _last(best)
        if delivery is not None and _failed(delivery):
            yield from self._failing(ctx, asker, best, delivery)
        elif not events:
            words = self._words(ctx, best)
            yield self.OK(last=f"done on {_at(delivery)}" if delivery else "nothing yet", **words)

    def _failing(
        self, ctx: Context, asker: Asker, webhook: Webhook, delivery: Delivery
    ) -> Iterator[Finding]:
        why = bitbucket.webhooks.reason(delivery)
        if why in ("other", "timeout", "rejected") and not webhook.inherited:
            more = bitbucket.webhooks.details(asker.get, *self._place(ctx), webhook, delivery)
            why = bitbucket.webhooks.reason(delivery, more)
        if why == "skipped":  # then the last answer, if there was any, tells what was the matter
            answered = [one for one in _fresh(webhook) if one.outcome == "FAILURE"]
            for one in answered:
                yield self._failure(ctx, webhook, one, bitbucket.webhooks.reason(one))
        yield self._failure(ctx, webhook, delivery, why)

    def _failure(
        self, ctx: Context, webhook: Webhook, delivery: Delivery, why: bitbucket.webhooks.Reason
    ) -> Finding:
        said = ctx.quote(delivery.said).rstrip(".") or "nothing"
        if delivery.outcome == "FAILURE":
            said = f"it answered {said}"
        return self.BY_REASON[why](
            said=said, at=_at(delivery), lasted=delivery.lasted, **self._words(ctx, webhook)
        )

    def _words(self, ctx: Context, webhook: Webhook) -> dict[str, Any]:
        receiver = ctx.quote(webhook.receiver)
        return {"receiver": receiver, "id": webhook.id, **self._where(ctx, webhook.inherited)}

    def _where(self, ctx: Context, of_project: bool = False) -> dict[str, Any]:
        project, slug = self._place(ctx)
        path = bitbucket.datacenter.webhooks_path(project, None if of_project else slug)
        hooks = ctx.target.base_url + path
        return {"where": ctx.quote(f"{project}/{slug}"), "hooks": hooks}

    @staticmethod
    def _place(ctx: Context) -> tuple[str, str]:
        wanted = ctx[Repositories].wanted
        assert wanted is not None  # noqa: S101 - `run` has seen to it
        return wanted.project, wanted.slug


def _fresh(webhook: Webhook) -> list[Delivery]:
    """The deliveries that say something about the webhook as it is, the latest first."""
    since = max(webhook.changed, time.time() - MONTH)
    return [one for one in webhook.deliveries if one.at > since]


def _last(webhook: Webhook) -> Delivery | None:
    return next(iter(_fresh(webhook)), None)


def _arrives(webhook: Webhook) -> bool:
    """Whether the last delivery was taken: then even Bitbucket's own machine was the right one."""
    last = _last(webhook)
    return last is not None and not _failed(last)


def _failed(delivery: Delivery) -> bool:
    return delivery.outcome != "SUCCESS"


def _at(delivery: Delivery) -> str:
    return f"{datetime.fromtimestamp(delivery.at, UTC):%Y-%m-%d %H:%M} UTC"
