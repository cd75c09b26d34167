"""What only `AsyncPool` has: pools and branches as async context managers, and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from replicate import AsyncPool
from replicate.errors import ArgumentTypeError, PoolClosedError, PoolTimeoutError
from replicate.waiting import ThreadWaiter

CELL = """(module (memory (export "memory") 1)
  (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "get") (result i32) (i32.load (i32.const 0))))"""


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def get(guest: Any) -> int:
    value: int = guest.call("get")
    return value


@asynccontextmanager
async def open_cell(value: int = 0) -> AsyncIterator[AsyncPool]:
    async with AsyncPool.open(CELL, replicas=1, init=lambda guest: guest.call("set", value)) as pool:
        yield pool


@contextmanager
def committing(pool: AsyncPool) -> Iterator[None]:
    """Have the committed state belong to a commit, so that nobody can look at it."""
    core = pool._core
    assert core.event(core.state.write_wanted, ThreadWaiter())
    assert core.event(core.state.image_wanted, ThreadWaiter())
    try:
        yield
    finally:
        core.event(core.state.image_done, committed=False)
        core.event(core.state.write_done)


def test_a_branch_is_closed_on_leaving_it_and_its_pool_is_not() -> None:
    async def test() -> None:
        async with open_cell(5) as pool:
            async with pool.branch(name="what-if") as branch:
                await branch.write(lambda guest: guest.call("set", 6))
                assert ("what-if", 6) == (branch.name, await branch.read(get))
            with pytest.raises(PoolClosedError):
                await branch.read(get)
            assert 5 == await pool.read(get)

    run(test())


def test_a_branch_may_be_awaited() -> None:
    async def test() -> None:
        async with open_cell(5) as pool:
            branch = await pool.branch()
            assert 5 == await branch.read(get)
            await branch.close()

    run(test())


def test_a_pool_that_was_awaited_is_a_context_manager() -> None:
    async def test() -> None:
        async with await AsyncPool.open(CELL, replicas=1) as pool:
            assert 0 == await pool.read(get)
            async with await pool.branch() as branch:
                assert 0 == await branch.read(get)
        for closed in (pool, branch):
            with pytest.raises(PoolClosedError):
                await closed.read(get)

    run(test())


@pytest.mark.parametrize("what", ["snapshot", "branch"])
def test_waiting_for_the_committed_state_is_bounded(what: str) -> None:
    async def test() -> None:
        async with open_cell() as pool:
            with committing(pool):
                with pytest.raises(PoolTimeoutError, match="the committed state"):
                    await getattr(pool, what)(timeout=0.01)
            await getattr(pool, what)(timeout=10)

    run(test())


@pytest.mark.parametrize("what", ["snapshot", "branch"])
def test_a_timeout_that_is_no_number_is_refused(what: str) -> None:
    async def test() -> None:
        async with open_cell() as pool:
            with pytest.raises(ArgumentTypeError, match="timeout is '1'"):
                await getattr(pool, what)(timeout="1")

    run(test())


def test_a_branch_that_nobody_waits_for_any_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with open_cell() as pool:
            core, loop = pool._core, asyncio.get_running_loop()
            made: list[Any] = []
            begun, go = asyncio.Event(), asyncio.Event()
            branch = core.branch

            def slow(name: str | None) -> Any:
                loop.call_soon_threadsafe(begun.set)
                asyncio.run_coroutine_threadsafe(go.wait(), loop).result(30)
                made.append(branch(name))
                return made[0]

            monkeypatch.setattr(core, "branch", slow)
            task = asyncio.ensure_future(pool.branch())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go.set()
        # Leaving has waited for the worker thread.
        assert made[0].state.closed

    run(test())
