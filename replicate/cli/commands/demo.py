"""`replicate demo`: replicas at work, in a minute."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from replicate.cli.demo.scenario import Scenario
from replicate.cli.demo.story import Story
from replicate.cli.options import Debug, EngineName

__all__ = ["DemoGuest", "demo"]


class DemoGuest(str, enum.Enum):
    """Name a guest that the demonstration can be given with."""

    trealla = "trealla"
    kv = "kv"


def demo(
    guest: Annotated[
        DemoGuest, typer.Option(help="Prolog (fetched on first use), or a key-value store.")
    ] = DemoGuest.trealla,
    replicas: Annotated[int | None, typer.Option(min=1, help="Replicas. [dim]\\[default: one a core][/]")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries in each load.")] = 100,
    threads: Annotated[int, typer.Option(min=1, max=1000, help="Threads that ask them.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the comparison.")] = 5,
    wasm: Annotated[Path | None, typer.Option(metavar="PATH", help="Your own build of Trealla Prolog.")] = None,
    engine: EngineName = "wasmtime",
    debug: Debug = False,
) -> None:
    """Show a pool at work: concurrent reads, a write, a failing write, and how much faster than one locked guest.

    Every answer is compared with what a model in Python says; a wrong one is an error.
    """
    with _scenario(guest, engine=engine, replicas=replicas, wasm=wasm) as scenario:
        Story(scenario, queries, threads, rounds).tell()


def _scenario(guest: DemoGuest, *, engine: str, replicas: int | None, wasm: Path | None) -> Scenario:
    if guest is DemoGuest.kv:
        if wasm is not None:
            raise typer.BadParameter(
                "is for --guest trealla; the key-value store is part of the library", param_hint="--wasm"
            )
        from replicate.cli.demo.kv import KeyValueScenario

        return KeyValueScenario(engine=engine, replicas=replicas)
    from replicate.cli.demo.trealla import TreallaScenario

    return TreallaScenario(engine=engine, replicas=replicas, wasm=wasm)
