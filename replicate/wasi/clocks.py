"""The time a guest sees."""

from __future__ import annotations

import abc
import time

import attrs

from replicate.wasi.caller import Caller, wasi_state
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import CLOCK_MONOTONIC, CLOCK_PROCESS, CLOCK_REALTIME, CLOCK_THREAD

__all__ = ["Clock", "FixedClock", "SystemClock"]

_INFO = {
    CLOCK_REALTIME: time.get_clock_info("time"),
    CLOCK_MONOTONIC: time.get_clock_info("monotonic"),
    CLOCK_PROCESS: time.get_clock_info("process_time"),
    CLOCK_THREAD: time.get_clock_info("thread_time"),
}


class Clock(abc.ABC):
    """Tell a guest the time. Clock numbers are WASI's: 0 real time, 1 monotonic, 2 process CPU, 3 thread CPU.

    What a clock remembers belongs into the guest's state, so that it rolls back and replicates with the guest.
    """

    __slots__ = ()

    @abc.abstractmethod
    def time_ns(self, clock: int, caller: Caller) -> int:
        """Give a clock's time in nanoseconds."""

    @abc.abstractmethod
    def resolution_ns(self, clock: int) -> int:
        """Give the smallest step of a clock in nanoseconds."""

    @abc.abstractmethod
    def sleep_ns(self, duration: int, caller: Caller, *, limit: int) -> None:
        """Let `duration` nanoseconds pass for the guest, and no more than `limit` for its host."""


@attrs.frozen
class SystemClock(Clock):
    """Tell the host's time.

    Hazard: monotonic and CPU times mean nothing on another machine, or in another process for CPU times; a guest that
    keeps one in its memory and is restored there from a snapshot can see it go back.
    """

    def time_ns(self, clock: int, caller: Caller) -> int:
        """Give a clock's time in nanoseconds."""
        if clock == CLOCK_REALTIME:
            return time.time_ns()
        if clock == CLOCK_MONOTONIC:
            return time.monotonic_ns()
        if clock == CLOCK_PROCESS:
            return time.process_time_ns()
        if clock == CLOCK_THREAD:
            return time.thread_time_ns()
        raise Refusal(Errno.INVAL)

    def resolution_ns(self, clock: int) -> int:
        """Give the smallest step of a clock in nanoseconds."""
        if clock not in _INFO:
            raise Refusal(Errno.INVAL)
        return max(round(_INFO[clock].resolution * 1e9), 1)

    def sleep_ns(self, duration: int, caller: Caller, *, limit: int) -> None:
        """Sleep, other Python threads running on; a `limit` passed means that the guest wakes early."""
        time.sleep(min(duration, limit) / 1e9)


@attrs.frozen
class FixedClock(Clock):
    """Tell a time that depends only on how often the guest has asked: the same calls get the same answers.

    Real time starts at `start_ns` (nanoseconds since 1970), the other clocks at 0; all go on by `step_ns` nanoseconds
    at each reading, and by the time the guest asks to sleep, which takes no time on the host. The time passed is part
    of the guest's state.
    """

    start_ns: int = 0
    step_ns: int = attrs.field(default=0, kw_only=True)

    def time_ns(self, clock: int, caller: Caller) -> int:
        """Give a clock's time in nanoseconds, and go on by a step."""
        if not CLOCK_REALTIME <= clock <= CLOCK_THREAD:
            raise Refusal(Errno.INVAL)
        passed = wasi_state(caller).get("clock_ns", 0)
        self._pass(self.step_ns, caller)
        return int(passed + (self.start_ns if clock == CLOCK_REALTIME else 0))

    def resolution_ns(self, clock: int) -> int:
        """Give the step, or one nanosecond for a clock that stands still."""
        if not CLOCK_REALTIME <= clock <= CLOCK_THREAD:
            raise Refusal(Errno.INVAL)
        return max(self.step_ns, 1)

    def sleep_ns(self, duration: int, caller: Caller, *, limit: int) -> None:
        """Go on by `duration` at once."""
        self._pass(duration, caller)

    def _pass(self, duration: int, caller: Caller) -> None:
        if duration:
            state = wasi_state(caller)
            state["clock_ns"] = state.get("clock_ns", 0) + duration
