"""The commands, a file each. A new one is a line in `COMMANDS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from replicate.cli.commands.bake import bake
from replicate.cli.commands.bench import BENCH_EXIT_CODES, bench
from replicate.cli.commands.demo import demo
from replicate.cli.commands.diff import DIFF_EXIT_CODES, diff
from replicate.cli.commands.engines import engines
from replicate.cli.commands.engines_install import install
from replicate.cli.commands.inspect import INSPECT_EXIT_CODES, inspect
from replicate.cli.commands.prolog import PROLOG_EXIT_CODES, prolog
from replicate.cli.commands.snapshot import snapshot
from replicate.cli.commands.verify import verify
from replicate.cli.failures import exit_codes

__all__ = ["COMMANDS", "Command"]


@attrs.frozen
class Command:
    """Register one command: `run` takes its arguments as typer reads them from its signature.

    A command with others beneath it runs for itself where none of them is named; its `run` takes a `typer.Context`.
    """

    name: str
    run: Callable[..., Any]
    exit_codes: str = exit_codes()
    beneath: tuple[Command, ...] = ()


COMMANDS = (
    Command("demo", demo),
    Command("prolog", prolog, PROLOG_EXIT_CODES),
    Command("inspect", inspect, INSPECT_EXIT_CODES),
    Command("engines", engines, beneath=(Command("install", install),)),
    Command("snapshot", snapshot),
    Command("diff", diff, DIFF_EXIT_CODES),
    Command("bake", bake),
    Command("bench", bench, BENCH_EXIT_CODES),
    Command("verify", verify, exit_codes(done="no difference was found")),
)
