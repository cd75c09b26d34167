"""Reads that last, between other uses of the pool by the same thread or task."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from replicate import AsyncPool, Pool, pool_state
from replicate.errors import (
    ArgumentTypeError,
    ConcurrentUseError,
    DeadHandleError,
    GuestInterruptedError,
    GuestTimeoutError,
    NestedTransactionError,
    PoolClosedError,
    PoolError,
    Trap,
)

GUEST = """(module
  (memory (export "memory") 1)
  (func (export "get") (result i32) (i32.load (i32.const 0)))
  (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "spin") (loop $l (br $l)))
  (func (export "trap") unreachable))"""


def get(guest: Any) -> int:
    value: int = guest.call("get")
    return value


def spin(guest: Any) -> None:
    guest.call("spin")


@pytest.fixture(params=["each_read", "on_commit"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Open a pool of one replica, under both rules."""
    with Pool.open(GUEST, replicas=1, reset=request.param) as opened:
        yield opened


def test_a_pinned_read_keeps_its_version_while_its_thread_goes_on(pool: Pool) -> None:
    with pool.pin() as read:
        for number in range(1, 4):
            pool.write(lambda guest, number=number: guest.call("set", number))
            assert pool.read(get) == number
            assert read.run(get) == 0
    assert pool.read(get) == 3


def test_many_can_be_pinned_by_one_thread_on_a_pool_of_one(pool: Pool) -> None:
    with ExitStack() as pinned:
        reads = []
        for number in range(8):
            pool.write(lambda guest, number=number: guest.call("set", number))
            reads.append(pinned.enter_context(pool.pin(timeout=60)))
        assert [read.run(get) for read in reads] == list(range(8))
        assert pool.replicas == 1
    assert pool.read(get) == 7
    stats = pool.stats()
    assert (stats.reading, stats.idle, stats.replicas) == (0, 1, 1)


def test_no_instance_is_made_in_its_stead_unless_one_is_needed(pool: Pool) -> None:
    spawns = pool.stats().spawns
    for _ in range(5):
        with pool.pin() as read:
            read.run(get)
    assert pool.stats().spawns == spawns


def test_what_a_step_changes_is_seen_by_the_next_and_by_nobody_else(pool: Pool) -> None:
    with pool.pin() as read:
        read.run(lambda guest: guest.call("set", 9))
        assert read.run(get) == 9
        assert pool.read(get) == 0
    assert [pool.read(get) for _ in range(3)] == [0, 0, 0]


def test_a_transaction_inside_a_step_is_nested_and_a_pin_inside_a_transaction_too(pool: Pool) -> None:
    with pool.pin() as read:
        for inside in (pool.read, pool.write):
            with pytest.raises(NestedTransactionError):
                with pool.pin() as other:
                    other.run(lambda guest, inside=inside: inside(get))
        with pool.writing() as guest:
            guest.call("set", 1)
            assert read.run(get) == 0
    with pool.reading(), pytest.raises(NestedTransactionError):
        pool.pin()


def test_a_step_that_raises_ends_the_read(pool: Pool) -> None:
    read = pool.pin()
    with pytest.raises(Trap):
        read.run(lambda guest: guest.call("trap"))
    assert not read.is_open
    with pytest.raises(DeadHandleError):
        read.run(get)
    assert pool.stats().reading == 0
    assert pool.read(get) == 0


def test_what_is_collected_as_garbage_is_given_back(pool: Pool) -> None:
    read: Any = pool.pin()
    read.run(get)
    circle = [read]
    circle.append(circle)
    del read, circle
    gc.collect()
    stats = pool.stats()
    assert (stats.reading, stats.idle) == (0, 1)


def test_a_finalizer_takes_no_lock(pool: Pool) -> None:
    read = pool.pin()
    with pool._core.lock, pool._core.keeping:
        del read
        gc.collect()
    assert pool.stats().reading == 0


def test_the_timeout_is_for_what_the_steps_take_together(pool: Pool) -> None:
    read = pool.pin(timeout=0.1)
    with pytest.raises(GuestTimeoutError, match=r"0\.1 s"):
        read.run(spin)
    assert not read.is_open
    read = pool.pin(timeout=0.2)
    threading.Event().wait(0.25)
    assert read.run(get) == 0, "what passes between steps doesn't count"
    read.close()


def test_closing_in_another_thread_stops_a_step(pool: Pool) -> None:
    read = pool.pin()
    inside = threading.Event()
    told: list[BaseException] = []

    def endless(guest: Any) -> None:
        inside.set()
        guest.call("spin")

    def work() -> None:
        try:
            read.run(endless)
        except GuestInterruptedError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(60)
    with pytest.raises(ConcurrentUseError):
        read.run(get)
    read.close()
    thread.join()
    assert len(told) == 1
    assert pool.read(get) == 0
    assert pool.stats().reading == 0


def test_only_so_many_can_be_pinned(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.core.MAX_PINNED", 2)
    assert pool_state.MAX_PINNED == 256
    with pool.pin(), pool.pin():
        with pytest.raises(PoolError, match="pinned"):
            pool.pin()
        assert pool.read(get) == 0
    pool.pin().close()


def test_wrong_pins_are_refused(pool: Pool) -> None:
    with pytest.raises(ArgumentTypeError):
        pool.pin(timeout="soon")  # type: ignore[arg-type]
    read = pool.pin()
    pool.close()
    assert read.run(get) == 0, "what's running ends undisturbed"
    read.close()
    read.close()
    with pytest.raises(PoolClosedError):
        pool.pin()


def run(body: Callable[[AsyncPool], Any]) -> None:
    async def main() -> None:
        async with AsyncPool.open(GUEST, replicas=1) as pool:
            await body(pool)
            stats = pool.stats()
            assert (stats.reading, stats.idle) == (0, 1)

    asyncio.run(main())


def test_a_task_goes_on_beside_its_pinned_reads() -> None:
    async def body(pool: AsyncPool) -> None:
        async with await pool.pin() as one, await pool.pin() as two:
            await pool.write(lambda guest: guest.call("set", 5))
            assert await asyncio.gather(one.run(get), two.run(get), pool.read(get)) == [0, 0, 5]
            with pytest.raises(NestedTransactionError):
                await one.run(lambda guest: pool._core.enter())
            assert not one.is_open
            async with pool.reading():
                assert await two.run(get) == 0

    run(body)


def test_a_cancelled_task_ends_its_pinned_read() -> None:
    async def body(pool: AsyncPool) -> None:
        read = await pool.pin()
        inside = asyncio.Event()
        loop = asyncio.get_running_loop()

        def endless(guest: Any) -> None:
            loop.call_soon_threadsafe(inside.set)
            guest.call("spin")

        task = asyncio.create_task(read.run(endless))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.read(get) == 0
        while read.is_open:
            await asyncio.sleep(0.001)

    run(body)
