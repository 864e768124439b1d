"""bbdiag as its users have it, and what must be installed beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.measuring import progress

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".bench"  # what is kept between runs
PYTHON = HOME / "venv" / "bin" / "python"
BBDIAG = PYTHON.with_name("bbdiag")
CHECK_HTTP = "/usr/lib/nagios/plugins/check_http"
EXPORTER = "prometheus-blackbox-exporter"

_PROGRAMS = {  # and Debian's package
    "nginx": "nginx-light",
    "dnsmasq": "dnsmasq",
    "dig": "dnsutils",
    "nc": "netcat-openbsd",
    "curl": "curl",
    "openssl": "openssl",
    "gcc": "gcc",
    "ip": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "nmap": "nmap",
    CHECK_HTTP: "monitoring-plugins-basic",
    EXPORTER: "prometheus-blackbox-exporter",
}


def missing() -> str | None:
    """What this machine lacks, as a sentence; None if nothing."""
    if sys.platform != "linux":
        return "network namespaces are needed, which only Linux has"
    if os.geteuid() != 0:
        return "root is needed, for network namespaces"
    packages = sorted({_PROGRAMS[name] for name in _PROGRAMS if shutil.which(name) is None})
    return f"install {' '.join(packages)} (Debian's packages)" if packages else None


def install() -> None:
    """Install bbdiag from the checkout as `make demo` does: what is pinned, not editable, compiled.

    Raises:
        SystemExit: pip says why it cannot be.
    """
    progress("installing bbdiag from the checkout")
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parents[1])], check=True)
    for name in ("lib", f"bdist.linux-{os.uname().machine}"):
        shutil.rmtree(ROOT / "build" / name, ignore_errors=True)  # modules that are gone by now
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]  # the one that is pinned
    pip += ["install", "--quiet", "--disable-pip-version-check"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pinned = ["--require-hashes", "--no-deps", "-r", "requirements/runtime.txt"]
    for what in (pinned, ["--no-deps", "--force-reinstall", "."]):
        done = subprocess.run(
            [*pip, "--compile", *what],
            cwd=ROOT,
            env=env,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"bbdiag cannot be installed: {done.stderr.strip()}")


def environment(**more: str) -> dict[str, str]:
    """What the measured programs find in their environment: nothing of whoever measures."""
    path = f"{BBDIAG.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **more}


def versions() -> dict[str, str]:
    """The versions of all that was measured, by name."""
    asked = {
        "Python": [str(PYTHON), "--version"],
        "bbdiag": [str(BBDIAG), "--version"],
        "curl": ["curl", "--version"],
        "dig": ["dig", "-v"],
        "OpenSSL": ["openssl", "version"],
        "nginx": ["nginx", "-v"],
        "check_http": [CHECK_HTTP, "--version"],
        "blackbox_exporter": [EXPORTER, "--version"],
        "nmap": ["nmap", "--version"],
        "Linux": ["uname", "-r"],
    }
    found = {}
    for name, argv in asked.items():
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        words = (done.stdout + done.stderr).replace("v2.", "2.").replace("nginx/", "").split()
        found[name] = next((w.strip(",") for w in words if w[0].isdigit()), "?")
    return found
