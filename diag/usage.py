"""The report of a call that is wrong in itself, for those who asked for JSON."""

from __future__ import annotations

import json
import os
import socket
import uuid
from datetime import UTC, datetime

from diag.model import Status
from diag.report import Problem, Report, RunInfo, TargetInfo
from diag.secret import Scrubber, Secret
from diag.version import VERSION

CODE = "input-config-invalid"


def document(message: str) -> str:
    """One JSON document that says what is wrong with the call."""
    scrubber = Scrubber()
    token = os.environ.get("BITBUCKET_TOKEN")
    scrubber.learn(Secret(token) if token else None)
    problem = Problem(
        code=CODE,
        status=Status.FAIL,
        check="input",
        message=scrubber.text(message),
        remedy="Correct the call or the file it names; bbdiag --help describes every option.",
        owner="you",
        reproduce=("bbdiag --help",),
    )
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    report = Report(
        version=VERSION,
        run=RunInfo(uuid.uuid4().hex, now, 0, None, socket.gethostname(), 0),
        target=TargetInfo(""),
        profile="",
        stage="",
        problems=(problem,),
        checks=(),
    )
    return json.dumps(report.to_json(), ensure_ascii=False, indent=2)
