"""Put the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from replicate import __version__
from replicate.cli.commands import COMMANDS, Command
from replicate.cli.failures import INTERRUPTED, exit_codes, guarded
from replicate.cli.terminal import terminal

__all__ = ["app", "run"]


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.say(f"wasm-replicate {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="replicate",
    help="Read replicas for any WebAssembly module. Start with: replicate demo",
    epilog=f"Exit codes: {exit_codes()}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: Annotated[  # the callback does all there is to do
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


def _help(command: Command) -> str:
    """Give the docstring with its paragraphs on a line each: the terminal wraps them."""
    return "\n\n".join(" ".join(each.split()) for each in (command.run.__doc__ or "").split("\n\n"))


def _add(group: typer.Typer, command: Command) -> None:
    told, epilog, runs = _help(command), f"Exit codes: {command.exit_codes}", guarded(command.run)
    if not command.beneath:
        group.command(command.name, help=told, epilog=epilog)(runs)
        return
    inner = typer.Typer()
    inner.callback(invoke_without_command=True, help=told, epilog=epilog)(runs)
    for each in command.beneath:
        _add(inner, each)
    group.add_typer(inner, name=command.name)


for _command in COMMANDS:
    _add(app, _command)


def run() -> int:
    """Run the command line on `sys.argv` and give the exit code."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
