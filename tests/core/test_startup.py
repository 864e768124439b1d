"""What is loaded by when: speed stands in `bench/`, this is what it rests on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diag.simulator import Simulator

ROOT = Path(__file__).parents[2]

# The call as the console script makes it; what is loaded in the end goes to standard error.
CALL = """
import sys, os
leave = os._exit
def tell(status):
    print(*sorted(set(sys.modules)), file=sys.stderr, flush=True)
    leave(status)
os._exit = tell
from diag.__main__ import main
try:
    main()
except SystemExit as end:
    tell(end.code)
"""
NETWORK = {"ssl", "socket", "h11", "httpx", "httpcore", "dns", "cryptography", "tabulate"}
# Loaded by nothing of ours in a run where all is well.
IDLE = {
    *("httpx", "httpcore", "anyio", "dns", "cryptography", "certifi"),
    *("asyncio", "concurrent.futures", "logging", "email", "importlib.metadata", "difflib"),
}


def loaded(*arguments: str, **environ: str) -> set[str]:
    """The modules that a call loads; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split("\n")[-2].split(" "))


def test_the_version_is_told_before_anything_is_loaded() -> None:
    modules = loaded("--version")
    ours = {name for name in modules if name == "diag" or name.startswith("diag.")}
    assert ours == {"diag", "diag.__main__", "diag.version"}
    assert {"click", "typing", "re", "pathlib"} & modules <= loaded_by_python()


@pytest.mark.parametrize(
    "arguments", [("--help",), ("check", "--help"), ("fleet", "--help"), ("demo", "--help")]
)
def test_help_loads_nothing_of_the_network(arguments: tuple[str, ...]) -> None:
    modules = loaded(*arguments)
    assert "click" in modules
    assert not (NETWORK | {"importlib.metadata"}) & modules
    assert not {name for name in modules if name.startswith(("diag.net", "diag.checks"))}


@pytest.mark.parametrize("words", ["bbdiag ch", "bbdiag check --re"])
def test_completion_loads_nothing_of_the_network(words: str) -> None:
    number = str(len(words.split()) - 1)
    modules = loaded(_BBDIAG_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=number)
    assert not NETWORK & modules
    assert not {name for name in modules if name.startswith(("diag.net", "diag.checks"))}
    assert "diag.registry" not in modules  # what is not completed need not be right


def test_a_healthy_run_loads_only_what_it_needs() -> None:
    with Simulator() as simulator:
        scenario = simulator.scenario
        arguments = ["check", scenario.url, "--repo", scenario.repo or "", "--format", "json"]
        arguments += ["--ca-file", scenario.ca_file or ""]
        for rule in scenario.connect_to:
            arguments += ["--connect-to", rule]
        modules = loaded(*arguments, BITBUCKET_TOKEN=scenario.token or "")
    assert {"h11", "ssl", "diag.net.wire"} <= modules
    assert sorted(IDLE & modules) == []


def loaded_by_python() -> set[str]:
    """What an interpreter that does nothing has loaded, of this virtual environment."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())
