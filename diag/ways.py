"""For checks: try other ways out than that of the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from diag import net
from diag.context import DeadlineExceededError

if TYPE_CHECKING:
    from diag.context import Context
    from diag.net.proxyenv import Proxy
    from diag.net.whatif import Trial


def try_ways(
    ctx: Context, proxies: Iterable[tuple[Proxy, str]], *, direct: bool
) -> tuple[Trial, ...]:
    """What comes of each of these proxies (with what names it), and of the direct way.

    Anonymous, and within two seconds for all together: whoever is late does not pass. Nothing is
    tried where the run is nearly over.
    """
    proxies = list(proxies)
    for proxy, _ in proxies:
        if proxy.password is not None:
            ctx.learn(proxy.password, proxy.user)
    if not (proxies or direct):
        return ()
    try:
        patience = min(ctx.timeout, net.patience.OPEN_WAY)
    except DeadlineExceededError:
        return ()
    context = ctx.trust.context()
    means = net.whatif.Means(ctx.target, ctx.dialer, context, ctx.timed, patience)
    tasks = net.whatif.trials(proxies, means, direct=direct)
    done = ctx.parallel(tasks, patience)
    for one in done.values():
        if one.requests:
            ctx.count_request()
    return tuple(done.get(option) or net.whatif.Trial(option, None) for option in tasks)
