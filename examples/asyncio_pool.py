"""A pool in asyncio: guests run in worker threads, the event loop never waits for them."""

from __future__ import annotations

import asyncio
import time

import replicate
from replicate_kv import KeyValueAdapter


async def count_ticks(stop: asyncio.Event) -> int:
    """Count how often the event loop comes round."""
    ticks = 0
    while not stop.is_set():
        await asyncio.sleep(0.001)
        ticks += 1
    return ticks


async def main() -> None:
    """Read and write from many tasks."""
    async with replicate.AsyncPool.open(KeyValueAdapter(), replicas=2) as pool:
        await pool.write(lambda guest: guest.call("fill", 1000, 1))

        # 20 reads at once, each some milliseconds of computing in the guest; a task ticks on meanwhile.
        def busy(guest: replicate.Guest) -> int:
            guest.call("spin", 3_000_000)
            total: int = guest.call("sum")
            return total

        stop = asyncio.Event()
        ticking = asyncio.create_task(count_ticks(stop))
        sums = await asyncio.gather(*(pool.read(busy) for _ in range(20)))
        stop.set()
        print("sums:", set(sums))
        print("the event loop went on:", await ticking > 5)

        # In blocks every call of the guest is awaited; a cancelled write is rolled back.
        async def slow_write() -> None:
            async with pool.writing() as guest:
                await guest.call("put", 1, -1)
                await asyncio.sleep(60)

        began = time.monotonic()
        try:
            await asyncio.wait_for(slow_write(), timeout=0.1)
        except (TimeoutError, asyncio.TimeoutError):
            print("the write was cancelled at once:", time.monotonic() - began < 10)
        print("key 1 is still", await pool.read(lambda guest: guest.call("get", 1)))


asyncio.run(main())
