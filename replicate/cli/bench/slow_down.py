"""Slow guest calls down on purpose, to see whether a comparison notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from replicate import Guest

__all__ = ["slowed_down"]


@contextmanager
def slowed_down(factor: float) -> Iterator[None]:
    """Have each `Guest.call` take that many times as long as it does, by a busy wait after it; 1 changes nothing."""
    if factor == 1:
        yield
        return
    clock = time.perf_counter

    def longer(fn: Any) -> Any:
        def slow(*args: Any, **named: Any) -> Any:
            began = clock()
            try:
                return fn(*args, **named)
            finally:
                now = clock()
                end = now + (now - began) * (factor - 1)
                while clock() < end:
                    pass

        return slow

    genuine = Guest.call
    Guest.call = longer(genuine)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Guest.call = genuine  # type: ignore[method-assign]
