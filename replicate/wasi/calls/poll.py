"""Waiting: for time to pass, or for a descriptor, which is always ready."""

from __future__ import annotations

import os
from struct import Struct
from typing import NamedTuple

from replicate.wasi import rights
from replicate.wasi.caller import Caller
from replicate.wasi.descriptors import FILE, STDIN, Descriptor, descriptor_with
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.hostfiles import host_fd
from replicate.wasi.layout import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    EVENT,
    EVENT_CLOCK,
    EVENT_FD_READ,
    EVENT_FD_WRITE,
    MASK32,
    SUBCLOCK_ABSTIME,
    SUBSCRIPTION,
)
from replicate.wasi.system import System

__all__ = ["poll", "poll_oneoff", "records"]

_COUNT_LIMIT = 4096


class _Timer(NamedTuple):
    userdata: int
    left_ns: int


def poll_oneoff(system: System, caller: Caller, subscriptions: int, events: int, count: int, result: int) -> int:
    """Wait until one of the subscriptions is due, and write the events of all that are.

    Descriptors are ready at once. A wait is cut short at the configuration's `max_sleep`, and its timer is then
    reported as due all the same: a host function that sleeps can't be interrupted.
    """
    return poll(system, caller, records(caller, subscriptions, count, SUBSCRIPTION), events, result)


def records(caller: Caller, subscriptions: int, count: int, layout: Struct) -> list[tuple[int, ...]]:
    """Read an array of subscriptions; refuse with EINVAL none, or more than 4096."""
    count &= MASK32
    if not 0 < count <= _COUNT_LIMIT:
        raise Refusal(Errno.INVAL)
    data: bytes = caller.memory.read(subscriptions & MASK32, count * layout.size)
    return list(layout.iter_unpack(data))


def poll(system: System, caller: Caller, subscriptions: list[tuple[int, ...]], events: int, result: int) -> int:
    """Do `poll_oneoff`; a subscription is userdata, kind, clock or descriptor, timeout, precision and flags."""
    found: list[bytes] = []
    timers: list[_Timer] = []
    for userdata, kind, which, timeout, _, flags in subscriptions:
        if kind == EVENT_CLOCK:
            if which not in (CLOCK_REALTIME, CLOCK_MONOTONIC):
                found.append(EVENT.pack(userdata, Errno.NOTSUP, kind, 0, 0))
                continue
            left = timeout - system.clock.time_ns(which, caller) if flags & SUBCLOCK_ABSTIME else timeout
            timers.append(_Timer(userdata, max(left, 0)))
        elif kind in (EVENT_FD_READ, EVENT_FD_WRITE):
            found.append(_ready(system, caller, userdata, kind, which))
        else:
            raise Refusal(Errno.INVAL)
    wait = 0 if found or not timers else min(timer.left_ns for timer in timers)
    if wait:
        system.clock.sleep_ns(wait, caller, limit=system.max_sleep_ns)
    found += [EVENT.pack(timer.userdata, 0, EVENT_CLOCK, 0, 0) for timer in timers if timer.left_ns <= wait]
    memory = caller.memory
    memory.write(events & MASK32, b"".join(found))
    memory.pack("<I", result & MASK32, len(found))
    return 0


def _ready(system: System, caller: Caller, userdata: int, kind: int, fd: int) -> bytes:
    needed = rights.POLL_FD_READWRITE | (rights.FD_READ if kind == EVENT_FD_READ else rights.FD_WRITE)
    try:
        found = descriptor_with(system, caller, fd, needed)
        available = _available(system, caller, found) if kind == EVENT_FD_READ else 0
    except Refusal as refusal:
        return EVENT.pack(userdata, refusal.errno, kind, 0, 0)
    return EVENT.pack(userdata, 0, kind, available, 0)


def _available(system: System, caller: Caller, found: Descriptor) -> int:
    if found["kind"] == STDIN:
        return max(len(system.stdin) - found["offset"], 0)
    if found["kind"] == FILE:
        return max(os.fstat(host_fd(system, caller, found)).st_size - found["offset"], 0)
    return 1
