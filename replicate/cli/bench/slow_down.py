"""Slow a pool's call path down on purpose, to see whether a comparison notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from replicate import Guest
from replicate.core import PoolCore

__all__ = ["slowed_down"]

_STEPS = (
    (PoolCore, "start_read"),
    (PoolCore, "end_read"),
    (PoolCore, "start_write"),
    (PoolCore, "commit"),
    (Guest, "call"),
)


@contextmanager
def slowed_down(factor: float) -> Iterator[None]:
    """Have each step of a read and of a write take so many times as long, by a busy wait after it; 1 changes nothing.

    Waiting for a replica isn't a step: it grows by itself.
    """
    if factor == 1:
        yield
        return
    genuine = [getattr(owner, name) for owner, name in _STEPS]
    try:
        for (owner, name), step in zip(_STEPS, genuine, strict=True):
            setattr(owner, name, _longer(step, factor))
        yield
    finally:
        for (owner, name), step in zip(_STEPS, genuine, strict=True):
            setattr(owner, name, step)


def _longer(step: Any, factor: float) -> Any:
    clock = time.perf_counter

    def slow(*args: Any, **named: Any) -> Any:
        began = clock()
        try:
            return step(*args, **named)
        finally:
            end = began + (clock() - began) * factor
            while clock() < end:
                pass

    return slow
