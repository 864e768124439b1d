"""The JSON Schema of the report (draft 2020-12). `docs/report.schema.json` is its printed form."""

from __future__ import annotations

from typing import Any

from diag.model import OWNERS, Status
from diag.report import SCHEMA_VERSION, TOOL
from diag.timings import PARTS

_FINDING_STATUS = [str(status) for status in Status]


def schema() -> dict[str, Any]:
    """The schema. Further fields may be added to a report, so they are allowed everywhere."""
    text = {"type": "string"}
    maybe_text = {"type": ["string", "null"]}
    count = {"type": "integer", "minimum": 0}
    maybe_count = {"type": ["integer", "null"], "minimum": 0}
    code = {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
    status = {"enum": _FINDING_STATUS}
    evidence = {"type": "object"}
    finding = _object(code=code, status=status, message=text, evidence=evidence)
    timing = _object(
        what={"enum": ["dns", "connect", "tls", "request"]},
        detail=text,
        started_ms=count,
        duration_ms=count,
    )
    timing["properties"] |= {"wait_ms": count, "read_ms": count}  # of a request, where measured
    check = _object(
        id=text,
        title=text,
        status=status,
        started_ms=maybe_count,
        duration_ms=maybe_count,
        skipped_because={"oneOf": [{"type": "null"}, _object(check=text, code=code)]},
        findings={"type": "array", "items": finding},
    )
    check["properties"]["timings"] = {"type": "array", "items": timing}
    problem = _object(
        code=code,
        status={"enum": ["fail", "unknown", "warn"]},
        check=text,
        message=text,
        remedy=text,
        owner={"enum": list(OWNERS)},
        evidence=evidence,
        reproduce={"type": "array", "items": text},
    )
    run = _object(
        id=text,
        started_at={"type": "string", "format": "date-time"},
        duration_ms=count,
        label=maybe_text,
        hostname=text,
        requests=count,
    )
    # How long at least one step of that kind was under way, and how long none; where any was timed.
    spent = dict.fromkeys((*PARTS, "idle"), count)
    run["properties"]["spent_ms"] = {"type": "object", "properties": spent, "required": ["idle"]}
    report = _object(
        schema_version={"const": SCHEMA_VERSION},
        tool=_object(name={"const": TOOL}, version=text),
        run=run,
        target=_object(
            input=text,
            kind={"enum": ["datacenter", "cloud", "unknown"]},
            base_url=maybe_text,
            host=maybe_text,
            port={"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
            project=maybe_text,
            repository=maybe_text,
        ),
        profile=_object(name=text, stage=text),
        verdict={"enum": ["ok", "warn", "unknown", "fail", "error"]},
        root_cause={"oneOf": [{"type": "null"}, code]},
        summary=text,
        problems={"type": "array", "items": problem},
        checks={"type": "array", "items": check},
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bbdiag report",
        **report,
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
