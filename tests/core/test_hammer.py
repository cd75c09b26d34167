"""Threads and tasks in numbers: every answer is checked, no error is ignored."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest
from drivers import DRIVERS

from replicate import AsyncPool, Trap
from replicate_kv import KeyValueAdapter

THREADS = 32


@pytest.mark.parametrize("driver", sorted(DRIVERS))
@pytest.mark.parametrize("reset", ["each_read", "on_commit"])
def test_every_answer_under_32_threads_is_right(driver: str, reset: str) -> None:
    """Writers keep all values of a row equal; a read that sees two different ones saw half a write."""
    pool = DRIVERS[driver](KeyValueAdapter(), replicas=3, reset=reset)
    row = 16
    wrong: list[Any] = []
    committed = [0]
    start = threading.Barrier(THREADS)

    def write(guest: Any, fail: bool) -> int:
        value = int(guest.call("get", 0)) + 1
        for key in range(row):
            guest.call("put", key, value)
            if fail and key == row // 2:
                guest.call("put_then_trap", key, -1)
        return value

    def work(number: int) -> None:
        rng = random.Random(number)
        start.wait(60)
        for _ in range(40):
            choice = rng.random()
            try:
                if choice < 0.15:
                    value = pool.write(lambda guest: write(guest, False))
                    committed.append(value)
                elif choice < 0.25:
                    with pytest.raises(Trap):
                        pool.write(lambda guest: write(guest, True))
                elif choice < 0.3:
                    pool.resize(rng.randint(1, 4))
                elif choice < 0.4:
                    with pytest.raises(Trap):
                        pool.read(lambda guest: (guest.memory.grow(1), guest.call("put_then_trap", 3, 77)))
                else:
                    known = max(committed)
                    values = pool.read(lambda guest: [guest.call("get", key) for key in range(row)])
                    if len(set(values)) != 1 or values[0] < known:
                        wrong.append((known, values))
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert wrong == []
        assert sorted(committed) == list(range(len(committed))), "writes happen one after the other"
        assert pool.read(lambda guest: guest.call("get", row - 1)) == max(committed)
        stats = pool.stats()
        assert (stats.idle, stats.readers_waiting, stats.writing) == (stats.replicas, 0, False)
        assert stats.commits == len(committed) - 1
    finally:
        pool.close()


def test_timeouts_and_cancellations_lose_no_replica() -> None:
    async def main() -> None:
        async with AsyncPool.open(KeyValueAdapter(), replicas=2) as pool:
            rng = random.Random(5)

            async def one(number: int) -> str:
                try:
                    if number % 3 == 0:
                        await pool.write(lambda guest: guest.call("add", 1, 1), timeout=rng.random() / 50)
                        return "written"
                    async with pool.reading(timeout=rng.random() / 50) as guest:
                        await guest.call("spin", 2_000_000)
                    return "read"
                except TimeoutError:
                    return "late"

            outcomes = []
            for _ in range(5):
                tasks = [asyncio.create_task(one(number)) for number in range(60)]
                await asyncio.sleep(rng.random() / 50)
                for task in rng.sample(tasks, 20):
                    task.cancel()
                outcomes += await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} <= {str, asyncio.CancelledError}
            written = outcomes.count("written")
            for _ in range(2):
                async with pool.reading(timeout=60) as one_guest, pool_two(pool) as other:
                    assert await one_guest.call("get", 1) >= written
                    assert other is not None
            for _ in range(1000):  # what was cancelled ends in its thread, a little later
                stats = pool.stats()
                if stats.idle == 2 and not stats.writing:
                    break
                await asyncio.sleep(0.01)
            assert (stats.idle, stats.readers_waiting, stats.writers_waiting) == (2, 0, 0)
            assert pool.stats().commits == await pool.read(lambda guest: guest.call("get", 1))

    class pool_two:  # noqa: N801
        """Open a read of another task while this one has its own."""

        def __init__(self, pool: AsyncPool) -> None:
            self.pool = pool

        async def __aenter__(self) -> Any:
            self.task = asyncio.create_task(self.pool.read(lambda guest: guest.call("count")))
            await self.task
            return self.task.result() + 1

        async def __aexit__(self, *exc_info: object) -> None:
            pass

    asyncio.run(main())
