"""`bbdiag`, which is the same as `python -m diag`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with the status of the contract."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller: no socket may take its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    if sys.argv[1:] == ["--version"]:  # answered before anything is imported
        from diag.version import VERSION

        print(f"bbdiag {VERSION}")
        raise SystemExit(0)
    from diag import early

    early.begin(sys.argv[1:], os.environ)
    from diag.cli import run

    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # closed by whoever read it
        pass
    os._exit(status)  # at once: who is left behind, in a thread, is not waited for


if __name__ == "__main__":
    main()
