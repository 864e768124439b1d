"""`bbdiag completion`: the script that teaches a shell to complete bbdiag's commands."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, /, shell: str) -> None:
    """Print the completion script for a shell.

    \b
      bash:  eval "$(bbdiag completion bash)"        in ~/.bashrc
      zsh:   eval "$(bbdiag completion zsh)"         in ~/.zshrc
      fish:  bbdiag completion fish | source         in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from diag import output

    root = ctx.find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above names only what click has
    output.write_stdout(kind(root.command, {}, "bbdiag", "_BBDIAG_COMPLETE").source())
