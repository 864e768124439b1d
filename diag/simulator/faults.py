"""Every fault of either product, by name, in the order of the list of verdicts."""

from __future__ import annotations

from diag.simulator import (  # noqa: F401 - they register
    faults_bitbucket,
    faults_cloud,
    faults_http,
    faults_network,
)
from diag.simulator.registry import CLOUD, DATACENTER

FAULTS = DATACENTER.faults
CLOUD_FAULTS = CLOUD.faults
