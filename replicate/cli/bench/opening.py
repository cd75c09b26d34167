"""What the options of a benchmark mean for the pools it opens."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from typing import Any

import typer

from replicate.errors import ReplicateError

__all__ = ["Workers", "parse_sizes", "worker_options"]

_MOST_REPLICAS = 256


class Workers(str, enum.Enum):
    """Name what replicas run in."""

    threads = "threads"
    processes = "processes"


def worker_options(workers: Workers, opens: Callable[..., Any]) -> dict[str, Any]:
    """Give what to open a pool with so that its replicas run in `workers`; raise `ReplicateError` if `opens` can't."""
    if workers is Workers.threads:
        return {}
    if "workers" not in inspect.signature(opens).parameters:
        raise ReplicateError(
            f"--workers {workers.value}: {opens.__qualname__} of this version keeps replicas in this process, for threads "
            "only; leave --workers out"
        )
    return {"workers": workers.value}


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
