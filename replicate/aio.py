"""The same pool for asyncio: waiting never blocks the event loop, guests run in worker threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from replicate.adapter import Adapter, ResetRule
from replicate.callables import run_whole, runnable
from replicate.configuration import Workers
from replicate.core import PoolCore
from replicate.decisions import Slot
from replicate.errors import PoolClosedError, PoolError, PoolTimeoutError
from replicate.handles import Guest
from replicate.imports import Imports
from replicate.interfaces import Engine
from replicate.limits import Limit
from replicate.memory_modes import MemoryMode
from replicate.opening import check_core, open_core
from replicate.pinned import AsyncPinnedRead, PinnedRead
from replicate.snapshot import Snapshot
from replicate.stats import PoolStats
from replicate.waiting import Waiter
from replicate.wasi import Wasi

__all__ = ["AsyncGuest", "AsyncPool"]

T = TypeVar("T")
_MAX_THREADS = 1024


class _TaskWaiter(Waiter):
    """Be woken through the event loop; replicas are handed to it directly, since a task can't come back for one cheaply."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(direct=True)
        self._loop = loop
        self._woken = asyncio.Event()

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            # The loop was closed with this task still waiting: there's nobody left to tell.
            pass

    async def wait(self) -> None:
        """Wait until woken."""
        await self._woken.wait()
        self._woken.clear()


class AsyncGuest:
    """Be the handle on one instance for the length of one transaction of an `AsyncPool`.

    `call` is awaited: the guest runs in a worker thread. What only looks (memory, globals, state) is immediate and is
    that of `Guest`. Hazards: one call at a time, a second one meanwhile raises `ConcurrentUseError`; where guests are in worker
    processes, each look is a question to one, which the event loop waits for, some 50 us.
    """

    __slots__ = ("_guest", "_run")

    def __init__(self, guest: Guest, run: Callable[..., Awaitable[Any]]) -> None:
        self._guest = guest
        self._run = run

    async def call(self, name: str, *args: Any) -> Any:
        """Call the exported function `name` in a worker thread; see `Guest.call`."""
        return await self._run(self._guest.call, name, *args)

    async def run(self, fn: Callable[[Guest], T]) -> T:
        """Call ``fn(guest)`` in the process where the guest is; see `Guest.run`."""
        result: T = await self._run(self._guest.run, fn)
        return result

    async def call_bits(self, name: str, *bits: Any) -> Any:
        """Call `name` with numbers given, and returned, as unsigned bit patterns."""
        return await self._run(self._guest.call_bits, name, *bits)

    def __getattr__(self, name: str) -> Any:
        if name in ("memory", "memories", "globals", "tables", "state", "local", "is_alive", "discard"):
            return getattr(self._guest, name)
        raise AttributeError(f"AsyncGuest has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<Async {self._guest!r}>"


class AsyncPool:
    """Be `replicate.Pool` for asyncio.

    ::

        async with AsyncPool.open("kv.wasm", replicas=4) as pool:
            await pool.write(lambda guest: guest.call("put", 1, 42))
            await pool.read(lambda guest: guest.call("get", 1))  # 42

    The callables given to `read` and `write` are plain functions and run whole in a worker thread; the context managers
    give an `AsyncGuest` whose calls are awaited one by one. All promises of `Pool` hold, between tasks as between threads.

    A task that is cancelled while its guest runs returns at once, and the guest is stopped: a read's replica is reset, a
    write is rolled back, unless its commit was already under way.
    """

    def __init__(self, core: PoolCore) -> None:
        check_core(core, "AsyncPool")
        self._core = core
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix=f"replicate-{core.name}")

    @classmethod
    def open(
        cls,
        source: bytes | str | Path | Adapter,
        *,
        engine: str | Engine = "wasmtime",
        replicas: int | None = None,
        min_replicas: int | None = None,
        imports: Imports | None = None,
        wasi: Wasi | None = None,
        init: Callable[[Guest], Any] | None = None,
        run_start: bool = False,
        snapshot: Snapshot | str | os.PathLike[str] | None = None,
        reset: ResetRule | None = None,
        memory: MemoryMode = "auto",
        share: Mapping[str | int, bool] | None = None,
        interruptible: bool = True,
        max_memory: int | None = None,
        max_table: int | None = None,
        name: str | None = None,
        workers: Workers | None = None,
        timeout: float | None = None,
    ) -> _Opening:
        """Open a pool: ``async with AsyncPool.open(...) as pool`` or ``pool = await AsyncPool.open(...)``.

        The arguments are those of `Pool.open`. The module is compiled, and its leader started, in a worker thread. A task
        that is cancelled meanwhile returns at once, what runs in the guest is stopped, and everything is freed.
        """
        make = partial(
            open_core,
            source,
            engine=engine,
            replicas=replicas,
            min_replicas=min_replicas,
            imports=imports,
            wasi=wasi,
            init=init,
            run_start=run_start,
            snapshot=snapshot,
            reset=reset,
            memory=memory,
            share=share,
            interruptible=interruptible,
            max_memory=max_memory,
            max_table=max_table,
            name=name,
            workers=workers,
            timeout=timeout,
        )
        return _Opening(partial(_open, make))

    # -- transactions --------------------------------------------------------------------------------------------------

    async def read(self, fn: Callable[[Guest], T], *, timeout: float | None = None, in_worker: bool = False) -> T:
        """Call ``fn(guest)`` on a replica in a worker thread; see `Pool.read`."""
        core = self._core
        fn = runnable(fn, in_worker=in_worker)
        limit = Limit(core.engine, timeout)
        owner = core.enter()
        try:
            slot = await self._take_replica(limit)
            give_back = partial(core.event, core.state.give_back, slot)
            return await self._job(partial(self._read, slot, fn, limit), undo=give_back, limit=limit)
        finally:
            core.leave(owner)

    def _read(self, slot: Slot, fn: Callable[[Guest], T], limit: Limit) -> T:
        core = self._core
        owner = core.enter_thread()
        try:
            return core.run_read(slot, fn, limit)
        finally:
            core.leave(owner)
            core.rest()

    async def write(self, fn: Callable[[Guest], T], *, timeout: float | None = None, in_worker: bool = False) -> T:
        """Call ``fn(guest)`` on the leader in a worker thread and commit; see `Pool.write`."""
        core = self._core
        fn = runnable(fn, in_worker=in_worker)
        limit = Limit(core.engine, timeout)
        owner = core.enter()
        try:
            await self._take_leader(limit)
            return await self._job(partial(self._write, fn, limit), undo=core.end_write, limit=limit)
        finally:
            core.leave(owner)

    def _write(self, fn: Callable[[Guest], T], limit: Limit) -> T:
        core = self._core
        owner = core.enter_thread()
        try:
            try:
                result = run_whole(fn, core.start_write(limit))
            except BaseException:
                core.roll_back()
                raise
            core.commit(limit)
            return result
        finally:
            core.leave(owner)
            core.end_write()
            core.rest()

    def reading(self, *, timeout: float | None = None) -> _AsyncReading:
        """Open a read as an async context manager; see `read`."""
        return _AsyncReading(self, timeout)

    def writing(self, *, timeout: float | None = None) -> _AsyncWriting:
        """Open a write as an async context manager: commit on leaving, roll back on an exception or cancellation."""
        return _AsyncWriting(self, timeout)

    async def pin(self, *, timeout: float | None = None) -> AsyncPinnedRead:
        """Open a read that lasts, and isn't this task's transaction; see `Pool.pin`."""
        core = self._core
        limit = Limit(core.engine, timeout)
        core.check_pin()
        slot = await self._take_replica(limit)
        core.event(core.state.pin, slot)
        guest = await self._job(
            partial(core.start_read, slot, limit),
            undo=partial(core.event, core.state.give_back, slot),
            orphan=lambda: core.end_read(slot, failed=True),
        )
        return AsyncPinnedRead(PinnedRead(core, slot, guest, limit), self._step)

    def _step(self, job: Callable[[], T], stop: Callable[[], None]) -> Awaitable[T]:
        """Run a step of a pinned read in a worker thread; cancelled, `stop` ends the read."""

        def run() -> T:
            owner = self._core.enter_thread()
            try:
                return job()
            finally:
                self._core.leave(owner)

        return self._stopping(run, stop)

    async def _stopping(self, job: Callable[[], T], stop: Callable[[], None]) -> T:
        try:
            return await self._job(job, undo=_nothing)
        except asyncio.CancelledError:
            stop()
            raise

    # -- the rest ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that messages and statistics use."""
        return self._core.name

    @property
    def version(self) -> int:
        """The number of commits so far."""
        return self._core.state.version

    @property
    def replicas(self) -> int:
        """The number of replicas the pool keeps."""
        return self._core.state.size

    def resize(self, replicas: int) -> None:
        """Keep that many replicas from now on."""
        self._core.resize(replicas)

    def stats(self) -> PoolStats:
        """Give what the pool has done and what it costs."""
        return self._core.stats()

    async def snapshot(self, *, timeout: float | None = None) -> Snapshot:
        """Copy the newest committed state out as a portable value; see `Pool.snapshot`."""
        return await self._sharing(self._core.snapshot, timeout)

    def branch(self, *, name: str | None = None, timeout: float | None = None) -> _Opening:
        """Open a pool of its own whose version 0 is this one's newest committed state; see `Pool.branch`.

        Used like `open`: ``async with pool.branch() as what_if`` or ``what_if = await pool.branch()``.
        """
        return _Opening(partial(self._branch, name, timeout))

    async def _branch(self, name: str | None, timeout: float | None) -> AsyncPool:
        made: list[PoolCore] = []

        def make() -> PoolCore:
            made.append(self._core.branch(name))
            return made[0]

        return AsyncPool(await self._sharing(make, timeout, orphan=lambda: made[0].close()))

    async def _sharing(
        self, job: Callable[[], T], timeout: float | None, *, orphan: Callable[[], Any] | None = None
    ) -> T:
        """Run `job` in a worker thread while the committed state stays as it is; `orphan` is that of `_job`."""
        core = self._core
        core.check_usable()
        limit = core.limit(timeout)
        waiter = _TaskWaiter(asyncio.get_running_loop())
        done = partial(core.event, core.state.share_done, waiter)
        if not core.event(core.state.share_wanted, waiter):
            await self._await(waiter, limit, "the committed state")

        def run() -> T:
            try:
                return job()
            finally:
                done()

        return await self._job(run, undo=done, orphan=orphan)

    async def close(self) -> None:
        """Refuse new transactions and free the guests; see `Pool.close`. Waits for worker threads that are busy."""
        self._core.close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._core.sweep()

    async def __aenter__(self) -> AsyncPool:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        core = self._core
        if core.state.closed:
            return f"<AsyncPool {core.name!r}, closed>"
        return f"<AsyncPool {core.name!r} version={core.state.version} {core.situation()}>"

    # -- waiting and running -------------------------------------------------------------------------------------------

    async def _call(self, limit: Limit, fn: Callable[..., T], *args: Any) -> T:
        return await self._job(partial(fn, *args), undo=_nothing, limit=limit)

    async def _job(
        self,
        job: Callable[[], T],
        *,
        undo: Callable[[], Any],
        orphan: Callable[[], Any] | None = None,
        limit: Limit | None = None,
    ) -> T:
        """Run `job` in a worker thread.

        Cancelled before it began, `undo` runs instead of it; cancelled later, `limit` stops its guest, it runs to its end,
        and then `orphan` if it succeeded.
        """
        # Not the executor's own, which keeps what it couldn't start a thread for, and runs it later. Who claims this, runs or
        # undoes the job.
        future: Future[T] = Future()
        try:
            self._threads.submit(_claim_and_run, future, job)
        except BaseException as error:
            if future.cancel():
                undo()
                if isinstance(error, RuntimeError):
                    self._core.check_usable()
                    raise PoolError(f"pool {self._core.name!r} can't start a thread for this: {error}") from error
                raise
        running = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # Nobody will ask what became of it: the event loop isn't to log that.
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            if future.cancel():
                undo()
            else:
                if limit is not None:
                    limit.cancel("the task that waited for this guest was cancelled")
                future.add_done_callback(partial(_look, orphan))
            raise

    async def _await(self, waiter: _TaskWaiter, limit: Limit | None, what: str) -> None:
        core = self._core
        try:
            while not waiter.granted and waiter.slot is None:
                try:
                    await asyncio.wait_for(waiter.wait(), None if limit is None else limit.remaining)
                except asyncio.TimeoutError:
                    if waiter.granted or waiter.slot is not None:
                        break
                    raise PoolTimeoutError(
                        f"{what} of pool {core.name!r} wasn't free within {limit.seconds if limit else 0} s; {core.situation()}"
                    ) from None
                if waiter.closed:
                    raise PoolClosedError(f"pool {core.name!r} was closed while waiting for {what}")
        except BaseException:
            core.event(core.state.forget, waiter, None, committed=False)
            raise

    async def _take_replica(self, limit: Limit) -> Slot:
        core = self._core
        waiter = _TaskWaiter(asyncio.get_running_loop())
        slot: Slot | None = core.event(core.state.read_wanted, waiter)
        if slot is None:
            began = time.monotonic()
            await self._await(waiter, limit, "a replica")
            core.waited("read", began)
            slot = waiter.slot
            assert slot is not None
        return slot

    async def _take_leader(self, limit: Limit) -> None:
        core = self._core
        waiter = _TaskWaiter(asyncio.get_running_loop())
        if not core.event(core.state.write_wanted, waiter):
            began = time.monotonic()
            await self._await(waiter, limit, "the leader")
            core.waited("write", began)


def _nothing() -> None:
    pass


def _claim_and_run(future: Future[T], job: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = job()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


def _look(orphan: Callable[[], Any] | None, future: Future[Any]) -> None:
    """Take the outcome of a job whose task was cancelled, so that nothing warns that nobody did."""
    if not future.cancelled() and future.exception() is None and orphan is not None:
        orphan()


class _AsyncReading:
    """Be one read transaction of a task."""

    def __init__(self, pool: AsyncPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def __aenter__(self) -> AsyncGuest:
        pool, core = self._pool, self._pool._core
        owner = core.enter()
        try:
            limit = Limit(core.engine, self._timeout)
            slot = await pool._take_replica(limit)
            guest = await pool._job(
                partial(core.start_read, slot, limit),
                undo=partial(core.event, core.state.give_back, slot),
                orphan=lambda: core.end_read(slot, failed=True),
            )
        except BaseException:
            core.leave(owner)
            raise
        self._owner, self._slot = owner, slot
        return AsyncGuest(guest, partial(pool._call, limit))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        core = self._pool._core
        try:
            core.end_read(self._slot, failed=error is not None)
        finally:
            core.leave(self._owner)
        return False


class _AsyncWriting:
    """Be one write transaction of a task."""

    def __init__(self, pool: AsyncPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def __aenter__(self) -> AsyncGuest:
        pool, core = self._pool, self._pool._core
        owner = core.enter()
        try:
            self._limit = limit = Limit(core.engine, self._timeout)
            await pool._take_leader(limit)
            guest = await pool._job(self._start, undo=core.end_write, orphan=self._abandon)
        except BaseException:
            core.leave(owner)
            raise
        self._owner = owner
        return AsyncGuest(guest, partial(pool._call, limit))

    def _start(self) -> Guest:
        core = self._pool._core
        try:
            return core.start_write(self._limit)
        except BaseException:
            core.end_write()
            raise

    def _abandon(self) -> None:
        core = self._pool._core
        core.roll_back()
        core.end_write()

    def _finish(self, *, commit: bool) -> None:
        core = self._pool._core
        try:
            if commit:
                core.commit(self._limit)
            else:
                core.roll_back()
        finally:
            core.end_write()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        pool = self._pool
        finish = partial(self._finish, commit=error is None)
        try:
            # Cancelled before it began, the end of the transaction still has to happen: rolled back then.
            await pool._job(finish, undo=partial(self._finish, commit=False))
        finally:
            pool._core.leave(self._owner)
        return False


class _Opening:
    """Be awaitable and an async context manager, both giving the pool that `opened` opens."""

    def __init__(self, opened: Callable[[], Coroutine[Any, Any, AsyncPool]]) -> None:
        self._opened = opened
        self._pool: AsyncPool | None = None

    def __getattr__(self, name: str) -> Any:
        if hasattr(AsyncPool, name):
            raise AttributeError(
                f"this isn't a pool yet, so it has no {name!r}: await it, or use it in 'async with ... as pool'"
            )
        raise AttributeError(name)

    def __await__(self) -> Generator[Any, Any, AsyncPool]:
        return self._opened().__await__()

    async def __aenter__(self) -> AsyncPool:
        self._pool = await self._opened()
        return self._pool

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._pool is not None
        await self._pool.close()


async def _open(make: Callable[..., PoolCore]) -> AsyncPool:
    limits: list[Limit] = []
    cancelled = False

    def stop() -> None:
        for limit in limits:
            limit.cancel("the task that waited for this pool was cancelled")

    def bounded(limit: Limit) -> None:
        limits.append(limit)
        if cancelled:
            stop()

    future = asyncio.get_running_loop().run_in_executor(None, partial(make, bounded=bounded))
    try:
        core = await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled = True
        stop()
        future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())
        raise
    return AsyncPool(core)
