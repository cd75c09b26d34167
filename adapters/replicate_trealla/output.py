"""Where a guest's output goes while it runs: to the session whose call this thread is in.

The interpreter's own capture isn't used: reading and emptying it takes three guest calls an answer, and what the C
library prints goes past it. A WASI function is called only when there is output.
"""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["Taker", "current", "stderr", "stdout"]


class Taker(Protocol):
    """Take what a guest writes."""

    def wrote(self, data: bytes, *, error: bool) -> None:
        """Take standard output, or with `error` standard error."""


class _Current(threading.local):
    taker: Taker | None = None


current = _Current()
"""Each thread's `taker`: where what the guest that it is in writes goes; None drops it."""


def stdout(data: bytes) -> None:
    """Take standard output; the sink for `replicate.wasi.Wasi`."""
    taker = current.taker
    if taker is not None:
        taker.wrote(data, error=False)


def stderr(data: bytes) -> None:
    """Take standard error; the sink for `replicate.wasi.Wasi`."""
    taker = current.taker
    if taker is not None:
        taker.wrote(data, error=True)
