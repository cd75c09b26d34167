"""Arguments, environment, time, random bytes, waiting and the end."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import GuestExit, WasiError
from replicate.wasi import Clock, Errno, FixedClock, Wasi

from .support import FakeGuest

# -- arguments and environment ------------------------------------------------------------------------------------------


def strings(guest: FakeGuest, what: str) -> list[bytes]:
    assert guest.call(f"{what}_sizes_get", 0, 4) == 0
    count, size = struct.unpack_from("<II", guest.memory.bytes, 0)
    assert guest.call(f"{what}_get", 16, 1024) == 0
    block = bytes(guest.memory.bytes[1024 : 1024 + size])
    pointers = struct.unpack_from(f"<{count}I", guest.memory.bytes, 16)
    found = [block[pointer - 1024 :].split(b"\0")[0] for pointer in pointers]
    assert b"".join(text + b"\0" for text in found) == block
    return found


def test_arguments_and_environment_arrive() -> None:
    guest = FakeGuest(Wasi(args=["tool", "", "wörter"], env={"A": "1", "B": "x=y", "C": ""}))
    assert strings(guest, "args") == [b"tool", b"", "wörter".encode()]
    assert strings(guest, "environ") == [b"A=1", b"B=x=y", b"C="]


def test_no_arguments_are_fine() -> None:
    assert strings(FakeGuest(Wasi()), "args") == []


def test_arguments_outside_the_memory_are_a_fault() -> None:
    guest = FakeGuest(Wasi(args=["tool"]))
    assert guest.call("args_get", -4, 0) == Errno.FAULT
    assert guest.call("args_get", 0, (1 << 20) - 1) == Errno.FAULT
    assert guest.call("args_get", 0, -1) == Errno.FAULT
    assert guest.call("args_sizes_get", -1, 0) == Errno.FAULT


@pytest.mark.parametrize(
    "option",
    [
        {"args": "tool"},
        {"args": ["a\0b"]},
        {"args": [b"bytes"]},
        {"args": ["\ud800"]},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
        {"env": {"A": "x\0"}},
        {"clock": "sundial"},
        {"max_sleep": -1.0},
        {"descriptor_limit": 2},
    ],
)
def test_what_wasi_cannot_say_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(WasiError):
        Wasi(**option)


# -- random bytes -------------------------------------------------------------------------------------------------------


def test_without_a_seed_bytes_are_the_systems_and_leave_no_state() -> None:
    guest = FakeGuest(Wasi())
    assert guest.random(32) != guest.random(32)
    guest.wasi.reseed(guest, b"more")
    assert guest.state == {}


def test_a_seed_repeats_and_another_seed_does_not() -> None:
    draws = [FakeGuest(Wasi(seed=seed)).random(16) for seed in (1, 1, 2, -1, 1 << 80)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_a_draw_repeats_after_a_roll_back_and_in_a_replica() -> None:
    guest = FakeGuest(Wasi(seed=1))
    first = guest.random(8)
    saved = guest.save()
    second, third = guest.random(8), guest.random(8)
    assert len({first, second, third}) == 3
    guest.restore(saved)
    replica = guest.replica()
    assert [guest.random(8), guest.random(8)] == [second, third]
    assert [replica.random(8), replica.random(8)] == [second, third]


def test_reseeding_makes_equal_guests_differ() -> None:
    guest = FakeGuest(Wasi(seed=1))
    guest.random(8)
    one, two, same = guest.replica(), guest.replica(), guest.replica()
    for replica, entropy in ((one, b"1"), (two, b"2"), (same, b"1")):
        replica.wasi.reseed(replica, entropy)
    assert len({guest.random(8), one.random(8), two.random(8)}) == 3
    assert same.state["wasi"]["random"]["key"] == one.state["wasi"]["random"]["key"]


def test_a_buffer_outside_the_memory_is_a_fault_and_draws_nothing() -> None:
    guest = FakeGuest(Wasi(seed=1))
    assert guest.call("random_get", (1 << 20) - 4, 5) == Errno.FAULT
    assert guest.call("random_get", 0, -1) == Errno.FAULT
    assert guest.state == {}


# -- time ---------------------------------------------------------------------------------------------------------------


def test_the_systems_clocks_are_the_hosts() -> None:
    guest = FakeGuest(Wasi())
    for clock, now in ((0, time.time_ns), (1, time.monotonic_ns), (2, time.process_time_ns), (3, time.thread_time_ns)):
        before = now()
        assert before <= guest.time(clock) <= now()
        assert guest.call("clock_res_get", clock, 0) == 0
        assert 1 <= struct.unpack_from("<Q", guest.memory.bytes, 0)[0] <= 10**9


@pytest.mark.parametrize("clock", ["system", FixedClock(0)])
def test_a_clock_that_does_not_exist_is_invalid(clock: Any) -> None:
    guest = FakeGuest(Wasi(clock=clock))
    for number in (4, -1):
        assert guest.call("clock_time_get", number, 0, 0) == Errno.INVAL
        assert guest.call("clock_res_get", number, 0) == Errno.INVAL


def test_a_fixed_clock_steps_and_rolls_back() -> None:
    guest = FakeGuest(Wasi(clock=FixedClock(10**18, step_ns=5)))
    assert [guest.time(0), guest.time(1), guest.time(0)] == [10**18, 5, 10**18 + 10]
    saved = guest.save()
    assert guest.time(1) == 15
    guest.restore(saved)
    assert guest.replica().time(1) == 15


def test_a_clock_of_ones_own_is_asked() -> None:
    class Noon(Clock):
        def time_ns(self, clock: int, caller: Any) -> int:
            return 12

        def resolution_ns(self, clock: int) -> int:
            return 1

        def sleep_ns(self, duration: int, caller: Any, *, limit: int) -> None:
            raise AssertionError

    assert FakeGuest(Wasi(clock=Noon())).time(0) == 12


# -- waiting ------------------------------------------------------------------------------------------------------------


def clock_wait(userdata: int, timeout: int, *, clock: int = 1, absolute: bool = False) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, 0, clock, timeout, 0, absolute)


def fd_wait(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def poll(guest: FakeGuest, *subscriptions: bytes) -> tuple[int, list[tuple[int, ...]]]:
    guest._put(0, b"".join(subscriptions))
    errno = guest.call("poll_oneoff", 0, 4096, len(subscriptions), 8192)
    count = struct.unpack_from("<I", guest.memory.bytes, 8192)[0] if errno == 0 else 0
    return errno, [struct.unpack_from("<QHB5xQH6x", guest.memory.bytes, 4096 + 32 * i) for i in range(count)]


def test_a_timer_waits_as_long_as_asked() -> None:
    guest = FakeGuest(Wasi())
    start = time.monotonic()
    assert poll(guest, clock_wait(7, 30_000_000), clock_wait(8, 10**12)) == (0, [(7, 0, 0, 0, 0)])
    assert 0.03 <= time.monotonic() - start < 5


def test_a_timer_at_a_moment_waits_until_then() -> None:
    guest = FakeGuest(Wasi())
    until = time.monotonic_ns() + 30_000_000
    assert poll(guest, clock_wait(7, until, absolute=True))[1] == [(7, 0, 0, 0, 0)]
    assert time.monotonic_ns() >= until
    assert poll(guest, clock_wait(7, 5, clock=0, absolute=True))[1] == [(7, 0, 0, 0, 0)]


def test_no_wait_is_longer_than_the_limit() -> None:
    guest = FakeGuest(Wasi(max_sleep=0.02))
    start = time.monotonic()
    assert poll(guest, clock_wait(7, (1 << 64) - 1))[1] == [(7, 0, 0, 0, 0)]
    assert 0.02 <= time.monotonic() - start < 5


def test_a_fixed_clock_waits_in_no_time() -> None:
    guest = FakeGuest(Wasi(clock=FixedClock(0), max_sleep=9.0))
    start = time.monotonic()
    assert poll(guest, clock_wait(7, 3_600 * 10**9))[1] == [(7, 0, 0, 0, 0)]
    assert time.monotonic() - start < 5
    assert guest.time(1) == 3_600 * 10**9


def test_descriptors_are_ready_at_once_and_tell_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    guest = FakeGuest(Wasi(preopens={"/": tmp_path}, stdin=b"typed"))
    fd = guest.opened("file")
    guest.read(fd, 3)
    guest.read(0, 1)
    start = time.monotonic()
    assert poll(
        guest, clock_wait(1, 10**12), fd_wait(2, 1, 0), fd_wait(3, 1, fd), fd_wait(4, 2, 1), clock_wait(5, 0)
    ) == (0, [(2, 0, 1, 4, 0), (3, 0, 1, 7, 0), (4, 0, 2, 0, 0), (5, 0, 0, 0, 0)])
    assert time.monotonic() - start < 5


def test_a_bad_subscription_is_an_event_with_an_error() -> None:
    guest = FakeGuest(Wasi())
    assert poll(guest, fd_wait(2, 1, 99), fd_wait(3, 2, 0), clock_wait(4, 0, clock=9)) == (
        0,
        [(2, Errno.BADF, 1, 0, 0), (3, Errno.NOTCAPABLE, 2, 0, 0), (4, Errno.NOTSUP, 0, 0, 0)],
    )


def test_waiting_for_nothing_is_invalid() -> None:
    guest = FakeGuest(Wasi())
    assert poll(guest)[0] == Errno.INVAL
    assert poll(guest, struct.pack("<QB39x", 1, 3))[0] == Errno.INVAL
    assert guest.call("poll_oneoff", 0, 4096, -1, 8192) == Errno.INVAL


# -- the end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [(0, 0), (7, 7), (-1, 0xFFFF_FFFF)])
def test_exiting_raises_with_the_status(code: int, status: int) -> None:
    with pytest.raises(GuestExit) as caught:
        FakeGuest(Wasi()).call("proc_exit", code)
    assert caught.value.code == status


def test_signals_there_are_none_and_yielding_works() -> None:
    guest = FakeGuest(Wasi())
    assert guest.call("proc_raise", 6) == Errno.NOSYS
    assert guest.call("sched_yield") == 0
