"""See to it that no worker outlives the process that started it, whatever way that ends.

A worker that waits for a request sees its socket close. One that is inside an endless guest, with the interpreter lock
held, sees nothing. So it holds the reading end of a pipe whose writing end only the parent has, and asks the kernel to send
SIGIO when that pipe changes (fcntl(2), O_ASYNC), a signal whose default action is to end the process. PR_SET_PDEATHSIG
isn't used: it goes by the thread that started the worker, which may end long before the parent does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal

__all__ = ["Lifeline", "hold_on"]

_open: set[int] = set()
"""The writing ends that this process holds."""


class Lifeline:
    """Be the parent's end: `far` is for the worker to inherit, and closed here once it has."""

    def __init__(self) -> None:
        self.far, self._near = os.pipe2(os.O_CLOEXEC)
        _open.add(self._near)

    def started(self) -> None:
        """Note that the worker has its end."""
        far, self.far = self.far, -1
        if far >= 0:
            os.close(far)

    def cut(self) -> None:
        """Have the worker end at once."""
        self.started()
        near, self._near = self._near, -1
        if near in _open:
            _open.discard(near)
            os.close(near)


def _after_fork() -> None:
    """Let go of the parent's workers in a forked child: they are to end with the parent."""
    for file in _open:
        with contextlib.suppress(OSError):
            os.close(file)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)


def hold_on(file: int) -> None:
    """Have this process, a worker, end when the other end of the pipe `file` closes, or at once if it has."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    fcntl.fcntl(file, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([file], [], [], 0)[0]:
        os._exit(1)
