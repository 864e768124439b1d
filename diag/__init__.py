"""bbdiag: says why something cannot connect to Bitbucket.

`checks/` and `reports/` lie beside this package in the repository and inside it when installed;
nothing imports a module of theirs by name, they are found by `diag.registry`.
"""

from __future__ import annotations

import os.path  # pathlib takes longer to load than `--version` to answer

_HERE = os.path.dirname(__file__)  # noqa: PTH120
if not os.path.isdir(f"{_HERE}/checks"):  # noqa: PTH112 - a checkout, not an installed wheel
    __path__.append(os.path.dirname(_HERE))  # noqa: PTH120
