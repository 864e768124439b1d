"""An embedded Bitbucket on loopback, Data Center or Cloud, healthy or broken in one known way.

It answers as a real one does, over real sockets and real TLS, and keeps a record of what it was
asked. It depends on the standard library, and on `cryptography` where TLS is wanted.
"""

from __future__ import annotations

from diag.simulator.cloud_data import CLOUD_CREDENTIALS, CloudInstance
from diag.simulator.data import CREDENTIALS, Credential, Instance, Level, Repository
from diag.simulator.embedded import Recorded, Simulator
from diag.simulator.faults import CLOUD_FAULTS, FAULTS
from diag.simulator.registry import Fault
from diag.simulator.scenario import Scenario

__all__ = [
    "CLOUD_CREDENTIALS",
    "CLOUD_FAULTS",
    "CREDENTIALS",
    "FAULTS",
    "CloudInstance",
    "Credential",
    "Fault",
    "Instance",
    "Level",
    "Recorded",
    "Repository",
    "Scenario",
    "Simulator",
]
