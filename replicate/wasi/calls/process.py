"""Arguments, environment, clocks, random bytes, and the end."""

from __future__ import annotations

import time
from typing import NoReturn

from replicate.errors import GuestExit
from replicate.wasi.caller import Caller
from replicate.wasi.descriptors import descriptor
from replicate.wasi.entropy import draw
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import MASK32
from replicate.wasi.system import System

__all__ = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
]


def args_get(system: System, caller: Caller, pointers: int, buffer: int) -> int:
    """Write the arguments, and a pointer to each."""
    return _strings(caller, system.args, pointers & MASK32, buffer & MASK32)


def args_sizes_get(system: System, caller: Caller, count: int, size: int) -> int:
    """Write how many arguments there are and how many bytes they take."""
    return _sizes(caller, system.args, count, size)


def environ_get(system: System, caller: Caller, pointers: int, buffer: int) -> int:
    """Write the environment's variables, and a pointer to each."""
    return _strings(caller, system.environ, pointers & MASK32, buffer & MASK32)


def environ_sizes_get(system: System, caller: Caller, count: int, size: int) -> int:
    """Write how many environment variables there are and how many bytes they take."""
    return _sizes(caller, system.environ, count, size)


def _strings(caller: Caller, strings: tuple[bytes, ...], pointers: int, buffer: int) -> int:
    addresses = []
    for string in strings:
        addresses.append(buffer)
        buffer += len(string)
    if buffer > MASK32:
        raise Refusal(Errno.FAULT)
    if strings:
        caller.memory.pack(f"<{len(addresses)}I", pointers, *addresses)
        caller.memory.write(addresses[0], b"".join(strings))
    return 0


def _sizes(caller: Caller, strings: tuple[bytes, ...], count: int, size: int) -> int:
    memory = caller.memory
    memory.pack("<I", count & MASK32, len(strings))
    memory.pack("<I", size & MASK32, sum(map(len, strings)))
    return 0


def clock_res_get(system: System, caller: Caller, clock: int, result: int) -> int:
    """Write a clock's smallest step in nanoseconds."""
    caller.memory.pack("<Q", result & MASK32, system.clock.resolution_ns(clock))
    return 0


def clock_time_get(system: System, caller: Caller, clock: int, precision: int, result: int) -> int:
    """Write a clock's time in nanoseconds; always as precise as it can be."""
    caller.memory.pack("<Q", result & MASK32, system.clock.time_ns(clock, caller))
    return 0


def random_get(system: System, caller: Caller, buffer: int, length: int) -> int:
    """Fill a buffer with random bytes."""
    buffer, length = buffer & MASK32, length & MASK32
    memory = caller.memory
    if buffer + length > memory.size:
        raise Refusal(Errno.FAULT)
    if length:
        memory.write(buffer, draw(system, caller, length))
    return 0


def proc_exit(system: System, caller: Caller, code: int) -> NoReturn:
    """End the guest's call by raising `GuestExit`."""
    raise GuestExit(code & MASK32)


def proc_raise(system: System, caller: Caller, signal: int) -> int:
    """Answer ENOSYS: there are no signals."""
    raise Refusal(Errno.NOSYS)


def sched_yield(system: System, caller: Caller) -> int:
    """Let other threads of the host run."""
    time.sleep(0)
    return 0


def _no_socket(system: System, caller: Caller, fd: int) -> NoReturn:
    descriptor(system, caller, fd)
    raise Refusal(Errno.NOTSOCK)


def sock_accept(system: System, caller: Caller, fd: int, flags: int, result: int) -> int:
    """Answer ENOTSOCK, or EBADF: no descriptor is ever a socket."""
    _no_socket(system, caller, fd)


def sock_recv(
    system: System, caller: Caller, fd: int, iovs: int, count: int, flags: int, read: int, out_flags: int
) -> int:
    """Answer ENOTSOCK, or EBADF."""
    _no_socket(system, caller, fd)


def sock_send(system: System, caller: Caller, fd: int, iovs: int, count: int, flags: int, written: int) -> int:
    """Answer ENOTSOCK, or EBADF."""
    _no_socket(system, caller, fd)


def sock_shutdown(system: System, caller: Caller, fd: int, how: int) -> int:
    """Answer ENOTSOCK, or EBADF."""
    _no_socket(system, caller, fd)
