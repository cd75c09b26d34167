"""Where a guest's output goes while it runs: to the session whose call this thread is in.

The interpreter's own capture isn't used: reading and emptying it takes three guest calls an answer, and what the C
library prints goes past it. A WASI function is called only when there is output.
"""

from __future__ import annotations

import threading

__all__ = ["Output", "current", "stderr", "stdout"]


class Output:
    """Collect what a guest writes."""

    __slots__ = ("err", "out")

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.err: list[bytes] = []

    def take(self) -> tuple[bytes, bytes]:
        """Give standard output and error, and forget them."""
        out, err = b"".join(self.out), b"".join(self.err)
        self.out.clear()
        self.err.clear()
        return out, err


class _Current(threading.local):
    output: Output | None = None


current = _Current()
"""Each thread's `output`: where what the guest that it is in writes goes; None drops it."""


def stdout(data: bytes) -> None:
    """Take standard output; the sink for `replicate.wasi.Wasi`."""
    output = current.output
    if output is not None:
        output.out.append(data)


def stderr(data: bytes) -> None:
    """Take standard error; the sink for `replicate.wasi.Wasi`."""
    output = current.output
    if output is not None:
        output.err.append(data)
