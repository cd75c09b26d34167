"""Where a guest's output goes while it runs: to the session whose call this thread is in, and to whoever else wants it.

The interpreter's own capture isn't used: reading and emptying it takes three guest calls an answer, and what the C
library prints goes past it. A WASI function is called only when there is output.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import attrs

from replicate.errors import ArgumentTypeError

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["LINE", "Output", "Sink", "Taker", "checked_sink", "current", "stderr", "stdout"]

Sink: TypeAlias = "Callable[[str], object] | logging.Logger"
"""What gets a guest's output line by line, without the newlines: a function, or a logger."""

LINE = "line"
"""What a worker process says to the pool's before whether it's standard error, and a line for a sink."""

_logger = logging.getLogger("replicate_trealla")
_DRIVER = b"[$replicate:"
"""What a line of the trace that is about the driver starts with."""


class Taker(Protocol):
    """Take what a guest writes."""

    guest: Guest

    def wrote(self, data: bytes, *, error: bool) -> None:
        """Take standard output, or with `error` standard error."""


class _Current(threading.local):
    def __init__(self) -> None:
        self._taker: Taker | None = None
        self.unfinished: dict[Output, bytes] = {}
        """Lines that haven't come to their ends."""

    @property
    def taker(self) -> Taker | None:
        """Where what the guest that this thread is in writes goes; None drops it. A guest that's left ends its last line."""
        return self._taker

    @taker.setter
    def taker(self, taker: Taker | None) -> None:
        if taker is self._taker:
            return
        while self.unfinished:
            output, rest = self.unfinished.popitem()
            output.line(rest)
        self._taker = taker


current = _Current()


@attrs.frozen(eq=False)
class Output:
    """Take standard output, or with `error` standard error: a function for `replicate.wasi.Wasi`.

    Each line goes to the `sink` too, which is called where the pool is, whatever process the guest is in. With `traces`, lines
    about the driver are left out. What a sink raises is logged, and ends no goal.
    """

    error: bool
    sink: Sink | None = None
    traces: bool = False

    def __call__(self, data: bytes) -> None:
        taker = current.taker
        if taker is None:
            return  # what it says of itself when it starts
        if not self.traces:
            taker.wrote(data, error=self.error)
        if self.sink is None and not self.traces:
            return
        *lines, rest = (current.unfinished.pop(self, b"") + data).split(b"\n")
        for line in lines:
            self.line(line + b"\n")
        if rest:
            current.unfinished[self] = rest

    def line(self, line: bytes) -> None:
        """Take a whole line, or what there'll be of it."""
        if self.traces:
            if line.startswith(_DRIVER):
                return
            taker = current.taker
            if taker is not None:
                taker.wrote(line, error=self.error)
        if self.sink is not None:
            self.tell(line.decode("utf-8", "replace").removesuffix("\n"))

    def tell(self, text: str) -> None:
        """Give the sink a line."""
        if isinstance(self.sink, _SinkElsewhere):
            self.sink(text)  # what it raises ends the guest's call, and is no error of the sink's
            return
        try:
            if isinstance(self.sink, logging.Logger):
                self.sink.log(logging.WARNING if self.error else logging.INFO, "%s", text)
            elif self.sink is not None:
                self.sink(text)
        except Exception:
            _logger.exception("%r can't take what a goal wrote: %r", self.sink, text)

    def __reduce__(self) -> tuple[Any, ...]:
        sink = None if self.sink is None else _SinkElsewhere(self.error)
        return Output, (self.error, sink, self.traces)


@attrs.frozen
class _SinkElsewhere:
    """Be a sink in a worker process."""

    error: bool

    def __call__(self, text: str) -> None:
        taker = current.taker
        ask = None if taker is None else taker.guest.ask_pool
        if ask is not None:
            ask(LINE, self.error, text)


def checked_sink(name: str, sink: Sink | None) -> Sink | None:
    """Give a sink, or raise `ArgumentTypeError` for what can't be one."""
    if sink is None or isinstance(sink, logging.Logger) or callable(sink):
        return sink
    raise ArgumentTypeError(f"{name} is {sink!r:.80}; give a function that takes a line of text, or a logging.Logger")


stdout, stderr = Output(error=False), Output(error=True)
"""Those without sinks."""
