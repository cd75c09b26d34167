"""Drive `Pool` and `AsyncPool` by the same calls, so that one test body proves both."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from replicate import AsyncPool, Pool
from replicate.limits import Limit

__all__ = ["DRIVERS", "AsyncDriver", "ProcessesDriver", "ServedDriver", "SyncDriver"]


class SyncDriver:
    """Be `Pool` itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.pool = Pool.open(*args, **options)
        self.core = self.pool._core

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    def close(self) -> None:
        self.pool.close()

    def nested(self, outer: str, inner: str) -> None:
        """Open a transaction inside another."""
        with getattr(self.pool, outer)(), getattr(self.pool, inner)():
            pass


class ServedDriver(SyncDriver):
    """Be `Pool` whose every read is queued for a thread of the pool's, as with ``any_thread=True`` and no idle replica."""

    def read(self, fn: Callable[..., Any], *, timeout: float | None = None) -> Any:
        owner = self.core.enter()
        try:
            return self.pool._servers.run(fn, Limit(self.core.engine, timeout), owner)
        finally:
            self.core.leave(owner)


class ProcessesDriver(SyncDriver):
    """Be `Pool` whose instances are in processes of their own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, workers="processes", **options)


class _Loop:
    """Run an event loop in a thread, shared by all tests."""

    _loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def run(cls, awaitable: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await awaitable

        if cls._loop is None:
            cls._loop = asyncio.new_event_loop()
            threading.Thread(target=cls._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(awaited(), cls._loop).result(120)


class _BlockingGuest:
    """Wait for the calls of an `AsyncGuest`."""

    def __init__(self, guest: Any) -> None:
        self.guest = guest

    def call(self, name: str, *args: Any) -> Any:
        return _Loop.run(self.guest.call(name, *args))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.guest, name)


class AsyncDriver:
    """Be `AsyncPool`, each call a task of its own in a loop in another thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        async def opened() -> AsyncPool:
            return await AsyncPool.open(*args, **options)

        self.pool: AsyncPool = _Loop.run(opened())
        self.core = self.pool._core

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    def read(self, fn: Callable[..., Any], **options: Any) -> Any:
        return _Loop.run(self.pool.read(fn, **options))

    def write(self, fn: Callable[..., Any], **options: Any) -> Any:
        return _Loop.run(self.pool.write(fn, **options))

    def snapshot(self) -> Any:
        return _Loop.run(self.pool.snapshot())

    @contextmanager
    def _transaction(self, manager: Any) -> Iterator[Any]:
        async def enter() -> Any:
            return await manager.__aenter__()

        async def leave(*exc_info: Any) -> Any:
            return await manager.__aexit__(*exc_info)

        guest = _BlockingGuest(_Loop.run(enter()))
        try:
            yield guest
        except BaseException as error:
            _Loop.run(leave(type(error), error, error.__traceback__))
            raise
        _Loop.run(leave(None, None, None))

    def reading(self, **options: Any) -> Any:
        return self._transaction(self.pool.reading(**options))

    def writing(self, **options: Any) -> Any:
        return self._transaction(self.pool.writing(**options))

    def close(self) -> None:
        _Loop.run(self.pool.close())

    def nested(self, outer: str, inner: str) -> None:
        async def both() -> None:
            async with getattr(self.pool, outer)():
                async with getattr(self.pool, inner)():
                    pass

        _Loop.run(both())


DRIVERS = {"threads": SyncDriver, "served": ServedDriver, "asyncio": AsyncDriver}
if sys.platform == "linux":
    DRIVERS["processes"] = ProcessesDriver
