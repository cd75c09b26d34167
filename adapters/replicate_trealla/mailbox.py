"""What the interpreter calls while it answers: Wasm where the engine can, Python elsewhere.

A call of Python out of the guest has to get the interpreter lock, which other threads want, and to give it back; three of
those for each query were most of what kept replicas from running side by side. So the driver's messages go to a mailbox,
``mailbox.wat``, that the host empties when the guest has returned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from replicate.errors import Finding
from replicate.imports import Companion, HostFunction, ImportValue

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["ENDED", "KEY", "MAILBOX", "MASK", "imports"]

KEY = "trealla"
"""Where a session lies in ``guest.local``, and its pointers in ``guest.state``."""
ENDED = ()
"""What lies in ``guest.state`` when the interpreter has ended."""
MASK = 0xFFFFFFFF

_EINVAL = 28
_CLOCKS: tuple[Callable[[], int], ...] = (time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns)


class _Answerer(Protocol):
    def answer_call(self, message: int, size: int, reply: int, reply_size: int) -> int: ...

    def answer_predicate(self, size: int) -> int: ...


def _host_call(guest: Guest, query: int, message: int, size: int, reply: int, reply_size: int) -> int:
    session: _Answerer = guest.local[KEY]
    return session.answer_call(message & MASK, size, reply & MASK, reply_size & MASK)


def _check_alive(state: Mapping[str, Any]) -> tuple[Finding, ...]:
    if state.get(KEY) != ENDED:
        return ()
    return (Finding("the interpreter", "it has ended, and nothing it's asked from now on would be answered"),)


vars(_host_call)["check_replicable"] = _check_alive


def _predicate(guest: Guest, size: int) -> int:
    session: _Answerer = guest.local[KEY]
    return session.answer_predicate(size)


def _clock_time_get(guest: Guest, clock: int, precision: int, at: int) -> int:
    if not 0 <= clock < len(_CLOCKS):
        return _EINVAL
    guest.memory.pack("<Q", at & MASK, _CLOCKS[clock]())
    return 0


_HOST_CALL = HostFunction(_host_call, caller=True)
_CLOCK = HostFunction(_clock_time_get, caller=True)

MAILBOX = Companion(
    resources.files("replicate_trealla").joinpath("mailbox.wat").read_text("utf-8"),
    {"host-call": _HOST_CALL, "predicate": HostFunction(_predicate, caller=True), "clock_time_get": _CLOCK},
)


def _refuse_resume(guest: Guest, query: int, reply: int, reply_size: int) -> int:
    return 0


def _refuse_answer(guest: Guest, query: int, message: int, size: int) -> None:
    """Drop the answer of a ``$json_ask/1`` that somebody's program calls by itself."""


def imports(*, system_clock: bool) -> dict[str, dict[str, ImportValue]]:
    """Give the imports; those that a module doesn't have are ignored. With `system_clock`, every query's two looks at it."""
    given: dict[str, dict[str, ImportValue]] = {
        "trealla": {
            "host-call": MAILBOX.function("host-call", _HOST_CALL),
            "host-resume": HostFunction(_refuse_resume, caller=True),
            "host-push-answer": HostFunction(_refuse_answer, caller=True),
        }
    }
    if system_clock:
        given["wasi_snapshot_preview1"] = {"clock_time_get": MAILBOX.function("clock_time_get", _CLOCK)}
    return given
