"""What the options of a benchmark mean for the pools it opens."""

from __future__ import annotations

import enum
from typing import Any

import attrs
import typer

from replicate import Engine, load_engine
from replicate.configuration import wants_processes
from replicate.errors import EngineUnavailableError

__all__ = ["Placement", "Workers", "parse_sizes", "place"]

_MOST_REPLICAS = 256


class Workers(str, enum.Enum):
    """Name what replicas run in."""

    threads = "threads"
    processes = "processes"


@attrs.frozen
class Placement:
    """Say where instances run: how pools are opened, and whether one instance can be used here, by any thread."""

    name: str
    engine: Engine
    workers: Workers
    here: bool

    @property
    def opening(self) -> dict[str, Any]:
        """Give the options that open a pool so."""
        return {"engine": self.name, "workers": self.workers.value}


def place(name: str, workers: Workers | None) -> Placement:
    """Find out where an engine's instances run, None being what is better with it; raises what loading the engine does."""
    chosen = Workers.processes if wants_processes(name, None if workers is None else workers.value) else Workers.threads
    try:
        engine = load_engine(name)
    except EngineUnavailableError:
        if chosen is Workers.threads:
            raise
        from replicate.processes.module import remote_engine

        return Placement(name, remote_engine(name), chosen, here=False)
    return Placement(name, engine, chosen, here=not engine.traits.thread_bound)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read numbers of replicas, like ``1,2,4``; raise `typer.BadParameter` for anything else."""
    try:
        sizes = tuple(int(each) for each in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(1 <= size <= _MOST_REPLICAS for size in sizes):
        raise typer.BadParameter(
            f"{text!r} isn't a list of replicas; write it like '1,2,4', each from 1 to {_MOST_REPLICAS}",
            param_hint="--sizes",
        )
    return tuple(sorted(set(sizes)))
