"""How long a whole diagnosis takes, against what people use today, on one machine in one run.

    python bench/versus_curl.py [RUNS]

Three commands take turns against the same embedded Bitbucket: one `curl` of one REST path, the
same questions asked by hand with curl one after the other, and `bbdiag check`. Quoted are medians
and the ratio to the one curl; single figures of a shared machine say little.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from diag.simulator import Scenario, Simulator

PATHS = (
    "/status",
    "/rest/api/latest/application-properties",
    "/rest/capabilities",
    "/rest/api/1.0/repos?limit=100",
    "/rest/api/latest/repos?permission=REPO_ADMIN&limit=1",
    "/rest/api/latest/projects/MOB/repos/app/webhooks?limit=1",
    "/scm/MOB/app.git/info/refs?service=git-upload-pack",
)


def commands(scenario: Scenario) -> dict[str, list[list[str]]]:
    """What is timed: a name, and the processes that are run one after the other for it."""
    curl = ["curl", "-sS", "-o", os.devnull, "--cacert", scenario.ca_file or ""]
    for rule in scenario.connect_to:
        curl += ["--connect-to", rule]
    curl += ["-H", f"Authorization: Bearer {scenario.token}"]
    check = [sys.executable, "-m", "diag", "check", scenario.url, "--format", "json"]
    check += ["--ca-file", scenario.ca_file or "", "--repo", scenario.repo or ""]
    for rule in scenario.connect_to:
        check += ["--connect-to", rule]
    return {
        "one curl": [[*curl, scenario.url + PATHS[3]]],
        "seven curls": [[*curl, scenario.url + path] for path in PATHS],
        "bbdiag check": [check],
    }


def seconds(processes: list[list[str]], environ: dict[str, str]) -> float:
    begin = time.perf_counter()
    for argv in processes:
        done = subprocess.run(argv, env=environ, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise SystemExit(f"{argv[0]} ended with {done.returncode}: the comparison is void")
    return time.perf_counter() - begin


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with Simulator() as simulator:
        environ["BITBUCKET_TOKEN"] = simulator.scenario.token or ""
        timed = commands(simulator.scenario)
        times: dict[str, list[float]] = {name: [] for name in timed}
        for turn in range(runs + 1):
            for name, processes in timed.items():
                spent = seconds(processes, environ)
                if turn:  # the first turn warms caches and compiles
                    times[name].append(spent)
    base = statistics.median(times["one curl"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<14} {median * 1000:8.1f} ms {median / base:6.2f} x")


if __name__ == "__main__":
    main()
