"""bbdiag: says why something cannot connect to Bitbucket.

`checks/` and `reports/` lie beside this package in the repository and inside it when installed;
nothing imports a module of theirs by name, they are found by `diag.registry`.
"""

from __future__ import annotations

from pathlib import Path

if not Path(__file__).with_name("checks").is_dir():  # a checkout, not an installed wheel
    __path__.append(str(Path(__file__).parents[1]))
