"""The dialect of Bitbucket Cloud: two hosts behind one edge that marks whatever it passes on."""

from __future__ import annotations

import hashlib
import threading

from diag.simulator.cloud_api import RestApi
from diag.simulator.cloud_data import API, SITE, CloudInstance
from diag.simulator.cloud_web import Website
from diag.simulator.server import Request, Response, Site, html, page


class Cloud:
    """All of Bitbucket Cloud: a `Site`."""

    def __init__(self, instance: CloudInstance) -> None:
        website = Website(instance)
        self._sites: dict[str, Site] = {
            API: RestApi(instance),
            SITE: website,
            f"www.{SITE}": website,
        }
        self._lock = threading.Lock()
        self._count = 3470

    def knows(self, request: Request) -> bool:
        site = self._sites.get(request.host)
        return site is not None and site.knows(request)

    def answer(self, request: Request) -> Response:
        site = self._sites.get(request.host)
        if site is None:
            return html(404, page("404 Not Found"), server="AtlassianEdge")
        response = site.answer(request)
        self._mark(response)
        return response

    def _mark(self, response: Response) -> None:
        """The headers that the edge and the application behind it add."""
        with self._lock:
            self._count += 1
            number = self._count
        trace = hashlib.sha256(str(number).encode()).hexdigest()[:32]
        if all(name != "server" for name, _ in response.headers):
            response.headers.append(("server", "AtlassianEdge"))
        response.headers += [
            ("vary", "Authorization, Origin, cookie, user-context, Accept-Encoding"),
            ("x-used-mesh", "False"),
            ("x-dc-location", "Micros"),
            ("x-served-by", trace[:12]),
            ("x-version", trace[12:24]),
            ("x-static-version", trace[12:24]),
            ("x-request-count", str(number)),
            ("x-render-time", "0.0421"),
            ("x-b3-traceid", trace),
            ("x-b3-spanid", trace[:16]),
            ("x-trace-id", trace),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ]
