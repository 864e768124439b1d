"""An embedded Bitbucket Data Center on loopback, healthy or broken in one known way.

It answers as a real one does, over real sockets and real TLS, and keeps a record of what it was
asked. It depends on the standard library, and on `cryptography` where TLS is wanted.
"""

from __future__ import annotations

from diag.simulator.data import CREDENTIALS, Credential, Instance, Level, Repository
from diag.simulator.embedded import Recorded, Simulator
from diag.simulator.faults import FAULTS
from diag.simulator.registry import Fault
from diag.simulator.scenario import Scenario

__all__ = [
    "CREDENTIALS",
    "FAULTS",
    "Credential",
    "Fault",
    "Instance",
    "Level",
    "Recorded",
    "Repository",
    "Scenario",
    "Simulator",
]
