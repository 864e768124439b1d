"""`bbdiag schema`: the JSON Schema of the report."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the report (version 1)."""
    import json

    from diag import output
    from diag.schema import schema

    output.write_stdout(json.dumps(schema(), indent=2))
