"""Devices and programs that open TLS connections, by what their CA certificates are called.

A heuristic: an administrator may name such a CA after the company, and nobody can be kept from
calling another one like this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_INSPECTORS = (
    ("Zscaler", r"zscaler"),
    ("Netskope", r"netskope|goskope"),
    ("Symantec/Blue Coat ProxySG", r"blue ?coat|proxysg|symantec.*(gateway|proxy)"),
    ("Fortinet FortiGate", r"forti(net|gate|proxy|client|guard)"),
    ("Palo Alto Networks", r"palo ?alto|pan-os|prisma access|globalprotect"),
    ("Sophos", r"sophos"),
    ("McAfee/Skyhigh Web Gateway", r"mcafee|skyhigh|trellix"),
    ("Cisco Umbrella", r"cisco (umbrella|secure access|wsa|web security|firepower)|opendns"),
    ("Forcepoint/Websense", r"forcepoint|websense"),
    ("Check Point", r"check ?point"),
    ("Barracuda", r"barracuda"),
    ("Cloudflare Gateway", r"cloudflare.*(gateway|managed)|gateway ca - cloudflare"),
    ("Cato Networks", r"cato networks"),
    ("Menlo Security", r"menlo security"),
    ("iboss", r"\biboss\b"),
    ("Trend Micro", r"trend micro|interscan"),
    ("WatchGuard", r"watchguard|fireware"),
    ("SonicWall", r"sonicwall|dpi-ssl"),
    ("Untangle", r"untangle"),
    ("Smoothwall", r"smoothwall"),
    ("OPNsense/pfSense", r"opnsense|pfsense"),
    ("Kaspersky", r"kaspersky"),
    ("ESET", r"\beset\b"),
    ("Avast/AVG", r"\bavast\b|\bavg\b"),
    ("Bitdefender", r"bitdefender"),
    ("mitmproxy", r"mitmproxy"),
    ("Squid", r"\bsquid\b"),
    ("Charles", r"charles (proxy|web debugging)"),
    ("Fiddler", r"fiddler"),
    ("Burp Suite", r"portswigger|\bburp\b"),
    ("OWASP ZAP", r"zed attack proxy|\bzap\b.*(root|proxy)"),
    ("HTTP Toolkit", r"http toolkit"),
    ("Proxyman", r"proxyman"),
    (
        "an inspecting device",
        r"(ssl|tls|https|deep|web)[ -]?(inspect|intercept|decrypt|filter|proxy)",
    ),
    ("an inspecting device", r"forward (un)?trust|secure web gateway"),
)
_PATTERNS = tuple((name, re.compile(text, re.IGNORECASE)) for name, text in _INSPECTORS)


def product(issuers: Iterable[str]) -> str | None:
    """The product whose name one of these issuer names bears."""
    text = "\n".join(issuers)
    return next((name for name, found in _PATTERNS if found.search(text)), None)
